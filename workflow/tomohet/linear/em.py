"""PPCA by EM with parameter expansion, on tilt images in Fourier space.

The model is probabilistic principal component analysis (Tipping & Bishop 1999), observed through a known
linear operator for each image:

    y_pi = h_pi S_pi (mu + sum_j z_pj U_j) + noise,   z_p ~ N(0, 1).

E step: the posterior of the latents has the covariance C_p = (A_p + 1)^-1 and the mean z_p = C_p b_p. A_p and
b_p are the likelihood of the particle's images (`likelihood`).
M step: all basis maps are solved for together, from sum_l T_jl U_l = B_j, by conjugate gradients in whitened
variables. T_jl is the Toeplitz operator of w (z_j z_l + C_jl) / s2, and B_j = sum S^H (q - w S mu) z_j / s2.
PX (parameter expansion; Liu, Rubin & Wu 1998): the second moment of z is absorbed into U. This keeps z ~ N(0,
1) and accelerates EM (`parameter_expansion`).
EB (empirical Bayes): the prior of each basis map is estimated from its posterior (`prior_power`, `locality`).

Pose errors (`reconstruction.pose_errors`) are six further latents a with known maps T, the tangents of mu.
The E step computes the joint posterior of latents and pose errors. The M step subtracts the expected
contribution of the pose errors to the images, w S T E[a z_j]. PX moves the part of the pose errors that
correlates with the latents into U. Shifts of single images are treated in the same way.
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
    """Compute the posterior of the process's particles, and optionally the normal equations of the M step.

    Both come from one pass over the images. The posterior is computed for the present basis maps and pose
    errors. The normal equations are summed over all processes.

    basis : (K, D, D, D)
    variance : (K, shells) posterior variance of the Fourier coefficients of the basis maps; None treats the
        maps as known exactly
    accumulate : whether to return the normal equations
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
    """Return the expected effect of pose errors and image shifts on residual times latent, (m, n, K).

    w S T E[a z_j] + w D E[d z_j], with the tangents T and D of pose errors a and image shifts d.
    """
    if mean.errors is None and not mean.tilt_shift_px:
        return 0.0
    z, owner, added = latents.mean, seen.chunk.owner, 0.0
    if mean.errors is not None:
        both = z[:, n_basis:, None] * z[:, None, :n_basis] + latents.covariance[:, n_basis:, :n_basis]
        added = added + _combined(seen.slices[..., n_basis:], both[owner])
    if mean.tilt_shift_px:
        both = seen.shifts.moments(mean.tilt_shift_px, z[owner], latents.second_moment[owner])
        added = added + _combined(seen.shifts.tangents, both[..., :n_basis])
    return seen.chunk.weight[..., None] * added


def _combined(slices: Tensor, factors: Tensor) -> Tensor:
    """Multiply complex slices (m, n, L) by real factors (m, L, K)."""
    real = torch.view_as_real(slices).transpose(2, 3)  # (m, n, 2, L)
    products = (real.flatten(1, 2) @ factors).unflatten(1, (-1, 2))
    return torch.view_as_complex(products.transpose(2, 3).contiguous())


def first_equations(observations: Observations, mean: MeanMap, z: Tensor) -> NormalEquations:
    """Build the normal equations of the M step for given latents (N, K), without posterior variance.

    The latents are those of the process's particles; the equations are summed over all processes.
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
    """Add the images of a whitened chunk to the normal equations of the M step.

    latents : posterior of the chunk's particles only
    moved : (m, n, K) expected contribution of pose errors to the residual times each latent
    """
    z, (first, other) = latents.mean[chunk.owner], equations.pairs
    second = latents.second_moment[chunk.owner]
    data = residual[..., None] * z[:, None, :] - moved
    equations.add(chunk, data, chunk.weight[..., None] * second[:, first, other][:, None, :])
