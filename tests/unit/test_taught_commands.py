"""train_vae --init and eval_images, as a user runs them, with every encoder."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from analysis_fakes import run
from several_processes import run as run_processes
from taught_runs import ENCODERS
from training_runs import CPU, SMALL, train

from tomohet.errors import InputError
from tomohet.files.pickles import load_latents
from tomohet.linear.fitted_maps import FittedMaps
from tomohet.linear.saved_model import SavedModel
from tomohet.model.latent_prior import standard_prior
from tomohet.model.load import read_weights
from tomohet.particles.store import open_store
from tomohet.training.loop import Training
from tomohet.training.teaching import Teaching

pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture
def trusting(monkeypatch):
    """Whatever the latents, they are said to predict better; decoders, too."""
    scaled = Teaching._scale_network
    monkeypatch.setattr(Teaching, "_gain", lambda self, z: torch.ones(len(z)).double())
    monkeypatch.setattr(
        Teaching,
        "_scale_network",
        lambda self: scaled(self) | {"gain_of_decoder": 2.0, "error_of_decoder": 1.0},
    )


@pytest.fixture
def taught(tiny_store, tiny_linear, tmp_path):
    """train_vae --init in this process: taught("free", *options), into a folder of that name."""

    def train_it(encoder, *options, folder=None):
        init = ("--init", str(tiny_linear), "--encoder", encoder)
        return train(tiny_store, tmp_path / (folder or encoder), *init, "--enc-dim-B", "8", *options)

    return train_it


def evaluated(folder, store):
    model = ("-w", folder / "weights.pkl", "-c", folder / "config.pkl")
    run("eval_images", store, *model, "--out-z", folder / "evaluated.pkl")
    return load_latents(folder / "evaluated.pkl")


def assert_same_weights(one, other):
    ours, theirs = (read_weights(folder / "weights.pkl")["model_state_dict"] for folder in (one, other))
    tensors = [name for name in ours if isinstance(ours[name], torch.Tensor)]
    assert tensors and all(torch.equal(ours[name], theirs[name]) for name in tensors)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_evaluation_finds_untrusted_latents_again(taught, tiny_store, encoder, monkeypatch):
    monkeypatch.setattr(Teaching, "_gain", lambda self, z: -torch.ones(len(z)).double())
    folder = taught(encoder)
    table = pd.read_csv(folder / "held_out.csv")
    assert table["share_of_network"].between(0, 1).all()
    for found, expected in zip(
        evaluated(folder, tiny_store), load_latents(folder / "z.train.pkl"), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("encoder", ["tilts", "backprojected"])
def test_evaluation_finds_trusted_latents_of_encoders_again(taught, tiny_store, encoder, trusting):
    folder = taught(encoder, "-n", "3", "--lr", "0.01")
    state = read_weights(folder / "weights.pkl")["model_state_dict"]["encoder._extra_state"]
    assert state == {"released": True, "trusted": True}
    for found, expected in zip(
        evaluated(folder, tiny_store), load_latents(folder / "z.train.pkl"), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_evaluation_finds_free_latents_nearly_again(taught, tiny_store, tiny_linear, trusting):
    """A training's own start from latents that the decoder was trained with; evaluation starts from the
    linear model's and takes two steps. Both end within a tenth of the posterior's width."""
    folder = taught("free", "-n", "3", "--l-dose-mask")
    state = read_weights(folder / "weights.pkl")["model_state_dict"]["encoder._extra_state"]
    assert set(state) == {"weight", "mean", "covariance"}
    mu, logvar = load_latents(folder / "z.train.pkl")
    found_mu, found_logvar = evaluated(folder, tiny_store)
    assert (np.abs(found_mu - mu) / np.exp(logvar / 2)).max() < 0.1
    np.testing.assert_allclose(found_logvar, logvar, atol=0.02)
    assert np.abs(mu - load_latents(tiny_linear / "z.train.pkl")[0]).max() > 0.01


@pytest.mark.parametrize("encoder", ENCODERS)
def test_tilts_that_are_held_out_besides_have_latents(taught, encoder, trusting):
    folder = taught(encoder, "-n", "2", "--fraction-train", "0.6")
    mu, _ = load_latents(folder / "z.train.pkl")
    test_mu, _ = load_latents(folder / "z.test.pkl")
    assert mu.shape == test_mu.shape and np.isfinite(test_mu).all()
    assert np.corrcoef(mu[:, 0], test_mu[:, 0])[0, 1] > 0.5
    assert not np.allclose(mu, test_mu)


@pytest.mark.parametrize("encoder", ["free", "tilts"])
def test_a_network_that_learns_nothing_leaves_the_linear_latents(
    taught, tiny_store, tiny_linear, encoder, monkeypatch
):
    monkeypatch.setattr("tomohet.model.decoder.FIRST_SHARE_OVER_BASE", 0.0)
    monkeypatch.setattr(
        "tomohet.training.teaching.fit_latent_prior", lambda a, b, seed: standard_prior(a.shape[1])
    )
    if encoder == "free":
        # Free latents take the decoder's maps as known: the linear model knows how uncertain its own are.
        posterior = FittedMaps.posterior
        monkeypatch.setattr(
            FittedMaps,
            "posterior",
            lambda maps, *of: posterior(
                replace(maps, basis_variance=torch.zeros_like(maps.basis_variance)), *of
            ),
        )
    folder = taught(encoder, "--lr", "1e-12")
    assert (folder / "held_out.csv").is_file()
    found, _ = load_latents(folder / "z.train.pkl")
    stated = open_store(tiny_store)
    everyone, linear = np.arange(len(stated.particles)), SavedModel.read(tiny_linear, stated.box)
    store = linear.poses(stated, everyone).corrected(stated, everyone)
    expected = linear.maps.for_store(store, CPU).posterior(store, everyone)[:, 0]
    # Noise by tomogram is shell by shell in the linear model, and one number for latents in closed form.
    np.testing.assert_allclose(found, expected, atol=0.03 if encoder == "free" else 1e-4)


# ---- stopping and going on


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_stopped_training_goes_on_as_uninterrupted(taught, encoder, monkeypatch, trusting):
    options = ("-n", "2", "-b", "6", "--checkpoint-minutes", "0")
    through = taught(encoder, *options, folder="through")
    step = Training._step

    def broken(self, *args):
        if (self.position.epoch, self.position.step) == (1, 2):
            raise KeyboardInterrupt
        return step(self, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Training, "_step", broken)
        taught(encoder, *options, folder="parts")
    parts = taught(encoder, *options, folder="parts")
    assert_same_weights(through, parts)
    assert (through / "held_out.csv").read_text() == (parts / "held_out.csv").read_text()
    for ours, theirs in zip(
        *(load_latents(folder / "z.train.pkl") for folder in (through, parts)), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("encoder", ["tilts", "free"])
def test_weights_of_an_epoch_can_be_continued(taught, encoder, trusting):
    through = taught(encoder, "-n", "3", folder="through")
    later = taught(encoder, "-n", "3", "--load", str(through / "weights.1.pkl"), folder="later")
    assert_same_weights(through, later)


def test_more_epochs_spread_the_rounds_of_free_latents_anew(taught):
    taught("free", folder="same")
    folder = taught("free", "-n", "2", folder="same")
    assert (folder / "superseded.1" / "held_out.csv").is_file()
    assert len(pd.read_csv(folder / "held_out.csv")) == 2
    folder = taught("tilts", folder="on")
    taught("tilts", "-n", "2", folder="on")
    assert not (folder / "superseded.1").exists()


def test_two_processes_find_the_free_latents_of_one(tiny_store, tiny_linear, tmp_path):
    options = (*SMALL, "--init", tiny_linear, "--encoder", "free", "-b", 5, "--device", "cpu", "--no-amp")
    one, two = tmp_path / "one", tmp_path / "two"
    for size, folder in ((1, one), (2, two)):
        run_processes(size, "train_vae", tiny_store, "-o", folder, *options)
    tables = [pd.read_csv(folder / "held_out.csv") for folder in (one, two)]
    # Gains are small differences of large sums in single precision.
    np.testing.assert_allclose(*tables, rtol=1e-3, atol=0.05)
    for ours, theirs in zip(*(load_latents(folder / "z.train.pkl") for folder in (one, two)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
    states = [read_weights(folder / "weights.pkl")["model_state_dict"] for folder in (one, two)]
    for name, value in states[0].items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, states[1][name], rtol=2e-4, atol=2e-5)


# ---- mistakes


@pytest.mark.parametrize("encoder", ["free", "backprojected"])
def test_encoders_that_need_a_linear_model_say_so(tiny_store, tmp_path, run_script, encoder):
    arguments = ("-o", tmp_path, "--zdim", 2, "--encoder", encoder)
    done = run_script("train_vae", tiny_store, *arguments, check=False)
    assert done.returncode == 1
    assert f"--encoder {encoder}" in done.stderr and "--init DIR" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("encoder", ["tilts", "free"])
def test_weights_of_an_untaught_training_are_refused(base_run, taught, encoder):
    with pytest.raises(InputError, match="do not fit these network options"):
        taught(encoder, "-n", "3", "--load", str(base_run / "weights.pkl"))


def test_weights_of_a_taught_training_are_refused_by_an_untaught_one(taught, tiny_store, tmp_path):
    weights = str(taught("tilts") / "weights.pkl")
    with pytest.raises(InputError, match="do not fit these network options"):
        train(tiny_store, tmp_path / "untaught", "-n", "3", "--enc-dim-B", "8", "--load", weights)


@pytest.mark.parametrize("option", ["--use-first-nptcls 12", "--use-first-ntilts 12"])
def test_latents_of_other_images_are_refused(taught, option):
    weights = str(taught("free") / "weights.pkl")
    with pytest.raises(InputError, match="other particles, other tilt images or another linear model"):
        taught("free", "-n", "3", "--load", weights, *option.split(), folder="other")


def test_evaluation_needs_the_linear_model_that_taught(taught, tiny_store, tiny_linear, tmp_path):
    linear = tmp_path / "linear"
    shutil.copytree(tiny_linear, linear)
    folder = taught("tilts", "--init", str(linear))
    content = read_weights(linear / "weights.pkl")
    content["posterior"]["noise"] *= 2
    torch.save(content, linear / "weights.pkl")
    with pytest.raises(InputError, match="not the one from which"):
        evaluated(folder, tiny_store)
    shutil.rmtree(linear)
    with pytest.raises(InputError, match="linear"):
        evaluated(folder, tiny_store)


def test_single_tilts_are_refused(taught):
    with pytest.raises(InputError, match="single tilt image"):
        taught("tilts", "--use-first-ntilts", "1")


def test_a_folder_without_a_linear_model_is_refused(base_run, tiny_store, tmp_path):
    for folder, said in ((base_run, "expected train_linear's"), (tmp_path / "none", "none")):
        with pytest.raises(InputError, match=said):
            train(tiny_store, tmp_path / "out", "--init", str(folder))
