"""Quadratic likelihood of the latents, log p(y | z) = b z - z A z / 2 + constant, for given basis maps.

For y_pi = h_pi S_pi (mu + sum_j z_pj U_j) + noise,

    A_p = 2 Re sum (h S U)^H (h S U) / s2   and   b_p = 2 Re sum (S U)^H (q - w S mu) / s2.

Basis maps are not known exactly. The posterior variance V_j of their Fourier coefficients adds 2 sum w V / s2
to the diagonal of A_p (variational Bayes). A basis map that is mostly noise is therefore not informative, and
weak components are not lost.

Pose errors (`reconstruction.pose_errors`) are six further latents with known maps T, the tangents of mu.
Shifts of single images (`reconstruction.tilt_shifts`) are integrated out of each image's contribution to A
and b.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.observations import Chunk, Observations
from tomohet.reconstruction.pose_errors import N_TANGENTS
from tomohet.reconstruction.residuals import residuals
from tomohet.reconstruction.tilt_shifts import (
    DEVIATIONS,
    ShiftLikelihood,
    log_likelihoods,
    most_likely,
    tangents,
)


@dataclass(frozen=True)
class Latents:
    """Gaussian posterior of each particle's latents.

    The latents of the basis maps come first, then the mean map's nuisance latents (if it has any), then six
    residual pose errors (if it has any).

    mean : (N, K)
    covariance : (N, K, K)
    """

    mean: Tensor
    covariance: Tensor

    @property
    def second_moment(self) -> Tensor:
        """(N, K, K) E[z z']."""
        return self.mean[:, :, None] * self.mean[:, None] + self.covariance

    def first(self, k: int) -> "Latents":
        """Return the posterior of the first k latents, with the others integrated out."""
        return Latents(self.mean[:, :k], self.covariance[:, :k, :k])

    def turned(self, rotation: Tensor) -> "Latents":
        """Return the posterior with the first k latents replaced by R' z, for an orthogonal R (k, k)."""
        k = len(rotation)
        whole = torch.eye(self.mean.shape[1], dtype=rotation.dtype, device=rotation.device)
        whole[:k, :k] = rotation
        return Latents(self.mean @ whole, whole.T @ self.covariance @ whole)


@dataclass(frozen=True)
class ChunkLikelihood:
    """Likelihood of a whitened chunk for its particles' latents.

    residual : (m, n) q - w S mu
    slices : (m, n, K) of all maps
    a : (P, K, K)
    b : (P, K)
    shifts : likelihood of the images' shifts; None if not requested
    """

    chunk: Chunk
    residual: Tensor
    slices: Tensor
    a: Tensor
    b: Tensor
    shifts: ShiftLikelihood | None


def likelihoods(
    observations: Observations,
    mean: MeanMap,
    basis: Tensor,
    variance: Tensor | None,
    *,
    shifts: bool = False,
) -> Iterator[ChunkLikelihood]:
    """Yield the likelihood of all latents, chunk by chunk.

    Shifts of single images are integrated out if the mean map has them.

    variance : (K, shells) posterior variance of the basis maps' Fourier coefficients; None treats them as
        exact
    shifts : whether to return the likelihood of the shifts as well
    """
    if mean.nuisance is not None:
        basis = torch.cat([basis, mean.nuisance.maps])
        variance = None if variance is None else torch.cat([variance, mean.nuisance.variance])
    known = [] if mean.errors is None else [mean.errors.maps]
    of_row = None if variance is None else 2 * variance[:, observations.spectral_shell].T
    for seen in residuals(observations, mean, torch.cat([basis, *known])):
        chunk, slices, residual, shift = seen.chunk, seen.slices, seen.residual, None
        if shifts or mean.tilt_shift_px:
            shift = tangents(observations.half_plane, seen.mean)
        a, b, of_shifts = _of_chunk(chunk, slices, residual, shift, mean.tilt_shift_px)
        if of_row is not None:
            uncertain = a.diagonal(dim1=1, dim2=2)[:, : len(basis)]
            uncertain.index_add_(0, chunk.owner, chunk.weight @ of_row)
        yield ChunkLikelihood(chunk, residual, slices, a, b, of_shifts)


def _of_chunk(
    chunk: Chunk, slices: Tensor, residual: Tensor, shift: Tensor | None, deviation_px: float
) -> tuple[Tensor, Tensor, ShiftLikelihood | None]:
    """Return A (P, K, K), b (P, K), and the likelihood of the images' shifts.

    shift : tangents (m, n, 2) of the shifts
    deviation_px : standard deviation of the shifts that are integrated out; 0 integrates none out
    """
    k = slices.shape[2]
    a, b = of_images(chunk, slices if shift is None else torch.cat([slices, shift], dim=2), residual)
    of_shifts = None
    if shift is not None:
        of_shifts = ShiftLikelihood(shift, a[:, k:, k:], a[:, k:, :k], b[:, k:])
        if deviation_px:
            a, b = of_shifts.integrated_out(a[:, :k, :k], b[:, :k], deviation_px)
        else:
            a, b = a[:, :k, :k], b[:, :k]
    return of_particles(chunk, a), of_particles(chunk, b), of_shifts


def of_images(chunk: Chunk, slices: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
    """Return the contribution of each image of a whitened chunk to A (m, K, K) and b (m, K).

    slices : (m, n, K) complex, of the basis maps
    residual : (m, n) complex, q - w S mu
    """
    scaled = torch.view_as_real(slices * torch.sqrt(chunk.weight)[..., None])
    rows = scaled.permute(0, 1, 3, 2).flatten(1, 2)  # (m, 2n, K) reals
    return 2 * rows.transpose(1, 2) @ rows, 2 * (slices.conj() * residual[..., None]).real.sum(1)


def of_particles(chunk: Chunk, table: Tensor) -> Tensor:
    """Sum a table (m, ...) of images over the images of each particle, (P, ...)."""
    return table.new_zeros(chunk.n_particles, *table.shape[1:]).index_add_(0, chunk.owner, table)


def n_latents_of(basis: Tensor, mean: MeanMap) -> int:
    """Return the number of latents of a particle: basis maps, nuisance variables and pose errors."""
    others = (
        0 if mean.nuisance is None else len(mean.nuisance.maps),
        0 if mean.errors is None else N_TANGENTS,
    )
    return len(basis) + sum(others)


def latent_prior(basis: Tensor, mean: MeanMap) -> Tensor:
    """Return the prior precision of a particle's latents; 0 for pose errors, which have their own prior."""
    n_latents = n_latents_of(basis, mean)
    n_errors = 0 if mean.errors is None else N_TANGENTS
    return torch.diag((torch.arange(n_latents, device=basis.device) < n_latents - n_errors).to(basis))


def posterior(seen: ChunkLikelihood, mean: MeanMap, prior: Tensor) -> Latents:
    """Return the posterior of the latents of a chunk's particles.

    prior : precision matrix of `latent_prior`
    """
    a, b = seen.a, seen.b
    if mean.errors is not None:
        a, b = mean.errors.with_prior(a, b, seen.chunk.part)
    covariance = torch.linalg.inv(a + prior)
    return Latents((covariance @ b[..., None])[..., 0], covariance)


def likelihood(
    observations: Observations, mean: MeanMap, basis: Tensor, variance: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute A (N, K, K) and b (N, K) of the process's particles.

    The arguments are those of `likelihoods`; the order of the latents is that of `Latents`. log p(y | z) = b
    z - z A z / 2, up to terms that do not depend on z.
    """
    n_latents = n_latents_of(basis, mean)
    precision = basis.new_empty(len(observations), n_latents, n_latents)
    projection = basis.new_empty(len(observations), n_latents)
    for seen in likelihoods(observations, mean, basis, variance):
        precision[seen.chunk.part], projection[seen.chunk.part] = seen.a, seen.b
    return precision, projection


def latent_likelihood(
    observations: Observations, mean: MeanMap, basis: Tensor, variance: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute A (N, K, K) and b (N, K) of the basis maps' latents.

    Nuisance variables and pose errors are integrated out.
    """
    return mean.marginal(*likelihood(observations, mean, basis, variance))


def residual_shift(
    observations: Observations, mean: MeanMap, basis: Tensor, variance: Tensor | None = None
) -> float:
    """Estimate the standard deviation (px of the store, along x and y) of image shifts under a fitted model.

    Returns 0 if the images do not show any shifts (`reconstruction.tilt_shifts`).
    """
    prior = latent_prior(basis, mean)
    sums = torch.zeros(len(DEVIATIONS), dtype=torch.float64, device=basis.device)
    for seen in likelihoods(observations, replace(mean, tilt_shift_px=0.0), basis, variance, shifts=True):
        latents, owner = posterior(seen, mean, prior), seen.chunk.owner
        sums += log_likelihoods(*seen.shifts.residual(latents.mean[owner], latents.covariance[owner]))
    sums = observations.processes.add_up(sums)
    return most_likely(sums.cpu().numpy(), observations.copies)
