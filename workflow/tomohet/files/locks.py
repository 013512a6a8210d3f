"""Locks of output folders: one writer at a time. The lock ends with the process, however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tomohet.errors import FolderInUseError

LOCK = ".lock"


@contextmanager
def writing(folder: str | Path, shared: bool = False) -> Iterator[None]:
    """Hold the only right to write into `folder`, which is created; `shared` among the processes of one job.

    Afterwards the lock's file is removed, and the folder too if it was created here and nothing was written.

    Raises FolderInUseError when another process is writing there.
    """
    folder = Path(folder)
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    file = _locked(folder / LOCK, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    if file is None:
        raise FolderInUseError(
            f"{folder}: another training or command is writing there; wait for its end, or choose another "
            "folder"
        )
    with file:
        try:
            yield
        finally:
            _tidy(folder, file, made)


def _locked(path: Path, kind: int) -> IO | None:
    """Lock the lock's file and return it; None when another process has locked it."""
    while True:
        file = open(path, "a")  # noqa: SIM115 (closed with its owner)
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BlockingIOError:
            file.close()
            return None
        except FileNotFoundError:
            pass
        file.close()  # the previous holder of the lock has removed the file meanwhile


def _tidy(folder: Path, file: IO, made: bool) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # others of the same job are still writing
    (folder / LOCK).unlink(missing_ok=True)
    if made and not any(folder.iterdir()):
        folder.rmdir()
