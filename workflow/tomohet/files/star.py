"""STAR files: read into tables, written from tables, or handled as text where every byte must be kept.

The grammar is the subset that electron microscopy programs write: `data_<name>` blocks, each either pairs of
name and value or one `loop_` table; `#` comments; single or double quotes around values with blanks.

A table of one row may be written as a loop or as pairs: RELION and the Python package starfile write and read
both. Use `as_table` or `as_pairs` to get the form that is needed, never the type of a block.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd
from pandas.errors import ParserError

from tomohet.errors import InputError
from tomohet.files.atomic import atomic_path
from tomohet.files.regular import refuse_irregular
from tomohet.files.star_quoting import quoted, unquoted, without_comments
from tomohet.files.star_repeats import columns_with_values, repeated_names, told_apart, without_repeats

# Columns of names, file names and lists stay text even if all values look like numbers (tomogram "001").
TEXT_ENDINGS = ("Name", "File", "Path", "Frames", "ParticleId", "GroupNumber")
AT_ONCE = 16 * 2**20  # bytes of a table that are parsed at once; longer tables are parsed piece by piece
ROWS_OF_A_PIECE = 100_000
NOT_A_NUMBER = ["nan", "NaN", "NAN", "-nan", "<NA>"]

BLANKS = b" \t\r\n"
BOM = b"\xef\xbb\xbf"  # some editors put this mark before UTF-8 text
# These two begin with a literal. A leading `^` would be tried at every byte, which is ten times slower.
_BLOCK = re.compile(rb"data_(\S*)[ \t]*(?:#[^\n]*)?\r?$", re.MULTILINE)
_LOOP = re.compile(rb"loop_[ \t]*(?:#[^\n]*)?\r?$", re.MULTILINE)
_FIRST_ROW = re.compile(rb"[^ \t\r\n][^\n]*")
_SINGLE_QUOTED = re.compile(rb"(?<![^ \t\r\n])'([^'\"\n]*)'(?![^ \t\r\n])")
_QUOTED = re.compile(rb"(?<![^ \t\r\n])(?:\"[^\"\n]*\"|'[^'\n]*')(?![^ \t\r\n])")
TOKEN = re.compile(r"\"[^\"\n]*\"(?![^ \t\r\n])|'[^'\n]*'(?![^ \t\r\n])|[^ \t\r\n]+")

Blocks = dict[str, pd.DataFrame | dict[str, str]]


@dataclass(frozen=True)
class TextBlock:
    """One block of a STAR file as text.

    `head` is all text from the `data_` line to the line before the first table row; `body` is the table rows
    and everything after them up to the next block. A block of pairs has no `columns`, an empty `body`, and
    `pairs`.
    """

    name: str
    head: bytes
    body: bytes
    columns: tuple[str, ...]
    pairs: dict[str, str]

    def lines(self) -> tuple[list[bytes], np.ndarray]:
        """Return all lines of the body with their ends, and (bool) which are rows, not blank or comments."""
        lines = io.BytesIO(self.body).readlines()
        starts = (line.lstrip(BLANKS)[:1] for line in lines)
        return lines, np.array([start not in (b"", b"#") for start in starts], dtype=bool)

    def rows(self) -> list[bytes]:
        """Return the table's rows as text, in file order."""
        lines, is_row = self.lines()
        return [lines[i].strip(BLANKS) for i in np.flatnonzero(is_row)]


def read_star(path: str | Path) -> Blocks:
    """Read all blocks of a STAR file, keyed by the name after `data_` (the nameless block is "").

    Tables become data frames, blocks of pairs become dictionaries of text. The leading `_` of names is
    dropped: `rlnImageName`. Types are inferred over whole columns; names stay text.

    Raises InputError when the file is missing, is no STAR file, or has a malformed table.
    """
    _, blocks = read_text_blocks(path)
    return {block.name: parse_table(block, path) if block.columns else dict(block.pairs) for block in blocks}


def read_text_blocks(path: str | Path) -> tuple[bytes, list[TextBlock]]:
    """Split a STAR file into the text before its first block and its blocks, nothing lost."""
    path = Path(path)
    refuse_irregular(path)
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read as a STAR file ({error.strerror})") from error
    return split_blocks(text, path)


def split_blocks(text: bytes, path: Path) -> tuple[bytes, list[TextBlock]]:
    """Split the content of a STAR file, or its beginning, as `read_text_blocks` does; `path` for messages."""
    starts = list(_line_starts(_BLOCK, text))
    if b"\0" in text[:4096] or not starts:
        raise InputError(f"{path}: not a STAR file (found no line `data_`)")
    ends = [start for start, _ in starts[1:]] + [len(text)]
    blocks = [
        _split_block(match.group(1).decode(errors="replace"), text, start, end, path)
        for (start, match), end in zip(starts, ends, strict=True)
    ]
    for name, count in Counter(block.name for block in blocks).items():
        if count > 1:
            raise InputError(f"{path}: block data_{name} appears {count} times, expected once")
    return text[: starts[0][0]], blocks


