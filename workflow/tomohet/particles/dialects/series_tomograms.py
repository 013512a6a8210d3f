"""The tomogram of each particle of an image series.

It is rlnTomoName; else the particle's name up to its last `/` (RELION names particles `tomogram/number`);
else the micrograph, where it is the same for all images of every particle; else it follows from the name
(Warp: `tomogram_number`) or the stack.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.particles.dialects.series_columns import stack_names

# `tomogram_number`, `number_tomogram`, and any two words; all names must fit.
NAME_PATTERNS = (r"^(.+)_\d+$", r"^\d+_(.*\D.*)$", r"^(.+)_[^_]*$")
UNKNOWN = "unknown"


def tomograms(
    table: pd.DataFrame, particle: np.ndarray, names: np.ndarray, place: str | None, by_stack: bool
) -> np.ndarray:
    """Return each particle's tomogram (p,) as text.

    particle : (n,) number of the particle of each row
    names : (p,) the particles' names in the file
    place : the column that names tomograms, if any
    by_stack : whether particles were distinguished by their stacks
    """
    names, rows = pd.Series(names, dtype=object), table.iloc[first_rows(particle)]
    by_place = None if place is None else rows[place].astype(str).to_numpy(object)
    if by_place is not None and by_stack:
        return _with_folders(rows, by_place)
    # Where several tomograms have equal names of particles, the names do not identify the tomograms.
    if by_place is not None and (place == "rlnTomoName" or names.duplicated().any()):
        return by_place
    head = names.str.rpartition("/")[0].to_numpy(object)
    if (head != "").all():
        return head
    otherwise = _by_name_or_stack(table, particle, names) if by_place is None else by_place
    return np.where(head != "", head, otherwise)


def first_rows(particle: np.ndarray) -> np.ndarray:
    """Return the first row (p,) of each particle; `particle` (n,) counts particles by first appearance."""
    return np.flatnonzero(~pd.Series(particle).duplicated())


def equal_tomograms(rows: pd.DataFrame, tomogram: np.ndarray) -> list[str]:
    """Remark when a tomogram's particles (one row each) have stacks in several folders."""
    folders = _folders(rows)
    count = pd.Series(folders).groupby(tomogram).nunique()
    several = count.index[count > 1]
    if not len(several):
        return []
    some = pd.unique(folders[tomogram == several[0]])
    return [
        f"{len(several)} tomograms have image stacks in several folders, as {several[0]} in {some[0]} and "
        f"{some[1]}: each counts as one tomogram; give tomograms of different sessions different names "
        "(_rlnTomoName)"
    ]


def _by_name_or_stack(table: pd.DataFrame, particle: np.ndarray, names: pd.Series) -> np.ndarray:
    """Return tomograms (p,) by the particles' names if all are of one pattern, else by their stacks."""
    for pattern in NAME_PATTERNS:
        found = names.str.extract(pattern, expand=False)
        if found.notna().all():
            return found.to_numpy(object)
    stack, stacks = pd.factorize(stack_names(table))
    first = first_rows(particle)
    if not (stack == stack[first][particle]).all():  # one stack per tilt: use their common folder
        folders = {os.path.dirname(written) for written in stacks}
        name = os.path.basename(folders.pop()) if len(folders) == 1 else ""
        return np.full(len(names), name or UNKNOWN, dtype=object)
    if len(stacks) < len(names) or len(stacks) == 1:  # one stack per tomogram
        stems = [Path(written).stem or UNKNOWN for written in stacks]
        return np.array(stems if len(set(stems)) == len(stems) else stacks, dtype=object)[stack[first]]
    folders = [os.path.basename(os.path.dirname(written)) or UNKNOWN for written in stacks]
    return np.array(folders, dtype=object)[stack[first]]


def _folders(rows: pd.DataFrame) -> np.ndarray:
    """Return the folder of each row's stack as written; `.` for none."""
    stack, stacks = pd.factorize(stack_names(rows))
    return np.array([os.path.dirname(written) or "." for written in stacks], dtype=object)[stack]


def _with_folders(rows: pd.DataFrame, tomogram: np.ndarray) -> np.ndarray:
    """Return tomograms (p,), preceded by the folder of their stacks where one name is in several folders."""
    folders = _folders(rows)
    several = pd.Series(folders).groupby(tomogram).transform("nunique").to_numpy() > 1
    return np.where(several, folders + "/" + tomogram, tomogram)
