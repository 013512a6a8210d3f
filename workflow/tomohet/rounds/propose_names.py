"""Names of proposed rounds that no other round, folder or file of the dataset has.

Snakemake merges a proposal into the configuration by the names of rounds, so that a name which another round
has would change what that round selects. A round that is already what is proposed keeps its name: a proposal
that was added to the configuration is proposed again in the same words.
"""

import logging
from dataclasses import replace
from pathlib import Path

from tomohet.files.text import read_json, read_yaml
from tomohet.options.selection import Selection
from tomohet.rounds import layout
from tomohet.rounds.propose import Node
from tomohet.rounds.tree import RESERVED

log = logging.getLogger(__name__)

# Parent and query of a round; None of what is no round, or a round that is chosen by more than its query.
Choice = tuple[str | None, str | None] | None


def with_free_names(tree: Node, taken: dict[str, Choice]) -> Node:
    """Add numbers to the names below the root that something else has: all_S1-2 instead of all_S1.

    taken : name -> choice of what has the name
    """
    return replace(tree, parts=tuple(_renamed(part, tree.name, taken) for part in tree.parts))


def taken_names(dataset_dir: Path) -> dict[str, Choice]:
    """Return the names in the results folder of a dataset, and those of the rounds in its configuration.

    Raises InputError when the configuration or the summary of a selection is damaged.
    """
    taken: dict[str, Choice] = dict.fromkeys(RESERVED)
    taken |= {path.name: _choice_of_folder(path) for path in sorted(dataset_dir.iterdir())}
    file = dataset_dir / layout.CONFIG
    config = read_yaml(file) if file.is_file() else None
    rounds = config.get("rounds") if isinstance(config, dict) else None
    return taken | {
        str(name): _choice_of_keys(given if isinstance(given, dict) else {})
        for name, given in (rounds if isinstance(rounds, dict) else {}).items()
    }


def _renamed(node: Node, root: str, taken: dict[str, Choice]) -> Node:
    """Rename a node and the nodes below, whose names begin with that of the node."""
    name = _free_name(node.name, (root, node.query), taken)
    if name != node.name:
        log.info("%s is the name of something else in the dataset; %s is proposed instead", node.name, name)
    parts = [replace(part, name=name + part.name.removeprefix(node.name)) for part in node.parts]
    return replace(node, name=name, parts=tuple(_renamed(part, root, taken) for part in parts))


def _free_name(name: str, choice: Choice, taken: dict[str, Choice]) -> str:
    """Return the name, numbered until nothing has it or what has it is the same choice."""
    free, number = name, 1
    while free in taken and taken[free] != choice:
        number += 1
        free = f"{name}-{number}"
    return free


def _choice_of_keys(given: dict) -> Choice:
    """Return the choice of a round in the configuration."""
    if any(given.get(key) is not None for key in Selection.model_fields if key != "sample_seed"):
        return None
    return given.get("parent"), given.get("select")


def _choice_of_folder(path: Path) -> Choice:
    """Return the choice of a finished round, which the configuration may lack; None of anything else."""
    file = layout.SUBSET.path(path, layout.SUBSET.summary)
    if not file.is_file():
        return None
    summary = read_json(file)
    steps = summary.get("steps")
    only_a_query = isinstance(steps, list) and len(steps) == 1 and summary.get("query") is not None
    return (summary.get("parent"), summary["query"]) if only_a_query else None
