"""The output folder of a training, its continuation, images read from the file throughout, and train_nn."""

import json
import logging

import numpy as np
import pandas as pd
import pytest
import torch
from training_runs import CPU, final_loss, parse, train

from tomohet.errors import InputError
from tomohet.files.locks import writing
from tomohet.files.pickles import load_latents, load_pickles
from tomohet.model.config_file.reading import read_vae_settings
from tomohet.model.load import load_model, load_vae, read_weights
from tomohet.particles.source import open_particles
from tomohet.particles.store import open_store
from tomohet.training.batches import ParticleImages
from tomohet.training.homogeneous import train_nn
from tomohet.training.latents import infer_latents
from tomohet.training.loop import Training

pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture(scope="module")
def store(tiny_store):
    return open_store(tiny_store)


# ---- output folder


def test_output_folder_has_the_promised_files(base_run, store):
    for name in ("config.pkl", "config.yaml", "weights.0.pkl", "weights.pkl", "z.0.train.pkl", "z.train.pkl",
                 "reconstruct.0.mrc", "reconstruct.mrc", "loss.csv"):  # fmt: skip
        assert (base_run / name).is_file(), name
    assert list(pd.read_csv(base_run / "loss.csv")) == [
        "epoch",
        "gen",
        "kld",
        "total",
        "seconds",
        "particles_per_second",
    ]
    mu, logvar = load_latents(base_run / "z.train.pkl")
    assert mu.shape == logvar.shape == (len(store.particles), 2)
    assert set(read_weights(base_run / "weights.0.pkl")) >= {
        "epoch",
        "model_state_dict",
        "optimizer_state_dict",
    }


def test_configuration_is_made_of_plain_builtins(base_run):
    config = load_pickles(base_run / "config.pkl")[0]
    assert json.loads(json.dumps(config)) == config
    assert config["seed"] == 0
    assert config["model_args"]["pooling_function"] == "mean"


def test_map_is_the_volume_at_the_mean_latent(base_run):
    from tomohet.files.mrc import read_volume

    volumes = load_model(base_run / "weights.pkl", base_run / "config.pkl")
    mu, _ = load_latents(base_run / "z.train.pkl")
    expected = volumes.volumes(torch.from_numpy(mu.mean(0, keepdims=True)))[0]
    found, pixel_size_A = read_volume(base_run / "reconstruct.mrc")
    np.testing.assert_allclose(found, expected, atol=1e-5 * float(expected.abs().max()))
    assert pixel_size_A == pytest.approx(volumes.pixel_size_A)


def test_latents_do_not_depend_on_batches(base_run, store):
    model = load_vae(base_run / "weights.pkl", read_vae_settings(base_run / "config.pkl"))
    images = ParticleImages(store, np.arange(len(store.particles)), CPU)
    mu, _ = load_latents(base_run / "z.train.pkl")
    np.testing.assert_allclose(infer_latents(model, images, 5)[0], mu, atol=1e-5)


def test_same_seed_same_result(base_run, tiny_store, tmp_path):
    again = train(tiny_store, tmp_path)
    ours, theirs = (read_weights(f / "weights.pkl")["model_state_dict"] for f in (base_run, again))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


# ---- continuing


def test_finished_training_goes_on_with_more_epochs(tiny_store, tmp_path):
    through = train(tiny_store, tmp_path / "through", "-n", "3")
    train(tiny_store, tmp_path / "parts", "-n", "1")
    parts = train(tiny_store, tmp_path / "parts", "-n", "3")
    ours, theirs = (read_weights(f / "weights.pkl")["model_state_dict"] for f in (through, parts))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert len(pd.read_csv(parts / "loss.csv")) == 3


def test_a_training_that_died_in_its_first_epoch_is_continued(base_run, tiny_store, tmp_path, monkeypatch):
    """Results of the epoch are there, and no checkpoint after them: they are written again."""

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_write_losses", full_disk)
        with pytest.raises(OSError, match="No space"):
            train(tiny_store, tmp_path)
    assert (tmp_path / "weights.0.pkl").is_file()
    train(tiny_store, tmp_path)
    assert not list(tmp_path.glob("superseded.*"))
    ours, theirs = (read_weights(f / "weights.pkl")["model_state_dict"] for f in (base_run, tmp_path))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_weights_of_an_epoch_can_be_continued(tiny_store, tmp_path):
    through = train(tiny_store, tmp_path / "through", "-n", "3")
    weights = str(through / "weights.1.pkl")
    later = train(tiny_store, tmp_path / "later", "-n", "3", "--load", weights)
    ours, theirs = (read_weights(f / "weights.pkl")["model_state_dict"] for f in (through, later))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with pytest.raises(InputError, match="do not fit"):
        train(tiny_store, tmp_path / "other", "-n", "3", "--load", weights, "--dec-dim", "32")


