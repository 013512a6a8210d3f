"""The view of volumes in a real browser: live means are tomohet's own, and every control acts."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from headless import find_browser, played

from fake_results import BLOCKS, make_results
from tomohet.files.pickles import load_array
from tomohet.model.load import load_model
from tomohet.report import write_report

PLAYER = Path(__file__).with_name("volumes_player.js")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("results") / "fake", n=200, rounds=("all",))


@pytest.fixture(scope="module")
def scenes(results, tmp_path_factory):
    page = write_report(results).read_text()
    return played(find_browser(), page, PLAYER, tmp_path_factory.mktemp("browser"))


def test_live_mean_is_the_mean_that_eval_vol_decodes(scenes, results):
    found = scenes["selection"]
    rows = [3, 5, 8, 13, 21, 34]
    trained = load_model(results / "all/linear/weights.pkl", results / "all/linear/config.pkl")
    latents = torch.from_numpy(load_array(results / "all/linear/z.train.pkl"))
    others = np.setdiff1d(np.arange(len(latents)), rows)
    (z, y, x), edge = found["corner"], found["edge"]
    shown = {side: np.reshape(found[side], (edge,) * 3) for side in "ab"}
    inside = shown["b"] != 0
    truth = {
        side: trained.volumes(latents[chosen]).mean(0).numpy()[z : z + edge, y : y + edge, x : x + edge]
        for side, chosen in (("a", rows), ("b", others))
    }
    for side in "ab":
        assert np.corrcoef(shown[side][inside], truth[side][inside])[0, 1] > 0.9999
    difference = [volumes["a"][inside] - volumes["b"][inside] for volumes in (shown, truth)]
    assert np.corrcoef(*difference)[0, 1] > 0.995
    assert found["title"] == "A · Selection A" and found["other"] == "B · All other particles"
    assert found["worker"]  # a page opened from disk may start the worker from its own source


def test_named_sets_and_particles_are_followed(scenes):
    found = scenes["twoSets"]
    assert found["chosen"] == {"a": "set 0", "b": "set 1"}
    assert found["after"]["a"].startswith("group") and found["after"]["b"] == "all"
    assert scenes["particle"]["title"] == "A · Particle 17" and scenes["particle"]["number"] == "17"


def test_what_one_state_has_more_is_red(scenes):
    found = scenes["states"]
    assert found["red"] > 200 and found["flat"] > 20
    assert found["swapped"] < 0.1 * found["red"]
    assert re.fullmatch(r"−\d+ σ\+\d+ σ", found["key"])
    assert all(re.fullmatch(r"[zyx] −?\d+ Å", text) for text in found["places"])


def test_level_and_blocks_act(scenes):
    found = scenes["level"]
    assert 0 < found["high"] < found["low"]
    assert found["text"].endswith(" σ")
    assert found["blocks"] == 3 and found["withBlocks"] > found["high"]


def test_movie_moves_along_a_component_and_stops(scenes):
    found = scenes["movie"]
    assert found["title"] == "A · Component 2 at −2.0 SD"
    assert found["playing"] == "Stop" and found["moved"]


def test_sections_go_to_where_the_volumes_differ(scenes):
    found = scenes["place"]
    # State 1 lacks block C, whose middle is here (`fake_results.BLOCKS`).
    expected = np.array(BLOCKS["C"]) * found["box"]
    assert np.abs(np.array(found["point"]) - expected).max() <= 1.5


def test_keys_move_the_sections(scenes):
    before, after = scenes["section"]["before"], scenes["section"]["after"]
    assert after == [before[0] + 1, before[1], before[2] + 1]


def test_a_cluster_is_shown_large_and_selected(scenes, results):
    found = scenes["cluster"]
    kmeans = pd.read_parquet(results / "all/particles.parquet")["kmeans"]
    assert found["shown"] == "A · k-means cluster 2" and found["query"] == "kmeans == 2"
    assert found["title"] == "A · Selection A"
    noise = np.sqrt(len(kmeans) / (kmeans == 2).sum())
    expected = f"Linear model, mean of {(kmeans == 2).sum()} particles, noise {noise:.1f} σ"
    assert found["n"].replace("\u00a0", " ") == expected


def test_a_click_in_a_tomogram_chooses_the_particle_and_a_selection_fades_the_others(scenes, results):
    found = scenes["cell"]
    assert found["told"] == [found["row"]] and found["tomogram"] == 1
    assert found["pressed"] == ["false", "true", "false"]
    assert found["bright"] == [0, 9]
    assert found["drawn"] > 500
