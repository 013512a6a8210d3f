"""Atomic writes: a temporary name in the same folder, then a rename, so that no file is ever incomplete."""

import json
import os
import pickle
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from tomohet.files.digests import sealed
from tomohet.files.temporaries import hold, remove_leftovers, temporary_prefix

ROWS_OF_A_GROUP = 2**18  # of a parquet table: as many are converted at once

_collections: list[set[Path]] = []
_reading_umask = threading.Lock()


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on failure.

    Temporary files of `path` that killed runs have left are removed first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=temporary_prefix(path), suffix=f".tmp{path.suffix}"
    )
    hold(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        keep(path)
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)


@contextmanager
def written_files() -> Iterator[set[Path]]:
    """Collect the absolute paths of all files that are put in place meanwhile, in any thread."""
    collected: set[Path] = set()
    _collections.append(collected)
    try:
        yield collected
    finally:
        _collections[:] = [others for others in _collections if others is not collected]


def keep(*paths: Path) -> None:
    """Count files as written now, such as files of an earlier run that this run uses."""
    for collected in _collections:
        collected.update(path.absolute() for path in paths)


def _umask() -> int:
    with _reading_umask:  # the mask is read by setting it, and other threads may read it too
        mask = os.umask(0)
        os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def write_json(path: str | Path, value: object) -> None:
    """Write a JSON file atomically; numpy scalars and arrays become numbers and lists."""
    write_text(path, json.dumps(value, indent=1, default=_plain, allow_nan=True) + "\n")


def write_yaml(path: str | Path, value: object) -> None:
    """Write a YAML file atomically, keys in the given order."""
    write_text(path, yaml.safe_dump(value, sort_keys=False))


def write_parquet(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as parquet atomically, and list its digest; a long one group of rows by group."""
    with sealed(Path(path)), atomic_path(path) as temporary:
        if len(table) <= ROWS_OF_A_GROUP:
            table.to_parquet(temporary, index=False)
            return
        import pyarrow
        from pyarrow.parquet import ParquetWriter

        schema = pyarrow.Schema.from_pandas(table, preserve_index=False)
        with ParquetWriter(temporary, schema) as writer:
            for start in range(0, len(table), ROWS_OF_A_GROUP):
                rows = table.iloc[start : start + ROWS_OF_A_GROUP]
                writer.write_table(pyarrow.Table.from_pandas(rows, schema, preserve_index=False))


def write_csv(path: str | Path, table: pd.DataFrame, **options) -> None:
    """Write a table as CSV atomically; `options` as for `DataFrame.to_csv`."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, **{"index": False, **options})


def write_pickle(path: str | Path, *values: object) -> None:
    """Pickle `values` one after another into one file, atomically."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        for value in values:
            pickle.dump(value, file, protocol=4)


def _plain(value: Any) -> object:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot write {type(value).__name__} as JSON")
