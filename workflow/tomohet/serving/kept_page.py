"""The served report, written again only when a file of the results has changed."""

import os
import threading
from pathlib import Path

from tomohet.report.collect import collect
from tomohet.report.page import render
from tomohet.rounds.layout import REPORT, SERVED


class KeptPage:
    """The report about a results folder as text, kept until the folder changes."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self._lock = threading.Lock()
        self._state: tuple[int, int, int] | None = None
        self._text = ""

    def text(self) -> str:
        """Return the report of the files as they are.

        Raises InputError when the folder holds no results.
        """
        with self._lock:
            state = state_of(self.results)
            if state != self._state:
                self._text = render(collect(self.results), served=True)
                self._state = state
            return self._text


def state_of(results: Path) -> tuple[int, int, int]:
    """Return the number, the newest time (ns) and the total bytes of the files and folders that a page reads.

    What the server itself has reconstructed, hidden files and the report are left out. A folder's time
    changes when a
    file is added, renamed or removed.
    """
    count, newest, size = 0, 0, 0
    waiting = [str(results)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name in (SERVED, REPORT):
                    continue
                is_folder = entry.is_dir(follow_symlinks=False)
                try:
                    known = entry.stat()
                except FileNotFoundError:  # removed meanwhile, or a link to nowhere
                    continue
                count, newest = count + 1, max(newest, known.st_mtime_ns)
                if is_folder:
                    waiting.append(entry.path)
                else:
                    size += known.st_size
    return count, newest, size
