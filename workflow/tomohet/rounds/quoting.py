"""Numbers that a text quotes from the files of a results folder, with the file and key of each."""

from pathlib import Path
from typing import Any, NamedTuple

from tomohet.errors import InputError
from tomohet.files.text import read_json, read_yaml
from tomohet.rounds.layout import LINEAGE


class Quoted(NamedTuple):
    """A number of the text, as written there, with its file (relative to the results) and key."""

    text: str
    file: str
    key: str


class Evidence:
    """The files of a results folder, and what a text has quoted from them."""

    def __init__(self, results: Path, lineage: dict[str, Any]):
        self.results = results
        self.quoted: list[Quoted] = []
        self._read: dict[str, Any] = {LINEAGE: lineage}

    def has(self, file: str) -> bool:
        """Tell whether the file is there."""
        return (self.results / file).is_file()

    def value(self, file: str, key: str) -> Any:
        """Return the value at a key of a JSON or YAML file; `a/b` is the key b of the mapping a."""
        if file not in self._read:
            path = self.results / file
            self._read[file] = read_json(path) if path.suffix == ".json" else read_yaml(path)
        found = self._read[file]
        for part in key.split("/"):
            found = found.get(part) if isinstance(found, dict) else None
        return found

    def quote(self, file: str, key: str, form: str = "{:,}") -> str:
        """Return the value at a key in the format `form`, and note where it stands.

        Raises InputError when the file lacks the key.
        """
        found = self.value(file, key)
        if found is None:
            raise InputError(
                f"{self.results / file}: no `{key}`, expected a number for the methods paragraph; run the "
                "stage that writes this file again"
            )
        text = form.format(found)
        self.quoted.append(Quoted(text, file, key))
        return text
