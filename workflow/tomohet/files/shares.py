"""Rows of a long computation that several jobs divide: each writes its own, and a last job reads them all.

Every job does what comes before the rows itself, from the same inputs and seeds. The last job computes the
rows that no job has written, or that are of other content.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomohet.errors import InputError
from tomohet.files.arrays import read_arrays
from tomohet.files.atomic import atomic_path
from tomohet.files.digests import sealed

Values = tuple[np.ndarray, ...]
WHOLE = (1, 1)  # --part of a job that does everything

log = logging.getLogger(__name__)


class ShareWritten(BaseException):
    """The job's own share of the rows is written, and there is nothing else that it should do."""


@dataclass(frozen=True)
class Shares:
    """What one job does of the rows that several jobs divide.

    part : (I, N): compute the I-th of N shares alone, counted from 1; None: return all rows
    folder : where a share is written
    written : folders in which other jobs have written their shares
    """

    part: tuple[int, int] | None = None
    folder: Path = Path()
    written: tuple[Path, ...] = ()

    def rows(
        self, name: str, n: int, digest: str, compute: Callable[[slice], Values], together: int = 1
    ) -> Values:
        """Return the values of all `n` rows, those of other jobs' shares from their files.

        name : of the computation, and of the files
        digest : of everything that decides the values
        compute : returns arrays, each of which is joined with those of other rows along its first axis
        together : number of rows that are computed at once; no share ends between them, so that the values
            are those of one job to the last bit

        Raises ShareWritten in a job that computes one share alone, after writing it.
        """
        if self.part is not None:
            number, count = self.part
            own = slice(*(_boundary(n, at, count, together) for at in (number - 1, number)))
            _write(self.folder / f"{name}.npz", own, f"{n} rows, {digest}", compute(own))
            raise ShareWritten
        parts, done = [], 0
        for start, stop, values in sorted(self._read(name, n, digest), key=lambda share: share[0]):
            if start > done:
                parts.append(compute(slice(done, start)))
            if start >= done:
                parts.append(values)
                done = stop
        if done < n or not parts:
            parts.append(compute(slice(done, n)))
        return tuple(np.concatenate(of_parts) for of_parts in zip(*parts, strict=True))

    def end(self) -> None:
        """Raise ShareWritten in a job of one share: what follows belongs to the last job."""
        if self.part is not None:
            raise ShareWritten

    def _read(self, name: str, n: int, digest: str) -> list[tuple[int, int, Values]]:
        found = []
        for path in (folder / f"{name}.npz" for folder in self.written):
            if not path.exists():
                log.warning("%s: no such share; its rows are computed here", path)
                continue
            try:
                start, stop, values = _read(path, f"{n} rows, {digest}")
            except InputError as failure:
                log.warning("%s; its rows are computed here", failure)
                continue
            found.append((start, stop, values))
        return found


ALL_ROWS = Shares()


def _boundary(n: int, number: int, count: int, together: int) -> int:
    """Return the row at which the first `number` of `count` shares end."""
    return n if number == count else n * number // count // together * together


def shares_of(part: tuple[int, int], folder: Path, written: tuple[Path, ...] | None) -> Shares:
    """Return the shares of a command's options --part, --outdir and --parts.

    Raises InputError where a job is asked to compute a share and to read those of others.
    """
    if part != WHOLE and written:
        raise InputError("--part computes one share, --parts reads all of them: give one of the two")
    return Shares(None if part == WHOLE else part, folder, written or ())


def _write(path: Path, rows: slice, content: str, values: Values) -> None:
    arrays: dict[str, Any] = {f"values_{number}": array for number, array in enumerate(values)}
    with sealed(path), atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, rows=[rows.start, rows.stop], content=content, **arrays)


def _read(path: Path, content: str) -> tuple[int, int, Values]:
    """Read first row, end and values of a share. Raises InputError when it is damaged or of other content."""
    arrays = read_arrays(path, ("rows", "content"))
    if str(arrays["content"]) != content:
        raise InputError(f"{path}: of other volumes, options or weights")
    start, stop = (int(row) for row in arrays["rows"])
    return start, stop, tuple(arrays[f"values_{number}"] for number in range(len(arrays) - 2))
