"""Discrete states: a mixture of maps, by expectation maximisation on the images.

y_pi = h_pi S_pi (mu + d_s) + noise for particle p in state s, of prior probability pi_s.

E: log p(y_p | s) - log p(y_p | mu) = b_ps - a_ps / 2, with a = 2 sum w |S d|^2 / s2 and
   b = 2 Re sum (S d)^H (q - w S mu) / s2; less what of it a particle owes to its own noise in d_s.
M: d_s = e_s - sum_t g_t e_t by maximum a posteriori from all images, weighted by their responsibilities r_ps,
   under the spectral prior of power c_s P_mu for e_s; all states in one pass over the images. With g the
   states' shares at the start, the mean of the states is the mean map: what is noise in it, or missing from
   it, does not come back in every state.
EB: c_s follows from d_s and its posterior variance (`em.prior_scales`).
"""

import logging
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tomohet.linear.em import CG_ITERATIONS, prior_scales
from tomohet.physics.slicing import (
    PADDING,
    gather,
    scatter,
    toeplitz_apply,
    toeplitz_kernel,
    transform,
    transform_adjoint,
)
from tomohet.progress import track
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.observations import Chunk, Observations
from tomohet.reconstruction.prior import (
    SpectralPrior,
    conjugate_gradients,
    preconditioner,
    shell_index,
    shell_precision,
)

log = logging.getLogger(__name__)

MOST_ITERATIONS = 12
FIRST_PRIOR_SCALE = 0.3
LEAST_SHARE = 1e-12
LEAST_PART = 0.05
# Share of the particles that change their state from one iteration to the next, below which EM stops.
CONVERGED = 1e-3


@dataclass(frozen=True)
class Mixture:
    """difference (S, D, D, D): state maps less the mean map; white: e_s in whitened variables.

    prior_scale (S,): power of the prior of e_s relative to the mean map's; centre (S,): g, what the mean map
    holds of each state; responsibility (N, S): what the maps were made with; leverage (N, S): log likelihood
    that a particle owes, in each state, to its own noise in the maps.
    """

    difference: Tensor
    white: Tensor
    prior_scale: Tensor
    centre: Tensor
    responsibility: Tensor
    leverage: Tensor

    @property
    def share(self) -> Tensor:
        """(S,) share of the particles in each state."""
        return self.responsibility.mean(0)


