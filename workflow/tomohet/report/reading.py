"""Reader of a results folder in which any file may be missing; it lists the files that cannot be read."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from tomohet.errors import InputError
from tomohet.files.damage import UNREADABLE
from tomohet.files.digests import LIST, missing
from tomohet.files.tables import read_table
from tomohet.files.text import read_yaml


class Reader:
    """Reader of the files of one results folder; absent and damaged files give None, and damage is recorded.

    `problems` holds one line per file that exists but cannot be read. The report prints these lines, so that
    a missing figure is never mistaken for a stage that did not run.
    """

    def __init__(self, root: Path):
        self.root = Path(root)
        self.problems: list[str] = []

    def json(self, path: Path) -> dict:
        """Read a JSON object; empty when absent."""
        return self._mapping(path, lambda p: json.loads(p.read_text()))

    def yaml(self, path: Path) -> dict:
        """Read a YAML mapping; empty when absent."""
        return self._mapping(path, read_yaml)

    def parquet(self, path: Path) -> pd.DataFrame | None:
        """Read a parquet table, or return None."""
        return self._read(path, read_table)

    def csv(self, path: Path) -> pd.DataFrame | None:
        """Read a CSV table, or return None."""
        return self._read(path, pd.read_csv)

    def text(self, path: Path) -> str:
        """Read a text file; empty when absent."""
        return self._read(path, lambda p: p.read_text(errors="replace")) or ""

    def note_missing(self) -> None:
        """Record the files that were written (`files.digests`) and are gone."""
        for listing in sorted(self.root.rglob(LIST)):
            for path in missing(listing.parent, "*"):
                self.problem(path, FileNotFoundError("it is missing, though it was written"))

    def problem(self, path: Path, error: Exception) -> None:
        """Record that `path` exists but has the wrong content."""
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        line = f"{self.relative(path)} could not be read: {first_line}"
        if line not in self.problems:  # several figures may need the same file
            self.problems.append(line)

    def relative(self, path: Path) -> str:
        """Return `path` as the report names it: relative to the results folder."""
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
    """Sort paths by the last integer in their names (`vol_2.mrc` before `vol_10.mrc`)."""

    def key(path: Path) -> tuple[int, str]:
        numbers = re.findall(r"\d+", path.stem)
        return (int(numbers[-1]) if numbers else -1, path.name)

    return sorted(paths, key=key)
