"""Editing of STAR files as text: some values change, every other byte stays as it is."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.files.atomic import atomic_path
from tomohet.files.star import TOKEN, TextBlock, as_table, parse_table
from tomohet.files.star_quoting import quoted

ROWS_LOOKED_AT = 1000  # rows from which a column's format is read; programs write all rows alike
_DECIMALS = re.compile(rb"[\"']?[-+]?\d*\.(\d*)")
_TOKEN = re.compile(TOKEN.pattern.encode())


def names_in(block: TextBlock) -> tuple[str, ...]:
    """Return the names of a block's columns or, in a block of pairs, of its values."""
    return block.columns or tuple(block.pairs)


def table_in(block: TextBlock, path: str | Path, only: list[str] | None = None) -> pd.DataFrame:
    """Return the rows of a block as a data frame, one row where the block is pairs; `only` some columns."""
    if block.columns:
        return parse_table(block, path, only)
    table = as_table(block.pairs)
    return table if only is None else table[[name for name in table if name in only]]


def replaced(
    block: TextBlock, changes: Mapping[str, Sequence[str]], rows: np.ndarray | None = None
) -> TextBlock:
    """Replace the values of some columns of a block, one value per row; they are quoted where necessary.

    rows : which of the rows change (bool, one per row; None: all); there is then one value for each of these

    A block of pairs is a table of one row. Raises InputError for a value that no STAR file can hold.
    """
    written = {name: [quoted(value).encode() for value in values] for name, values in changes.items()}
    if not block.columns:
        lines = [_with_value(line, written) for line in block.head.splitlines(keepends=True)]
        pairs = block.pairs | {name: values[0] for name, values in changes.items()}
        return replace(block, head=b"".join(lines), pairs=pairs)
    lines, is_row = block.lines()
    place = [(i, written[column]) for i, column in enumerate(block.columns) if column in written]
    chosen = np.flatnonzero(is_row)
    for row, line_number in enumerate(chosen if rows is None else chosen[rows]):
        line, pieces, end = lines[line_number], [], 0
        spans = [match.span() for match in _TOKEN.finditer(line)]
        for column, values in place:
            pieces += [line[end : spans[column][0]], values[row]]
            end = spans[column][1]
        lines[line_number] = b"".join([*pieces, line[end:]])
    return replace(block, body=b"".join(lines))


def extended(block: TextBlock, columns: Mapping[str, Sequence[str]]) -> TextBlock:
    """Add columns to a block behind its own, one value per row; a block of pairs has one row.

    Raises InputError for a value that no STAR file can hold.
    """
    if not columns:
        return block
    written = [[quoted(value).encode() for value in values] for values in columns.values()]
    head = block.head.splitlines(keepends=True)
    last = max(i for i, line in enumerate(head) if line.lstrip().startswith(b"_"))
    end = b"\r\n" if head[last].endswith(b"\r\n") else b"\n"
    if not head[last].endswith(b"\n"):
        head[last] += end
    if not block.columns:
        names = [f"_{name} ".encode() + values[0] for name, values in zip(columns, written, strict=True)]
        pairs = block.pairs | {name: values[0] for name, values in columns.items()}
        return replace(block, head=_with_lines(head, last, names, end), pairs=pairs)
    numbered = b"#" in head[last]
    names = [
        f"_{name} #{number}".encode() if numbered else f"_{name}".encode()
        for number, name in enumerate(columns, len(block.columns) + 1)
    ]
    lines, is_row = block.lines()
    for line_number, values in zip(np.flatnonzero(is_row), zip(*written, strict=True), strict=True):
        line = lines[line_number]
        spans = [match.span() for match in _TOKEN.finditer(line)]
        stop = spans[len(block.columns) - 1][1]  # a comment may follow
        lines[line_number] = b" ".join([line[:stop], *values]) + line[stop:]
    head = _with_lines(head, last, names, end)
    return replace(block, head=head, body=b"".join(lines), columns=(*block.columns, *columns))


def _with_lines(head: list[bytes], after: int, lines: list[bytes], end: bytes) -> bytes:
    """Insert further lines behind line `after` of a head."""
    return b"".join([*head[: after + 1], *(line + end for line in lines), *head[after + 1 :]])


def decimals(block: TextBlock, column: str) -> int:
    """Return the largest number of decimals in the first rows of a column; 0 without the column."""
    if column not in names_in(block):
        return 0
    texts = [block.pairs[column].encode()] if not block.columns else []
    if block.columns:
        place = block.columns.index(column)
        texts = [_TOKEN.findall(row)[place] for row in block.rows()[:ROWS_LOOKED_AT]]
    return max(len(found[1]) if (found := _DECIMALS.match(text)) else 0 for text in texts)


def _with_value(line: bytes, values: Mapping[str, list[bytes]]) -> bytes:
    """Replace the value of a line `_name value` if `values` has one for the name."""
    tokens = list(_TOKEN.finditer(line))
    name = tokens[0].group().decode(errors="replace") if tokens else ""
    if len(tokens) < 2 or not name.startswith("_") or name[1:] not in values:
        return line
    start, end = tokens[1].span()
    return line[:start] + values[name[1:]][0] + line[end:]


def write_text_blocks(path: Path, preamble: bytes, blocks: list[TextBlock]) -> None:
    """Write the result of `read_text_blocks`, atomically."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(preamble)
        for block in blocks:
            file.write(block.head)
            file.write(block.body)
