"""Select particles by a query on a particle table, or by a file of indices or labels."""

import logging
from pathlib import Path

import numpy as np

from tomohet.answers import Answer, Step, stated
from tomohet.errors import InputError
from tomohet.files.atomic import write_json, write_pickle
from tomohet.files.digests import sealed
from tomohet.files.overwriting import refuse_overwriting_inputs
from tomohet.files.tables import read_table
from tomohet.options import SelectOptions
from tomohet.options.selection import is_particle_list
from tomohet.rounds.narrowing import chosen_in_steps, counted_by_group
from tomohet.rounds.select import clauses
from tomohet.running.work import command

log = logging.getLogger(__name__)


@command
def run(options: SelectOptions) -> np.ndarray:
    """Write the numbers (column `particle`) of the selected particles, ascending; return them."""
    if options.output is None and not options.explain:
        raise InputError("nothing to do: give -o FILE.pkl, or --explain")
    outputs = [file for file in (options.output, options.summary) if file is not None]
    refuse_overwriting_inputs(outputs, _inputs(options))
    table = read_table(options.table, {"particle": "whole numbers"})
    if "n_tilts" in table:
        # The store's table contains all particles of the input file, including particles without usable
        # images.
        table = table[table["n_tilts"] > 0].reset_index(drop=True)
    counts = clauses(table, options.query) if options.query else []
    if options.explain:
        print("\n".join(explained(counts, len(table))))
    steps = chosen_in_steps(table, options.query, options)
    kept = steps[-1].left if steps else np.ones(len(table), bool)
    chosen = np.sort(table["particle"].to_numpy(np.int64)[kept])
    if options.explain:
        for step in steps:
            print(f"{step.left.sum():8d} left after: {step.text}")
        print("\n".join(counted_by_group(table, kept)))
        print(f"{len(chosen):8d} of {len(table)} selected")
    log.info("%d of %d particles selected", len(chosen), len(table))
    if options.output is not None:
        with sealed(options.output):
            write_pickle(options.output, chosen)
    if options.summary is not None:
        summary = {
            "parent": options.parent,
            "query": options.query,
            "indices": options.indices,
            "n_particles": len(chosen),
            "n_parent": len(table),
            "conditions": [{"text": c.text, "n_true": c.n_true, "n_unknown": c.n_unknown} for c in counts],
            "steps": [{"text": step.text, "n_left": int(step.left.sum())} for step in steps],
        }
        write_json(options.summary, summary | stated([selection_answer(summary)]))
    return chosen


def _inputs(options: SelectOptions) -> list[Path]:
    """Return the files that a selection reads."""
    excluded = options.exclude if options.exclude and is_particle_list(options.exclude) else None
    given = (options.table, options.indices, options.labels, excluded)
    return [Path(file) for file in given if file is not None]


def selection_answer(summary: dict) -> Answer:
    """Say how many particles of the parent the round has."""
    n, total, parent = summary["n_particles"], summary["n_parent"], summary["parent"]
    if n == total:
        return Answer("Subset", "fact", f"All {total:,} particles.")
    of = f"of round {parent}" if parent else "of the table"
    text = f"{n:,} of {total:,} particles {of}."
    if n:
        return Answer("Subset", "fact", text)
    return Answer(
        "Subset", "bad", text, (Step("Widen the query: `tomohet select --explain` counts each condition."),)
    )


def explained(counts: list, n_particles: int) -> list[str]:
    """Return one line per condition: number of particles that fulfil it, and number without a value."""
    lines = [f"{n_particles:8d} particles in the table"]
    for clause in counts:
        unknown = f"   ({clause.n_unknown} without a value)" if clause.n_unknown else ""
        lines.append(f"{clause.n_true:8d} {clause.text}{unknown}")
    return lines
