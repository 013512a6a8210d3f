"""Columns as small whole numbers: how many bytes each takes in the page, and what is lost."""

import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

BASE64 = 4 / 3
PROBE_ROWS = 20_000  # rows by which the size of a column is foretold
EXACT, FINE, MEDIUM, COARSE = 0, 1, 2, 3  # precision: as in the table; 16, 12, 8 bits
LEVELS = {FINE: (np.uint16, 65_534), MEDIUM: (np.uint16, 4_094), COARSE: (np.uint8, 254)}


@dataclass(frozen=True)
class Coded:
    """An array for the page: value = low + step * code where `step` is not None; the top code is missing."""

    values: np.ndarray
    low: float = 0.0
    step: float | None = None


def coded(values: pd.Series, precision: int) -> Coded:
    """Encode a column of numbers.

    Whole numbers that span less than 255 or 65,535 become codes without loss. Other numbers stay as they are
    (`EXACT`), or their range is divided into equal steps: 65,534 (`FINE`), 4,094 (`MEDIUM`), 254 (`COARSE`).
    """
    numbers = values.to_numpy(np.float64, na_value=np.nan)
    finite = numbers[np.isfinite(numbers)]
    if not len(finite):
        return Coded(np.full(len(numbers), 255, np.uint8), 0.0, 1.0)
    low, high = float(finite.min()), float(finite.max())
    if high - low < 65_535 and np.array_equal(finite, np.rint(finite)):
        kind = np.uint8 if high - low < 255 else np.uint16
        return _codes(numbers, low, 1.0, kind)
    if precision == EXACT:
        single = numbers.astype(np.float32)
        exact = np.array_equal(single.astype(np.float64), numbers, equal_nan=True)
        return Coded(single if exact else numbers)
    kind, steps = LEVELS[precision]
    return _codes(numbers, low, (high - low) / steps, kind)


def bytes_in_page(column: Coded) -> float:
    """Foretell how many characters a column takes in the page, from the first rows."""
    probe = np.ascontiguousarray(column.values[:PROBE_ROWS])
    planes = np.frombuffer(probe.tobytes(), np.uint8).reshape(-1, probe.dtype.itemsize).T.tobytes()
    return len(zlib.compress(planes, 1)) * BASE64 * len(column.values) / max(len(probe), 1)


def _codes(numbers: np.ndarray, low: float, step: float, kind: type) -> Coded:
    missing = np.iinfo(kind).max
    codes = np.full(len(numbers), missing, kind)
    known = np.isfinite(numbers)
    codes[known] = np.clip(np.rint((numbers[known] - low) / step), 0, missing - 1).astype(kind)
    return Coded(codes, low, step)
