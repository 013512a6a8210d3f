"""One writer at a time in an output folder; the lock ends with the process, however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tomohet.errors import InputError

LOCK = ".lock"


@contextmanager
def writing(folder: str | Path, shared: bool = False) -> Iterator[None]:
    """Be the only process that writes into `folder`, which is made; or, `shared`, one of a job's processes.

    Afterwards the lock's file is removed, and the folder if it was made here and nothing has been written.
    Raises InputError when another process is writing there.
    """
    folder = Path(folder)
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    file = _locked(folder / LOCK, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    if file is None:
        raise InputError(
            f"{folder}: another training or command is writing there; wait for it to end, or choose another "
            "folder"
        )
    with file:
        try:
            yield
        finally:
            _tidy(folder, file, made)


def _locked(path: Path, kind: int) -> IO | None:
    """The lock's file, locked; None when another process has locked it."""
    while True:
        file = open(path, "a")
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BlockingIOError:
            file.close()
            return None
        except FileNotFoundError:
            pass
        file.close()  # whoever held the lock has removed the file meanwhile


def _tidy(folder: Path, file: IO, made: bool) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # others of the same job are still writing
    (folder / LOCK).unlink(missing_ok=True)
    if made and not any(folder.iterdir()):
        folder.rmdir()
