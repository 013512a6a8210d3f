"""Fit the linear latent model: mean map, start, EM; with tests whether there is anything to fit."""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor

from tomohet.linear.detection import Detection
from tomohet.linear.em import (
    Equations,
    Latents,
    expansion,
    expectation,
    first_equations,
    missing_information,
    out_of_span,
)
from tomohet.linear.held_out import HeldOut, auc_of_halves, held_out_directions, split_tilts
from tomohet.linear.locality import coefficient_variance, local_variance
from tomohet.linear.prior_power import shell_scales
from tomohet.linear.start import compare, detect
from tomohet.particles.store import Store
from tomohet.physics.fourier import pad_fourier
from tomohet.processes import ALONE, Processes
from tomohet.progress import track
from tomohet.reconstruction.mean_map import MeanMap, mean_map
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.prior import SpectralPrior

log = logging.getLogger(__name__)

FIRST_PRIOR_SCALE = 0.3
# Of the prior power that empirical Bayes finds, in the fit to all images. Half of it predicts held-out images
# better: differences are more compact than a smooth local variance can say. Where it is not known yet which
# maps are more than noise, weak ones would be lost by it.
SHARE_OF_POWER = 0.5
# Searches for directions, by number of maps and iterations of EM. The first sees many weak differences beside
# strong ones. Where it finds nothing the second goes on for longer, as EM is slow where there is much noise,
# and with less room for noise.
MOST_BASIS, ITERATIONS_OF_MOST = 10, 6
FEW_BASIS, ITERATIONS_OF_FEW = 3, 20
# EM ends when an iteration moves less than this share of the latents' variance out of their span.
SETTLED = 1e-3
# Of the coarse grid on which maps are fitted, over the frequencies used.
MARGIN = 1.2


@dataclass(frozen=True)
class LinearModel:
    """mean: the mean map and its noise; basis (K, D, D, D) and basis_variance (K, shells), posterior mean and
    variance of its coefficients; latents: posteriors; prior_scale (K, shells) power of each basis map
    relative to the mean map's; local_variance (D, D, D) of differences between particles, relative to its
    mean; detection: whether there is anything to find; held_out: what images that were not used confirm.
    """

    mean: MeanMap
    basis: Tensor
    basis_variance: Tensor
    latents: Latents
    prior_scale: Tensor
    local_variance: Tensor
    detection: Detection
    held_out: HeldOut

    @property
    def spectral_variance(self) -> Tensor:
        """(D//2+1,) power of differences between particles relative to the mean map's; where nothing was
        fitted, as at the highest frequency that was."""
        known = self.prior_scale.sum(0)
        return torch.cat([known, known[-1:].expand(len(self.mean.power) - len(known))])

    @property
    def heterogeneous(self) -> bool:
        """Whether there is anything to find: by held-out tilts, and by the kernel where there are none."""
        return self.held_out.found if self.held_out.possible else self.detection.found

    @property
    def verdict(self) -> str:
        """One sentence for people."""
        if self.held_out.found:
            count = self.held_out.n_components
            components = "1 component" if count == 1 else f"{count} components"
            found = f"heterogeneity found: tilt images that were held out confirm {components}"
            return f"{found}; {self._clearness}"
        if not self.held_out.possible:
            kernel = f"by the kernel (p = {self.detection.p_value:.2g}); too few tilt images to hold any out"
            return (
                f"heterogeneity found {kernel}"
                if self.detection.found
                else f"no heterogeneity found {kernel}"
            )
        count = f"at this number of particles ({len(self.latents.mean):,})"
        images = f"tilt images that were held out confirm none (p = {self.held_out.p_value:.2g})"
        return f"no heterogeneity found {count}: {images}; p = {self.detection.p_value:.2g} by the kernel"

    @property
    def _clearness(self) -> str:
        """What single particles show of the components that are confirmed."""
        count, clear = self.held_out.n_components, self.held_out.n_clear
        if clear == count:
            return "clear in single particles"
        auc = auc_of_halves(self.held_out.least_reliability[:count]).min()
        if np.isnan(auc):
            return "how clear in single particles, so few tilt images cannot tell"
        which = "" if count == 1 else f" in {count - clear} of them" if clear else " in all of them"
        halves = "two equal halves of the particles are told apart with AUC"
        return f"faint{which}: {halves} {auc:.2f}, less a standard error"

    @property
    def eigenvalues(self) -> np.ndarray:
        """(n,) eigenvalues of the particles' kernel, largest first."""
        return self.detection.eigenvalues


