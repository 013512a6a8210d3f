"""Digests of the files that later stages trust: listed beside them when written, checked when opened.

A folder's list `.digests` has a line per file written, "sha256 command name". The last line of a name counts;
"-" for the digest means that the file was removed on purpose. A file without a line is accepted unchecked:
users may replace a file by their own after they delete its line. Lines are only ever appended, so that a
killed command leaves no list that contradicts its files.
"""

import fcntl
import fnmatch
import hashlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tomohet.errors import InputError

LIST = ".digests"
REMOVED = "-"
LINE = re.compile(r"([0-9a-f]{64}|-) (\w+) (.+)")

_found_intact: set[tuple] = set()  # files checked in this process, which are not digested again


@contextmanager
def sealed(*paths: Path) -> Iterator[None]:
    """List the digests of the files `paths` (of one folder), which are written in this context.

    While they are written they are not listed, so whatever a killed command leaves is accepted unchecked.
    """
    forget(*paths)
    yield
    _append(paths[0].parent, [(_sha256(path), path.name) for path in paths])


def forget(*paths: Path) -> None:
    """Remove files (of one folder) from the list, because they are removed or written again."""
    if paths:
        known = _listed(paths[0].parent)
        _append(paths[0].parent, [(REMOVED, path.name) for path in paths if path.name in known])


def check(path: str | Path) -> None:
    """Raise InputError when the file is listed and is missing, or its content is not what was written."""
    path = Path(path)
    digest, command = _listed(path.parent).get(path.name, (None, ""))
    if digest is None:
        return
    mend = f"run `tomohet {command}` again, or delete its line in {path.parent / LIST}"
    if not path.is_file():
        raise InputError(f"{path}: missing, though `tomohet {command}` wrote it; {mend} if you removed it")
    status = path.stat()
    state = (str(path.absolute()), status.st_ino, status.st_size, status.st_mtime_ns, digest)
    if state in _found_intact:
        return
    if _sha256(path) != digest:
        raise InputError(
            f"{path}: not what `tomohet {command}` wrote: damaged, edited, or another run's; {mend} to use "
            "it as it is"
        )
    _found_intact.add(state)


def is_there(path: str | Path) -> bool:
    """Tell whether the file exists; if it is listed, it must also be intact.

    Raises InputError when it is listed and missing or changed, because such a file is not optional.
    """
    check(path)
    return Path(path).is_file()


def missing(folder: str | Path, pattern: str) -> list[Path]:
    """List the files of a folder, with names like `pattern` (* and ?), that are in its list but are gone."""
    folder = Path(folder)
    names = fnmatch.filter(_listed(folder), pattern)
    return [folder / name for name in names if not (folder / name).is_file()]


def changed(folder: str | Path, pattern: str) -> list[Path]:
    """List the files of a folder, with names like `pattern` (* and ?), that are not what was written."""
    folder, found = Path(folder), []
    for name in fnmatch.filter(_listed(folder), pattern):
        try:
            is_there(folder / name)
        except InputError:
            found += [folder / name] * (folder / name).is_file()
    return found


def _listed(folder: Path) -> dict[str, tuple[str, str]]:
    """Return name -> (digest, command that wrote it) of the files listed in a folder."""
    try:
        text = (folder / LIST).read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    found: dict[str, tuple[str, str]] = {}
    for match in filter(None, map(LINE.fullmatch, text.splitlines())):
        digest, command, name = match.groups()
        found[name] = digest, command
    return {name: entry for name, entry in found.items() if entry[0] != REMOVED}


def _append(folder: Path, entries: list[tuple[str, str]]) -> None:
    if not entries:
        return
    command = re.sub(r"\W", "_", Path(sys.argv[0]).stem.removeprefix("tomohet ")) or "_"
    with open(folder / LIST, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("".join(f"{digest} {command} {name}\n" for digest, name in entries))


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
