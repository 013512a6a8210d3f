"""Maps from scattered slices: against ridge regression with the Fourier sums of every voxel written out."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tomohet.physics.lattice import half_plane
from tomohet.physics.masks import sphere_mask
from tomohet.physics.slicing import corners
from tomohet.reconstruction.prior import SpectralPrior
from tomohet.reconstruction.solve import NormalEquations

BOX, IMAGES, MAPS = 8, 8, 2
VOXELS = BOX**3


@pytest.fixture(scope="module")
def images():
    """Corners, transfer functions, data (IMAGES, n), and the slices (IMAGES n, VOXELS) of every voxel."""
    draw = torch.Generator().manual_seed(0)
    k = half_plane(BOX).k
    rotation = torch.linalg.qr(torch.randn(IMAGES, 3, 3, generator=draw))[0]
    index, weight = corners(k, rotation, BOX)
    points = torch.nn.functional.pad(k.float(), (0, 1)) @ rotation
    z, y, x = torch.meshgrid(*3 * [torch.arange(BOX) - BOX // 2], indexing="ij")
    place = torch.stack([x, y, z], dim=-1).reshape(VOXELS, 3).float()
    slices = torch.exp(-2j * torch.pi / BOX * (points @ place.T)).flatten(0, 1).numpy()
    transfer = 2 * torch.rand(IMAGES, len(k), generator=draw) - 1
    data = torch.randn(IMAGES, len(k), dtype=torch.complex64, generator=draw)
    return SimpleNamespace(index=index, corner_weight=weight), transfer, data, slices


@pytest.mark.parametrize("coupled", [True, False])
def test_maps_are_ridge_regression(images, coupled):
    """Image i shows z_i1 U_1 + z_i2 U_2 if maps are coupled; else each map is fitted with weights |z_is|.

    Real and imaginary parts of an image's data have variance 1/2, white variables variance 1.
    """
    chunk, transfer, data, slices = images
    draw = torch.Generator().manual_seed(1)
    z = torch.rand(IMAGES, 1, MAPS, generator=draw) + 0.2
    mask = torch.as_tensor(sphere_mask(BOX, 1.5, edge_px=1.0), dtype=torch.float32)
    power = torch.tensor([[20.0, 9, 4, 1, 1], [5, 8, 7, 6, 3]])
    prior = SpectralPrior(mask, power)
    equations = NormalEquations(BOX, MAPS, torch.device("cpu"), coupled=coupled)
    first, second = equations.pairs
    between = z[..., first] * z[..., second] if coupled else z
    equations.add(chunk, (transfer * data)[..., None] * z, transfer.square()[..., None] * between)
    found = equations.solve(prior, 100).reshape(MAPS, VOXELS).numpy()

    white = torch.eye(VOXELS).reshape(VOXELS, 1, BOX, BOX, BOX).expand(-1, MAPS, -1, -1, -1)
    colour = prior.colour(white).reshape(VOXELS, MAPS, VOXELS).permute(1, 2, 0).numpy()
    share = (z if coupled else z.sqrt()).expand(-1, transfer.shape[1], -1).reshape(-1, MAPS).numpy()
    seen = transfer.reshape(-1, 1).numpy() * slices
    designs = [share[:, [s]] * (seen @ colour[s]) for s in range(MAPS)]
    if coupled:
        fitted = _ridge(np.concatenate(designs, axis=1), data.flatten().numpy()).reshape(MAPS, VOXELS)
    else:
        weighted = [share[:, s] * data.flatten().numpy() for s in range(MAPS)]
        fitted = np.stack([_ridge(design, own) for design, own in zip(designs, weighted, strict=True)])
    expected = np.einsum("sij,sj->si", colour, fitted)
    # Trilinear interpolation of slices on the padded grid costs 1 %.
    assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)


def _ridge(design: np.ndarray, data: np.ndarray) -> np.ndarray:
    """Return the mean of white variables given data = design @ variables + noise of variance 1."""
    scaled = np.sqrt(2) * np.concatenate([design.real, design.imag]).astype(np.float64)
    target = np.sqrt(2) * np.concatenate([data.real, data.imag])
    padded = np.concatenate([scaled, np.eye(design.shape[1])])
    return np.linalg.lstsq(padded, np.concatenate([target, np.zeros(design.shape[1])]), rcond=None)[0]
