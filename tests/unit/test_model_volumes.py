"""Volumes and latents of trained models through the commands eval_vol and eval_images."""

import importlib

import numpy as np
import pytest
import torch

from tomohet.cli import options_of
from tomohet.errors import InputError
from tomohet.files.atomic import write_pickle
from tomohet.files.mrc import read_volume
from tomohet.files.pickles import load_latents
from tomohet.model.load import load_model
from tomohet.model.volumes import read_latent_points
from tomohet.physics.fourier import transform3
from tomohet.physics.fourier_grids import crop_fourier, lowpass
from tomohet.physics.lattice import half_ball

Z = np.array([[0.5, -1.0], [0.0, 0.0], [2.0, 1.0]], np.float32)


def script(name, *arguments):
    words = [str(argument) for argument in arguments]
    importlib.import_module(f"tomohet.commands.{name}").run(options_of(name, words))


@pytest.fixture(scope="module")
def training(tiny_training):
    return tiny_training


@pytest.fixture(scope="module")
def zfile(tmp_path_factory):
    path = tmp_path_factory.mktemp("z") / "z.txt"
    np.savetxt(path, Z)
    return path


@pytest.fixture(scope="module")
def plain(training, zfile, tmp_path_factory):
    folder = tmp_path_factory.mktemp("volumes")
    script("eval_vol", "--workdir", training, "--zfile", zfile, "-o", folder)
    return np.stack([read_volume(folder / f"vol_{n:03d}.mrc")[0] for n in range(3)])


def eval_vol(training, zfile, folder, *options):
    """Volumes with `-w` and `-c`, and their pixel size."""
    model = ("-w", training / "weights.pkl", "-c", training / "config.pkl")
    script("eval_vol", *model, "--zfile", zfile, "-o", folder, *options)
    found = [read_volume(path) for path in sorted(folder.glob("*.mrc"))]
    return np.stack([volume for volume, _ in found]), found[0][1]


def close(found, expected):
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_volumes_have_mean_zero_and_differ(plain):
    assert np.abs(plain.mean((1, 2, 3))).max() < 1e-5 * plain.std()
    assert np.abs(plain[0] - plain[1]).max() > 1e-3 * plain.std()


def test_volume_is_the_decoder_on_the_half_ball(training, plain):
    trained = load_model(training / "weights.pkl", training / "config.pkl")
    ball = half_ball(trained.box)
    inside = ball.radius < trained.box / 2 - 0.5
    expected = trained.model.fourier(ball.frequency, torch.from_numpy(Z)) * trained.scale
    found = ball.gather(transform3(torch.from_numpy(plain)))
    close(found[:, inside].numpy(), expected[:, inside].numpy())


@pytest.mark.parametrize("batch", ["1", "2"])
def test_batches_do_not_change_volumes(training, zfile, plain, tmp_path, batch):
    close(eval_vol(training, zfile, tmp_path, "-b", batch)[0], plain)


def test_invert_changes_the_sign(training, zfile, plain, tmp_path):
    close(eval_vol(training, zfile, tmp_path, "--invert")[0], -plain)


def test_flip_mirrors_about_the_origin(training, zfile, plain, tmp_path):
    box = plain.shape[-1]
    mirrored = plain[:, (box - np.arange(box)) % box]
    close(eval_vol(training, zfile, tmp_path, "--flip")[0], mirrored)


def test_downsampled_volume_is_the_cropped_one(training, zfile, plain, tmp_path):
    small, pixel_size_A = eval_vol(training, zfile, tmp_path, "--downsample", "16")
    assert small.shape == (3, 16, 16, 16)
    assert pixel_size_A == pytest.approx(14 * plain.shape[-1] / 16)
    # Cropping a cube keeps its corners, the half ball of 16 does not: compare inside its sphere.
    within = half_ball(16).radius < 7.5
    found, expected = (
        half_ball(16).gather(transform3(volumes))[:, within].numpy()
        for volumes in (torch.from_numpy(small), crop_fourier(torch.from_numpy(plain), 16))
    )
    close(found, expected)


