"""Check this machine: Python, packages, PyTorch and CUDA, memory, disk, Slurm."""

import argparse
from pathlib import Path

from tomohet.cli import command


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Exit status 1 when something necessary fails."
    )
    parser.add_argument("--folder", type=Path, default=Path("."), help="where results will be written (here)")
    return parser


def run(args: argparse.Namespace) -> None:
    """Print one line per finding."""
    from tomohet.cli.machine import examine
    from tomohet.errors import InputError

    findings = examine(args.folder)
    for finding in findings:
        print(f"{finding.verdict:<5} {finding.subject:<10} {finding.text}")
    failed = [finding.subject for finding in findings if finding.verdict == "FAIL"]
    if failed:
        raise InputError(f"not ready: {', '.join(failed)}; `make install` in the checkout mends packages")


if __name__ == "__main__":
    command(build_parser(), run)
