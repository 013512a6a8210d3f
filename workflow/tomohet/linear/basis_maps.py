"""M step and outer loop of the PPCA model: basis maps fitted by EM until the latents have converged.

The loop alternates the E step and normal equations (`linear.em`), the empirical-Bayes prior (`prior_power`,
`locality`), parameter expansion and over-relaxation (`parameter_expansion`).
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor

from tomohet.linear.em import expectation, first_equations
from tomohet.linear.explained import complement, followed
from tomohet.linear.locality import coefficient_variance, local_variance
from tomohet.linear.parameter_expansion import (
    expansion_of_parts,
    missing_information,
    out_of_span,
    shared_with_errors,
)
from tomohet.linear.prior_power import shell_scales
from tomohet.physics.fourier_grids import on_grid, pad_fourier
from tomohet.progress import track
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.nuisance import Nuisance, outside
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.prior import SpectralPrior
from tomohet.reconstruction.solve import NormalEquations

log = logging.getLogger(__name__)

FIRST_PRIOR_SCALE = 0.3
# The empirical-Bayes prior power is multiplied by this factor in the final fit. 0.5 predicts held-out images
# better, because real differences are more localised than the smooth variance map can describe. The search
# uses 1: a stronger prior would suppress weak components before they are tested.
SHARE_OF_POWER = 0.5
CG_ITERATIONS = 12
# EM has converged when an iteration moves less than this fraction of the latents' second moment out of their
# span.
SETTLED = 1e-3
# Oversampling of the coarse grid on which maps are fitted, relative to the frequencies used.
MARGIN = 1.2


@dataclass(frozen=True)
class CoarseFit:
    """CoarseFit model on the coarse grid.

    mean : mean map, with the nuisance variables outside the focus mask
    basis : basis maps (K, d, d, d)
    basis_variance : (K, shells) posterior variance of the basis maps' Fourier coefficients; valid on any grid
    scales : (K, shells) prior power relative to the mean map
    local_variance : (K, d, d, d) relative prior variance at each voxel
    aside : (n, k) nuisance latents of the process's particles
    """

    mean: MeanMap
    basis: Tensor
    basis_variance: Tensor
    scales: Tensor
    local_variance: Tensor
    aside: Tensor | None = None

    def fine_basis(self, box: int) -> Tensor:
        """Return the basis maps (K, D, D, D) on the fine grid."""
        return on_grid(self.basis, box)

    def turned(self, rotation: Tensor) -> "CoarseFit":
        """Return the same model with latents z' = R' z, for an orthogonal R (K, K)."""
        mixed = rotation.T.square()
        basis = torch.einsum("jk,jzyx->kzyx", rotation, self.basis)
        local = torch.einsum("kj,jzyx->kzyx", mixed * self.scales.mean(1), self.local_variance)
        scales = mixed @ self.scales
        local = local / scales.mean(1).clamp_min(1e-30)[:, None, None, None]
        return replace(
            self, basis=basis, basis_variance=mixed @ self.basis_variance, scales=scales, local_variance=local
        )

    def first(self, k: int) -> "CoarseFit":
        """Return the model of the first k basis maps."""
        names = "basis", "basis_variance", "scales", "local_variance"
        return replace(self, **{name: getattr(self, name)[:k] for name in names})

    def with_errors_of(self, mean: MeanMap) -> MeanMap:
        """Return a fine-grid mean map with this fit's nuisance variables and size of the pose errors."""
        nuisance = self.mean.nuisance
        mean = replace(mean, nuisance=nuisance and nuisance.on_grid(len(mean.volume)))
        if mean.errors is None or self.mean.errors is None:
            return replace(mean, errors=None)
        return replace(mean, errors=replace(mean.errors, deviation=self.mean.errors.deviation))

    def fine_variance(self, box: int) -> Tensor:
        """Return the local variance (D, D, D) of all basis maps together."""
        share = self.scales.mean(1) / self.scales.mean(1).sum()
        local = torch.einsum("j,jzyx->zyx", share, self.local_variance)
        if self.mean.focus is not None:
            local = local * self.mean.focus.square()
        return pad_fourier(local, box).clamp_min(0)

    def spectral_variance(self, box: int) -> Tensor:
        """Return the power (D//2+1,) of all basis maps together, relative to the mean map.

        Beyond the highest fitted frequency it has the value at that frequency.
        """
        known = self.scales.sum(0)
        return torch.cat([known, known[-1:].expand(box // 2 + 1 - len(known))])


def coarse_box(box: int, max_frequency: float) -> int:
    """Return the box of a grid that holds frequencies up to `max_frequency` (cycles per pixel) and a margin.

    The margin is needed because slices are inaccurate near the Nyquist frequency of a grid.
    """
    needed = min(box, int(np.ceil(2 * MARGIN * max_frequency * box)))
    return next((d for d in range(needed + needed % 2, box, 2) if next_fast_len(d, real=True) == d), box)


def expectation_maximisation(
    observations: Observations,
    mean: MeanMap,
    first: Observations,
    start: Tensor,
    iterations: int,
    share: float = 1.0,
    aside: Tensor | None = None,
) -> CoarseFit:
    """Run EM on the coarse grid until the latents have converged.

    EM converges at the rate of the missing information, which for a latent is its posterior variance (the
    prior variance is 1). Each basis map is over-relaxed by that fraction of its last update (over-relaxed EM,
    Salakhutdinov & Roweis 2003, who choose the factor by trial).

    With a focus mask (`reconstruction.nuisance`) the basis maps lie inside the mask. Additional maps outside
    the mask are nuisance variables.

    first : observations of the particles that have initial latents
    start : (n, K) initial latents of these particles
    iterations : maximum number of EM iterations
    share : factor for the empirical-Bayes prior power
    aside : (n, k) initial nuisance latents of the maps outside the focus mask
    """
    grid = coarse_box(len(mean.volume), observations.max_frequency)
    mean, observations = mean.cropped(grid), observations.alike(observations.everyone, grid)
    n_maps, start = start.shape[1], start if aside is None else torch.cat([start, aside], dim=1)
    equations = first_equations(first.alike(first.everyone, grid), mean, start)
    # Half the period of the highest frequency.
    smoothing_px = grid / (2 * (observations.n_shells - 1))
    where = mean if aside is None else replace(mean, mask=_masks(mean, n_maps, aside.shape[1], smoothing_px))
    everyone = observations.processes, len(observations.everyone)
    size = equations.n_maps, len(mean.power)
    scales = torch.full(size, FIRST_PRIOR_SCALE, device=observations.device)
    local = torch.ones_like(mean.volume).expand(len(scales), -1, -1, -1)
    precision = equations.precision(len(mean.power))
    basis = fit_basis(equations, where, scales, local)
    variance = coefficient_variance(where, scales, precision, local)
    known = None  # latents of the previous iteration
    for iteration in track(range(iterations), unit="iterations", description="linear model"):
        del equations  # free the memory before the next equations are allocated
        latents, equations = expectation(observations, mean, basis, variance, accumulate=True)
        of_maps = latents.first(len(basis))
        moved = 1.0 if known is None else out_of_span(of_maps.mean, known, observations.processes)
        known, before, basis = of_maps.mean, basis, fit_basis(equations, where, scales, local)
        precision = equations.precision(len(mean.power))
        scales = share * shell_scales(basis, where, precision, scales, local)
        local = local_variance(basis, where, scales, precision, local, smoothing_px)
        log.info(
            "EM iteration %d: prior scales %s, fraction of the latents that moved %.2g%s",
            iteration + 1,
            np.round(scales.mean(1).cpu().numpy(), 3),
            moved,
            "" if mean.errors is None else f", {mean.errors.sentence}",
        )
        mixing = expansion_of_parts(basis, of_maps, n_maps, *everyone)
        last = moved < SETTLED or iteration == iterations - 1
        if not last:
            basis = basis + missing_information(of_maps, *everyone)[:, None, None, None] * (basis - before)
        if mean.errors is not None:
            shared, left = shared_with_errors(latents, mean, *everyone, observations.copies)
            if not last and aside is None:  # the tangents are not confined to the focus mask
                basis = basis + torch.einsum("tj,tzyx->jzyx", shared, mean.errors.maps)
            mean = replace(mean, errors=left)
        basis = torch.einsum("lj,lzyx->jzyx", mixing, basis)
        variance = mixing.T.square() @ coefficient_variance(where, scales, precision, local)
        if last:
            break
    if aside is not None:
        mean = replace(mean, nuisance=Nuisance(basis[n_maps:], variance[n_maps:]))
        aside = known[:, n_maps:]
    basis, variance = basis[:n_maps], variance[:n_maps]
    basis = signs(basis)[:, None, None, None] * basis
    return CoarseFit(mean, basis, variance, scales[:n_maps], local[:n_maps], aside)


def _masks(mean: MeanMap, n_maps: int, n_aside: int, smoothing_px: float) -> Tensor:
    """Masks (n_maps + n_aside, D, D, D) of basis maps inside the focus mask and nuisance maps outside."""
    inside, others = mean.focus, outside(mean.focus, smoothing_px)
    return mean.mask * torch.stack([inside] * n_maps + [others] * n_aside)


def signs(basis: Tensor) -> Tensor:
    """Return (K,) signs that make each latent increase with density where its map changes most."""
    return torch.where(basis.pow(3).sum((1, 2, 3)) < 0, -1.0, 1.0)


def structure_first(fitted: CoarseFit, latents: Tensor, nuisance: Tensor) -> Tensor:
    """Return an orthogonal R (K, K) that separates structural latents from nuisance latents.

    Of the latents R' z (`CoarseFit.turned`), the last J follow the nuisance latents. The others are ordered
    by the power of their maps.

    latents : (N, K) posterior means under the fitted model
    nuisance : (N, J) nuisance latents
    """
    away = followed(latents, nuisance)
    rest = complement(away)
    flat = fitted.basis.flatten(1)
    by_power = torch.linalg.eigh((rest.T @ (flat @ flat.T) @ rest).double())[1].flip(1).to(rest)
    rotation = torch.cat([rest @ by_power, away], dim=1)
    return rotation * signs(fitted.turned(rotation).basis)


def fit_basis(equations: NormalEquations, mean: MeanMap, scales: Tensor, local: Tensor) -> Tensor:
    """Solve the M step: basis maps (K, D, D, D).

    scales : (K, shells) prior power relative to the mean map
    local : (K, D, D, D) relative prior variance at each voxel
    """
    return equations.solve(SpectralPrior(mean.mask * local.sqrt(), scales * mean.power), CG_ITERATIONS)