def test_other_settings_start_afresh(tiny_store, tmp_path, caplog):
    train(tiny_store, tmp_path)
    with caplog.at_level(logging.INFO):
        train(tiny_store, tmp_path, "--lr", "0.002")
    assert "starting afresh" in caplog.text
    assert (tmp_path / "superseded.1" / "weights.0.pkl").is_file()
    with pytest.raises(InputError, match="other settings"):
        train(tiny_store, tmp_path, "--load", "latest")


def test_load_latest_needs_a_checkpoint(tiny_store, tmp_path):
    with pytest.raises(InputError, match="nothing|no checkpoint"):
        train(tiny_store, tmp_path, "--load", "latest")


def test_second_writer_is_refused(tmp_path):
    with writing(tmp_path), pytest.raises(InputError, match="is writing there"), writing(tmp_path):
        pass


def test_divergence_stops_with_a_hint(tiny_store, tmp_path):
    with pytest.raises(InputError, match=r"diverged in epoch \d+.*--lr"):
        train(tiny_store, tmp_path, "--lr", "1e18", "-n", "3")


# ---- data larger than one window of the order


@pytest.fixture
def small_windows(monkeypatch, store):
    """Windows of eight particles in blocks of two, as far larger data have them."""
    particle = store.data.nbytes / len(store.particles)
    monkeypatch.setattr("tomohet.training.order.WINDOW_BYTES", int(8.5 * particle))
    monkeypatch.setattr("tomohet.training.order.BLOCK_BYTES", int(2.5 * particle))


def assert_same_weights(one, other):
    ours, theirs = (read_weights(folder / "weights.pkl")["model_state_dict"] for folder in (one, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_reading_from_the_file_leaves_the_result_alone(base_run, small_windows, tiny_store, tmp_path):
    held = train(tiny_store, tmp_path / "held", "--fraction-train", "0.6")
    read = train(tiny_store, tmp_path / "read", "--fraction-train", "0.6", "--lazy", "--num-workers", "2")
    assert_same_weights(held, read)
    for name in ("z.train.pkl", "z.test.pkl"):
        np.testing.assert_array_equal(load_latents(held / name)[0], load_latents(read / name)[0])
    assert final_loss(train(tiny_store, tmp_path / "whole")) != final_loss(base_run)


def test_stopped_in_a_window_it_goes_on_as_uninterrupted(small_windows, tiny_store, tmp_path, monkeypatch):
    from tomohet.training.loop import Training

    options = ("-n", "2", "-b", "2", "--lazy", "--checkpoint-minutes", "0")
    through = train(tiny_store, tmp_path / "through", *options)
    step = Training._step

    def broken(self, *args):
        if (self.position.epoch, self.position.step) == (1, 6):
            raise KeyboardInterrupt
        return step(self, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Training, "_step", broken)
        train(tiny_store, tmp_path / "parts", *options)
    position = read_weights(tmp_path / "parts" / "checkpoint.pkl")["position"]
    assert (position["epoch"], position["step"]) == (1, 6)
    assert_same_weights(train(tiny_store, tmp_path / "parts", *options), through)


# ---- train_nn


def test_homogeneous_volume_fits_better_than_none(tiny_store, tmp_path):
    args = parse("train_nn", tiny_store, tmp_path, *"-n 8 -b 2 --dim 32 --layers 2 --lr 0.003".split())
    store, particles = open_particles(args.particles, args, args.outdir)
    train_nn(args, store, particles, CPU)
    losses = pd.read_csv(tmp_path / "loss.csv")["gen"]
    power = np.square(store.data[:]).sum(-1).mean()
    assert losses.iloc[-1] < losses.iloc[0] < 1.05 * power
    assert (tmp_path / "reconstruct.mrc").is_file()
    assert load_model(tmp_path / "weights.pkl", tmp_path / "config.pkl").zdim == 0
