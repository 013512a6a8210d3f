"""Do the unit tests notice? Small changes of the code (`listed.py`), each tried against its file's own tests.

    python tests/mutants/run.py                # all of them: about a quarter of an hour
    python tests/mutants/run.py fsc siren      # those whose file or text has one of these words in it

A change is made in a temporary copy of the package and the tests; the checkout stays as it is. The tests of
a changed file are the files of tests/unit that `listed.TESTS` names for it. A change is killed when one of
their tests fails, and survives when all pass: then a test of the right value is missing, or the change
changes nothing and the code is longer than it need be. Not part of `make test`: what holds there is that
every text to be changed stands in its file exactly once (tests/unit/test_mutants.py).

Ends with status 1 when a change survives or breaks its file, or when the unchanged tests do not pass.
"""

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from listed import MUTANTS, TESTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path("workflow/tomohet")
COPIED = ("workflow", "tests", "config", "pyproject.toml")
# Tests that cannot even be collected (2, and 4 for a test that is named) or ask for what is no longer there
# have noticed as well.
OUTCOMES = {0: "SURVIVED", 1: "killed", 2: "killed", 4: "killed"}
INTERNAL_ERROR = 3
LONGEST_S = 900.0


def copy_of_checkout(folder: Path) -> Path:
    """The package and its tests in `folder`, without anything compiled."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def preload() -> None:
    """Import the libraries once, for the copies of this process. Not numba, whose cache is a setting."""
    for name in (
        "matplotlib.pyplot",
        "pandas",
        "pyarrow.parquet",
        "pytest",
        "scipy.stats",
        "sklearn.cluster",
        "torch",
    ):
        __import__(name)


def run_tests(checkout: Path, tests: Sequence[str], compiled: Path) -> tuple[int, str]:
    """Exit status of pytest on files of tests/unit, and the end of its output.

    Status 0: all pass; 1: one fails; else they could not be run.

    compiled: folder of numba's compiled functions. Python's own are not kept: a change within the second in
    which the file was written would go unnoticed.
    """
    output = checkout / "output.txt"
    process = os.fork()
    if not process:
        try:
            _run_here(checkout, tests, compiled, output)
        finally:
            os._exit(INTERNAL_ERROR)
    deadline = time.monotonic() + LONGEST_S
    while not (done := os.waitpid(process, os.WNOHANG))[0]:
        if time.monotonic() > deadline:  # a change may make a loop endless
            os.kill(process, signal.SIGKILL)
        time.sleep(0.05)
    status = os.waitstatus_to_exitcode(done[1])
    return (1 if status < 0 else status), output.read_text(errors="replace")[-2000:]


def _run_here(checkout: Path, tests: Sequence[str], compiled: Path, output: Path) -> None:
    file = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    own = {"PYTHONPATH": str(checkout / "workflow"), "NUMBA_CACHE_DIR": str(compiled)}
    os.environ.update(own | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "PYTHONDONTWRITEBYTECODE": "1"})
    sys.dont_write_bytecode = True
    sys.path[:] = [str(checkout / "workflow"), *(p for p in sys.path if "tests" not in Path(p).parts)]
    os.chdir(checkout / "tests" / "unit")
    import pytest

    status = pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *tests])
    sys.stdout.flush()
    os._exit(int(status))


def outcome(checkout: Path, mutant: Mutant, tests: Sequence[str] = ()) -> str:
    """What the tests say of one change, which is taken back. tests: by default those listed for its file."""
    path = checkout / PACKAGE / mutant.file
    text = path.read_text()
    path.write_text(text.replace(mutant.original, mutant.mutated))
    # Compiled functions hold those of other files that they call: none from before such a change may be used.
    compiled = checkout / ("compiled_changed" if "numba" in text else "compiled")
    shutil.rmtree(checkout / "compiled_changed", ignore_errors=True)
    status, _ = run_tests(checkout, tests or TESTS[mutant.file], compiled)
    path.write_text(text)
    return OUTCOMES.get(status, f"broken (status {status})")


def main(words: list[str]) -> int:
    """Try the listed changes that have one of the words in them, and print a table."""
    chosen = [m for m in MUTANTS if not words or any(word in " ".join(m) for word in words)]
    preload()
    with tempfile.TemporaryDirectory() as folder:
        checkout = copy_of_checkout(Path(folder))
        for tests in sorted({tuple(TESTS[mutant.file]) for mutant in chosen}):
            status, output = run_tests(checkout, tests, checkout / "compiled")
            if status:
                print(f"{output}\n{', '.join(tests)}: do not pass on the unchanged code")
                return 1
        outcomes = []
        for mutant in chosen:
            start = time.monotonic()
            outcomes.append(outcome(checkout, mutant))
            changed = " ".join(f"{mutant.original} -> {mutant.mutated}".split())
            print(
                f"{outcomes[-1]:9} {time.monotonic() - start:4.0f} s  {mutant.file:33} {changed}", flush=True
            )
    killed = outcomes.count("killed")
    print(f"{killed} of {len(chosen)} killed")
    return int(killed < len(chosen))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
