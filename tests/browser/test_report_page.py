"""The report's page in a real browser: drawn without errors, and its selections are what pandas selects."""

from functools import cache
from pathlib import Path
from urllib.parse import parse_qs

import numpy as np
import pandas as pd
import pytest
import yaml
from headless import find_browser, played

from fake_results import make_results
from tomohet.errors import InputError
from tomohet.files.pickles import load_indices
from tomohet.report import write_report
from tomohet.rounds.polygons import inside
from tomohet.rounds.select import select

PLAYER = Path(__file__).with_name("report_player.js")


@pytest.fixture(scope="module")
def browser() -> str:
    return find_browser()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("results") / "fake", rounds=("all", "bound"))


@pytest.fixture(scope="module")
def table(results):
    return pd.read_parquet(results / "all" / "particles.parquet")


@pytest.fixture(scope="module")
def play(browser, results, tmp_path_factory):
    """`play(width)`: outcomes of the player's scenes in a window `width` pixels wide, by name."""
    page = write_report(results).read_text()

    @cache
    def act(width: int, anchor: str = "") -> dict:
        return played(browser, page, PLAYER, tmp_path_factory.mktemp(f"browser_{width}"), width, anchor)

    return act


@pytest.fixture(scope="module")
def scenes(play):
    return play(1400)


@pytest.mark.parametrize("width", [1400, 800])
def test_every_figure_is_drawn_and_nothing_is_wider_than_the_window(play, width):
    found = play(width)["layout"]
    assert found["figures"] == found["drawn"] > 10
    assert found["failed"] == 0
    assert found["overflow"] <= 0
    # Four curves in the FSC plots of the consensus map and of the round; its three losses and two gains.
    assert found["lines"] == 2 * 4 + 3 + 2


def test_a_lasso_selects_what_its_query_selects(scenes, table, tmp_path):
    found = scenes["lasso"]
    assert found["chosen"] == select(table, found["query"]).tolist()
    assert found["count"] == len(found["chosen"]) and found["refusal"] == ""
    enclosed = set(table["particle"][table["kmeans"].isin([0, 1, 3])])
    assert len(enclosed ^ set(found["chosen"])) < 0.04 * len(enclosed)  # the clusters' tails
    (tmp_path / "indices.pkl").write_bytes(bytes(found["pickle"]))
    assert load_indices(tmp_path / "indices.pkl").tolist() == found["chosen"]
    assert yaml.safe_load(found["yaml"]) == {
        "rounds": {"selected": {"parent": "all", "select": found["query"]}}
    }


def test_a_stroke_that_crosses_itself_is_taken_as_drawn(scenes, table):
    hook, eight = scenes["crossing"]
    for found in (hook, eight):
        assert found["chosen"] == select(table, found["query"]).tolist()
        drawn = inside(np.array(found["drawn"]), table["umap1"], table["umap2"])
        assert found["chosen"] == table["particle"][drawn].tolist()
        assert len(found["query"]) < 400
    # The ends that cross add a few particles at most, and no convex hull.
    assert len(set(hook["chosen"]) ^ set(scenes["lasso"]["chosen"])) < 0.03 * len(table)


def test_clusters_ranges_and_boxes_combine(scenes, table):
    found = scenes["combined"]
    assert found["query"].startswith("kmeans in [1, 3] and ") and "<= maven_A <=" in found["query"]
    assert "<= umap1 <=" in found["query"]
    assert found["chosen"] == select(table, found["query"]).tolist()
    assert 0 < len(found["chosen"]) < (table["kmeans"].isin([1, 3])).sum()


def test_the_plot_can_be_saved_as_pictures(scenes, table):
    found = scenes["pictures"]
    assert (found["error"], found["circles"], found["holes"]) == ("", len(table), 0)
    assert found["texts"] > 6


def test_named_selections_are_queries_that_others_hear_of_and_that_a_link_keeps(scenes, table):
    found = scenes["named"]
    assert found["queries"] == [["A", "kmeans == 0"], ["B", "not (kmeans in [1, 2] or kmeans == 3)"]]
    counts = [len(select(table, query)) for _, query in found["queries"]]
    assert found["counts"] == counts
    assert found["heard"] == [["A", counts[0]], ["B", counts[1]]]
    anchor, _, state = found["address"].partition("?")
    state = parse_qs(state)
    assert anchor == "#round-all" and state["B"] == [found["queries"][1][1]] and state["x"] == ["umap1"]


def test_what_select_would_refuse_cannot_be_copied(scenes, table):
    *queries, taken, reserved, odd, free = scenes["refused"]
    assert taken[1] and "a round bound already" in taken[2]
    assert reserved[1] and "folder or file of the dataset" in reserved[2]
    assert odd[1] and not free[1]
    for query, disabled, reason in queries:
        if query == "kmeans == 0":
            assert not disabled and reason == ""
            continue
        assert disabled and reason
        with pytest.raises(InputError):
            select(table, query)


def test_volumes_chosen_elsewhere_select_their_particles(scenes, table):
    found = scenes["volumes"]
    assert found["query"] == "volume in [1, 2]" and found["error"] == ""
    assert found["chosen"] == select(table, found["query"]).tolist()


def test_text_columns_become_quoted_values(scenes, table):
    found = scenes["text"]
    assert found["query"] == 'tomogram == "TS_02"'
    assert found["chosen"] == select(table, found["query"]).tolist()


def test_hover_names_the_nearest_particle(scenes, table):
    found = scenes["hover"]
    assert found["shown"] and "particle 17" in found["text"] and table["tomogram"][17] in found["text"]


def test_zoom_keeps_the_point_under_the_pointer(scenes):
    found = scenes["zoom"]
    np.testing.assert_allclose(found["after"], found["before"], rtol=1e-9)
    assert found["ratio"] == pytest.approx(0.5)


def test_the_map_of_a_tomogram_holds_its_particles_on_equal_axes(scenes, table):
    found = scenes["tomogram"]
    assert found["particles"] == table["particle"][table["tomogram"] == "TS_02"].tolist()
    assert found["x"] == pytest.approx(found["y"])


def test_the_table_sorts_and_holds_only_the_rows_in_view(scenes, table):
    found = scenes["rows"]
    assert [int(cell.replace(",", "")) for cell in found["cells"]] == table["pc1"].nsmallest(5).index.tolist()
    assert found["all"] == len(table) and found["elements"] < 40


def test_one_round_is_shown_and_the_others_cost_nothing_until_chosen(scenes):
    found = scenes["round"]
    assert found["before"] == [False, True] and found["after"] == [True, False]
    assert found["drawn"] == 0 and found["later"] > 3
    assert found["hash"].startswith("#round-bound")


def test_isosurface_of_a_ball(scenes):
    found = scenes["ball"]
    assert found["low"] > 7.2 and found["high"] < 7.4
    assert found["outward"] > 0.99
    assert found["inside"] == pytest.approx(
        4 / 3 * np.pi * 7.3**3, rel=0.03
    )  # flat faces lie inside the ball
    assert found["closed"]


def test_level_camera_and_tint_act_on_every_volume(scenes):
    found = scenes["viewer"]
    assert min(found["first"]) > 500
    assert len(set(found["first"])) == len(found["first"])  # each panel its own volume
    assert all(high < low for high, low in zip(found["high"], found["first"], strict=True))
    assert found["turned"] != found["first"]
    assert found["tinted"]


def test_colour_scheme_can_be_switched(scenes):
    found = scenes["scheme"]
    assert (found["light"], found["dark"]) == ("rgb(251, 251, 250)", "rgb(18, 22, 27)")
