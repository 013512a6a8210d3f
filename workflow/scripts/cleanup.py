"""Delete a training's old checkpoints, latents or volumes; epochs that were analysed and the newest stay."""

import argparse
import logging
import re
from pathlib import Path

from tomohet.cli import command

NUMBERED = {"weights": re.compile(r"weights\.(\d+)\.pkl"), "zfiles": re.compile(r"z\.(\d+)\.\w+\.pkl")}

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workdir", type=Path, help="training folder")
    parser.add_argument("--weights", action="store_true", help="delete weights.N.pkl")
    parser.add_argument("--zfiles", action="store_true", help="delete z.N.train.pkl and z.N.test.pkl")
    parser.add_argument(
        "--volumes", action="store_true", help="delete all .mrc files in and below the folder"
    )
    parser.add_argument("--test", action="store_true", help="only list what would be deleted")
    return parser


def run(args: argparse.Namespace) -> None:
    """Find the files and delete them."""
    from tomohet.errors import InputError
    from tomohet.files.digests import forget

    if not args.workdir.is_dir():
        raise InputError(f"{args.workdir}: no such folder")
    if not (args.weights or args.zfiles or args.volumes):
        raise InputError("nothing to delete: give --weights, --zfiles or --volumes")
    doomed = [path for kind in NUMBERED if getattr(args, kind) for path in _old_epochs(args.workdir, kind)]
    if args.volumes:
        doomed += sorted(args.workdir.rglob("*.mrc"))
    freed = sum(path.stat().st_size for path in doomed)
    for path in doomed:
        print(path)
        if not args.test:
            forget(path)
            path.unlink()
    log.info("%s %d files, %.1f MB", "would delete" if args.test else "deleted", len(doomed), freed / 1e6)


def _old_epochs(workdir: Path, kind: str) -> list[Path]:
    """Numbered files but those of the newest epoch, from which training resumes, and of epochs with a folder.

    An epoch has a folder when one ends in its number, such as analyze.5 or convergence.19.
    """
    epochs = {
        path: int(match[1]) for path in workdir.iterdir() if (match := NUMBERED[kind].fullmatch(path.name))
    }
    analysed = {
        int(match[1])
        for path in workdir.iterdir()
        if path.is_dir() and (match := re.search(r"\.(\d+)$", path.name))
    }
    kept = analysed | {max(epochs.values(), default=0)}
    return sorted(path for path, epoch in epochs.items() if epoch not in kept)


if __name__ == "__main__":
    command(build_parser(), run)
