"""Whole trainings whose steps are replayed as graphs, here by recorded operations on the CPU."""

import logging

import pandas as pd
import pytest
import torch
from recorded_operations import RecordedOperations
from training_runs import CPU, parse, train

from tomohet.model.load import read_weights
from tomohet.particles.source import open_particles
from tomohet.training import optimiser_step, passes
from tomohet.training.homogeneous import train_nn
from tomohet.training.loop import Training

pytestmark = pytest.mark.usefixtures("without_figures")
OPTIONS = ("-n", "2", "-b", "2", "--rows-per-image", "0.5", "--l-dose-mask")


@pytest.fixture
def graphs(monkeypatch):
    """Steps are recorded; few sizes of buffers make most of them replays. Gives the numbers of replays."""
    monkeypatch.setattr(passes, "RUNGS", 2)
    monkeypatch.setattr(optimiser_step, "graphs_on", lambda device: RecordedOperations)
    replays = []
    replay = RecordedOperations.replay
    monkeypatch.setattr(RecordedOperations, "replay", lambda self: (replays.append(1), replay(self)))
    return replays


def weights(folder):
    return read_weights(folder / "weights.pkl")["model_state_dict"]


def assert_same_weights(one, other):
    ours, theirs = weights(one), weights(other)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_training_of_replays_is_one_of_steps(tiny_store, tmp_path, graphs, monkeypatch, caplog):
    with caplog.at_level(logging.WARNING):
        replayed = train(tiny_store, tmp_path / "replayed", *OPTIONS)
    assert len(graphs) >= 8 and "CUDA graphs" not in caplog.text
    count = len(graphs)
    monkeypatch.setattr(passes.FixedPasses, "usable", False)
    monkeypatch.setattr(passes, "MOST_GRAPHS", 0)
    stepped = train(tiny_store, tmp_path / "stepped", *OPTIONS)
    assert len(graphs) == count
    assert_same_weights(replayed, stepped)
    assert (pd.read_csv(replayed / "loss.csv")["total"] == pd.read_csv(stepped / "loss.csv")["total"]).all()


def test_one_of_all_points_is_that_without_buffers(tiny_store, tmp_path, graphs, monkeypatch):
    replayed = train(tiny_store, tmp_path / "replayed", "-n", "2", "-b", "2")
    assert graphs
    monkeypatch.setattr(optimiser_step, "graphs_on", lambda device: None)
    plain = train(tiny_store, tmp_path / "plain", "-n", "2", "-b", "2")
    one, other = (pd.read_csv(folder / "loss.csv")["total"] for folder in (replayed, plain))
    pd.testing.assert_series_equal(one, other, rtol=1e-4)


def test_stopped_between_replays_it_goes_on_as_uninterrupted(tiny_store, tmp_path, graphs, monkeypatch):
    options = (*OPTIONS, "--lazy", "--checkpoint-minutes", "0")
    through = train(tiny_store, tmp_path / "through", *options)
    step = Training._step

    def broken(self, *args):
        if (self.position.epoch, self.position.step) == (1, 3):
            raise KeyboardInterrupt
        return step(self, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Training, "_step", broken)
        train(tiny_store, tmp_path / "parts", *options)
    assert_same_weights(train(tiny_store, tmp_path / "parts", *options), through)


def test_a_homogeneous_volume_is_trained_by_replays(tiny_store, tmp_path, graphs):
    args = parse("train_nn", tiny_store, tmp_path, *"-n 4 -b 2 --dim 32 --layers 2 --lr 0.003".split())
    store, particles = open_particles(args.particles, args, args.outdir)
    train_nn(args, store, particles, CPU)
    losses = pd.read_csv(tmp_path / "loss.csv")["gen"]
    assert graphs and losses.iloc[-1] < losses.iloc[0]
