"""A query on the particle table: the particles that fulfil it, and its conditions one by one."""

import ast
import difflib
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.rounds.polygons import polygons, with_polygons

QUOTED_NAME = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Clause:
    """One of the conditions that `and` joins, and how many particles of the table fulfil it alone."""

    text: str
    n_true: int
    n_unknown: int


def select(table: pd.DataFrame, query: str) -> np.ndarray:
    """Ordinals (column `particle`, int64, ascending) of the rows of `table` for which `query` holds.

    A missing value fulfils no comparison. `in_polygon("pc1", "pc2", [[x, y], ...])` is a condition, too: the
    point of the two columns lies inside the outline. Raises InputError for a query that is no expression, for
    an unknown column (naming the nearest), and when no particle fulfils it.
    """
    chosen = fulfilling(table, query)
    if not chosen.any():
        counts = "; ".join(f"{c.text}: {c.n_true}" for c in clauses(table, query))
        raise InputError(f"query '{query}' selects none of {len(table)} particles ({counts})")
    return np.sort(table["particle"].to_numpy(np.int64)[chosen])


def among(table: pd.DataFrame, indices: np.ndarray, source: str) -> np.ndarray:
    """Sort `indices`, each once; all of them must be particles of `table`.

    Raises InputError when there are none, or one that the table lacks; `source` names their file in it.
    """
    indices = np.unique(np.asarray(indices, np.int64))
    if not len(indices):
        raise InputError(f"{source}: holds no particle")
    foreign = np.setdiff1d(indices, table["particle"].to_numpy(np.int64))
    if len(foreign):
        raise InputError(
            f"{source}: {len(foreign)} of {len(indices)} particles are not among the parent's {len(table)}, "
            f"the first is {foreign[0]}; indices count the dataset's particles from 0"
        )
    return indices


def columns_of(query: str) -> set[str]:
    """Return the columns that a query compares; raise InputError for a query that is no expression."""
    tree, names, _ = _parse(query)
    return set(_columns(tree, names, query))


def clauses(table: pd.DataFrame, query: str) -> list[Clause]:
    """Count the particles that fulfil each of the query's top-level `and` conditions."""
    tree, names, _ = _parse(query)
    parts = tree.values if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And) else [tree]
    rows = []
    for part in parts:
        text = _restore(ast.unparse(part), names)
        columns = [column for column in _columns(part, names, query) if column in table]
        unknown = int(table[columns].isna().any(axis=1).sum())
        rows.append(Clause(text, int(fulfilling(table, text).sum()), unknown))
    return rows


def fulfilling(table: pd.DataFrame, query: str) -> np.ndarray:
    """Tell which rows of `table` (N,) fulfil the query; errors as of `select`, but none may do."""
    tree, names, text = _parse(query)
    for column in _columns(tree, names, query):
        if column not in table.columns:
            near = difflib.get_close_matches(column, [str(name) for name in table.columns], n=1)
            hint = (
                f"did you mean '{near[0]}'?"
                if near
                else "the table has " + ", ".join(map(str, table.columns))
            )
            raise InputError(f"query '{query}': no column '{column}'; {hint}")
    outlines = polygons(tree, query)
    if outlines:
        table, text = with_polygons(table, text, outlines, names)
    try:
        chosen = table.eval(_restore(text, names), local_dict={}, global_dict={}, engine="python")
    except Exception as error:  # pandas raises whatever the operands do; each is a mistake in the query
        raise InputError(f"query '{query}': {' '.join(str(error).split())}") from error
    if not isinstance(chosen, pd.Series) or chosen.dtype not in ("bool", "boolean"):
        raise InputError(f"query '{query}' is no condition; compare columns, as in 'kmeans in [0, 2]'")
    return chosen.fillna(False).to_numpy(bool)


def _parse(query: str) -> tuple[ast.expr, dict[str, str], str]:
    """Parse the query with stand-ins for names in backticks.

    Return the tree, the names by their stand-ins, and the text that was parsed.
    """
    names: dict[str, str] = {}

    def stand_in(match: re.Match) -> str:
        name = f"quoted_column_{len(names)}"
        names[name] = match[1]
        return name

    if "@" in query:
        raise InputError(f"query '{query}': '@' is not understood here; write the value itself")
    text = QUOTED_NAME.sub(stand_in, query).strip()
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise InputError(
            f"query '{query}' cannot be read ({error.msg}); "
            "a query looks like: maven_A > 0.5 and kmeans in [0, 2]"
        ) from error
    return tree, names, text


def _columns(tree: ast.expr, names: dict[str, str], query: str) -> list[str]:
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    compared = [
        names.get(node.id, node.id)
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and id(node) not in called
    ]
    outlined = [column for outline in polygons(tree, query) for column in (outline.x, outline.y)]
    return [*compared, *outlined]


def _restore(text: str, names: dict[str, str]) -> str:
    for stand_in, name in names.items():
        text = re.sub(rf"\b{stand_in}\b", f"`{name}`", text)
    return text
