"""Fourier shells: the two rules, and who follows which."""

import numpy as np
import torch
from blob_store import blob_store

from tomohet.physics.fourier import transform3
from tomohet.physics.lattice import half_plane
from tomohet.physics.shells import (
    at_points,
    between_shells,
    full_shell_sums,
    nearest_grid,
    shell_grid,
    shell_means,
    shell_of,
    shell_power,
    shell_sums,
)
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.prior import SpectralPrior, shell_precision


def radii(box):
    """|k| of every point of the full transform (D, D, D)."""
    axis = np.fft.fftfreq(box, 1 / box)
    return np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)


def test_sums_over_shells_count_the_full_transform():
    counts = full_shell_sums(torch.ones(12, 12, 7), shell_grid(12), 7)
    radius = radii(12)
    expected = [((radius > s - 1) & (radius <= s)).sum() for s in range(7)]
    assert counts.tolist() == expected


def test_a_shell_ends_at_its_number():
    radius = torch.tensor([0.0, 0.5, 1.0, 1.001, 2.0, 2.5, 29**0.5])
    assert shell_of(radius).tolist() == [0, 1, 1, 2, 2, 3, 6]


def test_half_planes_and_volumes_have_the_same_shells():
    plane = half_plane(16)
    kx, ky = plane.k.long().unbind(-1)
    assert torch.equal(shell_grid(16)[0, ky % 16, kx], plane.shell)


def test_a_finer_lattice_has_the_shells_of_the_box():
    assert torch.equal(shell_grid(8, finer=2)[::2, ::2, ::2], shell_grid(8))
    assert shell_grid(8, finer=2)[0, 0].tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_nearest_shells_are_those_of_the_rounded_radius():
    axis = np.fft.fftfreq(12, 1 / 12)
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + np.arange(7) ** 2)
    assert np.array_equal(nearest_grid(12), radius.round())
    assert nearest_grid(8, finer=2)[0, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4]


def test_what_a_prior_has_in_a_shell_is_in_that_shell_of_images_and_spectra():
    power = torch.zeros(9)
    power[4] = 1.0
    white = torch.randn(16, 16, 16, generator=torch.Generator().manual_seed(0))
    volume = SpectralPrior(torch.ones(16, 16, 16), power).colour(white)
    observations = Observations(blob_store(2, snr=1.0), np.arange(2))
    seen = observations.half_plane.gather(transform3(volume)[0]).abs()
    assert torch.equal(seen > 1e-3, observations.spectral_shell == 4)
    assert shell_power(volume).argmax() == 4
    shell = np.rint(radii(32) / 2 - 1e-6) == 4
    precision = shell_precision(torch.as_tensor(shell, dtype=torch.float32).reshape(-1, 1), 16, 9)
    assert (precision[0] > 0).tolist() == [False] * 4 + [True] + [False] * 4


def test_sums_and_means_leave_out_what_lies_beyond():
    shells = torch.tensor([[0, 1, 1], [2, 3, 1]])
    values = torch.tensor([[[1.0, 2, 4], [8, 16, 32]], [[1.0, 1, 1], [1, 1, 1]]])
    assert shell_sums(values, shells, 3).tolist() == [[1, 38, 8], [1, 3, 1]]
    torch.testing.assert_close(shell_means(values, shells, 3)[0], torch.tensor([1, 38 / 3, 8]))


def test_values_at_points_are_those_of_their_shells():
    curve, shells = torch.tensor([[5.0, 6.0], [7.0, 8.0]]), torch.tensor([0, 1, 2])
    assert at_points(curve, shells).tolist() == [[5, 6, 6], [7, 8, 8]]
    assert at_points(curve, shells, beyond=0.0).tolist() == [[5, 6, 0], [7, 8, 0]]


def test_curves_are_linear_between_the_middles_of_shells():
    found = between_shells(np.array([1, 0.8, 0.4]), torch.tensor([0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 2.1]))
    torch.testing.assert_close(found, torch.tensor([1, 0.9, 0.8, 0.6, 0.4, 0.4, 0]))