def _line_starts(pattern: re.Pattern, text: bytes) -> Iterator[tuple[int, re.Match]]:
    """Yield matches preceded only by blanks in their line, each with the position where that line starts."""
    for match in pattern.finditer(text):
        start = text.rfind(b"\n", 0, match.start()) + 1
        if not text[start : match.start()].removeprefix(BOM).strip(BLANKS):
            yield start, match


def _split_block(name: str, text: bytes, start: int, stop: int, path: Path) -> TextBlock:
    """Find where the header of one block, which is `text[start:stop]`, ends and its rows begin."""
    columns: list[str] = []
    pairs: dict[str, str] = {}
    is_table = False
    position = text.find(b"\n", start, stop) + 1 or stop
    while position < stop:
        end = text.find(b"\n", position, stop) + 1 or stop
        line = text[position:end].decode(errors="replace").strip()
        if _LOOP.fullmatch(line.encode()) and not pairs and not is_table:
            is_table = True
        elif line.startswith("_") and is_table:
            columns.append(line.split()[0][1:])
        elif line.startswith("_"):
            tokens = [unquoted(token) for token in TOKEN.findall(line)]
            if len(tokens) < 2:
                raise InputError(f"{path}: block data_{name}: `{line}` has no value")
            pairs[tokens[0][1:]] = tokens[1]
        elif line and not line.startswith("#"):
            break
        position = end
    head, body = text[start:position], text[position:stop]
    if body and not columns:
        found = body.split(b"\n", 1)[0].decode(errors="replace").strip()
        raise InputError(
            f"{path}: block data_{name}: expected `loop_` or `_name value`, found `{found[:60]}`"
        )
    if any(_line_starts(_LOOP, body)):
        raise InputError(f"{path}: block data_{name} has a second `loop_`, expected one table per block")
    if repeated_names(columns) and (row := _FIRST_ROW.search(without_comments(body))):
        columns = columns_with_values(columns, row.group().decode(errors="replace"), TOKEN)
    return TextBlock(name, head, body, tuple(columns), pairs)


def parse_table(block: TextBlock, path: str | Path, only: list[str] | None = None) -> pd.DataFrame:
    """Parse the rows of a table block to a data frame, one row per line of `block.rows()`.

    `only` reads some of the columns, which saves time; rows with too many values are then not noticed.
    """
    where = f"{path}: table data_{block.name}"
    columns = told_apart(block.columns)
    require_columns(block, only or [], where)
    asked, only = only, None if repeated_names(block.columns) else only
    body = block.body
    if b"#" in body:
        body = without_comments(body)
    if b"\r" in body:
        body = body.replace(b"\r\n", b"\n").replace(b"\r", b" ")
    if not (first_row := _FIRST_ROW.search(body)):
        return pd.DataFrame({column: [] for column in block.columns if asked is None or column in asked})
    if b"'" in body:
        both = b'"' in body
        body = _QUOTED.sub(_in_double_quotes, body) if both else _SINGLE_QUOTED.sub(rb'"\1"', body)
    if body.count(b'"') % 2:
        raise InputError(f"{where}: a quote is opened and never closed")
    wanted = columns if only is None else [column for column in columns if column in {*only, columns[-1]}]
    text_columns = {column for column in wanted if column.endswith(TEXT_ENDINGS)}
    found = len(TOKEN.findall(first_row.group().decode(errors="replace")))
    if found != len(columns):
        raise InputError(f"{where}: row 1 has {found} values, expected {len(columns)} (one per column)")
    try:
        table = _parsed(
            body,
            sep=r"\s+",
            header=None,
            names=columns,
            usecols=None if only is None else wanted,
            index_col=False,
            dtype=dict.fromkeys(text_columns, str),
            quoting=csv.QUOTE_MINIMAL if b'"' in body else csv.QUOTE_NONE,
            keep_default_na=False,
            na_values={column: NOT_A_NUMBER for column in wanted if column not in text_columns},
            encoding_errors="replace",
            low_memory=False,
        )
    except (ParserError, ValueError) as error:
        raise InputError(f"{where}: {_parser_message(str(error), body)}") from error
    _check_row_lengths(table, block, where)
    table = without_repeats(table, where)
    return table if asked is None else table[[column for column in table.columns if column in asked]]


def _parsed(body: bytes, **options: Any) -> pd.DataFrame:
    """Read rows by `pandas.read_csv` with these options; long tables piece by piece, with the same result.

    The parser takes several times the memory of the table that it returns.
    """
    if len(body) <= AT_ONCE:
        return pd.read_csv(io.BytesIO(body), **options)
    pieces = [
        {name: piece[name].array.copy() for name in piece}  # else one array holds all columns of the piece
        for piece in pd.read_csv(io.BytesIO(body), chunksize=ROWS_OF_A_PIECE, **options)
    ]
    columns: dict[str, pd.Series] = {}
    for name in [str(name) for name in pieces[0]]:
        parts = [pd.Series(piece.pop(name), copy=False) for piece in pieces]
        kinds = {part.dtype for part in parts}
        if len(kinds) == 1 or kinds <= {np.dtype("int64"), np.dtype("float64")}:
            columns[name] = pd.concat(parts, ignore_index=True)
        else:  # the type of a column follows from all of its rows
            alone: dict[str, Any] = options | {"usecols": [name]}
            columns[name] = pd.read_csv(io.BytesIO(body), **alone)[name]
    return pd.concat(columns, axis=1)


