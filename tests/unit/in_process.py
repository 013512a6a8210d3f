"""Commands run in the test's own process, which takes a fraction of a second instead of several."""

import contextlib
import io
import subprocess
import sys

from tomohet.cli import main


def run_here(name: str, *arguments) -> subprocess.CompletedProcess:
    """Run `tomohet NAME ARGUMENTS`; its exit status and what it printed, as `subprocess.run` returns them."""
    words = [name, *map(str, arguments)]
    output, errors = io.StringIO(), io.StringIO()
    status, before = 0, sys.argv
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            main(words)
    except SystemExit as end:
        status = end.code or 0
    finally:
        sys.argv = before
    return subprocess.CompletedProcess(words, status, output.getvalue(), errors.getvalue())
