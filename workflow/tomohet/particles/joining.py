"""Joins of tables and arrays by the numbers of particles, never by the order of their rows."""

from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.errors import InputError


def rows_of(particles: np.ndarray, listed: np.ndarray, where: str | Path) -> np.ndarray:
    """Return the row (m,) of each particle in a file that lists particles (n,); -1 where it is not listed.

    particles : (m,) numbers, in any order
    listed : (n,) numbers of the file's rows
    where : the file, for the error

    Raises InputError when the file lists a particle twice.
    """
    index = pd.Index(listed)
    if not index.is_unique:
        row = int(np.argmax(index.duplicated()))
        raise InputError(
            f"{where}: row {row}: particle {listed[row]} is listed a second time, expected each particle once"
        )
    return index.get_indexer(pd.Index(particles))


def rows_of_all(particles: np.ndarray, listed: np.ndarray, where: str | Path) -> np.ndarray:
    """Return the rows as `rows_of` does.

    Raises InputError when the file lists a particle twice, or lacks one of these particles.
    """
    rows = rows_of(particles, listed, where)
    if (lacking := rows < 0).any():
        raise InputError(
            f"{where}: particle {particles[lacking][0]} is missing, and {lacking.sum():,} of "
            f"{len(particles):,} particles in all; expected results of all these particles: run the command "
            "that wrote it on them"
        )
    return rows
