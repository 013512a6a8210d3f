"""Fourier shells: one rule for all who sort points by |k|."""

import numpy as np
import torch

from tomohet.physics.fourier import half_plane
from tomohet.physics.shells import at_points, full_shell_sums, shell_grid, shell_means, shell_of, shell_sums


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


def test_sums_and_means_leave_out_what_lies_beyond():
    shells = torch.tensor([[0, 1, 1], [2, 3, 1]])
    values = torch.tensor([[[1.0, 2, 4], [8, 16, 32]], [[1.0, 1, 1], [1, 1, 1]]])
    assert shell_sums(values, shells, 3).tolist() == [[1, 38, 8], [1, 3, 1]]
    torch.testing.assert_close(shell_means(values, shells, 3)[0], torch.tensor([1, 38 / 3, 8]))


def test_values_at_points_are_those_of_their_shells():
    curve, shells = torch.tensor([[5.0, 6.0], [7.0, 8.0]]), torch.tensor([0, 1, 2])
    assert at_points(curve, shells).tolist() == [[5, 6, 6], [7, 8, 8]]
    assert at_points(curve, shells, beyond=0.0).tolist() == [[5, 6, 0], [7, 8, 0]]
