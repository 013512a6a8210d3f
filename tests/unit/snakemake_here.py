"""Snakemake in a copy of the test's process, which has loaded it: loading is half of a dry run."""

import os
import subprocess
import sys
import tempfile
import traceback

from tomohet.rounds import counting, inputs


def run_snakemake(*words, cwd=None) -> subprocess.CompletedProcess:
    """Run `snakemake WORDS` as a new process would; all it says, in the order it says it, is in `stdout`."""
    import snakemake.cli

    words = [str(word) for word in words]
    with tempfile.TemporaryFile() as said:
        process = os.fork()
        if not process:
            _be_snakemake(snakemake.cli.main, words, cwd, said.fileno())
        _, status = os.waitpid(process, 0)
        said.seek(0)
        text = said.read().decode(errors="replace")
    return subprocess.CompletedProcess(words, os.waitstatus_to_exitcode(status), text, "")


def _be_snakemake(main, words: list[str], cwd, said: int) -> None:
    """Never returns: what the test's process would do at its end must not be done here."""
    status = 1
    try:
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", 1, closefd=False) for n in (1, 2))
        sys.modules["snakemake.shell"].STDOUT = sys.stdout  # where its jobs write
        for module in (counting, inputs):  # what tests in this process have read
            for function in vars(module).values():
                getattr(function, "cache_clear", lambda: None)()
        os.chdir(cwd or ".")
        sys.argv = ["snakemake", *words]
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
