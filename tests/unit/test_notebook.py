"""The page of the documentation that uses the library alone does what it says."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "notebook.md"


@pytest.fixture(scope="module")
def after(tmp_path_factory):
    """The names that the page's code has made, run in an empty folder."""
    names = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("notebook"))
        for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
            exec(compile(code, PAGE.name, "exec"), names)
    return names


def test_a_round_by_the_library_alone(after):
    assert len(after["store"].particles) == len(after["z"]) == 100
    assert after["blocks"]["n_volumes"] == 100
    assert len(after["found"].sizes) >= 1
    assert 28 <= after["maps"].resolution_A < 200
    assert {check.verdict for check in after["checks"]} <= {"pass", "look"}


def test_matplotlib_is_left_as_it_was(after):
    import matplotlib

    assert matplotlib.rcParams["font.size"] == matplotlib.rcParamsDefault["font.size"]
