"""Fit the linear latent model: mean map, spectral start, EM; with a test whether there is anything to fit."""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tomohet.linear.detection import TILT_GROUPS, Detection, detect_heterogeneity
from tomohet.linear.em import Latents, expand, expectation, first_equations, prior_scales
from tomohet.linear.held_out import HeldOut, held_out_components
from tomohet.linear.locality import local_variance
from tomohet.linear.spectral import kernel_spectrum
from tomohet.particles.store import Store
from tomohet.processes import ALONE, Processes
from tomohet.progress import track
from tomohet.reconstruction.mean_map import MeanMap, mean_map
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.particle_maps import grouped_particle_maps
from tomohet.reconstruction.prior import SpectralPrior

log = logging.getLogger(__name__)

# Difference maps of all particles are held together: the more there are, the coarser.
KERNEL_BOXES = (32, 24, 20, 16, 12)
KERNEL_BYTES = 4 * 2**30
N_EIGENVALUES = 20
FIRST_PRIOR_SCALE = 0.3
MOST_BASIS = 10


@dataclass(frozen=True)
class LinearModel:
    """mean: the mean map and its noise; basis (K, D, D, D); latents: posteriors; prior_scale (K,) power of
    each basis map relative to the mean map's; local_variance (D, D, D) of differences between particles,
    relative to its mean; detection: whether there is anything to find; held_out: what images that were not
    used confirm.
    """

    mean: MeanMap
    basis: Tensor
    latents: Latents
    prior_scale: Tensor
    local_variance: Tensor
    detection: Detection
    held_out: HeldOut

    @property
    def heterogeneous(self) -> bool:
        """Whether there is anything to find: by the kernel, or by held-out tilts, which see weaker ones."""
        return self.detection.found or self.held_out.found

    @property
    def verdict(self) -> str:
        """One sentence for people."""
        if self.detection.found:
            return f"heterogeneity found: {self.detection.n_components} components stand out from noise"
        if self.heterogeneous:
            return "heterogeneity found: weak, but tilt images that were held out confirm it"
        return (
            f"no heterogeneity found at this number of particles ({len(self.latents.mean):,}): noise alone "
            f"gives such a leading eigenvalue (p = {self.detection.p_value:.2g})"
        )

    @property
    def eigenvalues(self) -> np.ndarray:
        """(n,) eigenvalues of the particles' kernel, largest first."""
        return self.detection.eigenvalues


def fit_linear_model(
    store: Store,
    particles: np.ndarray,
    *,
    zdim: int | None,
    iterations: int = 8,
    max_frequency: float = 0.25,
    seed: int = 0,
    device: torch.device | str = "cpu",
    processes: Processes = ALONE,
) -> LinearModel:
    """Fit K = `zdim` basis maps to the particles (ordinals of the store).

    zdim: None takes as many as held-out tilt images confirm (`held_out`), at least 1 and at most MOST_BASIS
    max_frequency: rows used, cycles per pixel; beyond it basis maps hold what the prior and the mask allow.
    processes: those that call this with the same arguments at the same time; all get the whole model.
    """

    def fit(part: Store, n_basis: int, n_groups: int = 1):
        start = _Start.of(part, particles, n_groups, max_frequency, device, processes)
        return start, *_expectation_maximisation(start, n_basis, iterations)

    most = zdim or min(MOST_BASIS, len(particles) - 1)
    held_out = held_out_components(
        store,
        particles,
        lambda part: _model(*fit(part, most)),
        max_frequency=max_frequency,
        seed=seed,
        device=device,
        processes=processes,
    )
    log.info("held-out tilts confirm %d directions of the latents", held_out.n_components)
    zdim = zdim or max(1, held_out.n_components)
    start, basis, latents, scales, variance = fit(store, zdim, TILT_GROUPS)
    detection = detect_heterogeneity(start.maps, N_EIGENVALUES, seed, processes, len(particles))
    latents = Latents(
        *(processes.joined_parts(own, len(particles)) for own in (latents.mean, latents.covariance))
    )
    model = LinearModel(start.mean, basis, latents, scales, variance, detection, held_out)
    log.info(model.verdict)
    return model


