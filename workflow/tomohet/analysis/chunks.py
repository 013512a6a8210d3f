"""Rows of large arrays, a bounded number at a time."""

from collections.abc import Iterator

import numpy as np

ROWS = 100_000


def chunks(n: int, rows: int | None = None) -> Iterator[slice]:
    """Divide `n` rows into slices of at most `rows` (None: `ROWS`), in order."""
    rows = ROWS if rows is None else rows
    return (slice(start, min(start + rows, n)) for start in range(0, n, rows))


def variances(z: np.ndarray) -> np.ndarray:
    """Compute the variance (d,) of each column of z (n, d) in double precision."""
    if len(z) <= ROWS:
        return z.var(axis=0, dtype=np.float64)
    mean = z.mean(axis=0, dtype=np.float64)
    return sum(np.square(z[here] - mean).sum(axis=0) for here in chunks(len(z))) / len(z)
