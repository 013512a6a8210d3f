"""Propose rounds for the particles of a finished round, as text for the configuration."""

import logging

from tomohet.answers import stated
from tomohet.device import device_of
from tomohet.errors import InputError
from tomohet.files.atomic import write_json, write_text
from tomohet.options import ProposeOptions
from tomohet.rounds import layout
from tomohet.rounds.propose import Limits, Node, proposed_tree
from tomohet.rounds.propose_evidence import RoundData
from tomohet.rounds.propose_names import taken_names, with_free_names
from tomohet.rounds.propose_text import configuration_text, proposal_answers, proposal_numbers
from tomohet.running.logs import log_to
from tomohet.running.work import command

log = logging.getLogger(__name__)


@command
def run(options: ProposeOptions) -> Node:
    """Print the rounds, write them and the evidence; return the tree."""
    round_dir = options.round_dir.resolve()
    if not round_dir.is_dir():
        raise InputError(f"{options.round_dir}: no such folder; name the results folder of a finished round")
    store = options.store or round_dir.parent / layout.PREPARED.folder
    outdir = options.outdir or round_dir / layout.PROPOSED.folder
    data = RoundData.read(round_dir, store, device_of(options.device))
    outdir.mkdir(parents=True, exist_ok=True)
    log_to(outdir / "run.log")
    limits = Limits(options.depth, options.min_particles)
    tree = proposed_tree(data, round_dir, limits, options.seed)
    tree = with_free_names(tree, taken_names(round_dir.parent))
    source = (
        f"round {tree.name}, {tree.n_particles} particles (depth {limits.depth}, min_particles "
        f"{limits.min_particles}, seed {options.seed})"
    )
    text = configuration_text(tree, source)
    print(text, end="")
    answers = proposal_answers(tree)
    log.info(answers[0].sentence)
    write_text(outdir / layout.ROUNDS, text)
    write_json(
        outdir / layout.PROPOSED.summary, proposal_numbers(tree, limits, options.seed) | stated(answers)
    )
    return tree
