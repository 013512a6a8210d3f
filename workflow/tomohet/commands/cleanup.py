"""Delete old checkpoints, latents or volumes of a training; analysed epochs and the newest are kept."""

import logging
import re
from pathlib import Path

from tomohet.errors import InputError
from tomohet.files.digests import forget
from tomohet.options import CleanupOptions
from tomohet.running.work import command

NUMBERED = {"weights": re.compile(r"weights\.(\d+)\.pkl"), "zfiles": re.compile(r"z\.(\d+)\.\w+\.pkl")}

log = logging.getLogger(__name__)


@command
def run(options: CleanupOptions) -> list[Path]:
    """Find the files and delete them; return their paths."""
    if not options.workdir.is_dir():
        raise InputError(f"{options.workdir}: no such folder")
    if not (options.weights or options.zfiles or options.volumes):
        raise InputError("nothing to delete: give --weights, --zfiles or --volumes")
    doomed = [
        path for kind in NUMBERED if getattr(options, kind) for path in _old_epochs(options.workdir, kind)
    ]
    if options.volumes:
        doomed += sorted(options.workdir.rglob("*.mrc"))
    freed = sum(path.stat().st_size for path in doomed)
    for path in doomed:
        print(path)
        if not options.test:
            forget(path)
            path.unlink()
    log.info("%s %d files, %.1f MB", "would delete" if options.test else "deleted", len(doomed), freed / 1e6)
    return doomed


def _old_epochs(workdir: Path, kind: str) -> list[Path]:
    """List numbered files, except those of the newest epoch and of epochs with a folder.

    Training resumes from the newest epoch. An epoch has a folder if the name of a folder ends in its number,
    such as analyze.5 or convergence.19.
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
