"""PX-EM (parameter expansion; Liu, Rubin & Wu 1998) and over-relaxation: steps that accelerate EM.

Parameter expansion absorbs the second moment M = mean of z z^T + C = L L^T of the latents into the basis
maps, U <- U L Q. The likelihood of the maps is unchanged. The rotation Q orders the maps by power.
"""

from dataclasses import replace

import torch
from torch import Tensor

from tomohet.linear.likelihood import Latents
from tomohet.processes import ALONE, Processes
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.pose_errors import LEAST_GAIN, N_TANGENTS, PoseErrors, of_errors, prior_deviation

# Multiple of the variance that latents explain by chance which is removed; more than 1 for a margin.
CHANCE = 3.0


def expansion(
    basis: Tensor, latents: Latents, processes: Processes = ALONE, n_particles: int | None = None
) -> Tensor:
    """Return the matrix L Q (K, K) of parameter expansion.

    Its columns are the new basis maps in terms of the old ones. The new maps give the latents unit second
    moment, and are ordered by power.

    latents : posterior of the process's particles; the moment is that of all n_particles
    """
    sums = processes.add_up(latents.mean.T @ latents.mean + latents.covariance.sum(0))
    second = sums / (n_particles or len(latents.mean))
    factor = torch.linalg.cholesky(second.double())
    rotation = torch.linalg.eigh(factor.T @ _gram(basis).double() @ factor)[1]
    return (factor @ rotation.flip(1)).float()


def expansion_of_parts(
    basis: Tensor,
    latents: Latents,
    n_first: int,
    processes: Processes = ALONE,
    n_particles: int | None = None,
) -> Tensor:
    """Apply `expansion` separately to the first n_first maps and to the other maps.

    Maps inside and outside the focus mask therefore do not mix.
    """
    if n_first == len(basis):
        return expansion(basis, latents, processes, n_particles)
    parts = (slice(n_first), slice(n_first, len(basis)))
    own = (Latents(latents.mean[:, part], latents.covariance[:, part, part]) for part in parts)
    of_each = (expansion(basis[part], z, processes, n_particles) for part, z in zip(parts, own, strict=True))
    return torch.block_diag(*of_each)


def shared_with_errors(
    latents: Latents,
    mean: MeanMap,
    processes: Processes = ALONE,
    n_particles: int | None = None,
    copies: float = 1.0,
) -> tuple[Tensor, PoseErrors | None]:
    """Apply PX to pose errors: return their regression (6, K) on the latents, and the remaining errors.

    The regression moves into the basis maps. The size of the remaining errors maximises the marginal
    likelihood, unless it is settled. None is returned for the errors if the images do not show any.

    latents : posterior of the process's particles, with the pose errors as the last six latents
    copies : mean number of copies of each particle among the particles
    """
    errors, k = mean.errors, latents.mean.shape[1] - N_TANGENTS
    whole = torch.cat([latents.mean[:, :k], latents.mean[:, k:] + errors.offset], dim=1)
    moments = processes.add_up(whole.T @ whole + latents.covariance.sum(0)).double()
    count = n_particles or len(whole)
    shared = torch.linalg.solve(moments[:k, :k], moments[:k, k:]).T
    shared = _less_chance(shared, moments, count / copies).float()
    if errors.settled:
        return shared, errors
    # Likelihood in terms of the latents and of the pose errors that the regression leaves.
    precision = torch.linalg.inv(latents.covariance.double())
    projection = (precision @ latents.mean.double()[..., None])[..., 0]
    prior = torch.cat([torch.ones_like(errors.precision[:1]).expand(k), errors.precision]).double()
    precision = precision - torch.diag(prior)
    projection[:, k:] += errors.precision.double() * errors.offset.double()
    change = torch.eye(k + N_TANGENTS, dtype=torch.float64, device=shared.device)
    change[k:, :k] = shared
    tables = of_errors(change.T @ precision @ change, projection @ change)
    joined = (processes.joined_parts(table, count) for table in (*tables, errors.offset))
    deviation, gain = prior_deviation(*joined)
    return shared, replace(errors, deviation=deviation) if gain > LEAST_GAIN * copies else None


def _less_chance(regression: Tensor, moments: Tensor, count: float) -> Tensor:
    """Return the regression (6, K) of pose errors on latents, minus the part that chance explains.

    By chance, latents explain K / count of the variance of rotations (first three rows) and of shifts. If
    this part were kept, it would grow: basis maps explain pose errors as well as the tangents do, although
    they have to be learnt, so the pose errors would move into the basis maps little by little.
    """
    k = regression.shape[1]
    shrunk = torch.zeros_like(regression)
    for rows in (slice(3), slice(3, 6)):
        own = regression[rows]
        explained = (own @ moments[:k, :k] @ own.T).trace() / moments[k:, k:][rows, rows].trace()
        shrunk[rows] = own * (1 - CHANCE * k / count / explained.clamp_min(1e-12)).clamp(0, 1)
    return shrunk


def missing_information(
    latents: Latents, processes: Processes = ALONE, n_particles: int | None = None
) -> Tensor:
    """Return (K,) mean posterior variance of each latent, 0 to 1: the fraction of missing information.

    It is the fraction of the prior variance that the images do not determine. Each EM iteration leaves about
    this fraction of the distance to convergence (Dempster, Laird & Rubin 1977).
    """
    left = processes.add_up(torch.diagonal(latents.covariance, dim1=1, dim2=2).sum(0))
    return left / (n_particles or len(latents.mean))


def out_of_span(latents: Tensor, known: Tensor, processes: Processes = ALONE) -> float:
    """Return the fraction of the latents' second moment that lies outside the span of previous latents.

    latents, known : (N, K) of the process's particles, now and before; the fraction is that of all particles
    """
    pairs = (latents, latents), (known, known), (known, latents)
    moments = torch.stack([left.double().T @ right.double() for left, right in pairs])
    own, old, common = processes.add_up(moments)
    return float(1 - (common * (torch.linalg.pinv(old, hermitian=True) @ common)).sum() / own.trace())


def _gram(maps: Tensor) -> Tensor:
    flat = maps.flatten(1)
    return flat @ flat.T
