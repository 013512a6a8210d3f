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
from tomohet.physics.slicing import (
    PADDING,
    gather,
    scatter,
    toeplitz_kernel,
    transform,
    transform_adjoint,
)
from tomohet.processes import Processes
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.observations import Chunk, Observations
from tomohet.reconstruction.prior import (
    SpectralPrior,
    conjugate_gradients,
    preconditioner,
    shell_precision,
)

CG_ITERATIONS = 12


class Equations:
    """Accumulated normal equations of the M-step: K data tables and K (K+1) / 2 weight tables."""

    def __init__(self, box: int, n_basis: int, device: torch.device) -> None:
        size = (PADDING * box) ** 3
        self.box = box
        self.pairs = torch.tril_indices(n_basis, n_basis, device=device)
        self.data = torch.zeros(size, n_basis, dtype=torch.complex64, device=device)
        self.weight = torch.zeros(size, self.pairs.shape[1], device=device)

    @property
    def n_basis(self) -> int:
        """Number of basis maps."""
        return self.data.shape[1]

    def add(self, chunk: Chunk, residual: Tensor, latents: Latents, moved: Tensor | float = 0.0) -> None:
        """Add a whitened chunk's images; latents of its particles only.

        moved: (m, n, K), what pose errors add to the residual times each latent, in expectation.
        """
        z = latents.mean[chunk.owner]
        second = (latents.mean[:, :, None] * latents.mean[:, None, :] + latents.covariance)[chunk.owner]
        second = second[:, self.pairs[0], self.pairs[1]]
        data = residual[..., None] * z[:, None, :] - moved
        scatter(self.data, chunk.index, chunk.corner_weight, data)
        weights = chunk.weight[..., None] * second[:, None, :]
        scatter(self.weight, chunk.index, chunk.corner_weight, weights)

    def add_up(self, processes: Processes) -> "Equations":
        """The sum over all processes, in place."""
        processes.add_up(torch.view_as_real(self.data))
        processes.add_up(self.weight)
        return self

    def solve(self, priors: list[SpectralPrior], start: Tensor) -> Tensor:
        """Basis maps (K, D, D, D) by conjugate gradients from white variables `start`."""
        n_basis = self.n_basis
        kernel = toeplitz_kernel(self.weight, self.box)
        full = kernel.new_empty(n_basis, n_basis, *kernel.shape[1:])
        full[self.pairs[0], self.pairs[1]] = kernel
        full[self.pairs[1], self.pairs[0]] = kernel

        def colour(white: Tensor) -> Tensor:
            return torch.stack([prior.colour(v) for prior, v in zip(priors, white, strict=True)])

        def adjoint(maps: Tensor) -> Tensor:
            return torch.stack([prior.colour_adjoint(v) for prior, v in zip(priors, maps, strict=True)])

        def apply(white: Tensor) -> Tensor:
            return white + adjoint(2 * toeplitz_apply_block(full, colour(white)))

        right = adjoint(2 * transform_adjoint(self.data, self.box))
        power = torch.stack([prior.power for prior in priors])
        inverse = preconditioner(self.precision(power.shape[1]) * power, self.box)
        white = conjugate_gradients(apply, right, start, CG_ITERATIONS, inverse)
        return colour(white)

    def precision(self, n_shells: int) -> Tensor:
        """Data precision of a Fourier coefficient of each basis map per shell, (K, n_shells)."""
        return shell_precision(self.weight[:, self.pairs[0] == self.pairs[1]], self.box, n_shells)


def toeplitz_apply_block(kernel: Tensor, maps: Tensor) -> Tensor:
    """sum_l T_jl U_l for kernels (K, K, 2D, 2D, D+1) and maps (K, D, D, D)."""
    box = maps.shape[-1]
    size = (PADDING * box,) * 3
    spectra = torch.fft.rfftn(maps, s=size, dim=(-3, -2, -1))
    product = torch.einsum("jlzyx,lzyx->jzyx", kernel.to(spectra.dtype), spectra)
    return torch.fft.irfftn(product, s=size, dim=(-3, -2, -1))[..., :box, :box, :box]


def expectation(
    observations: Observations,
    mean: MeanMap,
    basis: Tensor,
    variance: Tensor | None = None,
    *,
    accumulate: bool,
) -> tuple[Latents, Equations | None]:
    """Posterior of the process's particles under the present basis (K, D, D, D) and pose errors, and, in the
    same pass, the M-step's equations, those of all processes.

    variance (K, shells): of the coefficients of the basis maps; None: they are known exactly.
    """
    n_basis, n_latents = len(basis), n_latents_of(basis, mean)
    z = basis.new_empty(len(observations), n_latents)
    covariance = basis.new_empty(len(observations), n_latents, n_latents)
    equations = Equations(observations.box, n_basis, observations.device) if accumulate else None
    prior = latent_prior(basis, mean)
    for seen in likelihoods(observations, mean, basis, variance):
        part, own = seen.chunk.part, posterior(seen, mean, prior)
        z[part], covariance[part] = own.mean, own.covariance
        if equations is not None:
            moved = _moved(seen, own, mean, n_basis)
            equations.add(seen.chunk, seen.residual, own.first(n_basis), moved)
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


def first_equations(observations: Observations, mean: MeanMap, z: Tensor) -> Equations:
    """The M-step's equations, those of all processes, for given latents (N, K) of the process's particles,
    without posterior variance.
    """
    table = transform(mean.volume[None])
    latents = Latents(z, z.new_zeros(len(z), z.shape[1], z.shape[1]))
    equations = Equations(observations.box, z.shape[1], observations.device)
    for chunk in mean.noise.whitened(observations):
        slices = gather(table, chunk.index, chunk.corner_weight)[..., 0]
        part = chunk.part
        residual = chunk.numerator - chunk.weight * slices
        equations.add(chunk, residual, Latents(latents.mean[part], latents.covariance[part]))
    return equations.add_up(observations.processes)
