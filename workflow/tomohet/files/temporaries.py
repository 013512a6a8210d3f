"""Temporary files of killed runs: their owners, and their removal by the next run.

A temporary file of `NAME.EXT` is `.NAME.<process>-<host>-<random>.tmp.EXT`; its writer holds a lock on it.
"""

import fcntl
import hashlib
import os
import re
import socket
import time
from functools import cache
from pathlib import Path

_TEMPORARY = re.compile(
    r"\.(?P<stem>.*)\.(?:(?P<pid>\d+)-(?P<host>[0-9a-f]{8})-)?[a-z0-9_]{8}\.tmp(?P<suffix>(?:\.[^.]*)?)"
)
# Processes on other machines cannot be looked up, and their locks may be invisible.
SURELY_ENDED_S = 24 * 3600.0
LISTING_SHARE = 0.02  # largest fraction of time for listing a folder, which may hold a file per particle

Temporary = tuple[str, re.Match[str]]  # path, and its name in parts
_listings: dict[str, tuple[float, dict[str, list[Temporary]]]] = {}


def temporary_prefix(path: Path) -> str:
    """Return the start of the name of a temporary file of `path`."""
    return f".{path.stem}.{os.getpid()}-{_host()}-"


def remove_leftovers(path: Path) -> None:
    """Remove temporary files of `path` whose writers have ended.

    A file stays while a process holds it, runs under the number in its name on this machine, or, on
    another machine, until it is a day old.
    """
    for leftover, name in _temporaries(path.parent).pop(path.name, ()):
        try:
            with open(leftover, "r+b") as file:
                ended = name["host"] == _host() and not _runs(int(name["pid"]))
                old = time.time() - os.fstat(file.fileno()).st_mtime > SURELY_ENDED_S
                if (ended or old) and not _is_held(file.fileno()):
                    os.unlink(leftover)
        except OSError:  # another run has removed it, or we may not remove it
            continue


def hold(handle: int) -> None:
    """Lock an open file, so that no other run removes it as a leftover; no effect where locks are unknown."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return


def _is_held(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # the file system has no locks: name and age decide
        return False
    return False


def _runs(pid: int) -> bool:
    """Tell whether a process of this number runs; a zombie that its parent has not collected does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except OSError:  # of another user, or a system without /proc
        return True
    return state != "Z"


def _temporaries(folder: Path) -> dict[str, list[Temporary]]:
    """Return the temporary files in a folder by the name of their target; the listing is renewed if quick."""
    key, now = os.path.abspath(folder), time.monotonic()
    due, found = _listings.get(key, (0.0, {}))
    if now < due:
        return found
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if ".tmp" in entry.name and (name := _TEMPORARY.fullmatch(entry.name)):
                found.setdefault(name["stem"] + name["suffix"], []).append((entry.path, name))
    end = time.monotonic()
    _listings[key] = end + (end - now) / LISTING_SHARE, found
    return found


@cache
def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
