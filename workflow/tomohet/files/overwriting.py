"""Protection of inputs: a command never replaces a file that it reads."""

import os
from collections.abc import Iterable
from pathlib import Path

from tomohet.errors import InputError


def refuse_overwriting_inputs(outputs: Iterable[str | Path], inputs: Iterable[str | Path]) -> None:
    """Raise InputError when an output is an input, or two outputs are one file.

    Paths are compared by the files they lead to, through symbolic and hard links and in any spelling. To be
    called before anything is written.
    """
    read = {key: str(path) for path in inputs for key in _keys(path)}
    written: dict[object, str] = {}
    for output in map(str, outputs):
        keys = _keys(output)
        if (source := next((read[key] for key in keys if key in read), None)) is not None:
            what = "an input" if source == output else f"the input {source}"
            raise InputError(
                f"{output}: it would replace {what}; nothing is written; give another name or folder with -o"
            )
        if keys[0] in written:
            raise InputError(
                f"{output}: it would be written twice, also as {written[keys[0]]}; nothing is written; give "
                "another name with -o"
            )
        written[keys[0]] = output


def _keys(path: str | Path) -> list[object]:
    """Return the real path and, for an existing file, its device and inode."""
    keys: list[object] = [os.path.realpath(path)]
    try:
        status = os.stat(path)
    except OSError:
        return keys
    return [*keys, (status.st_dev, status.st_ino)]
