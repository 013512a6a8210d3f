"""Fit basis maps by expectation maximisation (`linear.em`) until the latents have settled."""

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
from tomohet.physics.fourier import pad_fourier
from tomohet.progress import track
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.nuisance import Nuisance, outside
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.prior import SpectralPrior
from tomohet.reconstruction.solve import NormalEquations

log = logging.getLogger(__name__)

FIRST_PRIOR_SCALE = 0.3
# Of the prior power that empirical Bayes finds, with maps that are confirmed. Half of it predicts held-out
# images better: differences are more compact than a smooth local variance can say. Where it is not known yet
# which maps are more than noise, weak ones would be lost by it.
SHARE_OF_POWER = 0.5
CG_ITERATIONS = 12
# EM ends when an iteration moves less than this share of the latents' variance out of their span.
SETTLED = 1e-3
# Of the coarse grid on which maps are fitted, over the frequencies used.
MARGIN = 1.2


@dataclass(frozen=True)
class Fitted:
    """On the coarse grid: mean map, with the nuisance of its focus, basis maps (K, d, d, d), prior scales
    (K, shells), local variance (K, d, d, d); basis_variance (K, shells), of any grid. aside (n, k): latents
    of the nuisance, of the process's part."""

    mean: MeanMap
    basis: Tensor
    basis_variance: Tensor
    scales: Tensor
    local_variance: Tensor
    aside: Tensor | None = None

    def fine_basis(self, box: int) -> Tensor:
        """Basis maps (K, D, D, D)."""
        return (self.basis.shape[-1] / box) ** 3 * pad_fourier(self.basis, box)

    def turned(self, rotation: Tensor) -> "Fitted":
        """The same model with latents z' = R' z for an orthogonal R (K, K)."""
        mixed = rotation.T.square()
        basis = torch.einsum("jk,jzyx->kzyx", rotation, self.basis)
        local = torch.einsum("kj,jzyx->kzyx", mixed * self.scales.mean(1), self.local_variance)
        scales = mixed @ self.scales
        local = local / scales.mean(1).clamp_min(1e-30)[:, None, None, None]
        return replace(
            self, basis=basis, basis_variance=mixed @ self.basis_variance, scales=scales, local_variance=local
        )

    def first(self, k: int) -> "Fitted":
        """The first k maps of it."""
        names = "basis", "basis_variance", "scales", "local_variance"
        return replace(self, **{name: getattr(self, name)[:k] for name in names})

    def with_errors_of(self, mean: MeanMap) -> MeanMap:
        """A mean map on the fine grid, with nuisance, and pose errors as large as they were found here."""
        nuisance = self.mean.nuisance
        mean = replace(mean, nuisance=None if nuisance is None else nuisance.on_grid(len(mean.volume)))
        if mean.errors is None or self.mean.errors is None:
            return replace(mean, errors=None)
        return replace(mean, errors=replace(mean.errors, deviation=self.mean.errors.deviation))

    def fine_variance(self, box: int) -> Tensor:
        """Local variance (D, D, D) of all basis maps together."""
        share = self.scales.mean(1) / self.scales.mean(1).sum()
        local = torch.einsum("j,jzyx->zyx", share, self.local_variance)
        if self.mean.focus is not None:
            local = local * self.mean.focus.square()
        return pad_fourier(local, box).clamp_min(0)


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
    aside: Tensor | None = None,
) -> Fitted:
    """EM from latents `start` (n, K) of the particles of `first`, on the coarse grid, until it has settled.

    EM is the slower, the more of what it estimates is unknown: of a latent, its posterior variance over that
    of the prior, which is 1. Each map goes on for this part of its way (over-relaxed EM, Salakhutdinov and
    Roweis 2003, who try factors out). iterations: at most; share: of the prior power that follows from the
    maps.

    With a focus (`reconstruction.nuisance`) basis maps lie inside of it, and others, which start at the
    latents aside (n, k), outside.
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
    known = None  # latents of the iteration before
    for iteration in track(range(iterations), unit="iterations", description="linear model"):
        del equations  # not to be held beside the next ones
        latents, equations = expectation(observations, mean, basis, variance, accumulate=True)
        of_maps = latents.first(len(basis))
        moved = 1.0 if known is None else out_of_span(of_maps.mean, known, observations.processes)
        known, before, basis = of_maps.mean, basis, fit_basis(equations, where, scales, local)
        precision = equations.precision(len(mean.power))
        scales = share * shell_scales(basis, where, precision, scales, local)
        local = local_variance(basis, where, scales, precision, local, smoothing_px)
        log.info(
            "EM iteration %d: prior scales %s, %.2g of the latents moved%s",
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
            if not last and aside is None:  # maps of errors are everywhere
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
    return Fitted(mean, basis, variance, scales[:n_maps], local[:n_maps], aside)


def _masks(mean: MeanMap, n_maps: int, n_aside: int, smoothing_px: float) -> Tensor:
    """(n_maps + n_aside, D, D, D): where maps inside of the focus lie, and where those outside."""
    inside, others = mean.focus, outside(mean.focus, smoothing_px)
    return mean.mask * torch.stack([inside] * n_maps + [others] * n_aside)


def signs(basis: Tensor) -> Tensor:
    """(K,) signs with which each latent grows with density where its map changes most."""
    return torch.where(basis.pow(3).sum((1, 2, 3)) < 0, -1.0, 1.0)


def structure_first(fitted: Fitted, latents: Tensor, nuisance: Tensor) -> Tensor:
    """An orthogonal R (K, K): of latents R' z (`Fitted.turned`) the last J follow nuisance latents (N, J),
    the others are ordered by the power of their maps.

    latents (N, K): posterior means under the fitted model.
    """
    away = followed(latents, nuisance)
    rest = complement(away)
    flat = fitted.basis.flatten(1)
    by_power = torch.linalg.eigh((rest.T @ (flat @ flat.T) @ rest).double())[1].flip(1).to(rest)
    rotation = torch.cat([rest @ by_power, away], dim=1)
    return rotation * signs(fitted.turned(rotation).basis)


def fit_basis(equations: NormalEquations, mean: MeanMap, scales: Tensor, local: Tensor) -> Tensor:
    """M-step: basis maps (K, D, D, D) under prior scales (K, shells) and local variance (K, D, D, D)."""
    return equations.solve(SpectralPrior(mean.mask * local.sqrt(), scales * mean.power), CG_ITERATIONS)
