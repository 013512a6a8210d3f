"""Snakemake in a copy of the test's process, which has loaded it: loading is half of a dry run."""

import os
import subprocess
import sys
import tempfile

from forked import do_and_end

from tomohet.rounds import counting, inputs


def run_snakemake(*words, cwd=None) -> subprocess.CompletedProcess:
    """Run `snakemake WORDS` as a new process would; all it says, in the order it says it, is in `stdout`."""
    import snakemake.cli

    words = [str(word) for word in words]
    with tempfile.TemporaryFile() as said:
        process = os.fork()
        if not process:
            do_and_end(lambda: _snakemake(snakemake.cli.main, words, cwd), said.fileno())
        _, status = os.waitpid(process, 0)
        said.seek(0)
        text = said.read().decode(errors="replace")
    return subprocess.CompletedProcess(words, os.waitstatus_to_exitcode(status), text, "")


def _snakemake(main, words: list[str], cwd) -> int:
    """Do as a new process would; the exit status."""
    sys.modules["snakemake.shell"].STDOUT = sys.stdout  # where its jobs write
    for module in (counting, inputs):  # what tests in this process have read
        for function in vars(module).values():
            getattr(function, "cache_clear", lambda: None)()
    os.chdir(cwd or ".")
    sys.argv = ["snakemake", *words]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 1
