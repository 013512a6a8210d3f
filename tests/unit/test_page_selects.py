"""The page and `tomohet select` choose the same particles: drawn strokes, and any joining of conditions."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomohet.errors import InputError
from tomohet.rounds.polygons import inside
from tomohet.rounds.select import select

CHOOSE = Path(__file__).parents[1] / "javascript" / "choose.js"
CONDITIONS = (
    *("pc1 > 0.25", "-1 <= pc2 <= 0.5", "pc1 + 2 * pc2 < 0.3", "pc1 != 0.5", "not pc2 > 0"),
    *("kmeans in [0, 2]", "kmeans not in [1, 3]", 'tomogram == "t (1)"', "`odd name` >= 2 or kmeans == 1"),
    'in_polygon("pc1", "odd name", [[-1, 0.5], [1, 0.5], [-1, 3.5], [1, 3.5]])',
)
PIXEL = st.tuples(st.floats(0, 500, width=32), st.floats(0, 400, width=32)).map(list)


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is None and os.environ.get("TOMOHET_REQUIRE_BROWSER") == "1":
        pytest.fail("TOMOHET_REQUIRE_BROWSER=1, but there is no node")
    return found or pytest.skip("no node")


def table_of(seed: int, n: int = 400) -> pd.DataFrame:
    """Random particles, some on round numbers, where comparisons are tight, and some without values."""
    rng = np.random.default_rng(seed)
    plane = rng.normal(0, 0.8, (n, 2))
    plane[::5] = np.round(plane[::5] * 4) / 4
    plane[::29] = np.nan
    table = pd.DataFrame(plane.astype(np.float32), columns=["pc1", "pc2"])
    return table.assign(
        **{"particle": np.arange(n), "kmeans": rng.integers(0, 4, n), "odd name": rng.integers(0, 5, n)},
        tomogram=rng.choice(["t (1)", 'a "b"', "c"], n),
    )


def page(node: str, table: pd.DataFrame, strokes=(), gestures=()) -> dict:
    columns = {name: [None if v != v else v for v in table[name].tolist()] for name in table}
    asked = json.dumps({"columns": columns, "strokes": list(strokes), "gestures": list(gestures)})
    done = subprocess.run([node, CHOOSE], input=asked, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def chosen(table: pd.DataFrame, query: str) -> list[int]:
    """What `select` chooses; nothing where it refuses a query that selects nothing."""
    try:
        return select(table, query).tolist()
    except InputError as error:
        assert "selects none" in str(error)
        return []


@st.composite
def hand_drawn(draw) -> list[list[float]]:
    """A trembling stroke: a closed loop, one whose ends overshoot, or a figure of eight."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    turns, twist = draw(st.sampled_from([(1.0, 1), (1.15, 1), (0.85, 1), (1.0, 2), (2.1, 1)]))
    t = np.linspace(0, 2 * np.pi * turns, draw(st.integers(20, 150)))
    centre, size = rng.uniform(150, 250, 2), rng.uniform(20, 150, 2)
    loop = centre + size * np.stack([np.cos(t), np.sin(twist * t)], -1) * (1 + 0.1 * t[:, None] / 7)
    return (loop + rng.normal(0, draw(st.sampled_from([0, 0.5, 3])), loop.shape)).tolist()


@settings(max_examples=6, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.lists(hand_drawn() | st.lists(PIXEL, min_size=3), min_size=15, max_size=15)
)
def test_strokes_select_in_the_page_what_they_select_in_python(node, seed, strokes):
    table = table_of(seed)
    for stroke, found in zip(strokes, page(node, table, strokes)["strokes"], strict=True):
        assert found["error"] == ""
        drawn = inside(np.array(found["drawn"]), table["pc1"], table["pc2"])
        assert found["rows"] == table["particle"][drawn].tolist()  # fewer corners, the same particles
        assert found["rows"] == chosen(table, found["query"])
        assert found["query"].count("[") <= len(stroke) + 1


@settings(max_examples=6, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(["new", "add", "take", "meet", "invert"]), st.sampled_from(CONDITIONS)),
            min_size=1,
            max_size=6,
        ),
        min_size=20,
        max_size=20,
    ),
)
def test_joined_conditions_select_in_the_page_what_they_select_in_python(node, seed, gestures):
    table = table_of(seed)
    for found in page(node, table, gestures=gestures)["gestures"]:
        assert found["error"] == ""
        if found["query"]:
            assert found["rows"] == chosen(table, found["query"]), found["query"]
