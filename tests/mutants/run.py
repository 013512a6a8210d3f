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
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from listed import MUTANTS, TESTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path("workflow/tomohet")
COPIED = ("workflow", "tests", "config", "pyproject.toml")
OUTCOMES = {0: "SURVIVED", 1: "killed"}


def copy_of_checkout(folder: Path) -> Path:
    """The package and its tests in `folder`, without anything compiled."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def run_tests(checkout: Path, tests: Sequence[str], compiled: Path) -> tuple[int, str]:
    """Exit status of pytest on files of tests/unit, and its output.

    Status 0: all pass; 1: one fails; else they could not be run.

    compiled: folder of numba's compiled functions. Python's own are not kept: a change within the second in
    which the file was written would go unnoticed.
    """
    own = {"PYTHONPATH": str(checkout / "workflow"), "NUMBA_CACHE_DIR": str(compiled)}
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = os.environ | own | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=checkout / "tests" / "unit", env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stdout[-2000:]


def outcome(checkout: Path, mutant: Mutant) -> str:
    """What the tests say of one change, which is taken back."""
    path = checkout / PACKAGE / mutant.file
    text = path.read_text()
    path.write_text(text.replace(mutant.original, mutant.mutated))
    # Compiled functions hold those of other files that they call: none from before such a change may be used.
    compiled = checkout / ("compiled_changed" if "numba" in text else "compiled")
    shutil.rmtree(checkout / "compiled_changed", ignore_errors=True)
    status, _ = run_tests(checkout, TESTS[mutant.file], compiled)
    path.write_text(text)
    return OUTCOMES.get(status, f"broken (status {status})")


def main(words: list[str]) -> int:
    """Try the listed changes that have one of the words in them, and print a table."""
    chosen = [m for m in MUTANTS if not words or any(word in " ".join(m) for word in words)]
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
