"""Labels of particles, with names and colours, from any column of a table."""

from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd

from tomohet import plots
from tomohet.errors import InputError

MOST_LABELS = (
    24  # distinct values of a column that are labels; a column of more numbers is cut into intervals
)
INTERVALS = 10
UNKNOWN, UNKNOWN_COLOR = "unknown", "#BBBBBB"


class Labels(NamedTuple):
    """One label for each of n particles.

    code : (n,) int64, numbers of labels from 0
    names, colors : text and #rrggbb of each label, in ascending order of values; unknown values come last
    """

    code: np.ndarray
    names: list[str]
    colors: list[str]


def labels_of(values: pd.Series, colormap: str | None = None) -> Labels:
    """Label particles by the values (n,) of a column: text, whole numbers, true and false, or numbers.

    Numbers of more than `MOST_LABELS` different values are cut into `INTERVALS` of equally many particles.
    Colours are evenly spaced in a matplotlib map if named, else those of the stages' figures; intervals have
    those of a sequential map.

    Raises InputError when there is no such map, and for a column of more different texts than labels.
    """
    values = values.reset_index(drop=True)
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > MOST_LABELS:
        # Numbers of categories, such as clusters, may be as many as they are; measured numbers are not.
        if not pd.api.types.is_integer_dtype(values):
            code, names = _intervals(values)
            return _with_unknown(code, names, spread(len(names), colormap or plots.SEQUENTIAL))
    elif values.nunique() > MOST_LABELS:
        raise InputError(
            f"column '{values.name}': found {values.nunique()} different texts, expected at most "
            f"{MOST_LABELS} labels; choose a column of numbers or of fewer labels"
        )
    code, kinds = pd.factorize(values, sort=True)
    names = [_plain(kind) for kind in kinds]
    colors = plots.label_hex(len(names)) if colormap is None else spread(len(names), colormap)
    return _with_unknown(code, names, colors)


def spread(count: int, colormap: str) -> list[str]:
    """Return `count` colours #rrggbb, evenly spaced in a matplotlib map.

    Raises InputError when there is no such map.
    """
    if colormap not in matplotlib.colormaps:
        raise InputError(f"--colormap {colormap}: matplotlib has no such map; try viridis or tab20")
    shades = matplotlib.colormaps[colormap](np.linspace(0, 1, count))
    return [matplotlib.colors.to_hex(shade) for shade in shades]


def _intervals(values: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Cut numbers (n,) into intervals of equally many; return codes, -1 where unknown, and their names."""
    found = pd.qcut(values, INTERVALS, duplicates="drop")
    kinds = found.cat.categories
    return found.cat.codes.to_numpy(np.int64), [f"{one.left:.4g} to {one.right:.4g}" for one in kinds]


def _with_unknown(code: np.ndarray, names: list[str], colors: list[str]) -> Labels:
    code = code.astype(np.int64)
    if (code >= 0).all():
        return Labels(code, names, colors)
    return Labels(np.where(code < 0, len(names), code), [*names, UNKNOWN], [*colors, UNKNOWN_COLOR])


def _plain(value: object) -> str:
    """Write a value without the fraction of a whole number."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
