"""Any stage's JSON summary as rows and small tables, so that a new number of a stage appears by itself."""

import math
import re

MOST_ITEMS = 12  # number of items of a list shown in one cell
MOST_ROWS = 60

WORDS = {"zdim": "latent dimensions", "cc": "correlation", "auc": "AUC"}
UNITS = {"_A": "Å", "_deg": "°", "_e_A2": "e⁻/Å²", "_A3": "Å³", "_px": "px", "_s": "s"}


def facts_of(value: dict, skip: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """List (name, text) of every plain entry of a nested mapping, without tables (`tables_of`) and `skip`."""
    rows: list[tuple[str, str]] = []
    for key, entry in value.items():
        if key in skip or _is_table(entry):
            continue
        if isinstance(entry, dict):
            rows += [(f"{words(key)}: {name}", text) for name, text in facts_of(entry, skip)]
        elif entry is not None and entry != []:
            rows.append((words(key), text_of(entry)))
    return rows[:MOST_ROWS]


def tables_of(value: dict, skip: tuple[str, ...] = ()) -> list[dict]:
    """Return lists of mappings and mappings of mappings in a nested mapping as titled tables."""
    tables = []
    for key, entry in value.items():
        if key in skip:
            continue
        if _is_table(entry):
            tables.append({"title": words(key), **_table(entry)})
        elif isinstance(entry, dict):
            tables += [{**t, "title": f"{words(key)}: {t['title']}"} for t in tables_of(entry, skip)]
    return tables


def text_of(value) -> str:
    """Format a value for reading: four significant digits, yes and no, lists in one line."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value == 0 or 1e-3 <= abs(value) < 1e5:
            return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
        return f"{value:.2e}"
    if isinstance(value, list | tuple):
        shown = ", ".join(text_of(v) for v in value[:MOST_ITEMS])
        return shown + (f", … ({len(value)} in all)" if len(value) > MOST_ITEMS else "")
    if isinstance(value, dict):
        return ", ".join(f"{words(k)} {text_of(v)}" for k, v in value.items())
    return str(value)


def words(key) -> str:
    """Convert a JSON key to words, with its unit: `pixel_size_A` -> `pixel size (Å)`."""
    key = str(key)
    for suffix, unit in UNITS.items():
        if key.endswith(suffix) and len(key) > len(suffix):
            return f"{key.removesuffix(suffix).replace('_', ' ')} ({unit})"
    plain = re.sub(r"_+", " ", key)
    return WORDS.get(plain, re.sub(r"^n ", "number of ", plain))


def _is_table(entry) -> bool:
    if isinstance(entry, list):
        return bool(entry) and all(isinstance(row, dict) for row in entry)
    return (
        isinstance(entry, dict)
        and len(entry) > 1
        and all(isinstance(row, dict) and row for row in entry.values())
    )


def _table(entry: list | dict) -> dict:
    named = isinstance(entry, dict)
    rows = list(entry.values()) if named else entry
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head = [""] if named else []
    names = list(entry) if named else [None] * len(rows)
    body = [
        ([words(name)] if named else []) + [text_of(row.get(column)) for column in columns]
        for name, row in zip(names, rows, strict=True)
    ]
    return {"columns": head + [words(c) for c in columns], "rows": body}
