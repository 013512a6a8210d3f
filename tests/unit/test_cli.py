"""Every command by itself: help without heavy imports, one-line errors, exit codes, run.log."""

import errno
import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tomohet.cli import commands
from tomohet.cli.run import one_line_for_mistakes
from tomohet.errors import InputError
from tomohet.options import Options
from tomohet.running.logs import closing_log, log_to, start_logging
from tomohet.running.work import command

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "umap", "sklearn", "numba", "matplotlib", "plotly")
PARSER_AND_ITS_IMPORTS = """
import runpy, sys
sys.argv = [sys.argv[1], "--help"]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    assert not end.code
print("HEAVY", [name for name in {heavy} if name in sys.modules])
"""
INTERRUPTED_TWICE = """
import atexit, os, signal
from tomohet.cli.run import one_line_for_mistakes

# Jobs in the background of a shell are started without Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

def interrupt(*_):
    os.kill(os.getpid(), signal.SIGINT)

atexit.register(interrupt)
with one_line_for_mistakes():
    interrupt()
"""

INTERRUPTED_WHILE_LOADING = """
import os, signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)

class Interrupting:
    def find_spec(self, name, *_):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
import tomohet.cli
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
print("loaded")
"""

BROKEN_PIPE = """
import os, sys
from tomohet.cli.run import one_line_for_mistakes

def write_for_nobody():
    read, write = (os.pipe() if {another} else (None, 1))
    if read is not None:
        os.close(read)
    while True:
        os.write(write, b"words")

with one_line_for_mistakes():
    write_for_nobody()
"""


@pytest.fixture(autouse=True)
def ctrl_c_as_it_was():
    """A command that was interrupted ignores further signals; the test's process must not."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_ctrl_c_while_python_closes_down_shows_no_traceback():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_TWICE], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr.splitlines() == ["error: interrupted"]


@pytest.mark.parametrize(("library", "status"), [("pydantic", -signal.SIGINT), ("nothing", 0)])
def test_ctrl_c_while_the_libraries_load_shows_no_traceback(library, status):
    words = [sys.executable, "-c", INTERRUPTED_WHILE_LOADING, library]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (status, "")
    assert done.stdout.split() == ["loaded"] * (status == 0)


def test_a_reader_that_has_seen_enough_is_no_fault():
    code = BROKEN_PIPE.format(another=False)
    done = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert done.stdout.read(5) == "words"
    done.stdout.close()
    assert (done.stderr.read(), done.wait()) == ("", 128 + signal.SIGPIPE)


def test_another_broken_pipe_is_a_failure():
    code = BROKEN_PIPE.format(another=True)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (74, "error: [Errno 32] Broken pipe\n")


@pytest.mark.parametrize("name", commands())
def test_help_is_there_and_loads_nothing_heavy(name):
    script = ROOT / "workflow" / "scripts" / f"{name}.py"
    code = PARSER_AND_ITS_IMPORTS.format(heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"usage: tomohet {name}" in done.stdout
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_dispatch_lists_runs_and_corrects(tmp_path):
    def tomohet(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "tomohet.cli", *arguments], capture_output=True, text=True, cwd=tmp_path
        )

    overview = tomohet("--help").stdout
    assert all(f"  {name} " in overview and help_text for name, help_text in commands().items())
    wrong = tomohet("train-vea")
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "error: no command 'train-vea'; did you mean 'train_vae'?\n",
    )
    assert "usage: tomohet view_config" in tomohet("view-config", "--help").stdout
    assert tomohet("view_config", "nothing").returncode == 1
    assert tomohet("view_config").returncode == 2


def run_with(action) -> None:
    with one_line_for_mistakes():
        command(lambda options: action())(Options())


@pytest.mark.parametrize(
    ("failure", "status", "line"),
    [
        (InputError("a.star: row 3: wrong"), 1, "error: a.star: row 3: wrong"),
        (
            OSError(errno.ENOSPC, "No space left on device", "x.mrc"),
            74,
            "error: the disk is full while writing x.mrc",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
            74,
            "error: x: No such file or directory",
        ),
        (KeyboardInterrupt(), 130, "error: interrupted"),
    ],
)
def test_failures_are_one_line_and_a_status(failure, status, line, capsys):
    def fail():
        raise failure

    with pytest.raises(SystemExit) as end:
        run_with(fail)
    error = capsys.readouterr().err
    assert end.value.code == status
    assert error.startswith(line)
    assert error.count("\n") == 1


def test_fault_of_the_program_shows_a_traceback(capsys):
    with pytest.raises(SystemExit) as end:
        run_with(lambda: 1 / 0)
    assert end.value.code == 70
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_log_on_a_full_disk_is_told_once(capsys):
    start_logging()  # to the captured standard error, not to that of an earlier test
    with closing_log():
        log_to("/dev/full")
        logging.getLogger("tomohet").warning("words that no log keeps")
    said = capsys.readouterr().err
    assert said.count("/dev/full: No space left on device") == 1
    assert "Traceback" not in said


def test_run_log_is_complete_and_appended_to(tmp_path):
    log = logging.getLogger("tomohet.test")

    def work():
        log_to(tmp_path / "run.log")
        log.info("one")
        logging.getLogger("other_library").warning("two")
        raise InputError("three")

    for _ in range(2):
        with pytest.raises(SystemExit):
            run_with(work)
    text = (tmp_path / "run.log").read_text()
    assert text.count("command: ") == 2
    for word in ("     one\n", "     two\n", "     error: three\n"):
        assert text.count(word) == 2, word
