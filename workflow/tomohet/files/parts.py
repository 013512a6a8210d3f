"""One file that several processes fill: each writes its own records, and the last one puts it in place."""

import fcntl
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from tomohet.errors import InputError
from tomohet.files.atomic import atomic_path, write_json

# What is done under the lock takes seconds: a list is read and written, a file created or renamed.
LOCK_PATIENCE_S = 600.0
LOCK_INTERVAL_S = 0.01
# After so many bytes one of the writing threads waits until the disk has them, while the others go on. Then
# `finish` has little to wait for.
CONFIRMED_BYTES = 2**28

log = logging.getLogger(__name__)


class PartedFile:
    """`n` records of equal size, written in any order by any number of processes.

    The data lie beside `path` as `.NAME.unfinished`, and `.NAME.parts` lists the records that are complete. A
    killed process has not listed its records, so they are written again. When all records are listed, the
    file is put in place.

    Parameters
    ----------
    digest : of everything that decides the content; records of different content are never mixed
    create : creates the file of all records, still empty
    offset : bytes before the first record

    """

    def __init__(
        self,
        path: str | Path,
        n: int,
        record_bytes: int,
        digest: str,
        create: Callable[[Path], None],
        offset: int = 0,
    ) -> None:
        self.path, self.n = Path(path), n
        self._record_bytes, self._offset = record_bytes, offset
        self._counting, self._unconfirmed = threading.Lock(), 0
        self._digest = f"{n} x {record_bytes}, {digest}"
        self._data = self.path.with_name(f".{self.path.name}.unfinished")
        self._list = self.path.with_name(f".{self.path.name}.parts")
        with locked(self.path):
            if not self._data.is_file() or self._listed() is None:
                self._list.unlink(missing_ok=True)
                with atomic_path(self._data) as temporary:
                    create(temporary)
                self._note([])
            self._file = open(self._data, "r+b")  # noqa: SIM115 (closed with its owner)

    def write(self, first: int, records: np.ndarray) -> None:
        """Write consecutive records from number `first`; several threads may write at the same time."""
        place = self._offset + first * self._record_bytes
        left = np.ascontiguousarray(records).reshape(-1).view(np.uint8).data
        size = len(left)
        while len(left):
            written = os.pwrite(self._file.fileno(), left, place)
            left, place = left[written:], place + written
        with self._counting:
            self._unconfirmed += size
            due = self._unconfirmed >= CONFIRMED_BYTES
            if due:
                self._unconfirmed = 0
        if due:
            os.fdatasync(self._file.fileno())

    def finish(self, part: range, put: Callable[[Path, Path], None] = os.replace) -> bool:
        """Note that the records of `part` are written; return whether the file is complete.

        put : makes the final file (second argument) from the data (first)

        Raises InputError when a job with other settings has begun to write the file meanwhile.
        """
        self._file.flush()
        os.fsync(self._file.fileno())
        with locked(self.path), self._file:
            if not self._is(self._data):
                if self._is(self.path):  # another process wrote the same part and was first
                    return True
                raise InputError(
                    f"{self.path}: another job has begun to write it meanwhile; give each job its own folder"
                )
            done = _joined([*(self._listed() or []), [part.start, part.stop]])
            if done != [[0, self.n]]:
                self._note(done)
                there = sum(stop - start for start, stop in done)
                log.info("%s: %d of %d are written, the other parts are missing", self.path, there, self.n)
                return False
            put(self._data, self.path)
            self._remove()
            return True

    def discard(self) -> None:
        """Remove everything that all processes have written."""
        with locked(self.path), self._file:
            if self._is(self._data):
                self._remove()

    def _is(self, path: Path) -> bool:
        return path.exists() and os.path.samestat(os.fstat(self._file.fileno()), path.stat())

    def _listed(self) -> list[list[int]] | None:
        """Return the ranges of records that are written.

        None when there is no list, or the list is of other content.
        """
        try:
            content = json.loads(self._list.read_text())
            same = content["digest"] == self._digest
            return [[int(start), int(stop)] for start, stop in content["done"]] if same else None
        except (FileNotFoundError, ValueError, TypeError, LookupError, RecursionError):
            return None

    def _note(self, done: list[list[int]]) -> None:
        write_json(self._list, {"digest": self._digest, "done": done})

    def _remove(self) -> None:
        self._data.unlink(missing_ok=True)
        self._list.unlink(missing_ok=True)


@contextmanager
def locked(path: str | Path, patience_s: float | None = None) -> Iterator[None]:
    """Hold the only right to this context for `path`, while other processes wait.

    This works on network file systems too.

    patience_s : how long to wait for the right; default: `LOCK_PATIENCE_S`

    Raises InputError when another process has not given up the right by then.
    """
    path = Path(path)
    lock = path.with_name(f".{path.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    file = _waited_for(lock, LOCK_PATIENCE_S if patience_s is None else patience_s)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        file.close()


def _waited_for(lock: Path, patience_s: float) -> IO:
    """Return the lock's file, opened and locked."""
    until = time.monotonic() + patience_s
    while True:
        file = open(lock, "w")  # noqa: SIM115 (closed with its owner)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                return file
        except (BlockingIOError, FileNotFoundError):
            pass  # another process holds the lock, or has just removed the file
        file.close()
        if time.monotonic() > until:
            raise InputError(
                f"{lock}: another process has held this lock for {patience_s:.0f} s; end that process, "
                "or, if there is none, remove the file"
            )
        time.sleep(LOCK_INTERVAL_S)


def content_digest(*things: Path | np.ndarray | object) -> str:
    """Digest the contents of files, of arrays, and of plain values."""
    digest = hashlib.sha256()
    for thing in things:
        if isinstance(thing, Path):
            digest.update(thing.read_bytes())
        elif isinstance(thing, np.ndarray):
            digest.update(f"{thing.dtype} {thing.shape}".encode() + np.ascontiguousarray(thing).tobytes())
        else:
            digest.update(repr(thing).encode())
    return digest.hexdigest()[:32]


def _joined(ranges: list[list[int]]) -> list[list[int]]:
    """Join ranges into the smallest number of ascending ranges; empty ones are dropped."""
    joined: list[list[int]] = []
    for start, stop in sorted(ranges):
        if stop <= start:
            continue
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], stop)
        else:
            joined.append([start, stop])
    return joined
