"""JSON that decides what a command does: a mapping, or one clear line."""

import json
from pathlib import Path

from tomohet.errors import InputError
from tomohet.files.damage import UNREADABLE, reason
from tomohet.files.digests import check


def read_json(path: str | Path) -> dict:
    """The object of a JSON file. Raises InputError when it is missing, damaged, or something else."""
    path = Path(path)
    check(path)
    try:
        content = json.loads(path.read_text())
    except UNREADABLE as error:
        raise InputError(f"{path}: cannot be read as JSON ({reason(error)})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: found a {type(content).__name__}, expected an object with names")
    return content
