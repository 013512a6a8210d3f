"""Every answer that a stage can give says how often it is wrong, or that this was not measured."""

import ast
from pathlib import Path

import tomohet
from tomohet.report.rates import NOT_MEASURED, RATES, UNIT, rate_of, rates_of

PACKAGE = Path(tomohet.__file__).parent
ROOT = Path(__file__).parents[2]


def constants(tree: ast.Module) -> dict[str, str]:
    """Texts that a module gives names, one by one or several in a line."""
    found = {}
    for node in tree.body:
        if not isinstance(node, ast.Assign):
            continue
        target, value = node.targets[0], node.value
        several = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
        pairs = zip(target.elts, value.elts, strict=True) if several else [(target, value)]
        for name, text in pairs:
            if isinstance(name, ast.Name) and isinstance(text, ast.Constant) and isinstance(text.value, str):
                found[name.id] = text.value
    return found


def subjects() -> dict[str, str]:
    """Subject of each `Answer(...)` in the package, with the file; a constant stands for its value."""
    trees = {path: ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}
    elsewhere = {name: text for tree in trees.values() for name, text in constants(tree).items()}
    found = {}
    for path, tree in trees.items():
        named = elsewhere | constants(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Answer":
                first = node.args[0]
                text = first.value if isinstance(first, ast.Constant) else named.get(getattr(first, "id", ""))
                found[text or f"? {ast.unparse(first)}"] = path.relative_to(PACKAGE).as_posix()
    return found


def test_every_subject_has_an_entry():
    found = subjects()
    assert {"Heterogeneity", "Half maps", "Always present", "Convergence"} <= set(found)
    missing = {subject: file for subject, file in found.items() if subject not in RATES}
    # The subjects that are no constants are the units of MAVEn.
    assert set(missing.values()) <= {"analysis/maven/answers.py"}, missing
    assert all(subject.startswith("? ") for subject in missing)


def test_what_was_measured_names_its_source():
    for subject, rate in RATES.items():
        assert rate.text
        if "0 of" in rate.text or "designed" in rate.text:
            document = rate.source.split(":")[0].split(";")[0]
            assert (ROOT / document).is_file(), subject
    assert not NOT_MEASURED.source and NOT_MEASURED.text == "not measured"


def test_the_sections_named_are_in_the_documents():
    headings = (ROOT / "tests/benchmarks/README.md").read_text()
    named = [rate.source.split("README.md: ")[1] for rate in RATES.values() if "README.md: " in rate.source]
    for title in {name.split(", Wrong")[0] for name in named}:
        assert f"## {title}" in headings, title


def test_a_unit_of_the_model_has_the_rate_of_units():
    assert rate_of("maven", "S1") == RATES[UNIT] != NOT_MEASURED
    assert rate_of("a new stage", "S1") == NOT_MEASURED
    assert rate_of("linear", "Heterogeneity") == RATES["Heterogeneity"]


def test_the_rate_of_several_answers_in_a_row_stands_once():
    detection, poses = RATES["Heterogeneity"], RATES["Poses"]
    assert rates_of("linear", ["Heterogeneity", "Held-out tilts", "Poses"]) == [None, detection, poses]
    assert rates_of("maven", ["S1", "S2", "Atomic model"]) == [None, RATES[UNIT], NOT_MEASURED]
    assert rates_of("linear", []) == []