def fit_linear_model(
    store: Store,
    particles: np.ndarray,
    *,
    zdim: int | None = None,
    iterations: int = 40,
    max_frequency: float = 0.25,
    seed: int = 0,
    device: torch.device | str = "cpu",
    processes: Processes = ALONE,
) -> LinearModel:
    """Fit K = `zdim` basis maps to the particles (ordinals of the store).

    First more maps than needed are fitted to two thirds of the tilt images: what the rest of them say of
    these maps (`held_out`) tells how many there are, and where the fit to all images starts.

    zdim: None takes as many as held-out tilt images confirm, at least 1 and at most MOST_BASIS.
    iterations: of EM at most; it ends when the latents have settled.
    max_frequency: rows used, cycles per pixel; beyond it basis maps hold what the prior and the mask allow.
    processes: those that call this with the same arguments at the same time; all get the whole model.
    """

    def observe(part: Store) -> Observations:
        """Their images in a part of the store."""
        where = {"device": device, "processes": processes}
        return Observations(part, particles, max_frequency=max_frequency, **where)

    parts = tuple(observe(part) for part in split_tilts(store))
    mean_of_used = mean_map(parts[0])

    def fit_used(first: Observations, start: Tensor, most_iterations: int, share: float = 1.0) -> HeldOut:
        """Fit maps to the images that are not held out; ask the others."""
        most_iterations = min(most_iterations, iterations)
        found = expectation_maximisation(parts[0], mean_of_used, first, start, most_iterations, share)
        return held_out_directions(parts, found.mean, found.basis, found.basis_variance, seed)

    def search(n_maps: int, most_iterations: int) -> HeldOut:
        """With so many maps, or zdim if that is more."""
        n_maps = max(zdim or 0, min(n_maps, len(particles) - 1))
        return fit_used(*_start(parts[0], mean_of_used, n_maps, seed), most_iterations)

    own = processes.part(len(particles))
    held_out = search(MOST_BASIS, ITERATIONS_OF_MOST)
    if held_out.possible and not held_out.found:
        log.info("nothing found (p = %.2g); a longer search with fewer maps", held_out.p_value)
        held_out = min(held_out, search(FEW_BASIS, ITERATIONS_OF_FEW), key=lambda one: one.p_value)
    log.info("held-out tilts confirm %d directions of the latents", held_out.n_components)
    start = held_out.used_latents(max(zdim or 1, held_out.n_components))[own]
    held_out = held_out.measured_by(fit_used(parts[0], start, iterations, SHARE_OF_POWER))
    observations = observe(store)
    mean = mean_map(observations)
    detection = detect(observations, mean, seed)
    start = held_out.latents(zdim or max(1, held_out.n_components))[own]
    fitted = expectation_maximisation(observations, mean, observations, start, iterations, SHARE_OF_POWER)
    basis = fitted.fine_basis(store.box)
    latents, _ = expectation(observations, mean, basis, fitted.basis_variance, accumulate=False)
    joined = (processes.joined_parts(table, len(particles)) for table in (latents.mean, latents.covariance))
    model = LinearModel(
        mean=mean,
        basis=basis,
        basis_variance=fitted.basis_variance,
        latents=Latents(*joined),
        prior_scale=fitted.scales,
        local_variance=fitted.fine_variance(store.box),
        detection=detection,
        held_out=held_out,
    )
    log.info(model.verdict)
    return model


def _start(observations: Observations, mean: MeanMap, k: int, seed: int) -> tuple[Observations, Tensor]:
    """Those that are compared, and their latents (n, k); the difference maps have done their part then."""
    seen = compare(observations, mean, seed)
    return seen.observations, seen.latents(k)


