"""Outlines in queries: the even-odd rule, where the outline stands in the query, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path

from tomohet.errors import InputError
from tomohet.rounds.polygons import inside
from tomohet.rounds.select import clauses, select
from tomohet.rounds.tree import tree_mistakes

GRID = np.stack(np.meshgrid(np.arange(8) + 0.5, np.arange(8) + 0.5, indexing="ij"), -1).reshape(-1, 2)
TABLE = pd.DataFrame(
    {
        "particle": np.arange(64),
        "pc1": GRID[:, 0],
        "odd name": GRID[:, 1],
        "kmeans": np.arange(64) % 2,
        "tomogram": "t1",
    }
)
SQUARE = "[[1, 1], [4, 1], [4, 4], [1, 4]]"
NINE = [x * 8 + y for x in (1, 2, 3) for y in (1, 2, 3)]


def test_lobes_of_a_figure_of_eight_are_inside_and_what_is_encircled_twice_is_not():
    eight = np.array([[0, 0], [4, 4], [4, 0], [0, 4]])
    points = np.array([[0.5, 2], [3.5, 2], [2, 0.5], [2, 3.5], [np.nan, 2]])
    assert inside(eight, *points.T).tolist() == [True, True, False, False, False]
    endless = np.array([[-np.inf, 2], [np.inf, 2], [2, np.inf], [2, -np.inf], [2, np.nan]])
    assert not inside(eight, *endless.T).any()
    square = np.array([[0, 0], [3, 0], [3, 3], [0, 3]])
    twice = np.concatenate([square, square])
    assert inside(square, [1], [1]).all() and not inside(twice, [1], [1]).any()


def test_tiles_that_share_edges_hold_every_point_once():
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    x, y = np.stack(np.meshgrid([0, 0.5, 1, 1.5], [0, 0.5, 1, 1.5]), -1).reshape(-1, 2).T
    held = sum(inside(corners + np.array([i, j]), x, y).astype(int) for i in (0, 1) for j in (0, 1))
    assert (held == 1).all()


@given(arrays(float, (7, 2), elements=st.floats(0, 8, width=16)))
def test_simple_outlines_agree_with_matplotlib(corners):
    around = corners[np.argsort(np.arctan2(*(corners - corners.mean(0)).T))]  # no edge crosses another
    points = GRID + np.array([0.0123, 0.0071])
    theirs = Path(around, closed=False).contains_points(points)
    ours = inside(around, *points.T)
    assert (theirs == ours)[~near_an_edge(points, around)].all()


def near_an_edge(points, corners):
    a, b = corners, np.roll(corners, -1, 0)
    along = b - a
    t = ((points[:, None] - a) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-300)
    foot = a + np.clip(t, 0, 1)[..., None] * along
    return (np.linalg.norm(points[:, None] - foot, axis=-1) < 1e-6).any(1)


@pytest.mark.parametrize(
    ("query", "particles"),
    [
        (f'in_polygon("pc1", "odd name", {SQUARE})', NINE),
        (f"kmeans == 0 and in_polygon('pc1', 'odd name',\n {SQUARE})", [i for i in NINE if i % 2 == 0]),
        (f'`odd name` < 2 and not in_polygon("pc1", "odd name", {SQUARE})', None),
        ('in_polygon("pc1", "odd name", [[-1, -1], [1, -1], [+1, 9.5], [-1, 9.5]])', list(range(8))),
        (f'in_polygon("pc1", "pc1", {SQUARE}) or in_polygon("pc1", "odd name", {SQUARE})', None),
    ],
)
def test_select_understands_outlines_among_other_conditions(query, particles):
    x, y = TABLE["pc1"], TABLE["odd name"]
    square = x.between(1, 4) & y.between(1, 4)
    expected = {
        "`": (y < 2) & ~square,
        "i": x.between(1, 4) | square,
    }
    wanted = particles if particles is not None else TABLE["particle"][expected[query[0]]].tolist()
    assert select(TABLE, query).tolist() == wanted


def test_clauses_count_an_outline_and_its_missing_values():
    table = TABLE.astype({"pc1": float})
    table.loc[3, "pc1"] = np.nan
    found = clauses(table, f'kmeans == 0 and in_polygon("pc1", "odd name", {SQUARE})')
    assert [(c.n_true, c.n_unknown) for c in found] == [(32, 0), (9, 1)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ('in_polygon("pc1", "odd name")', "found 2 arguments"),
        ('in_polygon(pc1, "odd name", [[0, 0], [1, 0], [0, 1]])', "in quotation marks, found pc1"),
        ('in_polygon("pc1", "odd name", [[0, 0], [1, 0]])', "at least 3 corners"),
        ('in_polygon("pc1", "odd name", [[0, 0], [1, 0], [kmeans, 1]])', "as corner 3"),
        ('in_polygon("pc1", "odd name", [[0, 0], [1, 0], [1e999, 1]])', "as corner 3"),
        ('in_polygon("pc1", "odd name", [[0, 0], [1, 0], [True, 1]])', "as corner 3"),
        ('in_polygon("pc1", "odd name", [[0, 0], [1, 0], open("x")])', "as corner 3"),
        ('in_polygon("pc9", "odd name", [[0, 0], [1, 0], [0, 1]])', "no column 'pc9'; did you mean 'pc1'"),
        ('in_polygon("tomogram", "pc1", [[0, 0], [1, 0], [0, 1]])', "'tomogram' holds"),
        ('in_polygon("pc1", "pc1", [[20, 20], [21, 20], [20, 21]])', "selects none of 64"),
    ],
)
def test_a_wrong_outline_is_explained(call, message):
    with pytest.raises(InputError, match=message):
        select(TABLE, call)


def test_the_configuration_names_the_round_of_a_wrong_outline():
    wrong = {"all": {}, "bound": {"parent": "all", "select": 'in_polygon("pc1", "pc2", [[0, 0]])'}}
    right = {"all": {}, "bound": {"parent": "all", "select": f'in_polygon("pc1", "pc2", {SQUARE})'}}
    assert tree_mistakes(right) == []
    assert (
        tree_mistakes(wrong)[0].startswith("rounds.bound.select: query")
        and "at least 3" in tree_mistakes(wrong)[0]
    )
