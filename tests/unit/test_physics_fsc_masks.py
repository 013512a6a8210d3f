"""Masks, shell correlations and resolutions: properties and known answers."""

import numpy as np
import pytest
import torch

from tomohet.physics.fourier import transform3
from tomohet.physics.fourier_grids import lowpass
from tomohet.physics.fsc import (
    corrected_fsc,
    correlation,
    fsc,
    phase_randomise,
    resolution_at,
    shell_frequencies,
)
from tomohet.physics.masks import distance_from_centre, extend, soft_mask, sphere_mask, tight_mask
from tomohet.physics.shells import shell_grid


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def ball_map(box, radius):
    return (distance_from_centre(box) <= radius).astype(np.float32)


def test_fsc_of_a_map_with_itself_is_one_whatever_its_scale(rng):
    volume = rng.normal(size=(16,) * 3)
    assert np.allclose(fsc(volume, 3 * volume), 1)
    assert np.allclose(fsc(volume, -2 * volume), -1)


def test_fsc_of_independent_noise_is_near_zero(rng):
    curve = fsc(rng.normal(size=(32,) * 3), rng.normal(size=(32,) * 3))
    assert np.abs(curve[4:]).max() < 0.15


def test_fsc_of_signal_and_noise_follows_the_signal_to_noise_ratio(rng):
    signal, one, two = rng.normal(size=(3, 32, 32, 32))
    for ssnr in (0.25, 1.0, 4.0):
        curve = fsc(np.sqrt(ssnr) * signal + one, np.sqrt(ssnr) * signal + two)
        assert curve[8:].mean() == pytest.approx(ssnr / (1 + ssnr), abs=0.02)


def test_fsc_of_many_maps_at_once(rng):
    maps = rng.normal(size=(3, 12, 12, 12)).astype(np.float32)
    together = fsc(maps, maps[0])
    assert together.shape == (3, 7)
    for i in range(3):
        assert np.allclose(together[i], fsc(maps[i], maps[0]))
    assert np.allclose(fsc(torch.tensor(maps), torch.tensor(maps[0])), together)


def test_empty_shells_and_maps_give_zero():
    assert (fsc(np.zeros((8,) * 3), np.ones((8,) * 3)) == 0).all()
    assert correlation(np.zeros((8,) * 3), np.ones((8,) * 3)) == 0


def test_arguments_are_left_as_they_are(rng):
    one, two = rng.normal(size=(2, 8, 8, 8)).astype(np.float32)
    before = one.copy(), two.copy()
    fsc(one, two, sphere_mask(8))
    correlation(one, two, sphere_mask(8))
    assert np.array_equal(one, before[0])
    assert np.array_equal(two, before[1])


def test_correlation_is_pearsons(rng):
    one, two = rng.normal(size=(2, 8, 8, 8))
    two = one + two + 5
    assert correlation(one, two) == pytest.approx(np.corrcoef(one.ravel(), two.ravel())[0, 1])


def test_resolution_is_interpolated_between_shells():
    frequency = np.arange(6) / 100.0
    curve = np.array([1, 1, 0.9, 0.7, 0.3, 0.1])
    assert resolution_at(curve, frequency, 0.5) == pytest.approx(1 / 0.035)
    assert resolution_at(curve, frequency, 0.05) == pytest.approx(1 / 0.05)  # never: the last shell
    assert resolution_at(np.array([1, 0.2, 0.1]), frequency[:3], 0.5) == pytest.approx(100)
    assert resolution_at(np.array([1, 1, np.nan]), frequency[:3], 0.5) == pytest.approx(100)
    # From 0.9 down to 0.3 a threshold of 0.8 is passed after a sixth of the way.
    assert resolution_at(np.array([1, 0.9, 0.3]), frequency[:3], 0.8) == pytest.approx(1 / (0.01 + 0.01 / 6))
    recovering = np.array([1, 0.9, 0.1, 0.9, 0.9, 0.9])
    assert resolution_at(recovering, frequency, 0.5) == pytest.approx(1 / 0.015)


def test_phase_randomisation_keeps_amplitudes_and_low_shells(rng):
    volume = rng.normal(size=(16,) * 3).astype(np.float32)
    randomised = phase_randomise(volume, 4, rng)
    before, after = transform3(torch.tensor(volume)), transform3(torch.tensor(randomised))
    shell = shell_grid(16)
    assert torch.allclose(after[shell < 4], before[shell < 4], atol=1e-2)
    assert torch.allclose(after.abs(), before.abs(), atol=1e-2)
    assert np.abs(fsc(volume, randomised)[5:]).max() < 0.35


def test_correction_removes_what_the_mask_brings(rng):
    """A tight mask carries low-resolution signal into shells of pure noise; the correction takes it out."""
    box = 32
    mask = sphere_mask(box, 6, edge_px=2)
    signal = lowpass(10 * ball_map(box, 4), 1.0, 6.0)
    tables = []
    for _ in range(8):
        half1, half2 = (signal + rng.normal(size=(box,) * 3).astype(np.float32) for _ in range(2))
        tables.append(corrected_fsc(half1, half2, mask, rng, pixel_size_A=2.0))
    table = tables[0]
    assert list(table.columns) == [
        "shell", "frequency_1_A", "resolution_A", "unmasked", "masked", "randomised", "corrected",
    ]  # fmt: skip
    assert np.allclose(table["frequency_1_A"], shell_frequencies(box, 2.0))
    mean = sum(tables) / len(tables)
    assert (mean.loc[1:3, "corrected"] > 0.9).all()
    assert mean.loc[8, "unmasked"] < 0.1 < 0.25 < mean.loc[8, "masked"]
    assert np.abs(mean.loc[8:, "corrected"]).max() < 0.15
    assert (table["corrected"] <= table["masked"] + 1e-9).all()
    assert (table.loc[0, ["unmasked", "masked", "randomised", "corrected"]] == 1).all()


