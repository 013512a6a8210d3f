"""Mixed pixel sizes: `--rescale` brings images of any pixel size and box to one, exactly."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from particle_files import BOX, write_image_series, write_stack

from tomohet.errors import InputError
from tomohet.particles import rescaling
from tomohet.particles.dialects import read_particles
from tomohet.particles.store_writing import write_store
from tomohet.particles.table import refuse_bad_pixel_sizes
from tomohet.physics.lattice import half_plane, images_to_half_planes
from tomohet.physics.resampling import crop_spectrum, field_mask, resample_to_half_planes


def gaussians(box, pixel_size_A):
    """A sum of two Gaussians, sampled: a continuous object, band-limited to rounding."""
    x = (np.arange(box) - box // 2) * pixel_size_A
    y = x[:, None]
    blobs = np.exp(-((x - 9) ** 2 + (y + 5) ** 2) / 2 / 11**2) + 0.5 * np.exp(
        -((x + 13) ** 2 + (y - 8) ** 2) / 2 / 9**2
    )
    return torch.tensor(blobs[None], dtype=torch.float32)


def test_one_object_sampled_at_two_pixel_sizes_has_one_transform():
    coarse = images_to_half_planes(gaussians(48, 4.0))
    for box, pixel_size_A in ((96, 2.0), (80, 2.4), (72, 3.1), (90, 2.7)):
        fine = resample_to_half_planes(gaussians(box, pixel_size_A), pixel_size_A, 48, 4.0)
        assert (fine - coarse).abs().max() < 1e-5 * coarse.abs().max()


def test_same_field_of_view_is_the_truncated_transform():
    images = torch.tensor(np.random.default_rng(0).normal(size=(3, 32, 32)), dtype=torch.float32)
    hp, small = half_plane(32), half_plane(20)
    place = {tuple(k): i for i, k in enumerate(hp.k.tolist())}
    expected = images_to_half_planes(images)[:, [place[tuple(k)] for k in small.k.tolist()]]
    found = resample_to_half_planes(images, 2.0, 20, 3.2)
    assert (found - expected * (20 / 32) ** 2).abs().max() < 1e-5 * expected.abs().max()


def test_cropping_keeps_grey_values_and_a_large_mean():
    images = torch.tensor(np.random.default_rng(1).normal(1e5, 1.0, (2, 32, 32)), dtype=torch.float32)
    small = crop_spectrum(images, 16)
    assert torch.allclose(small.mean(dim=(1, 2)), images.mean(dim=(1, 2)), rtol=1e-7)
    assert small.std() < 1.0
    cropped = images_to_half_planes(small - 1e5)
    direct = resample_to_half_planes(images - 1e5, 1.0, 16, 2.0)
    inside = half_plane(16).radius < 8
    assert (cropped - direct)[:, inside].abs().max() < 0.2


def test_field_mask_cuts_to_the_new_box():
    assert field_mask(8, 0.5).sum() == 16
    assert field_mask(8, 0.5)[2, 2] == 1 and field_mask(8, 0.5)[6, 6] == 0


@pytest.fixture
def series(tmp_path):
    star, _ = write_image_series(tmp_path)
    return read_particles(star)


def mixed(series, tmp_path):
    """The same particles, the first stack's images at half the pixel size, twice the box."""
    images = series.images.copy()
    images["stack"] = images["stack"].astype(str)
    stack = images["stack"].iloc[0]
    here = images["stack"] == stack
    rng = np.random.default_rng(3)
    fine = rng.normal(size=(int(here.sum()), 2 * BOX, 2 * BOX)).astype(np.float32)
    write_stack(tmp_path / "fine.mrcs", fine)
    images.loc[here, "stack"] = str(tmp_path / "fine.mrcs")
    images.loc[here, "pixel_size_A"] /= 2
    images.loc[here, "shift_x_px"] = 3.0
    return rescaling.replace(series, images=images), here.to_numpy()


def test_mixed_pixel_sizes_are_refused_without_rescale(series, tmp_path):
    particle_set, here = mixed(series, tmp_path)
    coarsest = particle_set.pixel_size_A
    assert len(particle_set.pixel_sizes_A) == 2
    with pytest.raises(InputError, match=rf"{here.sum()} images\).*--rescale {coarsest:g}"):
        write_store(tmp_path / "store", particle_set)


@pytest.mark.parametrize("window", [True, False])
def test_mixed_pixel_sizes_enter_one_store(series, tmp_path, window):
    particle_set, here = mixed(series, tmp_path)
    coarsest = particle_set.pixel_size_A
    store = write_store(tmp_path / "store", particle_set, rescale=coarsest, window=window)
    assert store.box == BOX and store.pixel_size_A == coarsest
    assert (store.images["pixel_size_A"] == coarsest).all()
    assert (store.images["shift_x_px"][here] == 1.5).all()
    left_alone = write_store(tmp_path / "plain", series, window=window)
    others = np.flatnonzero(~here)
    assert np.array_equal(store.half_planes(others), left_alone.half_planes(others))
    noise = torch.view_as_real(store.half_planes(np.flatnonzero(here)))
    assert noise.square().mean() == pytest.approx(1.0, rel=0.3)


def test_rescale_changes_the_digest_and_only_it(series, tmp_path):
    plain = write_store(tmp_path / "plain", series)
    target = 2 * series.pixel_size_A
    binned = write_store(tmp_path / "binned", series, rescale=target)
    assert plain.digest != binned.digest
    assert binned.box == 2 * round(BOX / 4) and binned.pixel_size_A == target


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rescale": 0.5}, "finer than the images"),
        ({"box": 8}, "give --rescale"),
        ({"rescale": 100.0, "box": 7}, "even number"),
        ({"rescale": 16.0, "box": 100}, "wide, but the smallest images"),
    ],
)
def test_impossible_grids_are_refused(series, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        write_store(tmp_path / "store", series, **options)


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan])
def test_a_pixel_size_must_be_a_positive_number(wrong):
    refuse_bad_pixel_sizes(pd.Series([1.0, 2.0]).to_numpy(), "a.star")
    with pytest.raises(InputError, match="row 2: pixel size"):
        refuse_bad_pixel_sizes(np.array([1.0, wrong]), "a.star")


@pytest.mark.parametrize("rescale", [None, 16.0])
def test_half_precision_images_with_a_large_mean_do_not_overflow(series, tmp_path, rescale):
    """The sum over a box of values near 6e4 is far beyond float16."""
    images = series.images
    for stack in images["stack"].unique():
        depth = int((images["stack"] == stack).sum())
        noise = np.random.default_rng(5).normal(6e4, 200.0, (depth, BOX, BOX))
        write_stack(Path(stack), noise.astype(np.float16))
    store = write_store(tmp_path / "store", series, rescale=rescale, window=False)
    values = torch.view_as_real(store.half_planes(np.arange(len(images))))
    assert torch.isfinite(values).all()
    assert values.square().mean() == pytest.approx(1.0, rel=0.2)
