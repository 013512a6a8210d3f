"""The particle table inside the page: the columns worth plotting, each as numbers or as categories."""

import re

import numpy as np
import pandas as pd

from tomohet.report.blobs import Blobs

FEWEST_ROWS = 2000  # shown however little space there is
MOST_CATEGORIES = 60
PER_FAMILY = 8  # pc1 ... pc8, z1 ... z8
MOST_COLUMNS = 80
NEVER = {"particle", "source_id", "half", "volume"}
FAMILIES = re.compile(r"(?:v?pc|z|z_?mu)\d+$")
NAMES = {
    "kmeans": "k-means cluster",
    "gmm": "mixture component",
    "vkmeans": "volume cluster",
    "maven_class": "class of volumes (MAVEn)",
}
PROGRAMS = {"maven": "MAVEn", "siren": "SIREn"}
UNITS = {"_A": "Å", "_deg": "°", "_e_A2": "e⁻/Å²", "_px": "px"}


def table_payload(blobs: Blobs, table: pd.DataFrame, key: str, most_values: int, seed: int = 0) -> dict:
    """Put a table of particles, or of volumes, into the page; `key` is the column of their numbers.

    A table of more than `most_values` numbers is thinned to a random sample (drawn with `seed`), and the page
    says so: a query written there holds for all particles.

    Returns
    -------
    dict
        `n` rows in the page, `total` in the table, `ordinal` (blob of the key), and `columns`: name,
        kind (`number` or `category`), label with unit, blob, and for categories their values.

    """
    columns = plottable(table)
    total = len(table)
    shown = min(total, max(FEWEST_ROWS, most_values // (len(columns) + 1)))
    if shown < total:
        rows = np.sort(np.random.default_rng(seed).choice(total, shown, replace=False))
        table = table.iloc[rows]
    return {
        "n": shown,
        "total": total,
        "ordinal": blobs.add(table[key].to_numpy(np.int32)),
        "columns": [column_payload(blobs, table[name]) for name in columns],
    }


def plottable(table: pd.DataFrame) -> list[str]:
    """Return the names of the columns that vary and can serve as axis or colour, in the table's order."""
    names, taken = [], {}
    for name in table.columns:
        family = re.sub(r"\d+$", "", name) if FAMILIES.match(name) else None
        if name in NEVER or (family and taken.get(family, 0) >= PER_FAMILY):
            continue
        values = table[name]
        distinct = values.nunique(dropna=True)
        if distinct < 2 or (is_category(values) and distinct > MOST_CATEGORIES):
            continue
        if family:
            taken[family] = taken.get(family, 0) + 1
        names.append(name)
    return names[:MOST_COLUMNS]


def is_category(values: pd.Series) -> bool:
    """Tell whether a column is text, booleans, or a few whole numbers that label rather than measure."""
    if pd.api.types.is_bool_dtype(values) or not pd.api.types.is_numeric_dtype(values):
        return True
    if not pd.api.types.is_integer_dtype(values):
        return False
    return values.nunique() <= MOST_CATEGORIES and not values.name.startswith("n_")


def column_payload(blobs: Blobs, values: pd.Series) -> dict:
    """Encode one column for the page.

    It becomes numbers (missing: NaN), or category codes (missing: -1) and the categories' values.
    """
    entry = {"name": values.name, "label": label_of(values.name)}
    if is_category(values):
        codes, uniques = pd.factorize(values, sort=True)
        categories = [v.item() if hasattr(v, "item") else v for v in uniques]
        return {
            **entry,
            "kind": "category",
            "categories": categories,
            "blob": blobs.add(codes.astype(np.int16)),
        }
    return {**entry, "kind": "number", "blob": blobs.add(values.to_numpy(np.float32, na_value=np.nan))}


def label_of(name: str) -> str:
    """Convert a column's name to an axis title, with its unit where the name states one."""
    if name in NAMES:
        return NAMES[name]
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
