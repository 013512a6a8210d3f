"""Every option of a training has the effect that its help promises."""

import numpy as np
import pytest
from training_runs import final_loss, train

from tomohet.errors import InputError
from tomohet.files.pickles import load_latents, load_pickles

pytestmark = pytest.mark.usefixtures("without_figures")


OPTIONS = [
    "--zdim 3", "-n 2", "-b 3", "--wd 0.1", "--lr 0.01", "--beta 3", "--beta a", "--beta b", "--beta c",
    "--beta d", "--beta e", "--beta-control 5", "--seed 1", "--recon-dose-weight", "--recon-tilt-weight",
    "--max-frequency 0.2", "--noise-model shells", "--rows-per-image 0.3",
    "--fraction-train 0.5", "--sequential-tilt-sampling",
    "--lr-schedule cosine", "--lr-warmup 0.5", "--enc-layers-A 2", "--enc-dim-A 24", "--out-dim-A 16",
    "--enc-layers-B 2", "--enc-dim-B 24", "--enc-mask 11", "--pooling-function concatenate",
    "--pooling-function max", "--pooling-function median", "--pooling-function set_encoder",
    "--dec-layers 2", "--dec-dim 24", "--l-extent 0.3", "--feat-sigma 1", "--pe-dim 5",
    "--activation leaky_relu",
    "--pe-type geom_ft", "--pe-type geom_full", "--pe-type geom_lowf", "--pe-type geom_nohighf",
    "--pe-type linear_lowf", "--pe-type none", "--use-first-ntilts 5", "--use-first-nptcls 10",
]  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_changes_the_loss(base_run, tiny_store, tmp_path, option):
    assert final_loss(train(tiny_store, tmp_path, *option.split())) != final_loss(base_run)


@pytest.mark.parametrize("option", ["--num-seeds 2", "--num-heads 2", "--layer-norm"])
def test_options_of_the_set_encoder_change_the_loss(tiny_store, tmp_path, option):
    plain = train(tiny_store, tmp_path / "plain", "--pooling-function", "set_encoder")
    changed = train(tiny_store, tmp_path / "changed", "--pooling-function", "set_encoder", *option.split())
    assert final_loss(plain) != final_loss(changed)


@pytest.mark.parametrize(
    "option",
    [
        "--lazy --num-workers 2 --prefetch-factor 3",
        "--lazy --persistent-workers --pin-memory",
        "--enc-mask -1",
    ],
)
def test_options_that_leave_the_result_alone(base_run, tiny_store, tmp_path, option):
    assert final_loss(train(tiny_store, tmp_path, *option.split())) == final_loss(base_run)


@pytest.mark.parametrize("share", ["0", "0.5"])
def test_frequencies_march_while_the_network_trains(tiny_store, tmp_path, share):
    """With half of two epochs the first fits a quarter of the frequencies, the second all."""
    plain = train(tiny_store, tmp_path / "plain", "-n", "2")
    other = train(tiny_store, tmp_path / "other", "-n", "2", "--march", share)
    first, last = (
        np.array_equal(*(load_latents(folder / f"z.{epoch}.train.pkl")[0] for folder in (plain, other)))
        for epoch in (0, 1)
    )
    assert (first, last) == ((True, True) if share == "0" else (False, False))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--march", "1"], "--march 1.0: expected less than 1"),
        (["--encoder", "free"], "--encoder free: latents of this encoder start from a linear"),
    ],
)
def test_options_that_cannot_be_are_refused(tiny_store, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        train(tiny_store, tmp_path, *options)


@pytest.mark.parametrize("fast", [True, False])
def test_hidden_layers_are_bfloat16_where_the_device_is_fast_with_it(tiny_store, tmp_path, monkeypatch, fast):
    monkeypatch.setattr("tomohet.training.settings.fast_bfloat16", lambda device: fast)
    default = final_loss(train(tiny_store, tmp_path / "default"))
    exact = final_loss(train(tiny_store, tmp_path / "exact", "--no-amp"))
    assert default == pytest.approx(exact, rel=1e-3)
    assert (default != exact) == fast


def test_held_out_tilts_have_latents_of_their_own(tiny_store, tmp_path):
    folder = train(tiny_store, tmp_path, "--fraction-train", "0.5")
    mu, _ = load_latents(folder / "z.train.pkl")
    test_mu, _ = load_latents(folder / "z.test.pkl")
    assert mu.shape == test_mu.shape
    assert not np.allclose(mu, test_mu)
    assert np.isfinite(load_pickles(folder / "convergence_latent_kld.0.pkl")[0]).all()


def test_checkpoint_names_the_epochs_that_are_kept(tiny_store, tmp_path):
    folder = train(tiny_store, tmp_path, "-n", "5", "--checkpoint", "2")
    assert sorted(f.name for f in folder.glob("weights.*.pkl")) == ["weights.1.pkl", "weights.3.pkl"]
    assert (folder / "weights.pkl").is_file()


@pytest.mark.parametrize(
    "option",
    ["--zdim 0", "-b 0", "--lr 0", "--lr -1", "--fraction-train 0", "--fraction-train 1.5",
     "--rows-per-image 0", "--max-frequency 0.6", "--lr-warmup 1", "--wd -1", "--num-workers -1",
     "--prefetch-factor 0",
     "--pooling-function set_encoder --num-heads 3"],
)  # fmt: skip
def test_impossible_options_are_refused(tiny_store, tmp_path, option):
    with pytest.raises(InputError):
        train(tiny_store, tmp_path, *option.split())
