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
    from tomohet.errors import InputError
    from tomohet.files.atomic import write_parquet
    from tomohet.files.pickles import load_indices
    from tomohet.particles.store_files import PARTICLES, read_particles
    from tomohet.rounds.table import particle_table

    if not (args.store / PARTICLES).exists():
        raise InputError(f"{args.store}: not a prepared store (it has no {PARTICLES})")
    particles = read_particles(args.store)
    refuse_other_models(args.store, args.round_dir)
    table = particle_table(particles, load_indices(args.ind_ptcls), args.round_dir, args.volume_series)
    write_parquet(args.output, table)
    log.info("%d particles, %d columns: %s", *table.shape, ", ".join(map(str, table.columns)))


def refuse_other_models(store: Path, round_dir: Path) -> None:
    """Raise InputError when a model of the round was made from another dataset than the store."""
    from tomohet.analysis.run_folder import RunFolder
    from tomohet.particles.same_input import refuse_other_input
    from tomohet.particles.store_files import read_description

    description = read_description(store)
    for model in ("linear", "train_vae") if description is not None else ():
        refuse_other_input(RunFolder(round_dir / model).config(), description, round_dir / model, store)


if __name__ == "__main__":
    command(build_parser(), run)
