"""Logging of a command: to standard error and, in full, to a `run.log`."""

import errno
import logging
import platform
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tomohet import __version__
from tomohet.errors import InputError

# Five spaces separate time and text: readers of tomoDRGN's run.log split lines there.
FORMAT = logging.Formatter("%(asctime)s     %(message)s", datefmt="%Y-%m-%d %H:%M:%S")


class Screen(logging.StreamHandler):
    """Handler that writes above a live progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line to standard error; a running tqdm bar is redrawn below it."""
        from tqdm import tqdm

        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


class RunLog(logging.FileHandler):
    """Handler of a log file. When the file cannot be written, one line says so; the work goes on."""

    is_silent = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Print the first failure in one line, where `logging` prints a traceback each time."""
        failure = sys.exc_info()[1]
        if not isinstance(failure, OSError):
            super().handleError(record)
        elif not self.is_silent:
            self.is_silent = True
            print(f"{self.baseFilename}: {failure.strerror}", file=sys.stderr)

    def close(self) -> None:
        """Close the file; what could not be written has been told."""
        with suppress(OSError):
            super().close()


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
    """Also append everything logged from now on to `path`, after command, version and machine.

    A resumed training continues its log, so the log of an earlier attempt is kept.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = RunLog(path)
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


@contextmanager
def closing_log() -> Iterator[None]:
    """Close the files that `log_to` opens inside the block; an error that ends the work is logged last."""
    root = logging.getLogger()
    before = list(root.handlers)
    try:
        yield
    except (Exception, KeyboardInterrupt) as failure:
        for handler in _files_since(before):
            handler.handle(_record(failure))
        raise
    finally:
        for handler in _files_since(before):
            root.removeHandler(handler)
            handler.close()


def _files_since(before: list[logging.Handler]) -> list[logging.Handler]:
    handlers = logging.getLogger().handlers
    return [one for one in handlers if isinstance(one, logging.FileHandler) and one not in before]


def _record(failure: BaseException) -> logging.LogRecord:
    known = isinstance(failure, InputError | OSError | KeyboardInterrupt)
    text = f"error: {in_one_line(failure)}" if known else "stopped by a fault of the program"
    traceback = None if known else (type(failure), failure, failure.__traceback__)
    return logging.LogRecord("tomohet", logging.ERROR, __file__, 0, text, (), traceback)


def in_one_line(failure: BaseException) -> str:
    """Describe in one line the error that ended a command."""
    if isinstance(failure, KeyboardInterrupt):
        return "interrupted"
    if not isinstance(failure, OSError):
        return str(failure)
    if failure.errno == errno.ENOSPC:
        where = f" while writing {failure.filename}" if failure.filename else ""
        return f"the disk is full{where}: free some space and run the same command again"
    if failure.filename and failure.strerror:
        return f"{failure.filename}: {failure.strerror}"
    return str(failure)
