"""Fit the linear latent model: mean map, spectral start, EM."""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tomohet.linear.em import Latents, expand, expectation, first_equations, prior_scales
from tomohet.linear.spectral import kernel_spectrum
from tomohet.particles.store import Store
from tomohet.progress import track
from tomohet.reconstruction.mean_map import MeanMap, mean_map
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.particle_maps import particle_maps
from tomohet.reconstruction.prior import SpectralPrior

log = logging.getLogger(__name__)

KERNEL_BOX = 32
N_EIGENVALUES = 20
FIRST_PRIOR_SCALE = 0.3


@dataclass(frozen=True)
class LinearModel:
    """mean: the mean map and its noise; basis (K, D, D, D); latents: posteriors; eigenvalues (n,) of the
    kernel, largest first; prior_scale (K,) power of each basis map relative to the mean map's.
    """

    mean: MeanMap
    basis: Tensor
    latents: Latents
    eigenvalues: np.ndarray
    prior_scale: Tensor


def fit_linear_model(
    store: Store,
    particles: np.ndarray,
    *,
    zdim: int,
    iterations: int = 5,
    max_frequency: float = 0.25,
    device: torch.device | str = "cpu",
) -> LinearModel:
    """Fit K = `zdim` basis maps to the particles (ordinals of the store).

    max_frequency: rows used, cycles per pixel; beyond it basis maps hold what the prior and the mask allow.
    """
    observations = Observations(store, particles, max_frequency=max_frequency, device=device)
    mean = mean_map(observations)
    box = min(store.box, KERNEL_BOX)
    maps = particle_maps(
        Observations(store, particles, max_frequency=max_frequency, box=box, device=device), mean
    )
    n_eigenvalues = min(max(N_EIGENVALUES, zdim), len(particles) - 1)
    eigenvalues, vectors = kernel_spectrum(maps, n_eigenvalues)
    del maps
    start = torch.as_tensor(
        vectors[:, :zdim] * np.sqrt(len(particles)), dtype=torch.float32, device=observations.device
    )
    scales = torch.full((zdim,), FIRST_PRIOR_SCALE, device=observations.device)
    basis = _maximisation(first_equations(observations, mean, start), mean, scales)
    for iteration in track(range(iterations), unit="iterations", description="linear model"):
        latents, equations = expectation(observations, mean, basis, accumulate=True)
        basis = _maximisation(equations, mean, scales)
        precision = equations.precision(len(mean.power))
        scales = prior_scales(basis, mean, precision, scales)
        basis, _ = expand(basis, latents)
        log.info("EM iteration %d: prior scales %s", iteration + 1, np.round(scales.cpu().numpy(), 3))
    latents, _ = expectation(observations, mean, basis, accumulate=False)
    basis, latents = expand(basis, latents)
    return LinearModel(mean, basis, latents, eigenvalues, scales)


def _maximisation(equations, mean: MeanMap, scales: Tensor) -> Tensor:
    priors = [SpectralPrior(mean.mask, scale * mean.power) for scale in scales]
    start = equations.weight.new_zeros(len(scales), *mean.volume.shape)
    return equations.solve(priors, start)
