"""The spectral prior of maps, and how the equations under it are solved."""

import numpy as np
import pytest
import torch
from blob_store import blob_store

from tomohet.physics.shells import nearest_grid, shell_power
from tomohet.reconstruction import mean_map as mean_maps
from tomohet.reconstruction.mean_map import mean_map
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.prior import (
    SpectralPrior,
    conjugate_gradients,
    preconditioner,
)


@pytest.fixture(scope="module")
def observations():
    """Of tilt images with little noise: they make the equations hard to solve."""
    return Observations(blob_store(60, snr=3.0), np.arange(60), max_frequency=0.4)


def test_white_maps_have_the_prior_power():
    power = torch.linspace(9, 1, 9)
    prior = SpectralPrior(torch.ones(16, 16, 16), power)
    white = torch.randn(64, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(shell_power(prior.colour(white)).mean(0), power, rtol=0.15, atol=0)
    other = torch.randn(16, 16, 16, generator=torch.Generator().manual_seed(1))
    left, right = (prior.colour(white[0]) * other).sum(), (white[0] * prior.colour_adjoint(other)).sum()
    assert left.item() == pytest.approx(right.item(), rel=1e-4)


def test_conjugate_gradients_solve():
    root = torch.randn(12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrix = root @ root.T + torch.eye(12)
    right = torch.arange(12, dtype=torch.float64)
    found = conjugate_gradients(lambda v: matrix @ v, right, torch.zeros_like(right), 60)
    torch.testing.assert_close(matrix @ found, right, rtol=1e-5, atol=1e-5)


def test_the_preconditioner_is_the_inverse_where_shells_are_even():
    draw = torch.Generator().manual_seed(0)
    information = 100 * torch.rand(2, 7, generator=draw)
    white = torch.randn(2, 12, 12, 12, generator=draw)
    shells = nearest_grid(12)
    curvature = torch.where(shells < 7, 1 + information[:, shells.clamp(max=6)], 1)
    spectra = torch.fft.rfftn(white, dim=(1, 2, 3)) * curvature
    applied = torch.fft.irfftn(spectra, s=(12, 12, 12), dim=(1, 2, 3))
    torch.testing.assert_close(preconditioner(information, 12)(applied), white, rtol=1e-4, atol=1e-4)


def test_preconditioned_steps_lead_to_the_same_solution_sooner():
    scale = torch.logspace(0, 4, 40, dtype=torch.float64)
    root = torch.randn(40, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrix = torch.diag(scale) + 0.02 * root @ root.T
    right = matrix @ torch.ones(40, dtype=torch.float64)

    def error(iterations, *more):
        found = conjugate_gradients(lambda v: matrix @ v, right, torch.zeros_like(right), iterations, *more)
        return (found - 1).norm().item()

    assert error(10, lambda residual: residual / scale) < 1e-3 * error(10)
    assert error(40, lambda residual: residual / scale) < 1e-4


def test_the_mean_map_is_solved(observations, monkeypatch):
    found = mean_map(observations)
    monkeypatch.setattr(mean_maps, "CG_ITERATIONS", 200)
    solved = mean_map(observations)
    assert (found.volume - solved.volume).norm() < 0.01 * solved.volume.norm()


def test_the_mean_map_does_not_hang_on_how_sums_are_rounded(observations):
    """Another order of particles rounds sums otherwise, as another processor does."""
    backwards = Observations(observations.store, observations.everyone[::-1].copy(), max_frequency=0.4)
    found, again = mean_map(observations), mean_map(backwards)
    torch.testing.assert_close(
        again.volume, found.volume, rtol=0, atol=1e-5 * found.volume.abs().max().item()
    )
