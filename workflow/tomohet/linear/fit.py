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
from tomohet.reconstruction.particle_maps import DifferenceMaps, grouped_particle_maps
from tomohet.reconstruction.prior import SpectralPrior

log = logging.getLogger(__name__)

# Particles are compared by difference maps that are held together: the more there are, the coarser. What the
# images hold beyond so many particles comes in with EM, which sees all of them.
KERNEL_BOXES = (32, 24, 20, 16)
KERNEL_PARTICLES = 10_000
# Of the maps in half precision; the eigenvalues take at most 100 MiB beside them.
KERNEL_BYTES = 320 * 2**20
N_EIGENVALUES = 10
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

    common = {"max_frequency": max_frequency, "device": device, "processes": processes}
    most = zdim or min(MOST_BASIS, len(particles) - 1)
    held_out = held_out_components(
        store,
        particles,
        lambda part: _maps(Observations(part, particles, **common), most, iterations, seed),
        seed=seed,
        **common,
    )
    log.info("held-out tilts confirm %d directions of the latents", held_out.n_components)
    zdim = zdim or max(1, held_out.n_components)
    observations = Observations(store, particles, **common)
    mean = mean_map(observations)
    kernel = _Kernel.of(observations, mean, TILT_GROUPS, seed)
    detection = kernel.detection(seed)
    basis = kernel.first_basis(mean, zdim)
    del kernel  # the difference maps have done their part
    basis, latents, scales, variance = _expectation_maximisation(observations, mean, basis, iterations)
    latents = Latents(
        *(processes.joined_parts(own, len(particles)) for own in (latents.mean, latents.covariance))
    )
    model = LinearModel(mean, basis, latents, scales, variance, detection, held_out)
    log.info(model.verdict)
    return model


def fit_maps(
    store: Store, particles: np.ndarray, zdim: int, iterations: int, max_frequency: float, seed: int, device
) -> tuple[MeanMap, Tensor]:
    """Mean map and basis maps (zdim, D, D, D) alone, without tests."""
    observations = Observations(store, particles, max_frequency=max_frequency, device=device)
    return _maps(observations, zdim, iterations, seed)


def _maps(observations: Observations, zdim: int, iterations: int, seed: int) -> tuple[MeanMap, Tensor]:
    mean = mean_map(observations)
    basis = _Kernel.of(observations, mean, 1, seed).first_basis(mean, zdim)
    return mean, _expectation_maximisation(observations, mean, basis, iterations)[0]


@dataclass(frozen=True)
class _Kernel:
    """observations: of the particles that are compared; maps: difference maps of the process's part."""

    observations: Observations
    maps: DifferenceMaps

    @classmethod
    def of(cls, observations: Observations, mean: MeanMap, n_groups: int, seed: int) -> "_Kernel":
        """Compare the observed particles by n_groups groups of their tilts; of many particles some."""
        compared = kernel_particles(observations.everyone, seed)
        box = kernel_box(observations.store.box, observations.max_frequency, len(compared) * n_groups)
        maps = grouped_particle_maps(observations.alike(compared, box), mean, n_groups)
        return cls(observations.alike(compared), maps)

    def detection(self, seed: int) -> Detection:
        """Whether there is anything to find; the maps are by TILT_GROUPS."""
        seen = self.observations
        return detect_heterogeneity(self.maps, N_EIGENVALUES, seed, seen.processes, len(seen.everyone))

    def first_basis(self, mean: MeanMap, zdim: int) -> Tensor:
        """Basis maps (zdim, D, D, D) for latents that are the kernel's eigenvectors, of unit variance."""
        seen, count = self.observations, len(self.observations.everyone)
        _, vectors = kernel_spectrum(self.maps, zdim, seen.processes, count)
        scaled = vectors[seen.processes.part(count)] * np.sqrt(count)
        latents = torch.as_tensor(scaled, dtype=torch.float32, device=seen.device)
        scales = torch.full((zdim,), FIRST_PRIOR_SCALE, device=seen.device)
        even = torch.ones_like(mean.volume).expand(zdim, -1, -1, -1)
        return _maximisation(first_equations(seen, mean, latents), mean, scales, even)


def kernel_particles(particles: np.ndarray, seed: int) -> np.ndarray:
    """Those that are compared, ascending: all, or KERNEL_PARTICLES of them drawn at random."""
    if len(particles) <= KERNEL_PARTICLES:
        return particles
    log.info("the start and the kernel's test take %d of %d particles", KERNEL_PARTICLES, len(particles))
    return np.sort(np.random.default_rng(seed).choice(particles, KERNEL_PARTICLES, replace=False))


def kernel_box(box: int, max_frequency: float, n_maps: int) -> int:
    """Box of so many difference maps of images of a box: what the rows used fill, if memory allows."""
    filled = [d for d in KERNEL_BOXES if d >= 2 * max_frequency * box][-1:] or KERNEL_BOXES[:1]
    fitting = [d for d in KERNEL_BOXES if n_maps * d**3 * 2 <= KERNEL_BYTES] or KERNEL_BOXES[-1:]
    return min(box, filled[0], fitting[0])


def _expectation_maximisation(
    observations: Observations, mean: MeanMap, basis: Tensor, iterations: int
) -> tuple[Tensor, Latents, Tensor, Tensor]:
    """Basis maps (K, D, D, D), posteriors of the process's particles, prior scales (K,), local variance."""
    everyone = observations.processes, len(observations.everyone)
    scales = torch.full((len(basis),), FIRST_PRIOR_SCALE, device=observations.device)
    variance = torch.ones_like(basis)
    for iteration in track(range(iterations), unit="iterations", description="linear model"):
        latents, equations = expectation(observations, mean, basis, accumulate=True)
        basis = _maximisation(equations, mean, scales, variance)
        precision = equations.precision(len(mean.power))
        scales = prior_scales(basis, mean, precision, scales, variance)
        variance = local_variance(basis, mean, scales, precision, variance)
        basis, _ = expand(basis, latents, *everyone)
        del latents, equations  # not to be held beside the next ones
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
