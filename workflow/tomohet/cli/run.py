"""Handling of failures on the command line: one clear line and an exit status."""

import logging
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tomohet.errors import DoneByCopies, FolderInUseError, InputError, Interrupted, LostProcess
from tomohet.running.logs import in_one_line, start_logging

MISTAKE = 1
FAULT, NO_FILE = 70, 74  # as in sysexits.h: EX_SOFTWARE, EX_IOERR
INTERRUPTED = 130
READER_GONE = 128 + signal.SIGPIPE

log = logging.getLogger(__name__)


@contextmanager
def one_line_for_mistakes() -> Iterator[None]:
    """Log the work of the block, and turn a failure into one clear line and an exit status.

    The exit status is
    - 0 without a failure,
    - 1 with `error: ...` for a mistake of the user, which is the same in every attempt,
    - 2 for a wrong command line,
    - 70 with a traceback for a fault of the program,
    - 73 with `error: ...` for an output folder into which another process writes,
    - 74 with `error: ...` for a full disk or an unreadable file,
    - 75 for one of several processes where another has died,
    - 128 + the signal for a command that a signal ended,
    - 141 if the reader of the output has gone, as in other programs.
    """
    start_logging()
    try:
        yield
        sys.stdout.flush()
    except Interrupted as ended:
        sys.exit(128 + ended.signal)
    except DoneByCopies as ended:
        sys.exit(ended.status)
    except LostProcess:
        sys.exit(LostProcess.STATUS)
    except FolderInUseError as busy:
        _fail(str(busy), status=FolderInUseError.STATUS)
    except InputError as mistake:
        _fail(str(mistake))
    except KeyboardInterrupt:
        # A second Ctrl-C during shutdown prints nothing.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _fail(in_one_line(KeyboardInterrupt()), status=INTERRUPTED)
    except BrokenPipeError as failure:
        if not _reader_has_gone():  # a pipe other than our output: the work is incomplete
            _fail(in_one_line(failure), status=NO_FILE)
        # The reader of our output (`| head`) has closed it; suppress Python's complaint.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(READER_GONE)
    except OSError as failure:
        _fail(in_one_line(failure), status=NO_FILE)
    except Exception:
        log.critical("stopped by a fault of the program", exc_info=True)
        sys.exit(FAULT)


def _reader_has_gone() -> bool:
    """Whether standard output is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _fail(message: str, status: int = MISTAKE) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)
