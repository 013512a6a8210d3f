"""Select particles by a query on a particle table, or by a file of indices."""

import argparse
import logging
from pathlib import Path

from tomohet.cli import command
from tomohet.errors import InputError

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Example: select results/demo/all/particles.parquet --query 'kmeans in [0, 2]' --explain",
    )
    parser.add_argument(
        "table", type=Path, help="particle table: <round>/particles.parquet or a prepared store's"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--query", help="condition on the table's columns, in pandas' words; none: every particle"
    )
    what.add_argument("--indices", type=Path, metavar="PKL", help="particle indices instead of a query")
    parser.add_argument("-o", "--output", type=Path, metavar="PKL", help="indices of the selected particles")
    parser.add_argument("--summary", type=Path, metavar="JSON", help="also write the counts")
    parser.add_argument("--parent", help="name of the round the table belongs to, for the summary")
    parser.add_argument(
        "--explain",
        action="store_true",
        help="print how many particles each condition keeps; -o is optional then",
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Write the ordinals (column `particle`) of the selected particles, ascending."""
    import numpy as np

    from tomohet.files.atomic import write_json, write_pickle
    from tomohet.files.digests import sealed
    from tomohet.files.overwriting import refuse_overwriting_inputs
    from tomohet.files.pickles import load_indices
    from tomohet.files.tables import read_table
    from tomohet.rounds.select import among, clauses, select

    if args.output is None and not args.explain:
        raise InputError("nothing to do: give -o FILE.pkl, or --explain")
    outputs = [file for file in (args.output, args.summary) if file is not None]
    refuse_overwriting_inputs(outputs, [args.table, *([args.indices] if args.indices else [])])
    table = read_table(args.table, {"particle": "whole numbers"})
    if "n_tilts" in table:
        # The store's table names all particles of the input file, also those without a usable image.
        table = table[table["n_tilts"] > 0].reset_index(drop=True)
    counts = clauses(table, args.query) if args.query else []
    if args.explain:
        print("\n".join(explained(counts, len(table))))
    if args.query:
        chosen = select(table, args.query)
    elif args.indices:
        chosen = among(table, load_indices(args.indices), str(args.indices))
    else:
        chosen = np.sort(table["particle"].to_numpy(np.int64))
    if args.explain:
        print(f"{len(chosen):8d} of {len(table)} selected")
    log.info("%d of %d particles selected", len(chosen), len(table))
    if args.output is not None:
        with sealed(args.output):
            write_pickle(args.output, chosen)
    if args.summary is not None:
        summary = {
            "parent": args.parent,
            "query": args.query,
            "indices": args.indices,
            "n_particles": len(chosen),
            "n_parent": len(table),
            "conditions": [{"text": c.text, "n_true": c.n_true, "n_unknown": c.n_unknown} for c in counts],
        }
        write_json(args.summary, summary)


def explained(counts: list, n_particles: int) -> list[str]:
    """One line per condition: how many particles fulfil it, and how many have no value for it."""
    lines = [f"{n_particles:8d} particles in the table"]
    for clause in counts:
        unknown = f"   ({clause.n_unknown} without a value)" if clause.n_unknown else ""
        lines.append(f"{clause.n_true:8d} {clause.text}{unknown}")
    return lines


if __name__ == "__main__":
    command(build_parser(), run)
