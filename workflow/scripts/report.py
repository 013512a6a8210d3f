"""Write one self-contained HTML page about everything in a dataset's results folder."""

import argparse
import logging
from pathlib import Path

from tomohet.cli import command

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Stages that have not run are left out, so a report can be written any time.",
    )
    parser.add_argument("results", type=Path, help="results folder of one dataset, e.g. results/demo")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="HTML", help="file to write (RESULTS/report.html)"
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Collect the results and write the page."""
    from tomohet.report import write_report

    path = write_report(args.results, args.output)
    log.info("%s: %.1f MB", path, path.stat().st_size / 1e6)


if __name__ == "__main__":
    command(build_parser(), run)
