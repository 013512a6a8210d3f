"""Local resolution and orientation coverage of maps whose quality is known."""

import numpy as np
import pytest
import torch

from tomohet.physics.fourier_grids import lowpass
from tomohet.physics.fsc import fsc
from tomohet.physics.geometry import random_rotations
from tomohet.reconstruction.local_resolution import local_resolution
from tomohet.reconstruction.orientation_coverage import coverage, directional_fsc, hemisphere, sampling

BOX, PIXEL_SIZE_A = 48, 5.0


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


def white(rng) -> np.ndarray:
    return rng.normal(size=(BOX,) * 3).astype(np.float32)


def test_the_half_of_the_box_with_coarse_detail_has_the_lower_local_resolution(rng):
    common = white(rng)
    coarse = lowpass(common, PIXEL_SIZE_A, 40.0)
    fine_side = np.arange(BOX) >= BOX // 2  # along x
    signal = np.where(fine_side, lowpass(common, PIXEL_SIZE_A, 14.0), coarse)
    half1, half2 = (signal + 0.3 * white(rng) for _ in range(2))
    found = local_resolution(half1, half2, np.ones(signal.shape), PIXEL_SIZE_A, 14.0)
    inner = slice(8, 32)
    coarse_A, fine_A = (np.median(found[inner, inner, part]) for part in (slice(11, 14), slice(35, 38)))
    assert fine_A == pytest.approx(14, rel=0.15) and coarse_A > 1.7 * fine_A


def test_equal_halves_reach_the_last_band_and_nothing_outside_the_mask_is_said(rng):
    volume, mask = white(rng), np.zeros((BOX,) * 3)
    mask[10:38, 10:38, 10:38] = 1
    found = local_resolution(volume, volume, mask, PIXEL_SIZE_A, 20.0)
    assert (found[mask == 0] == 0).all()
    np.testing.assert_allclose(found[mask == 1], 20.0 / 1.4, rtol=1e-4)
    unlike = local_resolution(white(rng), white(rng), mask, PIXEL_SIZE_A, 20.0)
    assert np.median(unlike[mask == 1]) > 60


def test_a_narrow_ring_of_unlike_frequencies_ends_the_local_resolution(rng):
    """Half maps that agree but between 9.2 and 10.8 Fourier pixels: bands are narrow enough to show it."""
    axis = torch.fft.fftfreq(32, 1 / 32)
    radius = torch.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis[:17].abs() ** 2)
    one, two = (torch.fft.rfftn(torch.as_tensor(rng.normal(size=(32,) * 3))) for _ in range(2))
    other = torch.where((radius - 10).abs() < 0.8, two, one)
    halves = [torch.fft.irfftn(part, s=(32,) * 3).numpy() for part in (one, other)]
    found = 160 / local_resolution(*halves, np.ones((32,) * 3), 5.0, 14.0)
    assert np.quantile(found, 0.1) > 9 and np.quantile(found, 0.9) < 10


def test_empty_half_maps_have_no_detail():
    nothing = np.zeros((16,) * 3, np.float32)
    assert (local_resolution(nothing, nothing, nothing + 1, 5.0, 20.0) == 80).all()


def test_directions_cover_half_a_sphere_evenly():
    directions = hemisphere(100)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    assert (directions[:, 2] > 0).all()
    pairs = np.abs(directions @ directions.T) - 2 * np.eye(100)
    assert np.degrees(np.arccos(pairs.max(1).clip(-1, 1))).min() > 7  # from the nearest; 14.6 for equal areas


def test_sampling_of_uniform_and_of_equal_orientations():
    rotations = random_rotations(20_000, np.random.default_rng(1))
    np.testing.assert_allclose(sampling(rotations[:, 2], hemisphere(100)), 1, atol=0.12)
    # All beams along z: slices contain the plane z = 0 and nothing else.
    found = sampling(np.tile([0.0, 0, 1], (50, 1)), np.array([[0, 0, 1.0], [1, 0, 0], [0, 0.6, 0.8]]))
    assert found[0] == found[2] == 0 and found[1] == pytest.approx(1 / np.sin(np.radians(10)))


def test_noise_along_one_axis_lowers_the_fsc_of_that_direction_alone(rng):
    volume = white(rng)
    spectrum = torch.fft.rfftn(torch.as_tensor(volume))
    axis = torch.fft.fftfreq(BOX)
    ky, kx = axis[:, None], torch.fft.rfftfreq(BOX)
    radius = torch.sqrt(axis[:, None, None] ** 2 + ky**2 + kx**2).clamp_min(1e-9)
    near_z = axis.abs()[:, None, None] / radius > np.cos(np.radians(30))
    other = torch.where(near_z, torch.fft.rfftn(torch.as_tensor(white(rng))), spectrum)
    other = torch.fft.irfftn(other, s=volume.shape).numpy()
    directions = np.array([[0, 0, 1.0], [1, 0, 0], [0, 1, 0]])
    found = directional_fsc(volume, other, directions)[:, 6:]
    assert np.abs(found[0]).max() < 0.5 and found[0].mean() < 0.1
    np.testing.assert_allclose(found[1:], 1, atol=1e-3)


def test_the_fsc_in_a_cone_is_that_of_all_its_points_and_their_mates(rng):
    """Of the whole transform: k and -k, wherever the half transform holds both or one of them."""
    maps = rng.normal(size=(2, 16, 16, 16))
    one, two = np.fft.fftn(maps, axes=(1, 2, 3))
    kz, ky, kx = np.meshgrid(*3 * [np.fft.fftfreq(16, 1 / 16)], indexing="ij")
    k = np.stack([kx, ky, kz], axis=-1)
    length = np.linalg.norm(k, axis=-1)
    directions = np.array([[0, 0, 1.0], [0, 0.6, 0.8]])  # in the plane kx = 0, which holds both
    found = directional_fsc(*maps, directions)
    for direction, curve in zip(directions, found, strict=True):
        for shell in (4, 6):
            inside = np.abs(k @ direction) >= np.cos(np.radians(20)) * length
            inside &= np.ceil(length - 1e-4) == shell
            a, b = one[inside], two[inside]
            expected = (a * b.conj()).real.sum() / np.sqrt((abs(a) ** 2).sum() * (abs(b) ** 2).sum())
            assert curve[shell] == pytest.approx(expected, abs=1e-5)


def test_cones_of_isotropic_maps_have_the_fsc_of_whole_shells(rng):
    common = white(rng)
    maps = [common + white(rng) for _ in range(2)]
    found = directional_fsc(*maps, hemisphere(60))
    np.testing.assert_allclose(found.mean(0)[5:], fsc(*maps)[5:], atol=0.04)


def test_coverage_in_numbers(rng):
    signal = lowpass(white(rng), PIXEL_SIZE_A, 25.0)
    halves = [signal + 0.1 * signal.std() * white(rng) for _ in range(2)]
    beams = random_rotations(3000, np.random.default_rng(2))[:, 2]
    numbers = coverage(beams, *halves, np.ones(signal.shape, np.float32), PIXEL_SIZE_A).numbers()
    assert numbers["resolution_best_A"] <= numbers["resolution_median_A"] <= numbers["resolution_worst_A"]
    assert numbers["resolution_median_A"] == pytest.approx(21.5, rel=0.1)
    assert 0.7 < numbers["sampling_least"] < numbers["sampling_median"] < 1.1