def test_lowpass_is_sharp(training, zfile, plain, tmp_path):
    found, pixel_size_A = eval_vol(training, zfile, tmp_path, "--lowpass", "60")
    close(found, lowpass(plain, pixel_size_A, 60, edge_shells=0))


def test_prefix_and_latents_are_written(training, zfile, tmp_path):
    eval_vol(training, zfile, tmp_path, "--prefix", "state_")
    assert sorted(path.name for path in tmp_path.glob("*.mrc")) == [f"state_00{n}.mrc" for n in range(3)]
    np.testing.assert_allclose(np.loadtxt(tmp_path / "z_values.txt"), Z)


def test_homogeneous_volume_needs_no_latents(tiny_store, tmp_path):
    script("train_nn", tiny_store, "-o", tmp_path, *"-n 1 -b 8 --dim 16 --layers 1 --pe-dim 3".split())
    model = ("-w", tmp_path / "weights.pkl", "-c", tmp_path / "config.pkl")
    script("eval_vol", *model, "-o", tmp_path / "volume")
    close(read_volume(tmp_path / "volume" / "vol.mrc")[0], read_volume(tmp_path / "reconstruct.mrc")[0])
    options = ("--prefix", "mean_", "--invert", "--lowpass", 60)
    for part in ("2/2", "1/2"):
        assert not list((tmp_path / "other").glob("*"))
        script("eval_vol", *model, "-o", tmp_path / "other", *options, "--part", part)
    volume, pixel_size_A = read_volume(tmp_path / "reconstruct.mrc")
    close(read_volume(tmp_path / "other" / "mean.mrc")[0], -lowpass(volume, pixel_size_A, 60, edge_shells=0))


@pytest.mark.parametrize("options", [("--downsample", "15"), ("--downsample", "64"), ("--lowpass", "-1")])
def test_impossible_volumes_are_refused(training, zfile, tmp_path, options):
    with pytest.raises(InputError, match=options[0]):
        eval_vol(training, zfile, tmp_path, *options)


def test_latents_of_another_size_are_refused(training, tmp_path):
    np.savetxt(tmp_path / "z.txt", np.zeros((2, 3)))
    with pytest.raises(InputError, match="zdim 2"):
        eval_vol(training, tmp_path / "z.txt", tmp_path)


def test_latent_points_from_files(tmp_path):
    write_pickle(tmp_path / "z.pkl", Z, np.zeros_like(Z))
    np.testing.assert_array_equal(read_latent_points(tmp_path / "z.pkl", 2), Z)
    np.savetxt(tmp_path / "one.txt", Z[0])
    assert read_latent_points(tmp_path / "one.txt", 2).shape == (1, 2)
    assert read_latent_points(tmp_path / "one.txt", 1).shape == (2, 1)
    (tmp_path / "text.txt").write_text("no numbers\n")
    for name in ("text.txt", "missing.txt"):
        with pytest.raises(InputError, match=name):
            read_latent_points(tmp_path / name, 2)


def test_files_that_are_no_weights_are_refused(training, tmp_path):
    (tmp_path / "weights.pkl").write_bytes(b"not weights")
    with pytest.raises(InputError, match="not a weights file"):
        load_model(tmp_path / "weights.pkl", training / "config.pkl")
    torch.save({"model_state_dict": {"decoder.freqs": torch.zeros(3, 3)}}, tmp_path / "other.pkl")
    with pytest.raises(InputError, match="does not belong"):
        load_model(tmp_path / "other.pkl", training / "config.pkl")


def test_latents_of_a_subset_are_those_of_the_training(training, tiny_store, tmp_path):
    write_pickle(tmp_path / "subset.pkl", np.array([3, 7, 8]))
    model = ("-w", training / "weights.pkl", "-c", training / "config.pkl")
    subset = ("--ind-ptcls", tmp_path / "subset.pkl")
    script("eval_images", tiny_store, *model, "--out-z", tmp_path / "z.pkl", "-b", 2, *subset)
    for found, expected in zip(
        load_latents(tmp_path / "z.pkl"), load_latents(training / "z.train.pkl"), strict=True
    ):
        np.testing.assert_allclose(found, expected[[3, 7, 8]], atol=1e-5)
