"""Join everything known about the particles of a round into one table."""

import argparse
import logging
from pathlib import Path

from tomohet.cli import command

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path, help="prepared store")
    parser.add_argument("--ind-ptcls", type=Path, required=True, metavar="PKL", help="particles of the round")
    parser.add_argument("--round-dir", type=Path, required=True, help="folder of the round's stages")
    parser.add_argument(
        "--volume-series",
        type=Path,
        metavar="STAR",
        help="3-D positions of the particles, where the store has none",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PARQUET", help="the table")
    return parser


def run(args: argparse.Namespace) -> None:
    """Write the table as parquet."""
    from tomohet.analysis.run_folder import refuse_other_models
    from tomohet.errors import InputError
    from tomohet.files.atomic import write_parquet
    from tomohet.files.pickles import load_indices
    from tomohet.particles.store_files import PARTICLES, read_particles
    from tomohet.rounds.table import particle_table

    if not (args.store / PARTICLES).exists():
        raise InputError(f"{args.store}: not a prepared store (it has no {PARTICLES})")
    particles = read_particles(args.store)
    refuse_other_models(args.round_dir, args.store)
    table = particle_table(particles, load_indices(args.ind_ptcls), args.round_dir, args.volume_series)
    write_parquet(args.output, table)
    log.info("%d particles, %d columns: %s", *table.shape, ", ".join(map(str, table.columns)))


if __name__ == "__main__":
    command(build_parser(), run)
