"""Outlines in a query: `in_polygon("pc1", "pc2", [[x, y], ...])` holds inside a polygon over two columns."""

import ast
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tomohet.errors import InputError

NAME = "in_polygon"
EXAMPLE = 'in_polygon("pc1", "pc2", [[0, 0], [1, 0], [0, 1]])'
FEWEST_CORNERS = 3


@dataclass(frozen=True)
class Polygon:
    """A closed outline: its columns, its corners (n, 2) in the columns' units, and its place in the text."""

    x: str
    y: str
    corners: np.ndarray
    call: ast.Call


def polygons(tree: ast.AST, query: str) -> list[Polygon]:
    """Find the polygons in a parsed query, in the order of its text.

    Raises InputError for a call of `in_polygon` that is not two names of columns in quotation marks and a
    list of three or more pairs of finite numbers.
    """
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _called(node) == NAME]
    calls.sort(key=lambda call: (call.lineno, call.col_offset))
    return [_polygon(call, query) for call in calls]


def inside(corners: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Tell which points lie inside a polygon, by the even-odd rule.

    A point is inside when the ray from it towards larger x crosses an odd number of edges. So the outline may
    cross itself: the lobes of a figure of eight are inside, what is encircled twice is not. Edges hold their
    lower and not their upper end. A point with a missing coordinate is outside. (Shimrat, Communications of
    the ACM 5, 434, 1962.)

    Parameters
    ----------
    corners
        (n, 2), in the order of the outline; the last is joined with the first.
    x, y
        (m,) coordinates.

    Returns
    -------
    np.ndarray
        (m,) booleans.

    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    found = np.zeros(len(x), bool)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y1 != y2:
            spans = (y1 > y) != (y2 > y)
            with np.errstate(invalid="ignore"):  # an infinite y spans no edge, whatever stands here
                found ^= spans & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    return found


def with_polygons(
    table: pd.DataFrame, text: str, found: list[Polygon], names: dict[str, str]
) -> tuple[pd.DataFrame, str]:
    """Replace each polygon in a query by a column of booleans, which is added to the table.

    text : the query as it was parsed, in which `found` have their places
    names : stand-ins of columns in backticks, by which no new column may be called

    Raises InputError when a polygon's column does not hold numbers.
    """
    lines, added = text.encode().splitlines(keepends=True), {}
    for number, polygon in reversed(list(enumerate(found))):
        name = f"in_polygon_{number}"
        while name in table or name in names:
            name += "_"
        added[name] = inside(polygon.corners, *(_numbers(table, column) for column in (polygon.x, polygon.y)))
        call = polygon.call
        before = lines[call.lineno - 1][: call.col_offset]
        after = lines[call.end_lineno - 1][call.end_col_offset :]
        lines[call.lineno - 1 : call.end_lineno] = [before + name.encode() + after]
    return table.assign(**added), b"".join(lines).decode()


def _numbers(table: pd.DataFrame, column: str) -> np.ndarray:
    values = table[column]
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        raise InputError(
            f"{NAME}: column '{column}' holds {values.dtype}, expected numbers; name another column"
        )
    return values.to_numpy(np.float64, na_value=np.nan)


def _polygon(call: ast.Call, query: str) -> Polygon:
    def refuse(reason: str) -> InputError:
        return InputError(f"query '{query}': {NAME} {reason}; write it like {EXAMPLE}")

    if call.keywords or len(call.args) != 3:
        raise refuse(f"takes two columns and a list of corners, found {len(call.args)} arguments")
    *columns, corners = call.args
    for column in columns:
        if not (isinstance(column, ast.Constant) and isinstance(column.value, str)):
            raise refuse(f"takes names of columns in quotation marks, found {ast.unparse(column)}")
    if not isinstance(corners, ast.List | ast.Tuple) or len(corners.elts) < FEWEST_CORNERS:
        raise refuse(f"takes a list of at least {FEWEST_CORNERS} corners, found {ast.unparse(corners)}")
    pairs = []
    for number, corner in enumerate(corners.elts, 1):
        pair = [_number(v) for v in corner.elts] if isinstance(corner, ast.List | ast.Tuple) else []
        if len(pair) != 2 or None in pair:
            raise refuse(f"takes pairs of numbers as corners, found {ast.unparse(corner)} as corner {number}")
        pairs.append(pair)
    x, y = (column.value for column in columns)
    return Polygon(x, y, np.array(pairs, np.float64), call)


def _number(node: ast.expr) -> float | None:
    sign = 1.0
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        sign = -1.0 if isinstance(node.op, ast.USub) else 1.0
        node = node.operand
    if isinstance(node, ast.Constant) and type(node.value) in (int, float) and math.isfinite(node.value):
        return sign * node.value
    return None


def _called(call: ast.Call) -> str | None:
    return call.func.id if isinstance(call.func, ast.Name) else None
