"""The particle table inside the page: the columns worth plotting, each as numbers or as categories."""

import re

import numpy as np
import pandas as pd

from tomohet.report.blobs import Blobs
from tomohet.report.codes import COARSE, EXACT, FINE, MEDIUM, Coded, bytes_in_page, coded
from tomohet.rounds.table import PARENT

FEWEST_ROWS = 2000  # shown however little space there is
MOST_CATEGORIES = 60  # of whole numbers; text has any number of categories
PER_FAMILY = 8  # pc1 ... pc8, z1 ... z8
PER_FAMILY_OF_PARENT = 3  # parent_pc1 ... parent_pc3
MOST_COLUMNS = 80
KEY = "volume"  # what holds of a decoded volume is stored once for all its particles
NEVER = {"particle", "source_id", "half", KEY}
FAMILIES = re.compile(rf"(?:{PARENT})?(?:v?pc|z|z_?mu|linear_z)\d+$")
# The columns that serve as axes, the most important first: they lose precision last.
LEADING = "pc1 pc2 linear_z1 linear_z2 umap1 umap2 x_A y_A z_A pc3 linear_z3".split()
NAMES = {
    "kmeans": "k-means cluster",
    "gmm": "mixture component",
    "vkmeans": "volume cluster",
    "maven_class": "class of volumes (MAVEn)",
}
PROGRAMS = {"maven": "MAVEn", "siren": "SIREn"}
UNITS = {"_A": "Å", "_deg": "°", "_e_A2": "e⁻/Å²", "_px": "px"}


