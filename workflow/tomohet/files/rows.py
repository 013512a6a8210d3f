"""Rows of a large .npy file, read without mapping it: nothing stays in the process's memory.

A row that is read for the first time is compared with its checksum, if checksums are known.
"""

import os

import numpy as np

from tomohet.errors import InputError

# Reading through a gap of at most this size takes less time than a new read behind it.
GAP_BYTES = 256 * 1024
RUNS_PER_CALL = 500  # a call takes at most 1024 buffers: one for each run, and one for each gap between them


class RowFile:
    """The rows of a memory-mapped array (n, ...) in C order, read from its file instead of through the map.

    A map of random rows is read page by page, and every touched page counts as memory of the process. Several
    threads may read at once. `checksums` (n,): of all rows (`row_checksums`), or None.
    """

    def __init__(self, array: np.memmap, checksums: np.ndarray | None = None) -> None:
        self.dtype, self.row_shape = array.dtype, array.shape[1:]
        self._start, self._row_bytes = array.offset, array.strides[0]
        if array.filename is None:
            raise ValueError("the array is mapped from a file without a name")
        self._file = open(array.filename, "rb", buffering=0)  # noqa: SIM115 (closed with its owner)
        self._checksums = checksums
        self._intact = np.zeros(len(array) if checksums is not None else 0, bool)
        # All reads have a known length, so read-ahead gains nothing.
        os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)

    def read(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Read rows (m, ...) of the given numbers, into `out` (C order) if given; fastest when they ascend.

        Raises InputError when the file ends before them, and when a row is not what was written.
        """
        if out is None:
            out = np.empty((len(rows), *self.row_shape), self.dtype)
        if len(rows) == 0:
            return out
        rows, size = np.asarray(rows, np.int64), self._row_bytes
        target = out.reshape(-1).view(np.uint8).data
        gaps = np.diff(rows) - 1
        first = np.concatenate([[0], np.flatnonzero(gaps) + 1])  # of each run of consecutive rows
        last = np.append(first[1:], len(rows))
        gaps = gaps[first[1:] - 1] * size  # bytes between runs, negative when the next one lies before
        spare = memoryview(bytearray(max(gaps[gaps <= GAP_BYTES].max(initial=0), 0)))
        buffers: list[memoryview] = []
        for run in range(len(first)):
            if not buffers:
                offset = self._start + int(rows[first[run]]) * size
            buffers.append(target[first[run] * size : last[run] * size])
            ends = run + 1 == len(first) or len(buffers) >= 2 * RUNS_PER_CALL
            if ends or not 0 < gaps[run] <= GAP_BYTES:
                self._fill(buffers, offset)
                buffers = []
            else:
                buffers.append(spare[: gaps[run]])
        self._check(rows, out)
        return out

    def _check(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Check each row once in a process: the content of the file does not change while it is open."""
        if self._checksums is None:
            return
        new = ~self._intact[rows]
        if not new.any():
            return
        rows = rows[new]
        wrong = row_checksums(values if len(rows) == len(values) else values[new]) != self._checksums[rows]
        if wrong.any():
            raise InputError(
                f"{self._file.name}: damaged: row {rows[wrong][0]} is not what was written; run `tomohet "
                "prepare` again"
            )
        self._intact[rows] = True

    def _fill(self, buffers: list[memoryview], offset: int) -> None:
        """Fill all buffers from `offset` in the file on; one call may return before they are full."""
        while buffers:
            done = os.preadv(self._file.fileno(), buffers, offset)
            if done == 0:
                raise InputError(f"{self._file.name}: ends too early; run `tomohet prepare` again")
            offset += done
            while buffers and done >= len(buffers[0]):
                done -= len(buffers.pop(0))
            if buffers:
                buffers[0] = buffers[0][done:]


def row_checksums(rows: np.ndarray) -> np.ndarray:
    """Compute checksums uint32 (m,) of rows (m, ...), each of a whole number of 32-bit words w_j.

    The checksum is sum_j (2 j + 1) w_j modulo 2^32. Odd factors ensure that no single changed bit cancels,
    and different factors detect words that have changed places. One in 2^32 random damages goes unnoticed. It
    is as fast as reading memory.
    """
    words = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint32)
    return np.einsum("ij,j->i", words, 2 * np.arange(words.shape[1], dtype=np.uint32) + 1)