def fit_maps(
    store: Store, particles: np.ndarray, zdim: int, iterations: int, max_frequency: float, device
) -> tuple[MeanMap, Tensor]:
    """Mean map and basis maps (zdim, D, D, D) alone, without tests."""
    start = _Start.of(store, particles, 1, max_frequency, device, ALONE)
    return _model(start, *_expectation_maximisation(start, zdim, iterations))


def _model(start: "_Start", basis: Tensor, *_) -> tuple[MeanMap, Tensor]:
    return start.mean, basis


@dataclass(frozen=True)
class _Start:
    """observations; mean: their mean map; maps (N, groups, d, d, d): difference maps by group of tilts, of
    the process's particles.
    """

    observations: Observations
    mean: MeanMap
    maps: Tensor

    @classmethod
    def of(
        cls, store: Store, particles: np.ndarray, n_groups: int, max_frequency: float, device, processes
    ) -> "_Start":
        """Mean map and difference maps of the particles of a store; n_groups: of their tilts."""
        common = {"max_frequency": max_frequency, "device": device, "processes": processes}
        observations = Observations(store, particles, **common)
        mean = mean_map(observations)
        box = kernel_box(store.box, len(particles) * n_groups)
        small = Observations(store, particles, box=box, **common)
        return cls(observations, mean, grouped_particle_maps(small, mean, n_groups))

    def latents(self, zdim: int) -> Tensor:
        """(N, zdim) leading eigenvectors of the kernel, of unit variance, for the process's particles."""
        processes, count = self.observations.processes, len(self.observations.everyone)
        _, vectors = kernel_spectrum(self.maps.sum(1), zdim, processes, count)
        scaled = vectors[processes.part(count)] * np.sqrt(count)
        return torch.as_tensor(scaled, dtype=torch.float32, device=self.observations.device)


def kernel_box(box: int, n_maps: int) -> int:
    """Box of so many difference maps that are held at once: at most the images' own."""
    fitting = [d for d in KERNEL_BOXES if n_maps * d**3 * 4 <= KERNEL_BYTES]
    return min(box, fitting[0] if fitting else KERNEL_BOXES[-1])


def _expectation_maximisation(
    start: _Start, zdim: int, iterations: int
) -> tuple[Tensor, Latents, Tensor, Tensor]:
    """Basis maps (K, D, D, D), posteriors of the process's particles, prior scales (K,), local variance."""
    observations, mean = start.observations, start.mean
    everyone = observations.processes, len(observations.everyone)
    scales = torch.full((zdim,), FIRST_PRIOR_SCALE, device=observations.device)
    variance = torch.ones_like(mean.volume).expand(zdim, -1, -1, -1)
    basis = _maximisation(first_equations(observations, mean, start.latents(zdim)), mean, scales, variance)
    for iteration in track(range(iterations), unit="iterations", description="linear model"):
        latents, equations = expectation(observations, mean, basis, accumulate=True)
        basis = _maximisation(equations, mean, scales, variance)
        precision = equations.precision(len(mean.power))
        scales = prior_scales(basis, mean, precision, scales, variance)
        variance = local_variance(basis, mean, scales, precision, variance)
        basis, _ = expand(basis, latents, *everyone)
        log.info("EM iteration %d: prior scales %s", iteration + 1, np.round(scales.cpu().numpy(), 3))
    # Each latent in the direction in which what changes most in its map is more density.
    basis = basis * basis.pow(3).sum((1, 2, 3), keepdim=True).sign()
    latents, _ = expectation(observations, mean, basis, accumulate=False)
    together = torch.einsum("j,jzyx->zyx", scales / scales.sum(), variance)
    return basis, latents, scales, together


def _maximisation(equations, mean: MeanMap, scales: Tensor, variance: Tensor) -> Tensor:
    masks = mean.mask * variance.sqrt()
    priors = [SpectralPrior(mask, scale * mean.power) for mask, scale in zip(masks, scales, strict=True)]
    start = equations.weight.new_zeros(len(scales), *mean.volume.shape)
    return equations.solve(priors, start)
