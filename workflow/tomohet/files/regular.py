"""Check that an input is a regular file: reading a pipe or a device might never end."""

import os
import stat
from pathlib import Path

from tomohet.errors import InputError

OPENED = ("/dev/fd/", "/proc/self/fd/")


def refuse_irregular(path: str | Path) -> None:
    """Raise InputError for a pipe, a socket or a device, and for a name that no file can have.

    A pipe that the shell has opened, `<(command)`, has a writer and ends. Missing files and folders are left
    to the reader, who knows what is expected.
    """
    try:
        mode = os.stat(path).st_mode
    except ValueError as error:  # the name contains a NUL
        raise InputError(f"{str(path)!r}: cannot be read: no file can have this name") from error
    except OSError:
        return
    opened = stat.S_ISFIFO(mode) and str(path).startswith(OPENED)
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or opened):
        raise InputError(f"{path}: cannot be read: a pipe or device, expected a file; write it to one first")