def table_payload(blobs: Blobs, table: pd.DataFrame, key: str, most_bytes: float, seed: int = 0) -> dict:
    """Put a table of particles, or of volumes, into the page; `key` is the column of their numbers.

    The values stay as they are while they take at most `most_bytes` in the page. Else the columns are stored
    in 16 bits, then the least important ones in 8 bits, then the axes in 12 and in 8 bits. At last one row in
    two, three, ... is drawn at random (with `seed`): the page says so.

    Returns
    -------
    dict
        `n` rows in the page, `total` in the table, `ordinal` (blob of the key's differences), `precision`,
        and `columns`: name, kind (`number` or `category`), label with unit, blob, for coded numbers `low` and
        `step`, for categories their values. `keys` (blob) has the volume of each row, where a column with
        `keyed` has one value per volume.

    """
    columns = plottable(table)
    keys = _keys(table)
    keyed = {name for name in columns if keys is not None and _follows(table[name], keys)}
    plan, step = precisions(table, columns, keyed, most_bytes)
    total = len(table)
    shown = min(total, max(total // step, min(total, FEWEST_ROWS)))
    if shown < total:
        rows = np.sort(np.random.default_rng(seed).choice(total, shown, replace=False))
        table, keys = table.iloc[rows], None if keys is None else keys[rows]
    payload = {
        "n": shown,
        "total": total,
        "ordinal": blobs.add(np.diff(table[key].to_numpy(np.int32), prepend=np.int32(0)), planes=True),
        "precision": max(plan.values(), default=EXACT),
        "columns": [
            _keyed_payload(blobs, table[name], keys)
            if name in keyed
            else column_payload(blobs, table[name], plan[name])
            for name in columns
        ],
    }
    if keys is not None:
        payload["keys"] = blobs.add(_smallest(np.unique(keys, return_inverse=True)[1]), planes=True)
    if KEY in table and key != KEY:
        # Not for plots, but queries may name it.
        entry = column_payload(blobs, table[KEY]) if keys is None else _keyed_payload(blobs, table[KEY], keys)
        payload["columns"].append({**entry, "hidden": True})
    return payload


def precisions(
    table: pd.DataFrame, columns: list[str], keyed: set[str], most_bytes: float
) -> tuple[dict[str, int], int]:
    """Choose each column's precision, and which part of the rows is shown: one in how many."""
    stored = [name for name in columns if name not in keyed]
    axes = [name for name in LEADING if name in stored]
    others = [name for name in stored if name not in axes]
    grades = (EXACT, FINE, MEDIUM, COARSE)
    sizes = {name: [bytes_in_page(_array(table[name], p)) for p in grades] for name in stored}
    plan = dict.fromkeys(columns, EXACT)
    for finest in (EXACT, FINE):
        plan.update(dict.fromkeys(stored, finest))
        if sum(sizes[name][finest] for name in stored) <= most_bytes:
            return plan, 1
    for names, coarser in ((others, COARSE), (axes, MEDIUM), (axes, COARSE)):
        for name in reversed(names):
            plan[name] = coarser
            if sum(sizes[n][plan[n]] for n in stored) <= most_bytes:
                return plan, 1
    plan.update(dict.fromkeys(stored, FINE))
    return plan, int(np.ceil(sum(sizes[name][FINE] for name in stored) / max(most_bytes, 1)))


def plottable(table: pd.DataFrame) -> list[str]:
    """Return the names of the columns that vary and can serve as axis or colour, in the table's order.

    Text of which more than half of the rows differ names particles and says nothing about groups of them.
    Where there are too many columns, the leading axes of the parent stay.
    """
    names, taken = [], {}
    for name in table.columns:
        family = re.sub(r"\d+$", "", name) if FAMILIES.match(name) else None
        most = PER_FAMILY_OF_PARENT if name.startswith(PARENT) else PER_FAMILY
        if name in NEVER or (family and taken.get(family, 0) >= most):
            continue
        values = table[name]
        distinct = values.nunique(dropna=True)
        if distinct < 2 or (is_category(values) and distinct > max(MOST_CATEGORIES, len(values) / 2)):
            continue
        if family:
            taken[family] = taken.get(family, 0) + 1
        names.append(name)
    of_parent = [name for name in names if name.startswith(PARENT)]
    own = [name for name in names if not name.startswith(PARENT)]
    return [*own[: MOST_COLUMNS - len(of_parent)], *of_parent]


def is_category(values: pd.Series) -> bool:
    """Tell whether a column is text, booleans, or a few whole numbers that label rather than measure."""
    if pd.api.types.is_bool_dtype(values) or not pd.api.types.is_numeric_dtype(values):
        return True
    if not pd.api.types.is_integer_dtype(values):
        return False
    return values.nunique() <= MOST_CATEGORIES and not values.name.startswith("n_")


def column_payload(blobs: Blobs, values: pd.Series, precision: int = EXACT) -> dict:
    """Encode one column for the page.

    It becomes numbers (missing: NaN, or the top code), or category codes (missing: the top code) and the
    categories' values.
    """
    entry = {"name": values.name, "label": label_of(values.name)}
    array = _array(values, precision)
    entry["blob"] = blobs.add(array.values, planes=True)
    if is_category(values):
        categories = [v.item() if hasattr(v, "item") else v for v in pd.factorize(values, sort=True)[1]]
        return {**entry, "kind": "category", "categories": categories}
    if array.step is not None:
        entry |= {"low": array.low, "step": array.step}
    return {**entry, "kind": "number"}


def label_of(name: str) -> str:
    """Convert a column's name to an axis title, with its unit where the name states one."""
    if name in NAMES:
        return NAMES[name]
    if name.startswith(PARENT):
        return f"{label_of(name.removeprefix(PARENT))} of the parent"
    piece = re.fullmatch(r"(maven|siren)_(.+)", name)  # before units: `maven_A` is chain A, no length
    if piece:
        return f"occupancy of {piece[2]} ({PROGRAMS[piece[1]]})"
    for suffix, unit in UNITS.items():
        if name.endswith(suffix):
            return f"{name.removesuffix(suffix)} ({unit})"
    numbered = re.fullmatch(r"(v?)(pc|umap)(\d+)", name)
    if numbered:
        space = "volume " if numbered[1] else ""
        return f"{space}{numbered[2].upper()} {numbered[3]}"
    return name.replace("_", " ")


def _array(values: pd.Series, precision: int) -> Coded:
    """Codes of categories, or numbers in the precision asked for."""
    if not is_category(values):
        return coded(values, precision)
    return Coded(_smallest(pd.factorize(values, sort=True)[0]))


def _smallest(codes: np.ndarray) -> np.ndarray:
    """Store codes in as few bytes as hold them; -1 becomes the top code."""
    kind = np.uint8 if codes.max(initial=0) < 255 else np.uint16
    if codes.max(initial=0) >= np.iinfo(np.uint16).max:
        return codes.astype(np.int32)
    return np.where(codes < 0, np.iinfo(kind).max, codes).astype(kind)


def _keys(table: pd.DataFrame) -> np.ndarray | None:
    """Return the volume of each particle, where every particle has one that others share."""
    if KEY not in table or table[KEY].isna().any() or table[KEY].nunique() > len(table) / 4:
        return None
    return table[KEY].to_numpy(np.int64)


def _follows(values: pd.Series, keys: np.ndarray) -> bool:
    """Tell whether a column of numbers has one value for each key."""
    if is_category(values):
        return False
    numbers = values.to_numpy(np.float64, na_value=np.nan)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return np.array_equal(numbers[first][inverse], numbers, equal_nan=True)


def _keyed_payload(blobs: Blobs, values: pd.Series, keys: np.ndarray) -> dict:
    first = np.unique(keys, return_index=True)[1]
    return {**column_payload(blobs, values.iloc[first]), "keyed": True}