@dataclass(frozen=True)
class Fitted:
    """On the coarse grid: mean map, basis maps (K, d, d, d), prior scales (K, shells), local variance
    (K, d, d, d); basis_variance (K, shells), of any grid."""

    mean: MeanMap
    basis: Tensor
    basis_variance: Tensor
    scales: Tensor
    local_variance: Tensor

    def fine_basis(self, box: int) -> Tensor:
        """Basis maps (K, D, D, D); each latent grows with density where its map changes most."""
        basis = self.basis * self.basis.pow(3).sum((1, 2, 3), keepdim=True).sign()
        return (self.basis.shape[-1] / box) ** 3 * pad_fourier(basis, box)

    def fine_variance(self, box: int) -> Tensor:
        """Local variance (D, D, D) of all basis maps together."""
        share = self.scales.mean(1) / self.scales.mean(1).sum()
        return pad_fourier(torch.einsum("j,jzyx->zyx", share, self.local_variance), box).clamp_min(0)


def coarse_box(box: int, max_frequency: float) -> int:
    """A grid that holds frequencies up to `max_frequency` (cycles per pixel of a box) and a margin: near the
    end of what a grid holds slices are wrong."""
    needed = min(box, int(np.ceil(2 * MARGIN * max_frequency * box)))
    return next((d for d in range(needed + needed % 2, box, 2) if next_fast_len(d, real=True) == d), box)


def expectation_maximisation(
    observations: Observations,
    mean: MeanMap,
    first: Observations,
    start: Tensor,
    iterations: int,
    share: float = 1.0,
) -> Fitted:
    """EM from latents `start` (n, K) of the particles of `first`, on the coarse grid, until it has settled.

    EM is the slower, the more of what it estimates is unknown: of a latent, its posterior variance over that
    of the prior, which is 1. Each map goes on for this part of its way. iterations: at most; share: of the
    prior power that follows from the maps.
    """
    grid = coarse_box(len(mean.volume), observations.max_frequency)
    mean, observations = mean.cropped(grid), observations.alike(observations.everyone, grid)
    equations = first_equations(first.alike(first.everyone, grid), mean, start)
    # Half the period of the highest frequency.
    smoothing_px = grid / (2 * (observations.n_shells - 1))
    everyone = observations.processes, len(observations.everyone)
    size = equations.n_basis, len(mean.power)
    scales = torch.full(size, FIRST_PRIOR_SCALE, device=observations.device)
    local = torch.ones_like(mean.volume).expand(len(scales), -1, -1, -1)
    precision = equations.precision(len(mean.power))
    basis = fit_basis(equations, mean, scales, local)
    variance = coefficient_variance(mean, scales, precision, local)
    known = None  # latents of the iteration before
    for iteration in track(range(iterations), unit="iterations", description="linear model"):
        del equations  # not to be held beside the next ones
        latents, equations = expectation(observations, mean, basis, variance, accumulate=True)
        moved = 1.0 if known is None else out_of_span(latents.mean, known, observations.processes)
        known, before, basis = latents.mean, basis, fit_basis(equations, mean, scales, local)
        precision = equations.precision(len(mean.power))
        scales = share * shell_scales(basis, mean, precision, scales, local)
        local = local_variance(basis, mean, scales, precision, local, smoothing_px)
        log.info(
            "EM iteration %d: prior scales %s, %.2g of the latents moved",
            iteration + 1,
            np.round(scales.mean(1).cpu().numpy(), 3),
            moved,
        )
        mixing = expansion(basis, latents, *everyone)
        last = moved < SETTLED or iteration == iterations - 1
        if not last:
            basis = basis + missing_information(latents, *everyone)[:, None, None, None] * (basis - before)
        basis = torch.einsum("lj,lzyx->jzyx", mixing, basis)
        variance = mixing.T.square() @ coefficient_variance(mean, scales, precision, local)
        if last:
            break
    return Fitted(mean, basis, variance, scales, local)


def fit_basis(equations: Equations, mean: MeanMap, scales: Tensor, local: Tensor) -> Tensor:
    """M-step: basis maps (K, D, D, D) under prior scales (K, shells) and local variance (K, D, D, D)."""
    masks = mean.mask * local.sqrt()
    priors = [SpectralPrior(mask, scale * mean.power) for mask, scale in zip(masks, scales, strict=True)]
    start = equations.weight.new_zeros(len(scales), *mean.volume.shape)
    return equations.solve(priors, start)
