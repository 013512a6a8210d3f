"""Slices through padded volumes: against the direct Fourier sum, adjointness, the Toeplitz operator."""

import math

import numpy as np
import pytest
import torch

from tomohet.physics import slicing
from tomohet.physics.geometry import random_rotations
from tomohet.physics.lattice import half_plane

BOX = 16


@pytest.fixture(scope="module")
def setting():
    generator = torch.Generator().manual_seed(0)
    axis = torch.arange(BOX) - BOX // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    ball = torch.exp(-((x**2 + y**2 + z**2) / 3.5**2))
    volumes = torch.randn(2, BOX, BOX, BOX, generator=generator) * ball
    rotation = torch.as_tensor(random_rotations(5, np.random.default_rng(0)), dtype=torch.float32)
    k = half_plane(BOX).k
    points = k.float() @ rotation[:, :2, :]
    position = torch.stack([x, y, z], -1).reshape(-1, 3).float()
    waves = torch.exp(-2j * math.pi * (points.reshape(-1, 3) @ position.T) / BOX)
    index, weight = slicing.corners(k, rotation, BOX)
    return volumes, ball, waves, index, weight


def test_slices_equal_the_direct_fourier_sum(setting):
    volumes, _, waves, index, weight = setting
    direct = (waves @ volumes.reshape(2, -1).T.to(torch.complex64)).reshape(5, -1, 2)
    found = slicing.gather(slicing.transform(volumes), index, weight)
    assert (found - direct).norm() / direct.norm() < 0.03


def test_scatter_is_the_adjoint_of_gather(setting):
    volumes, _, _, index, weight = setting
    table = slicing.transform(volumes)
    slices = slicing.gather(table, index, weight)
    values = torch.randn(slices.shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    back = torch.zeros_like(table)
    slicing.scatter(back, index, weight, values)
    left = (slices.conj() * values).sum().real
    right = (slicing.transform_adjoint(back, BOX) * volumes).sum()
    assert right.item() == pytest.approx(left.item(), rel=1e-4)


@pytest.mark.parametrize("channels", [1, 3, 9])
def test_scatter_of_many_channels_equals_scatter_of_each(setting, channels):
    _, _, _, index, weight = setting
    values = torch.rand(*index.shape[:2], channels, generator=torch.Generator().manual_seed(2))
    together = torch.zeros((2 * BOX) ** 3, channels)
    slicing.scatter(together, index, weight, values)
    for channel in range(channels):
        alone = torch.zeros((2 * BOX) ** 3, 1)
        slicing.scatter(alone, index, weight, values[..., channel : channel + 1])
        torch.testing.assert_close(together[:, channel : channel + 1], alone, rtol=1e-4, atol=1e-5)


def test_toeplitz_operator_equals_gathering_and_scattering_in_the_mask(setting):
    volumes, ball, waves, index, weight = setting
    weights = torch.rand(*index.shape[:2], 1, generator=torch.Generator().manual_seed(3))
    table = torch.zeros((2 * BOX) ** 3, 1)
    slicing.scatter(table, index, weight, weights)
    found = slicing.toeplitz_apply(slicing.toeplitz_kernel(table, BOX), volumes)
    spectrum = waves @ volumes.reshape(2, -1).T.to(torch.complex64)
    direct = (waves.conj().T @ (weights.reshape(-1, 1) * spectrum)).real.T.reshape(volumes.shape)
    inside = ball > 0.05
    assert ((found - direct) * inside).norm() / (direct * inside).norm() < 0.05
