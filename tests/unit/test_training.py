"""Batches, splits, schedules, latents and the options of a training, on a tiny simulated dataset."""

import importlib.util
import json
import logging

import numpy as np
import pandas as pd
import pytest
import torch

from tomohet.errors import InputError
from tomohet.files.pickles import load_latents, load_pickles
from tomohet.model.load import load_model, load_vae, read_weights
from tomohet.particles.source import open_particles
from tomohet.particles.store import open_store
from tomohet.training.batches import LossRows, ParticleImages, split_tilts
from tomohet.training.checkpoints import lock_folder
from tomohet.training.homogeneous import train_nn
from tomohet.training.latents import gaussian_divergence, infer_latents
from tomohet.training.reading import Loading
from tomohet.training.schedules import beta_at, learning_rate_factor
from tomohet.training.settings import check_options
from tomohet.training.vae import train_vae

CPU = torch.device("cpu")
SMALL = (
    "--zdim 2 -n 1 -b 4 --dec-dim 16 --dec-layers 1 --enc-dim-A 16 --out-dim-A 8 --enc-layers-A 1 "
    "--enc-dim-B 16 --enc-layers-B 1 --pe-dim 3 --lr 0.001"
).split()


def parse(script, particles, outdir, *options):
    from tomohet.cli import SCRIPTS

    spec = importlib.util.spec_from_file_location(script, SCRIPTS / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.build_parser().parse_args([str(particles), "-o", str(outdir), *options])


def train(store_folder, outdir, *options):
    """train_vae in this process; later options win."""
    args = parse("train_vae", store_folder, outdir, *SMALL, *options)
    check_options(args)
    args.outdir.mkdir(parents=True, exist_ok=True)
    store, particles = open_particles(args.particles, args)
    train_vae(args, store, particles, CPU)
    return args.outdir


@pytest.fixture(scope="module", autouse=True)
def without_figures():
    """Figures take longer than these trainings; the commands' tests draw them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("write_tilt_distribution", "write_loss_figure"):
            patch.setattr(f"tomohet.training.vae.{name}", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def base_run(tiny_store, tmp_path_factory):
    return train(tiny_store, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def store(tiny_store):
    return open_store(tiny_store)


def final_loss(folder):
    return pd.read_csv(folder / "loss.csv")["total"].iloc[-1]


# ---- batches


def test_batch_holds_the_images_of_its_particles(store):
    particles = np.array([1, 4, 5, 9])
    images = ParticleImages(store, particles, CPU, loss_rows=LossRows())
    batch = images.batch(np.array([2, 0]))
    rows = np.concatenate([store.images_of(np.array([5])), store.images_of(np.array([1]))])
    torch.testing.assert_close(batch.fourier, store.half_planes(rows))
    np.testing.assert_array_equal(batch.tilts, np.diff(store.offsets)[[5, 1]])
    np.testing.assert_allclose(
        batch.params.dose_e_A2, store.images["dose_e_A2"].iloc[rows].to_numpy(np.float32)
    )


def test_reading_ahead_gives_the_same_batches(store):
    particles = np.arange(8)
    groups = [np.array([3, 1]), np.array([0, 7, 2]), np.array([5])]
    resident = ParticleImages(store, particles, CPU, place="device")
    read = ParticleImages(store, particles, CPU, place="file", loading=Loading(workers=2, ahead=1))
    for ours, theirs in zip(resident.batches(groups), read.batches(groups), strict=True):
        assert torch.equal(ours.fourier, theirs.fourier)
        np.testing.assert_array_equal(ours.prefix, theirs.prefix)


def test_loss_rows_end_at_the_highest_frequency(store):
    images = ParticleImages(store, np.arange(3), CPU, loss_rows=LossRows(max_frequency=0.25))
    radius = store.half_plane.radius
    assert radius[images.prefix[0] - 1] <= 0.25 * store.box < radius[images.prefix[0]]


def test_dose_mask_ends_at_the_optimal_dose(store):
    params = ParticleImages(store, np.arange(1), CPU).params.take(slice(0, 3))
    params = params._replace(dose_e_A2=torch.tensor([0.0, 120.0, 400.0]))
    prefix = LossRows(dose_mask=True).prefix(params, store.half_plane)
    s_invA = store.half_plane.radius.double() / (store.pixel_size_A * store.box)
    optimal_dose = 2.51284 * (0.24499 * s_invA**-1.6649 + 2.8141)
    assert prefix.tolist() == [int((optimal_dose >= dose).sum()) for dose in params.dose_e_A2]
    assert prefix[0] == store.half_plane.n > prefix[2] > 0


def test_gain_undoes_each_images_own_normalisation(store):
    images = ParticleImages(store, np.arange(3), CPU)
    noise = store.images["noise_scale"].to_numpy()[store.images_of(np.arange(3))]
    np.testing.assert_allclose(images.batch(np.arange(3)).gain.numpy() * noise, store.scale, rtol=1e-6)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_split_leaves_tilts_on_both_sides(fraction):
    tilts = np.array([2, 41, 1, 7, 10])
    keep = split_tilts(tilts, fraction, np.random.default_rng(0))
    kept = np.add.reduceat(keep.astype(int), np.cumsum(tilts) - tilts)
    assert kept[2] == 1
    many = tilts > 1
    assert (kept[many] >= 1).all() and (kept[many] < tilts[many]).all()
    np.testing.assert_allclose(kept[[1]], fraction * 41, atol=0.5)
    assert not np.array_equal(keep, split_tilts(tilts, fraction, np.random.default_rng(1)))


# ---- schedules


def test_published_beta_schedules():
    assert [beta_at("b", seen, 0) for seen in (0, 500_000, 1_000_000)] == [5.0, 10.0, 15.0]
    assert [beta_at("e", seen, 1000) for seen in (0, 50, 125, 200, 250, 999)] == pytest.approx(
        [0, 0.4, 1, 1, 0, 1]
    )
    assert [beta_at("a", seen, 0) for seen in (0, 2_000_000)] == [0.001, 15.0]
    assert [beta_at("c", 800_000, 0), beta_at("d", 3_000_000, 0)] == [18.0, 11.5]
    assert beta_at(0.25, 77, 1000) == 0.25


def test_learning_rate_warms_up_and_falls():
    assert learning_rate_factor("constant", 0.0, 0.9) == 1
    assert learning_rate_factor("cosine", 0.2, 0.1) == pytest.approx(0.5)
    assert learning_rate_factor("cosine", 0.2, 0.6) == pytest.approx(0.5)
    assert learning_rate_factor("cosine", 0.0, 1.0) == pytest.approx(0)


def test_divergence_of_gaussians_agrees_with_torch():
    mu1, logvar1, mu2, logvar2 = np.random.default_rng(0).normal(size=(4, 5, 3))
    normals = [
        torch.distributions.Normal(torch.tensor(m), torch.tensor(np.exp(v / 2)))
        for m, v in ((mu1, logvar1), (mu2, logvar2))
    ]
    expected = torch.distributions.kl_divergence(*normals).sum(1)
    np.testing.assert_allclose(gaussian_divergence(mu1, logvar1, mu2, logvar2), expected)


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
    model = load_vae(base_run / "weights.pkl", load_pickles(base_run / "config.pkl")[0])
    images = ParticleImages(store, np.arange(len(store.particles)), CPU)
    mu, _ = load_latents(base_run / "z.train.pkl")
    np.testing.assert_allclose(infer_latents(model, images, 5)[0], mu, atol=1e-5)


def test_same_seed_same_result(base_run, tiny_store, tmp_path):
    again = train(tiny_store, tmp_path)
    ours, theirs = (read_weights(f / "weights.pkl")["model_state_dict"] for f in (base_run, again))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


# ---- options

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


# ---- continuing


def test_finished_training_goes_on_with_more_epochs(tiny_store, tmp_path):
    through = train(tiny_store, tmp_path / "through", "-n", "3")
    train(tiny_store, tmp_path / "parts", "-n", "1")
    parts = train(tiny_store, tmp_path / "parts", "-n", "3")
    ours, theirs = (read_weights(f / "weights.pkl")["model_state_dict"] for f in (through, parts))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert len(pd.read_csv(parts / "loss.csv")) == 3


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
    with lock_folder(tmp_path), pytest.raises(InputError, match="another training"):
        lock_folder(tmp_path)


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
    check_options(args)
    store, particles = open_particles(args.particles, args)
    train_nn(args, store, particles, CPU)
    losses = pd.read_csv(tmp_path / "loss.csv")["gen"]
    power = np.square(store.data[:]).sum(-1).mean()
    assert losses.iloc[-1] < losses.iloc[0] < 1.05 * power
    assert (tmp_path / "reconstruct.mrc").is_file()
    assert load_model(tmp_path / "weights.pkl", tmp_path / "config.pkl").zdim == 0
