"""Logging of a command: to standard error, and wholly to a `run.log`."""

import logging
import platform
import shlex
import sys
from pathlib import Path

from tomohet import __version__

# Five spaces between time and text, the layout that readers of tomoDRGN's run.log split on.
FORMAT = logging.Formatter("%(asctime)s     %(message)s", datefmt="%Y-%m-%d %H:%M:%S")


class Screen(logging.StreamHandler):
    """Writes above a live progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line to standard error; a running tqdm bar is redrawn below it."""
        from tqdm import tqdm

        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


def start_logging() -> None:
    """Send the log of `tomohet` (from INFO) and of other libraries (from WARNING) to standard error."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, Screen):
            root.removeHandler(handler)
    screen = Screen(sys.stderr)
    screen.setFormatter(FORMAT)
    root.addHandler(screen)
    root.setLevel(logging.WARNING)
    for name in ("tomohet", "__main__"):
        logging.getLogger(name).setLevel(logging.INFO)
    logging.captureWarnings(True)


def log_to(path: str | Path) -> None:
    """Write everything logged from here on to `path` too, appending; headed by command, version, machine.

    A resumed training continues its own log, so nothing of an earlier attempt is lost.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = logging.FileHandler(path)
    file.setFormatter(FORMAT)
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler) and handler.baseFilename == file.baseFilename:
            root.removeHandler(handler)
            handler.close()
    root.addHandler(file)
    log = logging.getLogger(__name__)
    log.info("command: %s", shlex.join(sys.argv))
    log.info("tomohet %s, Python %s, %s", __version__, platform.python_version(), platform.platform())
