"""The list of code changes for testing the unit tests is up to date: every text occurs once in its file."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "mutants"))
from listed import MUTANTS, TESTS  # noqa: E402


def test_every_listed_change_can_be_made():
    assert len({(m.file, m.original, m.mutated) for m in MUTANTS}) == len(MUTANTS)
    counts = [(ROOT / "workflow" / "tomohet" / m.file).read_text().count(m.original) for m in MUTANTS]
    assert [m for m, count in zip(MUTANTS, counts, strict=True) if count != 1] == []
    assert [m for m in MUTANTS if m.mutated == m.original] == []


def test_every_changed_file_has_tests():
    assert {mutant.file for mutant in MUTANTS} == set(TESTS)
    for name in {name for names in TESTS.values() for name in names}:
        assert (ROOT / "tests" / "unit" / name.split("::")[0]).is_file(), name