class StateEquations:
    """Accumulated normal equations of the state maps: S data tables and S weight tables."""

    def __init__(self, observations: Observations, n_states: int) -> None:
        self.box, device = observations.box, observations.device
        size = (PADDING * self.box) ** 3
        self.data = torch.zeros(size, n_states, dtype=torch.complex64, device=device)
        self.weight = torch.zeros(size, n_states, device=device)
        self.information = torch.zeros(len(observations), self.box // 2 + 1, device=device)
        self._rows = observations.shell.clamp(max=self.box // 2)

    def add(self, chunk: Chunk, residual: Tensor, responsibility: Tensor) -> None:
        """Add a whitened chunk's images; residual q - w S mu (m, n), responsibility of its particles only."""
        own, weight = responsibility[chunk.owner][:, None], chunk.weight
        scatter(self.data, chunk.index, chunk.corner_weight, residual[..., None] * own)
        scatter(self.weight, chunk.index, chunk.corner_weight, weight[..., None] * own)
        per_shell = weight.new_zeros(len(weight), self.information.shape[1]).index_add_(1, self._rows, weight)
        self.information[chunk.part].index_add_(0, chunk.owner, per_shell)

    def solve(self, mean: MeanMap, scales: Tensor, centre: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Difference maps and white variables (S, D, D, D) by conjugate gradients from `start`."""
        kernels = toeplitz_kernel(self.weight, self.box)
        prior = SpectralPrior(mean.mask, mean.power)
        mixing = _mixing(scales, centre)

        def colour(white: Tensor) -> Tensor:
            return prior.colour(torch.tensordot(mixing, white, dims=1))

        def adjoint(maps: Tensor) -> Tensor:
            return torch.tensordot(mixing.T, prior.colour_adjoint(maps), dims=1)

        def apply(white: Tensor) -> Tensor:
            return white + adjoint(2 * toeplitz_apply(kernels, colour(white)))

        right = adjoint(2 * transform_adjoint(self.data, self.box))
        precision = mixing.square().T @ self.precision(len(mean.power))
        inverse = preconditioner(precision * mean.power, self.box)
        white = conjugate_gradients(apply, right, start, CG_ITERATIONS, inverse)
        return colour(white), white

    def precision(self, n_shells: int) -> Tensor:
        """Data precision of a Fourier coefficient of each state map per shell, (S, n_shells)."""
        return shell_precision(self.weight, self.box, n_shells)


def state_scores(
    observations: Observations, mean: MeanMap, difference: Tensor, visit=lambda *_: None
) -> Tensor:
    """(N, S) log likelihood of every particle in every state, over that of the mean map.

    visit: called with every whitened chunk, its residual q - w S mu (m, n) and its particles' scores.
    """
    table = transform(torch.cat([mean.volume[None], difference]))
    scores = difference.new_empty(len(observations), len(difference))
    for chunk in mean.noise.whitened(observations):
        slices = gather(table, chunk.index, chunk.corner_weight)
        residual = chunk.numerator - chunk.weight * slices[..., 0]
        maps = torch.view_as_real(slices[..., 1:])
        projected = torch.einsum("mnsc,mnc->ms", maps, torch.view_as_real(residual))
        power = torch.einsum("mnsc,mnsc,mn->ms", maps, maps, chunk.weight)
        own = scores.new_zeros(chunk.n_particles, scores.shape[1])
        scores[chunk.part] = own.index_add_(0, chunk.owner, 2 * projected - power)
        visit(chunk, residual, scores[chunk.part])
    return scores


def reconstruct_states(observations: Observations, mean: MeanMap, responsibility: Tensor) -> Mixture:
    """State maps of given responsibilities (N, S), under a first prior."""
    n_states = responsibility.shape[1]
    equations = StateEquations(observations, n_states)
    table = transform(mean.volume[None])
    for chunk in mean.noise.whitened(observations):
        slices = gather(table, chunk.index, chunk.corner_weight)[..., 0]
        residual = chunk.numerator - chunk.weight * slices
        equations.add(chunk, residual, responsibility[chunk.part])
    scales = torch.full((n_states,), FIRST_PRIOR_SCALE, device=observations.device)
    start = scales.new_zeros(n_states, *mean.volume.shape)
    return _maximisation(equations, mean, responsibility, scales, responsibility.mean(0), start)


def iterate(
    observations: Observations, mean: MeanMap, mixture: Mixture, *, adapt: bool = True, cross: bool = True
) -> Mixture:
    """One iteration of EM, in one pass over the images.

    adapt: whether the priors follow the maps; cross: whether scores leave out what a particle's own noise in
    the maps adds to them.
    """
    equations = StateEquations(observations, len(mixture.difference))
    responsibility = torch.empty_like(mixture.responsibility)

    def visit(chunk: Chunk, residual: Tensor, scores: Tensor) -> None:
        joint = log_joint(mixture, scores, chunk.part, cross=cross)
        responsibility[chunk.part] = torch.softmax(joint, dim=1)
        equations.add(chunk, residual, responsibility[chunk.part])

    state_scores(observations, mean, mixture.difference, visit)
    scales = mixture.prior_scale
    if adapt:
        precision, part = equations.precision(len(mean.power)), _part_of_difference(mixture.centre)
        everywhere = torch.ones_like(mean.mask)
        scales = prior_scales(mixture.difference, mean, precision, scales * part, everywhere) / part
    return _maximisation(equations, mean, responsibility, scales, mixture.centre, mixture.white)


def log_joint(mixture: Mixture, scores: Tensor, part: slice = slice(None), *, cross: bool = True) -> Tensor:
    """log pi_s p(y_p | s) (P, S) of the particles `part`, up to what is the same for all states."""
    own = mixture.leverage[part] if cross else 0
    return mixture.share.clamp_min(LEAST_SHARE).log() + scores - own


def objective(mixture: Mixture, scores: Tensor) -> float:
    """Log posterior of maps and shares, which EM with fixed priors and without `cross` never lowers."""
    joint = log_joint(mixture, scores, cross=False)
    return (torch.logsumexp(joint.double(), 1).sum() - mixture.white.double().square().sum() / 2).item()


def refine_states(
    observations: Observations, mean: MeanMap, responsibility: Tensor, *, cross: bool = True
) -> Mixture:
    """State maps and responsibilities by EM from given responsibilities (N, S)."""
    mixture = reconstruct_states(observations, mean, responsibility)
    for iteration in track(range(MOST_ITERATIONS), unit="iterations", description="states"):
        before = mixture.responsibility
        mixture = iterate(observations, mean, mixture, cross=cross)
        changed = (mixture.responsibility - before).abs().sum(1).mean().item() / 2
        log.info("EM iteration %d: %.2g %% of the particles change their state", iteration + 1, 100 * changed)
        if changed < CONVERGED:
            break
    scores = state_scores(observations, mean, mixture.difference)
    final = torch.softmax(log_joint(mixture, scores, cross=cross), dim=1)
    return replace(mixture, responsibility=final)


def _maximisation(
    equations: StateEquations,
    mean: MeanMap,
    responsibility: Tensor,
    scales: Tensor,
    centre: Tensor,
    start: Tensor,
) -> Mixture:
    difference, white = equations.solve(mean, scales, centre, start)
    leverage = _leverage(equations, mean, responsibility, _mixing(scales, centre))
    return Mixture(difference, white, scales, centre, responsibility, leverage)


def _mixing(scales: Tensor, centre: Tensor) -> Tensor:
    """(S, S): what unit power of each e_t, in column t, gives to every d_s = e_s - sum_t g_t e_t."""
    return (torch.eye(len(scales), device=scales.device) - centre) * scales.sqrt()


def _part_of_difference(centre: Tensor) -> Tensor:
    """(S,) power of d_s = e_s - sum_t g_t e_t over that of e, were that of all states the same."""
    return (1 - 2 * centre + centre.square().sum()).clamp_min(LEAST_PART)


def _leverage(equations: StateEquations, mean: MeanMap, responsibility: Tensor, mixing: Tensor) -> Tensor:
    """(N, S) sum_t r_pt tr(I_p C_st) of a particle's information I and the maps' posterior covariance C.

    To first order this is what its own noise, being in d_t by r_pt, adds to its score in state s. C is the
    same for all coefficients of a shell, and information that which a particle has per shell.
    """
    n_shells = len(mean.power)
    precision = equations.precision(n_shells)
    q = (precision * mean.power).T[..., None]  # (shells, S, 1)
    identity = torch.eye(len(mixing), device=mixing.device)
    covariance = mixing @ torch.linalg.solve(identity + mixing.T @ (q * mixing), mixing.T)
    shells = shell_index(equations.box, mixing.device).flatten()
    coefficients = 2 * torch.bincount(shells, minlength=n_shells)[:n_shells] * mean.mask.square().mean()
    whole = equations.information.sum(0).clamp_min(1e-12)
    information = equations.information * (precision.sum(0) * mean.power * coefficients / whole)
    return torch.einsum("pk,kst,pt->ps", information, covariance, responsibility)
