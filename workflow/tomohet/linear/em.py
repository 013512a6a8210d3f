"""Expectation maximisation of the linear latent model in Fourier space.

y_pi = h_pi S_pi (mu + sum_j z_pj U_j) + noise,  z_p ~ N(0, 1).

E: A_p = 2 Re sum (h S U)^H (h S U) / s2, b_p = 2 Re sum (S U)^H (q - w S mu) / s2, posterior
   covariance C_p = (A_p + 1)^-1, mean z_p = C_p b_p. Basis maps are not known exactly: with the posterior
   variance V_j of their coefficients A_p holds 2 sum w V / s2 besides (variational Bayes). A map that is
   mostly noise so tells little, and weak blocks are not lost to it.
M: all basis maps together by conjugate gradients on sum_l T_jl U_l = B_j in whitened variables, with T_jl the
   Toeplitz operator of w (z_j z_l + C_jl) / s2 and B_j = sum S^H (q - w S mu) z_j / s2.
PX (parameter expansion): the second moment of z is moved into U, which keeps z ~ N(0, 1) and speeds EM up
(`parameter_expansion`).
EB (empirical Bayes): each basis map's prior follows from its posterior (`prior_power`, `locality`).

Where poses have errors (`reconstruction.pose_errors`), these are six further latents of known maps T, the
tangents of mu: E finds the posterior of both, M takes what the errors add to the images off in expectation,
w S T E[a z_j], and PX moves into U what errors and latents have in common.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

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
from tomohet.reconstruction.pose_errors import N_TANGENTS
from tomohet.reconstruction.prior import (
    SpectralPrior,
    conjugate_gradients,
    preconditioner,
    shell_precision,
)

CG_ITERATIONS = 12


@dataclass(frozen=True)
class Latents:
    """Posterior of every particle: mean (N, K), covariance (N, K, K).

    Behind the latents of the basis maps are those of the mean map's nuisance, if it has any, and the last six
    are the pose errors that are left, where it has any.
    """

    mean: Tensor
    covariance: Tensor

    def first(self, k: int) -> "Latents":
        """The posterior of the first k, the others integrated out."""
        return Latents(self.mean[:, :k], self.covariance[:, :k, :k])

    def turned(self, rotation: Tensor) -> "Latents":
        """The posterior of R' z for an orthogonal R (k, k) of the first k, the others as they are."""
        k = len(rotation)
        whole = torch.eye(self.mean.shape[1], dtype=rotation.dtype, device=rotation.device)
        whole[:k, :k] = rotation
        return Latents(self.mean @ whole, whole.T @ self.covariance @ whole)


def posterior(chunk: Chunk, slices: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
    """A (P, K, K) and b (P, K) of the particles of a whitened chunk.

    slices (m, n, K) complex of the basis maps; residual (m, n) complex, q - w S mu.
    """
    scaled = torch.view_as_real(slices * torch.sqrt(chunk.weight)[..., None])
    rows = scaled.permute(0, 1, 3, 2).flatten(1, 2)  # (m, 2n, K) reals
    precision = 2 * rows.transpose(1, 2) @ rows
    projection = 2 * (slices.conj() * residual[..., None]).real.sum(1)
    a = precision.new_zeros(chunk.n_particles, *precision.shape[1:]).index_add_(0, chunk.owner, precision)
    b = projection.new_zeros(chunk.n_particles, projection.shape[1]).index_add_(0, chunk.owner, projection)
    return a, b


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
    for chunk, residual, slices, a, b in likelihoods(observations, mean, basis, variance):
        part = chunk.part
        if mean.errors is not None:
            a, b = mean.errors.with_prior(a, b, part)
        covariance[part] = torch.linalg.inv(a + prior)
        z[part] = (covariance[part] @ b[..., None])[..., 0]
        if equations is not None:
            own = Latents(z[part], covariance[part])
            moved = _moved(chunk, slices, own, n_basis) if mean.errors is not None else 0.0
            equations.add(chunk, residual, own.first(n_basis), moved)
    if equations is not None:
        equations.add_up(observations.processes)
    return Latents(z, covariance), equations


def n_latents_of(basis: Tensor, mean: MeanMap) -> int:
    """Number of latents of a particle: one of each basis map, those of the nuisance and of pose errors."""
    others = (
        0 if mean.nuisance is None else len(mean.nuisance.maps),
        0 if mean.errors is None else N_TANGENTS,
    )
    return len(basis) + sum(others)


def latent_prior(basis: Tensor, mean: MeanMap) -> Tensor:
    """Prior precision of the latents of a particle; 0 for pose errors, whose prior is their own."""
    n_latents = n_latents_of(basis, mean)
    n_errors = 0 if mean.errors is None else N_TANGENTS
    return torch.diag((torch.arange(n_latents, device=basis.device) < n_latents - n_errors).to(basis))


def _moved(chunk: Chunk, slices: Tensor, latents: Latents, n_basis: int) -> Tensor:
    """w S T E[a z_j] (m, n, K) with the latents of all maps and of pose errors."""
    z, errors = latents.mean[:, None, :n_basis], latents.mean[:, n_basis:, None]
    both = errors * z + latents.covariance[:, n_basis:, :n_basis]
    real = torch.view_as_real(slices[..., n_basis:]).transpose(2, 3)  # (m, n, 2, 6)
    products = real.flatten(1, 2) @ both[chunk.owner]
    pairs = products.reshape(*slices.shape[:2], 2, n_basis).transpose(2, 3).contiguous()
    return chunk.weight[..., None] * torch.view_as_complex(pairs)


def likelihood(
    observations: Observations, mean: MeanMap, basis: Tensor, variance: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """A (N, K, K) and b (N, K) of the process's particles; arguments as of `expectation`, latents as of
    `Latents`.

    log p(y | z) = b z - z A z / 2 + what z does not change.
    """
    n_latents = n_latents_of(basis, mean)
    precision = basis.new_empty(len(observations), n_latents, n_latents)
    projection = basis.new_empty(len(observations), n_latents)
    for chunk, _, _, a, b in likelihoods(observations, mean, basis, variance):
        precision[chunk.part], projection[chunk.part] = a, b
    return precision, projection


def latent_likelihood(
    observations: Observations, mean: MeanMap, basis: Tensor, variance: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """A (N, K, K) and b (N, K) of the latents of the basis maps, nuisance and pose errors integrated out."""
    return mean.marginal(*likelihood(observations, mean, basis, variance))


def likelihoods(observations: Observations, mean: MeanMap, basis: Tensor, variance: Tensor | None):
    """Chunk by chunk: the whitened chunk, its residual q - w S mu, the slices of all maps, A and b."""
    if mean.nuisance is not None:
        basis = torch.cat([basis, mean.nuisance.maps])
        variance = None if variance is None else torch.cat([variance, mean.nuisance.variance])
    known = [] if mean.errors is None else [mean.errors.maps]
    table = transform(torch.cat([mean.volume[None], basis, *known]))
    of_row = None if variance is None else 2 * variance[:, observations.shell].T
    for chunk in mean.noise.whitened(observations):
        slices = gather(table, chunk.index, chunk.corner_weight)
        residual = chunk.numerator - chunk.weight * slices[..., 0]
        a, b = posterior(chunk, slices[..., 1:], residual)
        if of_row is not None:
            uncertain = a.diagonal(dim1=1, dim2=2)[:, : len(basis)]
            uncertain.index_add_(0, chunk.owner, chunk.weight @ of_row)
        yield chunk, residual, slices[..., 1:], a, b


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
