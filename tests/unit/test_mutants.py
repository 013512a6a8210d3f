"""The list of code changes for testing the unit tests is up to date: every text occurs once in its file."""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "mutants"))
from generated import changes_of, own_test_files  # noqa: E402
from listed import MUTANTS, TESTS  # noqa: E402


def test_every_listed_change_can_be_made():
    assert len({(m.file, m.original, m.mutated) for m in MUTANTS}) == len(MUTANTS)
    counts = [(ROOT / "workflow" / "tomohet" / m.file).read_text().count(m.original) for m in MUTANTS]
    assert [m for m, count in zip(MUTANTS, counts, strict=True) if count != 1] == []
    assert [m for m in MUTANTS if m.mutated == m.original] == []


def test_every_changed_file_has_tests():
    assert {mutant.file for mutant in MUTANTS} <= set(TESTS)
    assert all((ROOT / "workflow" / "tomohet" / file).is_file() for file in TESTS)
    for name in {name for names in TESTS.values() for name in names}:
        assert (ROOT / "tests" / "unit" / name.split("::")[0]).is_file(), name


def test_generated_changes_are_single_and_leave_valid_python():
    for file in ("physics/ctf.py", "linear/em.py"):
        text = (ROOT / "workflow" / "tomohet" / file).read_text()
        changes = changes_of(file)
        assert len(changes) > 5 and len(set(changes)) == len(changes)
        for change in changes:
            assert text.count(change.original) == 1 and change.mutated != change.original
            ast.parse(text.replace(change.original, change.mutated))
        assert own_test_files(file)


def test_the_generator_makes_every_kind_of_change(tmp_path, monkeypatch):
    code = (
        "a = b + c\nd = -e\nf = g * h\ni = j / k\nl = m < n\no = p.sum(axis=0)\nq = min(r, s)\nt = 'u' + v\n"
        "w = -(x @ y)\n"
    )
    (tmp_path / "workflow" / "tomohet").mkdir(parents=True)
    (tmp_path / "workflow" / "tomohet" / "x.py").write_text(code)
    monkeypatch.setattr("generated.ROOT", tmp_path)
    made = {code.replace(change.original, change.mutated) for change in changes_of("x.py")}
    swaps = (
        ("b + c", "b - c"), ("-e", "e"), ("g * h", "g"), ("j / k", "j"), ("m < n", "m <= n"),
        ("axis=0", "axis=1"), ("min(", "max("), ("-(x", "(x"),
    )  # fmt: skip
    assert made == {code.replace(old, new) for old, new in swaps}