def _in_double_quotes(value: re.Match) -> bytes:
    """Rewrite a quoted value in double quotes, with inner ones doubled, as the CSV parser needs them."""
    text = value.group()
    return text if text.startswith(b'"') else b'"' + text[1:-1].replace(b'"', b'""') + b'"'


def _parser_message(message: str, body: bytes) -> str:
    """Rewrite the CSV parser's message in terms of rows; the parser counts lines, including blank ones."""
    too_long = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", message)
    if not too_long:
        return " ".join(message.removeprefix("Error tokenizing data. C error: ").split())
    expected, line, found = map(int, too_long.groups())
    row = sum(bool(text.strip(BLANKS)) for text in body.split(b"\n", line)[:line])
    return f"row {row} has {found} values, expected {expected}; quote values that hold blanks"


def _check_row_lengths(table: pd.DataFrame, block: TextBlock, where: str) -> None:
    """Refuse rows with too few values, which the CSV parser pads silently, and quotes across lines."""
    last = table.iloc[:, -1]
    suspicious = np.flatnonzero(last.isna() | (last == ""))
    if not len(suspicious) and b'"' not in block.body:
        return
    rows = block.rows()
    if len(rows) != len(table):
        raise InputError(
            f"{where}: {len(rows)} rows, but {len(table)} after quotes across lines; correct the quotes"
        )
    for row in suspicious:
        found = len(TOKEN.findall(rows[row].decode(errors="replace")))
        if found != len(block.columns):
            raise InputError(f"{where}: row {row + 1} has {found} values, expected {len(block.columns)}")


def require_columns(table: pd.DataFrame | TextBlock, columns: list[str], where: str) -> None:
    """Raise InputError naming every one of `columns` that the table lacks."""
    missing = [f"_{column}" for column in columns if column not in table.columns]
    if missing:
        raise InputError(f"{where}: column {', '.join(missing)} is missing")


@overload
def as_table(block: None) -> None: ...
@overload
def as_table(block: pd.DataFrame | Mapping[str, str]) -> pd.DataFrame: ...
def as_table(block: pd.DataFrame | Mapping[str, str] | None) -> pd.DataFrame | None:
    """Return a block as a table: pairs are one row, typed as the same row in a loop; None stays None."""
    if block is None or isinstance(block, pd.DataFrame):
        return block
    row = {name: [value if name.endswith(TEXT_ENDINGS) else _typed(value)] for name, value in block.items()}
    return pd.DataFrame(row)


def as_pairs(block: pd.DataFrame | Mapping[str, str] | None) -> dict[str, str]:
    """Return a block as pairs of name and text: a loop of one row is pairs.

    The result is empty for None and for other tables.
    """
    if block is None:
        return {}
    if not isinstance(block, pd.DataFrame):
        return dict(block)
    return {name: str(block[name].iloc[0]) for name in block.columns} if len(block) == 1 else {}


def _typed(value: str) -> int | float | str:
    """Convert a value to the number that it spells, else keep it as text."""
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def numbers(table: pd.DataFrame, column: str, where: str) -> np.ndarray:
    """Return a column as float64; raise InputError with row and value where it is not a finite number."""
    require_columns(table, [column], where)
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        found = table[column].iloc[wrong[0]]
        raise InputError(
            f"{where}: column _{column}, row {wrong[0] + 1}: found `{found}`, expected a number "
            f"({len(wrong)} such rows)"
        )
    return values


def write_star(path: str | Path, blocks: Mapping[str, pd.DataFrame | Mapping[str, object]]) -> None:
    """Write blocks to a STAR file, atomically: data frames as tables, mappings as pairs.

    Numbers keep full precision. Values are quoted where necessary. An empty text becomes `None` in a table,
    as in RELION.

    Raises InputError for a text that no STAR file can hold.
    """
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        for name, block in blocks.items():
            file.write(f"\ndata_{name}\n\n")
            if isinstance(block, pd.DataFrame):
                file.write("loop_\n")
                file.writelines(f"_{column} #{i}\n" for i, column in enumerate(block.columns, start=1))
                values = [_written(block.iloc[:, i]) for i in range(block.shape[1])]
                file.writelines(f"{' '.join(row)}\n" for row in zip(*values, strict=True))
            else:
                file.writelines(f"_{key} {quoted(str(value))}\n" for key, value in block.items())
            file.write("\n")


def _written(column: pd.Series) -> list[str]:
    """Format the values of a column for the file; equal texts are quoted once."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "fiub":
        return column.to_numpy().astype(str).tolist()
    codes, values = pd.factorize(column, use_na_sentinel=True)
    texts = np.array([quoted(str(value) or "None") for value in values] + ["nan"], dtype=object)
    return texts[codes].tolist()
