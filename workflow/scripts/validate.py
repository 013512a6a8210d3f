"""Check a particle file before any computing: what is in it, what is kept, and what cannot be right."""

import argparse
import logging
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
    return parser


def run(args: argparse.Namespace) -> None:
    """Check, write the two files, print the verdicts; a "stop" ends with an error."""
    from tomohet.errors import InputError
    from tomohet.particles.dialects import read_particles
    from tomohet.preflight.checks import overall, validate
    from tomohet.preflight.page import write_validation

    particle_set = read_particles(args.particles, args.datadir, args.source_software)
    checks = validate(particle_set)
    write_validation(args.outdir, particle_set, checks)
    for check in checks:
        remedy = f" ({check.remedy})" if check.remedy else ""
        print(f"{check.verdict:5} {check.name}: {check.message}{remedy}")
    if overall(checks) == "stop":
        stopped = next(check for check in checks if check.verdict == "stop")
        raise InputError(f"{args.particles}: {stopped.name}: {stopped.message}; {stopped.remedy}")
    log.info("%s: %s", args.outdir / "validation.html", overall(checks))


if __name__ == "__main__":
    command(build_parser(), run)
