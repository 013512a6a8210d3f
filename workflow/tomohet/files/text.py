"""JSON and YAML files that decide what a command does: plain values, or a one-line error."""

import json
from pathlib import Path
from typing import Any

import yaml

from tomohet.errors import InputError
from tomohet.files.damage import UNREADABLE, reason
from tomohet.files.digests import check
from tomohet.files.regular import refuse_irregular
from tomohet.files.values import refuse_vast


def read_json(path: str | Path) -> dict:
    """Read the object of a JSON file. Raises InputError when it is missing, damaged, or something else."""
    path = Path(path)
    check(path)
    refuse_irregular(path)
    try:
        content = json.loads(path.read_text())
    except UNREADABLE as error:
        raise InputError(f"{path}: cannot be read as JSON ({reason(error)})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: found a {type(content).__name__}, expected an object with names")
    return content


def read_yaml(path: str | Path) -> Any:
    """Read the value of a YAML file.

    Raises InputError when it is missing or damaged, and when it would be huge after expansion: aliases may
    stand for lists of aliases.
    """
    path = Path(path)
    check(path)
    refuse_irregular(path)
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
        refuse_vast(content, 10 * len(text) + 10**5)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (*UNREADABLE, yaml.YAMLError) as error:
        raise InputError(f"{path}: not readable as YAML ({reason(error)})") from error
    return content
