"""Print the parameters of a trained model (config.pkl), safely."""

import argparse
import pprint
from pathlib import Path

from tomohet.cli import command
from tomohet.errors import InputError


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workdir", type=Path, help="training folder, or a config.pkl itself")
    return parser


def run(args: argparse.Namespace) -> None:
    """Read through the restricted unpickler and print; nothing inside the file is ever run."""
    from tomohet.files.pickles import load_pickles

    path = args.workdir / "config.pkl" if args.workdir.is_dir() else args.workdir
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a training folder that holds config.pkl, or the file")
    for value in load_pickles(path):
        pprint.pp(value, width=110)


if __name__ == "__main__":
    command(build_parser(), run)
