"""Expectation maximisation of the linear latent model in Fourier space.

y_pi = h_pi S_pi (mu + sum_j z_pj U_j) + noise,  z_p ~ N(0, 1).

E: posterior covariance C_p = (A_p + 1)^-1 and mean z_p = C_p b_p, from what images say (`likelihood`).
M: all basis maps together by conjugate gradients on sum_l T_jl U_l = B_j in whitened variables, with T_jl the
   Toeplitz operator of w (z_j z_l + C_jl) / s2 and B_j = sum S^H (q - w S mu) z_j / s2.
PX (parameter expansion): the second moment of z is moved into U, which keeps z ~ N(0, 1) and speeds EM up
(`parameter_expansion`).
EB (empirical Bayes): each basis map's prior follows from its posterior (`prior_power`, `locality`).

Where poses have errors (`reconstruction.pose_errors`), these are six further latents of known maps T, the
tangents of mu: E finds the posterior of both, M takes what the errors add to the images off in expectation,
w S T E[a z_j], and PX moves into U what errors and latents have in common. Shifts of single images likewise.
"""

import torch
from torch import Tensor

from tomohet.linear.likelihood import (
    ChunkLikelihood,
    Latents,
    latent_prior,
    likelihoods,
    n_latents_of,
    posterior,
)
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.observations import Chunk, Observations
from tomohet.reconstruction.residuals import residuals
from tomohet.reconstruction.solve import NormalEquations


def expectation(
    observations: Observations,
    mean: MeanMap,
    basis: Tensor,
    variance: Tensor | None = None,
    *,
    accumulate: bool,
) -> tuple[Latents, NormalEquations | None]:
    """Posterior of the process's particles under the present basis (K, D, D, D) and pose errors, and, in the
    same pass, the M-step's equations, those of all processes.

    variance (K, shells): of the coefficients of the basis maps; None: they are known exactly.
    """
    n_basis, n_latents = len(basis), n_latents_of(basis, mean)
    z = basis.new_empty(len(observations), n_latents)
    covariance = basis.new_empty(len(observations), n_latents, n_latents)
    equations = _empty_equations(observations, n_basis) if accumulate else None
    prior = latent_prior(basis, mean)
    for seen in likelihoods(observations, mean, basis, variance):
        part, own = seen.chunk.part, posterior(seen, mean, prior)
        z[part], covariance[part] = own.mean, own.covariance
        if equations is not None:
            moved = _moved(seen, own, mean, n_basis)
            _add(equations, seen.chunk, seen.residual, own.first(n_basis), moved)
    if equations is not None:
        equations.add_up(observations.processes)
    return Latents(z, covariance), equations


def _moved(seen: ChunkLikelihood, latents: Latents, mean: MeanMap, n_basis: int) -> Tensor | float:
    """What pose errors and shifts of images add to the residual times each latent (m, n, K), in expectation:
    w S T E[a z_j] + w D E[d z_j]."""
    if mean.errors is None and not mean.tilt_shift_px:
        return 0.0
    z, owner, added = latents.mean, seen.chunk.owner, 0.0
    if mean.errors is not None:
        both = z[:, n_basis:, None] * z[:, None, :n_basis] + latents.covariance[:, n_basis:, :n_basis]
        added = added + _combined(seen.slices[..., n_basis:], both[owner])
    if mean.tilt_shift_px:
        second = z[:, :, None] * z[:, None] + latents.covariance
        both = seen.shifts.moments(mean.tilt_shift_px, z[owner], second[owner])
        added = added + _combined(seen.shifts.tangents, both[..., :n_basis])
    return seen.chunk.weight[..., None] * added


def _combined(slices: Tensor, factors: Tensor) -> Tensor:
    """Complex slices (m, n, L) times real factors (m, L, K)."""
    real = torch.view_as_real(slices).transpose(2, 3)  # (m, n, 2, L)
    products = (real.flatten(1, 2) @ factors).unflatten(1, (-1, 2))
    return torch.view_as_complex(products.transpose(2, 3).contiguous())


def first_equations(observations: Observations, mean: MeanMap, z: Tensor) -> NormalEquations:
    """The M-step's equations, those of all processes, for given latents (N, K) of the process's particles,
    without posterior variance.
    """
    equations = _empty_equations(observations, z.shape[1])
    for seen in residuals(observations, mean):
        own = z[seen.chunk.part]
        _add(equations, seen.chunk, seen.residual, Latents(own, own.new_zeros(*own.shape, own.shape[1])))
    return equations.add_up(observations.processes)


def _empty_equations(observations: Observations, n_basis: int) -> NormalEquations:
    return NormalEquations(observations.box, n_basis, observations.device, coupled=True)


def _add(
    equations: NormalEquations,
    chunk: Chunk,
    residual: Tensor,
    latents: Latents,
    moved: Tensor | float = 0.0,
) -> None:
    """Add a whitened chunk's images to the M-step's equations; latents of its particles only.

    moved: (m, n, K), what pose errors add to the residual times each latent, in expectation.
    """
    z, (first, other) = latents.mean[chunk.owner], equations.pairs
    second = (latents.mean[:, :, None] * latents.mean[:, None, :] + latents.covariance)[chunk.owner]
    data = residual[..., None] * z[:, None, :] - moved
    equations.add(chunk, data, chunk.weight[..., None] * second[:, first, other][:, None, :])
