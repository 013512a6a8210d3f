"""Files that name particles, or give each a label: .pkl, .txt and .csv."""

import difflib
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.damage import one_line
from tomohet.files.pickles import LARGEST_INDEX, load_array, load_indices
from tomohet.files.tables import read_csv
from tomohet.rounds.select import among

KEYS = ("particle", "source_id")  # columns of a .csv that say which particle a row is about
LABEL = "label"
MOST_NAMES = 100_000  # of particles among which the nearest is looked for


def n_listed(path: str | Path) -> int:
    """Return how many different particles a file lists."""
    _, values = _listed(Path(path))
    return len(pd.unique(values))


def listed_particles(table: pd.DataFrame, path: str | Path, foreign: bool = False) -> np.ndarray:
    """Read the particles that a file lists, as ordinals (column `particle`, int64, ascending, each once).

    table : the particle table, which knows the particles' names (column `source_id`)
    foreign : whether particles that the table lacks are passed over

    Raises InputError for a file that cannot be read, and for particles that the table lacks.
    """
    path = Path(path)
    key, values = _listed(path)
    if key == "particle" and not foreign:
        return among(table, values.to_numpy(), str(path))
    found, known = pd.Series(pd.unique(values)), _column(table, key, path)
    if not len(found):
        raise InputError(f"{path}: holds no particle")
    missing = found[~found.isin(known)]
    if len(missing) and not foreign:
        near = difflib.get_close_matches(str(missing.iloc[0]), known.astype(str).head(MOST_NAMES), n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"names are like {known.iloc[0]}"
        raise InputError(
            f"{path}: {len(missing)} of {len(found)} particles are not among the parent's {len(table)}, "
            f"the first is {missing.iloc[0]}; {hint}"
        )
    return np.sort(table.loc[known.isin(found), "particle"].to_numpy(np.int64))


def labels_of(table: pd.DataFrame, path: str | Path) -> pd.Series:
    """Read a label for each row of `table`, as text; missing where a .csv has none for a particle.

    A .pkl or .txt holds one label for each row in the table's order. A .csv says which particle a row is
    about. Raises InputError for a file that cannot be read or that does not fit the table.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv":
        rows = read_csv(path, {LABEL: "anything"})
        key = _key(rows, path)
        twice = rows[key][rows[key].duplicated()]
        if len(twice):
            raise InputError(f"{path}: {key} {twice.iloc[0]} has more than one label; give one row for each")
        if not rows[key].isin(_column(table, key, path)).any():
            raise InputError(f"{path}: none of its {len(rows)} particles is among the table's {len(table)}")
        labels = rows.set_index(key)[LABEL].reindex(table[key])
    else:
        labels = pd.Series(_lines(path) if path.suffix.lower() == ".txt" else load_array(path).ravel())
        if len(labels) != len(table):
            raise InputError(
                f"{path}: {len(labels)} labels, expected one for each of the table's {len(table)} particles; "
                "a .csv with columns particle and label may have fewer"
            )
    return as_text(labels).set_axis(table.index)


def as_text(labels: pd.Series) -> pd.Series:
    """Write labels as text, whole numbers without a decimal point; missing ones stay missing."""
    if pd.api.types.is_float_dtype(labels) and (labels.dropna() % 1 == 0).all():
        labels = labels.astype("Int64")
    return labels.astype("string").str.strip()


def _listed(path: Path) -> tuple[str, pd.Series]:
    """Return the column that a file's values belong to, and the values."""
    suffix = path.suffix.lower()
    if suffix == ".csv":
        rows = read_csv(path)
        key = _key(rows, path)
        return key, rows[key]
    if suffix == ".txt":
        return "particle", pd.Series(_numbers(path), dtype=np.int64)
    return "particle", pd.Series(load_indices(path))


def _key(rows: pd.DataFrame, path: Path) -> str:
    """Find the column that says which particle a row is about."""
    found = [key for key in KEYS if key in rows]
    if not found:
        raise InputError(
            f"{path}: found columns {one_line(', '.join(map(str, rows.columns)))[:500]}, expected one named "
            f"{' or '.join(KEYS)}"
        )
    key = found[0]
    empty = np.flatnonzero(rows[key].isna())
    if len(empty):
        raise InputError(f"{path}: row {empty[0] + 2}: no value in column '{key}'; remove the row")
    if key == "particle" and not pd.api.types.is_integer_dtype(rows[key]):
        raise InputError(f"{path}: column '{key}': found {rows[key].dtype}, expected whole numbers")
    return key


def _column(table: pd.DataFrame, key: str, path: Path) -> pd.Series:
    if key not in table:
        raise InputError(
            f"{path}: lists particles by {key}, which the particle table lacks; list them by particle"
        )
    return table[key]


def _lines(path: Path) -> list[str]:
    """Return the lines of a text file without comments and empty lines."""
    return [words for _, words in _numbered_lines(path)]


def _numbers(path: Path) -> list[int]:
    numbers = []
    for number, words in _numbered_lines(path):
        if not (words.isdecimal() and int(words) <= LARGEST_INDEX):
            raise InputError(
                f"{path}: line {number}: found '{words[:60]}', expected the number of a particle, "
                "one a line, counted from 0"
            )
        numbers.append(int(words))
    return numbers


def _numbered_lines(path: Path) -> list[tuple[int, str]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text ({error.reason}); a pickle's name ends in .pkl") from error
    found = [(number, line.partition("#")[0].strip()) for number, line in enumerate(lines, 1)]
    return [(number, words) for number, words in found if words]