def test_correction_begins_two_shells_after_the_phases_are_randomised(rng):
    """(masked - randomised) / (1 - randomised) from there on, and the masked curve as it is before."""
    box = 24
    signal = lowpass(30 * ball_map(box, 5), 1.0, 5.0)
    half1, half2 = (signal + rng.normal(size=(box,) * 3).astype(np.float32) for _ in range(2))
    table = corrected_fsc(half1, half2, sphere_mask(box, 6, edge_px=2), rng, pixel_size_A=2.0)
    masked, randomised, corrected = (table[name].to_numpy() for name in ("masked", "randomised", "corrected"))
    first = next(shell for shell in range(1, 13) if table.unmasked[shell] < 0.8)
    assert 2 <= first <= 8
    assert np.array_equal(randomised[:first], masked[:first])
    assert randomised[first] != masked[first]  # its phases are random already
    assert np.array_equal(corrected[: first + 2], masked[: first + 2])
    after = slice(first + 2, None)
    assert randomised[first : first + 4].min() > 0.01  # so that the correction is one
    expected = [(m - r) / (1 - r) for m, r in zip(masked[after], randomised[after], strict=True)]
    assert np.allclose(corrected[after], expected)


def test_sphere_ends_at_the_faces():
    mask = sphere_mask(20, edge_px=4)
    assert mask[0].max() < 1e-6  # the face through voxel 0 is D/2 from the centre
    assert mask[10, 10, 10] == 1
    assert mask[10, 10, 4] == 1
    assert mask[10, 10, 2] == pytest.approx(0.5)


def test_extend_is_a_distance_with_a_cosine_edge():
    core = np.zeros((15,) * 3, bool)
    core[7, 7, 7] = True
    grown = extend(core, dilate_px=3, edge_px=2)
    assert grown[7, 7, 10] == 1
    assert grown[7, 7, 11] == pytest.approx(0.5)
    assert grown[7, 7, 12] == pytest.approx(0, abs=1e-7)
    assert extend(np.zeros((4,) * 3, bool), 1, 1).max() == 0


def test_soft_mask_options_change_it(rng):
    volume = rng.normal(size=(40,) * 3)
    plain = soft_mask(volume, volume)
    assert soft_mask(volume, volume, percentile=99.9).sum() < plain.sum()
    assert soft_mask(volume, volume, dilate_px=4).sum() > plain.sum()
    assert soft_mask(volume, volume, edge_px=5).sum() > plain.sum()
    assert set(np.unique(soft_mask(volume, volume, edge_px=0))) == {0, 1}
    hard = soft_mask(volume, volume, dilate_px=0, edge_px=0)
    assert hard.mean() == pytest.approx(0.01, abs=1e-3)


def test_soft_mask_ends_with_a_quarter_of_a_cosine():
    volume = np.zeros((20,) * 3)
    volume[10, 10, 10] = 1
    mask = soft_mask(volume, volume, percentile=99.99, dilate_px=1, edge_px=4)
    expected = [1, 1, *np.cos(np.pi / 2 * np.arange(1, 5) / 4), 0]
    np.testing.assert_allclose(mask[10, 10, 10:17], expected, atol=1e-6)


def test_tight_mask_leaves_out_pieces_of_less_than_a_tenth():
    for radius, kept in ((4, 0), (6, 1)):
        piece = np.roll(ball_map(64, radius), 20, axis=2)
        mask = tight_mask(ball_map(64, 10) + piece, 1.0, lowpass_A=4.0, dilate_A=1.0, edge_A=2.0)
        assert mask[32, 32, 32] == 1 and mask[32, 32, 52] == kept


def test_lengths_of_a_tight_mask_are_in_angstroms():
    """By default the low-pass filter is 6 voxels, and dilation and edge a 16th and a 10th of the box."""
    density = ball_map(40, 8)
    mask = tight_mask(density, 4.0)
    assert np.array_equal(mask, tight_mask(density, 4.0, lowpass_A=24, dilate_A=10, edge_A=16))
    assert np.array_equal(mask, tight_mask(density, 1.0, lowpass_A=6, dilate_A=2.5, edge_A=4))
    assert np.array_equal(tight_mask(density, 1.0), tight_mask(density, 1.0, 15, 2.5, 4))


def test_tight_mask_holds_the_particle_and_leaves_specks_out(rng):
    box = 48
    particle = ball_map(box, 10)
    speck = np.roll(ball_map(box, 1.5), 16, axis=2)
    noisy = particle + speck + 0.5 * rng.normal(size=(box,) * 3).astype(np.float32)
    mask = tight_mask(noisy, 4.0)
    assert mask[particle > 0].min() == 1
    assert mask[24, 24, 24 + 16 + 3] == 0
    assert mask.mean() < 0.35
    assert mask[distance_from_centre(box) >= box / 2].max() < 1e-6


def test_tight_mask_without_density_is_the_sphere():
    assert np.array_equal(tight_mask(np.zeros((16,) * 3, np.float32), 4.0), sphere_mask(16, edge_px=3))
