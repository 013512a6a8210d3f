"""The benchmark of procedures against the oracle: what it reads, scores, keeps and prints."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import bench_states
from bench_states import LINEAR, LONG_REFERENCE, STATES, Runs, block_table, tables, to_auc
from states_scores import read_found, smooth_read_out

from tomohet.files.mrc import write_volume


def test_latents_of_states_are_their_probabilities(tmp_path):
    table = pd.DataFrame({"particle": [2, 0, 1], "state": [3, 1, 3], "state_probability": 0.9})
    table.to_parquet(tmp_path / "particles.parquet")
    for state in (1, 3):
        write_volume(tmp_path / f"state_{state}.mrc", np.full((4, 4, 4), state, np.float32), 10.0)
    found = read_found(tmp_path)
    np.testing.assert_array_equal(found.labels, [0, 1, 1])
    np.testing.assert_allclose(found.latents, [[0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
    np.testing.assert_array_equal(found.maps[:, 0, 0, 0], [1, 3, 3])


def test_an_angle_on_a_curve_of_latents_is_read_out():
    rng = np.random.default_rng(0)
    angle = rng.uniform(-40, 40, 200)
    turn = np.radians(4 * angle)
    latents = np.column_stack([np.cos(turn), np.sin(turn), *0.1 * rng.normal(size=(2, 200))])
    assert np.corrcoef(smooth_read_out(latents, angle), angle)[0, 1] > 0.9
    mixed = rng.permutation(angle)
    assert np.corrcoef(smooth_read_out(latents, mixed), mixed)[0, 1] < 0.2


def test_runs_are_kept_and_a_follower_costs_the_linear_model_too(tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(bench_states, "simulated", lambda *_, **__: None)
    monkeypatch.setattr(bench_states, "command", lambda name, *_: called.append(name) or 10.0)
    monkeypatch.setattr(bench_states, "scores", lambda *_: {"auc_read_out": {"S1": 0.5, "S2": 1.0}})
    assert Runs(tmp_path).get("two", STATES, 0)["cpu_s"] == 20
    kept = Runs(tmp_path)
    kept.get("two", STATES, 0)
    assert called == ["train_linear", "states"]
    assert "| states (1) | 0.750 ± 0.000 | 20 ± 0 |" in tables(kept.rows)
    assert "| two, states, S1 | 0.500 ± 0.000 |  |" in block_table(kept.rows)
    assert block_table([{"data": "motion", "procedure": LINEAR, "rho_single": 0.9}]) == ""


@pytest.mark.parametrize(("linear", "epoch", "ratio"), [(0.9, 3, "15.0"), (1.0, "> 4", "> 20.0")])
def test_cost_until_the_reference_has_reached_the_linear_model(tmp_path, monkeypatch, linear, epoch, ratio):
    runs = Runs(tmp_path)
    runs.rows = [
        {"data": "two", "procedure": LINEAR, "seed": 0, "auc_read_out": {"S1": linear}, "cpu_s": 10.0},
        {"data": "two", "procedure": LONG_REFERENCE, "seed": 0, "auc_read_out": {"S1": 0.8}, "cpu_s": 200.0},
    ]
    folder = runs.run_folder("two", LONG_REFERENCE, 0)
    folder.mkdir(parents=True)
    for number in range(1, 5):
        (folder / f"z.{number}.train.pkl").touch()
    monkeypatch.setattr(bench_states, "truth_of", lambda place: None)
    monkeypatch.setattr(bench_states, "load_latents", lambda path: (int(path.name.split(".")[1]), None))
    curve = {1: 0.5, 2: 0.85, 3: 0.92, 4: 0.8}
    monkeypatch.setattr(bench_states, "latent_scores", lambda z, _: {"auc_read_out": {"S1": curve[z]}})
    row = to_auc(runs, "two", 0)
    assert (row["epoch"], row["CPU ratio"]) == (epoch, ratio)
