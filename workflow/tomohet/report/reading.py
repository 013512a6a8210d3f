"""Reads a results folder in which any file may be missing, and lists those that could not be read."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from tomohet.errors import InputError
from tomohet.files.damage import UNREADABLE
from tomohet.files.tables import read_table
from tomohet.files.text import read_yaml


class Reader:
    """Reads the files of one results folder; what is absent is None, what is damaged is None and remembered.

    `problems` holds one line per file that exists but cannot be read; the report prints them, so that a
    missing figure is never mistaken for a stage that did not run.
    """

    def __init__(self, root: Path):
        self.root = Path(root)
        self.problems: list[str] = []

    def json(self, path: Path) -> dict:
        """A JSON object; empty when absent."""
        return self._mapping(path, lambda p: json.loads(p.read_text()))

    def yaml(self, path: Path) -> dict:
        """A YAML mapping; empty when absent."""
        return self._mapping(path, read_yaml)

    def parquet(self, path: Path) -> pd.DataFrame | None:
        """A parquet table, or None."""
        return self._read(path, read_table)

    def csv(self, path: Path) -> pd.DataFrame | None:
        """A CSV table, or None."""
        return self._read(path, pd.read_csv)

    def text(self, path: Path) -> str:
        """A text file; empty when absent."""
        return self._read(path, lambda p: p.read_text(errors="replace")) or ""

    def problem(self, path: Path, error: Exception) -> None:
        """Remember that `path` exists but is not what it should be."""
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        self.problems.append(f"{self.relative(path)} could not be read: {first_line}")

    def relative(self, path: Path) -> str:
        """`path` as the report names it: relative to the results folder."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def _mapping(self, path: Path, parse: Callable[[Path], object]) -> dict:
        content = self._read(path, parse)
        if content is None or isinstance(content, dict):
            return content or {}
        self.problem(path, ValueError(f"a {type(content).__name__}, expected names and values"))
        return {}

    def _read(self, path: Path, read: Callable):
        if not path.is_file():
            return None
        try:
            return read(path)
        except (*UNREADABLE, InputError) as error:
            self.problem(path, error)
            return None


def numbered(paths) -> list[Path]:
    """Paths in the order of the last integer in their names (`vol_2.mrc` before `vol_10.mrc`)."""

    def key(path: Path) -> tuple[int, str]:
        numbers = re.findall(r"\d+", path.stem)
        return (int(numbers[-1]) if numbers else -1, path.name)

    return sorted(paths, key=key)
