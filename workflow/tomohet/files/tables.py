"""Tables in parquet and CSV files, with one-line errors for everything that is wrong with them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet

from tomohet.errors import InputError
from tomohet.files.damage import UNREADABLE, one_line, reason
from tomohet.files.digests import check

ROWS_AT_ONCE = 100_000  # longer tables are read column by column
MOST_COLUMNS = 10_000  # of a CSV table; more columns take minutes to read
# Kinds of columns, and a test of a column's type for each; whole numbers are numbers too.
KINDS = {
    "whole numbers": pd.api.types.is_integer_dtype,
    "numbers": lambda kind: pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind),
    "true or false": pd.api.types.is_bool_dtype,
    "anything": lambda kind: True,
}


def read_table(
    path: str | Path,
    needed: Mapping[str, str] | None = None,
    only: Callable[[str], object] | None = None,
    keep: np.ndarray | None = None,
    **options,
) -> pd.DataFrame:
    """Read a parquet table.

    needed : required columns, and their kinds (`KINDS`)
    only : tells by its name whether a column is read; None: all are
    keep : bool for each row of the file, whether it is read; None: all are
    options : of `pyarrow.parquet.ParquetFile`

    Raises InputError when the file is missing, not such a table, not what was written (`files.digests`), or
    lacks a column of that kind.
    """
    path = Path(path)
    check(path)
    if not path.is_file():
        raise InputError(f"{path}: no such table")
    try:
        table = _columns(path, only, keep, options)
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        MemoryError,
        RuntimeError,
        pyarrow.ArrowException,
    ) as error:
        raise InputError(
            f"{path}: cannot be read as a parquet table ({reason(error)}); make it again"
        ) from error
    _refuse_other_columns(table, needed or {}, path)
    return table


def _columns(
    path: Path, only: Callable[[str], object] | None, keep: np.ndarray | None, options: dict
) -> pd.DataFrame:
    """Read columns of a parquet table; of a long one each on its own, so that it is never held twice."""
    with pyarrow.parquet.ParquetFile(path, **options) as file:
        names = [name for name in file.schema_arrow.names if only is None or only(name)]
        if keep is not None:
            return _rows(file, names, keep)
        if file.metadata.num_rows <= ROWS_AT_ONCE:
            return file.read(names, use_pandas_metadata=True).to_pandas()
        columns = (file.read([name], use_pandas_metadata=True).to_pandas(split_blocks=True) for name in names)
        return pd.concat(columns, axis=1)


def _rows(file: pyarrow.parquet.ParquetFile, names: list[str], keep: np.ndarray) -> pd.DataFrame:
    """Read the rows of `keep`, from one group of rows of the file after the other."""
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    kept = np.split(keep, np.cumsum(sizes)[:-1])
    groups = [group for group, part in enumerate(kept) if part.any()] or [0]
    read = (file.read_row_group(group, names, use_pandas_metadata=True) for group in groups)
    rows = (part.filter(pyarrow.array(kept[group])) for group, part in zip(groups, read, strict=True))
    return pyarrow.concat_tables(rows).unify_dictionaries().to_pandas(split_blocks=True, self_destruct=True)


def read_csv(path: str | Path, needed: Mapping[str, str] | None = None, **options) -> pd.DataFrame:
    """Read a CSV table; `options` of `pandas.read_csv`, other arguments and errors as in `read_table`."""
    path = Path(path)
    check(path)
    if not path.is_file():
        raise InputError(f"{path}: no such table")
    with open(path, "rb") as file:
        columns = file.readline().count(b",") + 1
    if columns > MOST_COLUMNS:
        raise InputError(f"{path}: {columns} columns, expected {MOST_COLUMNS} at most")
    try:
        table = pd.read_csv(path, **options)
    except UNREADABLE as error:
        raise InputError(f"{path}: cannot be read as a CSV table ({reason(error)})") from error
    _refuse_other_columns(table, needed or {}, path)
    return table


def _refuse_other_columns(table: pd.DataFrame, needed: Mapping[str, str], path: Path) -> None:
    for column, kind in needed.items():
        if column not in table:
            found = one_line(", ".join(map(str, table.columns)))
            raise InputError(f"{path}: no column '{column}'; found {found[:500]}")
        values = table[column]
        if not isinstance(values, pd.Series) or not KINDS[kind](values.dtype):
            found = getattr(values, "dtype", "two columns of this name")
            raise InputError(f"{path}: column '{column}': found {found}, expected {kind}")
