"""Commands of tomohet in copies of this process, which has loaded every library: they start at once."""

import ctypes
import glob
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

LONGEST_S = 300.0  # a small stage takes a few seconds, much more on a busy machine
END_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


@dataclass(frozen=True)
class Ended:
    """How commands ended: the status (negative: a signal; None: they hung), what they said, and when."""

    status: int | None
    said: str
    seconds: float

    @property
    def clear_line(self) -> str | None:
        """The one line in which the commands ended, or None when they ended in anything else."""
        lines = re.findall(r"^(?:tomohet \w+: )?error: (.+)$", self.said, re.M)
        plain = self.status and not re.search(r"Traceback|Fatal Python error|Segmentation", self.said)
        return lines[-1] if plain and lines and len(lines[-1]) < 1500 else None


def load() -> None:
    """Import what the commands import, so that their copies need not; figures are written, but not drawn."""
    from matplotlib import pyplot

    import tomohet.commands as commands
    from tomohet import plots
    from tomohet.files.atomic import write_text

    def undrawn(fig, path, dpi: int = 130) -> Path:
        pyplot.close(fig)
        write_text(path, f"a figure of {dpi} dpi")
        return Path(path)

    plots.save = undrawn
    for path in sorted(Path(commands.__file__).parent.glob("[a-z]*.py")):
        __import__(f"tomohet.commands.{path.stem}")


def start(
    commands: Sequence[Sequence[str]], folder: Path, first: Callable[[], None] = lambda: None
) -> tuple[int, int]:
    """Run commands one after another in a folder, in a process of its own; the process and its text's pipe.

    first : what the process does before the commands, such as setting a limit
    """
    sys.stdout.flush()
    sys.stderr.flush()
    text, written = os.pipe()
    process = os.fork()
    if process:
        os.close(written)
        os.set_blocking(text, False)
        return process, text

    def work() -> int:
        os.setsid()
        ctypes.CDLL(None).prctl(END_WITH_PARENT, signal.SIGKILL)
        os.chdir(folder)
        first()
        return _run(commands, folder)

    do_and_end(work, written)


def do_and_end(work: Callable[[], int], written: int) -> NoReturn:
    """Do `work` in a forked process, whose text goes to the file `written`, and end with its status.

    What the test's process would do at its end is not done here.
    """
    status = 1
    try:
        os.dup2(written, 1)
        os.dup2(written, 2)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", 1, closefd=False) for n in (1, 2))
        status = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _expanded(words: Sequence[str], folder: Path) -> list[str]:
    """The words of a command, its patterns (`kmeans*`) replaced by the files they match."""
    out: list[str] = []
    for word in words:
        matches = sorted(glob.glob(word, root_dir=folder)) if "*" in word else []
        out += matches or [word]
    return out


def _run(commands: Sequence[Sequence[str]], folder: Path) -> int:
    from tomohet.cli import main

    for words in commands:
        try:
            main(_expanded(words, folder))
        except SystemExit as end:
            if end.code:
                return end.code if isinstance(end.code, int) else 1
    return 0


def wait(process: int, text: int, longest_s: float = LONGEST_S) -> Ended:
    """Wait until the process ends; kill it and all it started after `longest_s`."""
    began, hung, said = time.monotonic(), False, b""
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        said += _read(text)
        if done:
            break
        if not hung and time.monotonic() - began > longest_s:
            hung = True
            os.killpg(process, signal.SIGKILL)
        time.sleep(0.01)
    os.close(text)
    code = None if hung else os.waitstatus_to_exitcode(status)
    return Ended(code, said.decode(errors="replace"), time.monotonic() - began)


def _read(text: int) -> bytes:
    said = b""
    try:
        while part := os.read(text, 2**16):
            said += part
    except BlockingIOError:
        pass
    return said


def run(commands: Sequence[Sequence[str]], folder: Path, first: Callable[[], None] = lambda: None) -> Ended:
    """Run commands in a folder and wait."""
    return wait(*start(commands, folder, first))
