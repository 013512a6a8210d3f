"""Choose which latents to decode: one per particle, or a k-means sketch of them when there are many."""

import argparse
import logging
from pathlib import Path

from tomohet.cli import command, options

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("latents", type=Path, help="latents (.pkl), or the output folder of a training")
    parser.add_argument(
        "--epoch",
        default="latest",
        help="with a folder: epoch, latest, -1 (final files) or the path of a convergence.json (latest)",
    )
    parser.add_argument(
        "--particles", type=Path, metavar="PKL", help="store indices of the latents' particles (config.pkl's)"
    )
    parser.add_argument("--count", type=int, default=500, help="volumes at most (500)")
    parser.add_argument("-o", "--outdir", type=Path, required=True, help="output folder")
    options.add_seed(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Write z.pkl, the latents to decode, and assignment.parquet: particle, volume."""
    from tomohet.analysis.choice import choose_latents
    from tomohet.analysis.run_folder import RunFolder, particles_of
    from tomohet.errors import InputError
    from tomohet.files.atomic import write_parquet, write_pickle
    from tomohet.files.digests import sealed
    from tomohet.files.pickles import load_latents

    if args.count < 1:
        raise InputError(f"--count {args.count}: at least one volume must be chosen")
    if args.latents.is_dir():
        training = RunFolder(args.latents)
        z, _ = training.latents(training.epoch(args.epoch))
    else:
        training = RunFolder(args.latents.parent)
        z, _ = load_latents(args.latents)
    particles = particles_of(len(z), args.particles, training.config())
    chosen, assignment = choose_latents(z, particles, args.count, args.seed)
    with sealed(args.outdir / "z.pkl"):
        write_pickle(args.outdir / "z.pkl", chosen)
    write_parquet(args.outdir / "assignment.parquet", assignment)
    log.info("%d volumes stand for %d particles", len(chosen), len(z))


if __name__ == "__main__":
    command(build_parser(), run)
