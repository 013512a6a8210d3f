"""Check a particle file before any computing: what is in it, what is kept, and what cannot be right."""

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

from tomohet.cli import command, options

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("particles", type=Path, help="STAR file: image series or optimisation set")
    parser.add_argument(
        "-o", "--outdir", type=Path, required=True, help="folder of validation.json and .html"
    )
    parser.add_argument(
        "--datadir", help="folder in which the image stacks are found (the STAR file's folder)"
    )
    parser.add_argument(
        "--source-software",
        default="auto",
        choices=options.SOURCE_SOFTWARE,
        help="dialect of the STAR file (auto)",
    )
    options.add_symmetry_expanded(parser)
    parser.add_argument(
        "--rescale",
        type=float,
        metavar="PIXEL_SIZE",
        help="the pixel size to which `prepare` will bring all images, Å (default: as they are)",
    )
    parser.add_argument(
        "--uninvert-data",
        action="store_true",
        help="`prepare` will keep the contrast of the images (default: inverted unless CTF-premultiplied)",
    )
    parser.add_argument(
        "--volume-series",
        type=Path,
        metavar="STAR",
        help="STAR file of the same particles with 3-D positions, to find near-duplicates",
    )
    parser.add_argument(
        "--max-images",
        type=int,
        metavar="N",
        help="test CTF flag, contrast and hand on so many images (default: 16 million pixels, 10,000 images)",
    )
    parser.add_argument(
        "--no-images", action="store_true", help="check the tables and the stacks' headers alone"
    )
    options.add_seed(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Check, write the two files, print the verdicts; a "stop" ends with an error."""
    from tomohet.errors import InputError
    from tomohet.particles.dialects import read_particles
    from tomohet.particles.positions import positions_from_volume_series
    from tomohet.preflight import overall, preflight, summary, write_validation

    particle_set = read_particles(args.particles, args.datadir, args.source_software, args.symmetry_expanded)
    if args.volume_series and particle_set.particles["x_A"].isna().all():
        positions = positions_from_volume_series(args.volume_series, particle_set.particles["source_id"])
        particle_set = replace(particle_set, particles=particle_set.particles.assign(**positions))
    checks, schemes, evidence = preflight(
        particle_set,
        rescale_A=args.rescale,
        look_at_images=not args.no_images,
        max_images=args.max_images,
        seed=args.seed,
        uninvert=args.uninvert_data,
    )
    write_validation(args.outdir, particle_set, checks, schemes, evidence)
    print(summary(checks, args.outdir / "validation.html", colour=sys.stdout.isatty()))
    if overall(checks) == "stop":
        stopped = next(check for check in checks if check.verdict == "stop")
        raise InputError(f"{args.particles}: {stopped.name}: {stopped.message}; {stopped.remedy}")


if __name__ == "__main__":
    command(build_parser(), run)
