"""The report's page in a real browser: drawn without errors, and its selections are what pandas selects."""

import html
import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from fake_results import make_results
from tomohet.files.pickles import load_indices
from tomohet.report import write_report
from tomohet.rounds.select import select

PLAYER = Path(__file__).with_name("report_player.js")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --virtual-time-budget=20000 --dump-dom"
).split()


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None and os.environ.get("TOMOHET_REQUIRE_BROWSER") == "1":
        pytest.fail("TOMOHET_REQUIRE_BROWSER=1, but there is no chromium")
    return found or pytest.skip("no chromium")


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
    def act(width: int) -> dict:
        folder = tmp_path_factory.mktemp(f"browser_{width}")
        played = folder / "played.html"
        played.write_text(page.replace("</body>", f"<script>{PLAYER.read_text()}</script></body>"))
        command = [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900"]
        done = subprocess.run([*command, played.as_uri()], capture_output=True, text=True, timeout=180)
        outcome = re.search(r'<pre id="outcome">(.*?)</pre>', done.stdout, re.S)
        assert outcome, done.stderr[-2000:]
        answer = json.loads(html.unescape(outcome[1]))
        assert answer["failure"] is None, answer["failure"]
        return answer["scenes"]

    return act


@pytest.fixture(scope="module")
def scenes(play):
    return play(1400)


@pytest.mark.parametrize("width", [1400, 800])
def test_every_figure_is_drawn_and_nothing_is_wider_than_the_window(play, width):
    found = play(width)["layout"]
    assert found["figures"] == found["drawn"] > 20
    assert found["failed"] == 0
    assert found["overflow"] <= 0
    # In each of two rounds four curves of an FSC plot, three losses, two gains and a spectrum.
    assert found["lines"] == 2 * (4 + 3 + 2 + 1)


def test_a_lasso_selects_what_its_query_selects(scenes, table, tmp_path):
    found = scenes["lasso"]
    assert found["parts"] > 1
    assert found["chosen"] == select(table, found["query"]).tolist()
    assert found["count"] == len(found["chosen"])
    enclosed = set(table["particle"][table["kmeans"].isin([0, 1, 3])])
    assert len(enclosed ^ set(found["chosen"])) < 0.04 * len(enclosed)  # the clusters' tails
    (tmp_path / "indices.pkl").write_bytes(bytes(found["pickle"]))
    assert load_indices(tmp_path / "indices.pkl").tolist() == found["chosen"]
    assert yaml.safe_load(found["yaml"]) == {
        "rounds": {"selected": {"parent": "all", "select": found["query"]}}
    }


def test_clusters_ranges_and_lasso_combine(scenes, table):
    found = scenes["combined"]
    assert found["query"].startswith("kmeans in [1, 3] and ") and "<= maven_A <=" in found["query"]
    assert found["chosen"] == select(table, found["query"]).tolist()
    assert 0 < len(found["chosen"]) < (table["kmeans"].isin([1, 3])).sum()
    assert found["cleared"] == len(table)


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
