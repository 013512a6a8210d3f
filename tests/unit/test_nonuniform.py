"""Fourier sums at any frequencies against the sums over voxels, one by one."""

import numpy as np
import pytest
import torch

from tomohet.physics.geometry import random_rotations
from tomohet.physics.lattice import half_plane, images_to_half_planes
from tomohet.physics.nonuniform import fourier_sums
from tomohet.physics.slicing import transform
from tomohet.simulation.projection import MapSlices


def direct_sums(volumes, frequency):
    """(c, D, D, D) and (m, 3) -> (m, c), origin at voxel D//2."""
    axis = np.arange(volumes.shape[-1]) - volumes.shape[-1] // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    phase = frequency @ np.stack([x.ravel(), y.ravel(), z.ravel()])
    return np.exp(-2j * np.pi * phase) @ volumes.reshape(len(volumes), -1).T


@pytest.mark.parametrize("box", [8, 10, 16])
def test_sums_are_those_over_all_voxels(box):
    rng = np.random.default_rng(box)
    volumes = rng.normal(size=(3, box, box, box))
    frequency = rng.uniform(-0.5, 0.5, (4, 25, 3)) / np.sqrt(3)
    found = fourier_sums(torch.from_numpy(volumes).float(), torch.from_numpy(frequency)).numpy()
    expected = direct_sums(volumes, frequency.reshape(-1, 3)).reshape(4, 25, 3)
    assert found.dtype == np.complex64
    assert np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected)


@pytest.mark.parametrize("canvas", [1, 2])
def test_slices_are_the_transforms_of_projections(canvas):
    rng = np.random.default_rng(0)
    volumes = rng.normal(size=(2, 12, 12, 12)).astype(np.float32)
    rotation = random_rotations(5, rng)
    hp = half_plane(12 * canvas)
    found = MapSlices(torch.from_numpy(volumes)).at(hp.frequency, torch.from_numpy(rotation).float()).numpy()
    for slices, matrix in zip(found, rotation, strict=True):
        expected = direct_sums(volumes, hp.frequency.double().numpy() @ matrix[:2])
        assert np.linalg.norm(slices - expected) < 1e-4 * np.linalg.norm(expected)


def test_a_slice_does_not_depend_on_the_others_of_its_batch():
    rng = np.random.default_rng(1)
    maps = MapSlices(torch.from_numpy(rng.normal(size=(2, 16, 16, 16))).float())
    rotation = torch.from_numpy(random_rotations(40, rng)).float()
    frequency = half_plane(16).frequency
    together = maps.at(frequency, rotation)
    alone = torch.cat([maps.at(frequency, some) for some in rotation.split(7)])
    assert torch.equal(together, alone)


def test_the_slice_along_z_is_the_transform_of_the_sum_along_z():
    volume = torch.from_numpy(np.random.default_rng(2).normal(size=(1, 14, 14, 14))).float()
    found = MapSlices(volume).at(half_plane(14).frequency, torch.eye(3)[None])[0, :, 0]
    expected = images_to_half_planes(volume.sum(dim=1))[0]
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize("canvas", [1, 2])
def test_slices_of_a_gpu_are_those_of_the_cpu_but_for_the_interpolation(canvas):
    axis = np.arange(24) - 12
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    blob = np.exp(-((x - 3) ** 2 + (y + 2) ** 2 + (z - 1) ** 2) / 12) + np.exp(-(x**2 + y**2 + z**2) / 40)
    volume = torch.from_numpy(blob[None]).float()
    exact, interpolated = MapSlices(volume), MapSlices(volume)
    # As on a GPU, where the maps are replaced by their transform.
    interpolated.table = transform(volume)
    rotation = torch.from_numpy(random_rotations(6, np.random.default_rng(3))).float()
    frequency = half_plane(24 * canvas).frequency
    one, other = exact.at(frequency, rotation), interpolated.at(frequency, rotation)
    assert 0 < float((one - other).norm() / one.norm()) < 0.02
