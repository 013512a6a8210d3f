"""Steps of EM (`linear.em`) that change no map's likelihood, or go on in its direction, and so speed it up.

PX, parameter expansion (Liu, Rubin & Wu 1998): what latents have in common moves into the basis maps.
"""

from dataclasses import replace

import torch
from torch import Tensor

from tomohet.linear.likelihood import Latents
from tomohet.processes import ALONE, Processes
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.pose_errors import LEAST_GAIN, N_TANGENTS, PoseErrors, of_errors, prior_deviation

# Of the variance that latents explain by chance: to be left out with some margin.
CHANCE = 3.0


def expansion(
    basis: Tensor, latents: Latents, processes: Processes = ALONE, n_particles: int | None = None
) -> Tensor:
    """PX: (K, K) whose columns are new basis maps in terms of the old ones.

    They give the latents unit second moment, and are ordered by power in the maps. latents: of the process's
    particles; the moment is that of all n_particles.
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
    """`expansion` of the first n_first maps and of the others, each by itself: maps of different places do
    not mix."""
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
    """PX for pose errors: their regression (6, K) on the latents, which moves into the basis maps, and the
    errors that are left, of maximum marginal likelihood (or as they are, where their size is settled); None
    where images do not tell that there are any.

    latents: posterior of the process's particles, pose errors as the last six; copies: how many times the
    same images are among them, on average.
    """
    errors, k = mean.errors, latents.mean.shape[1] - N_TANGENTS
    whole = torch.cat([latents.mean[:, :k], latents.mean[:, k:] + errors.offset], dim=1)
    moments = processes.add_up(whole.T @ whole + latents.covariance.sum(0)).double()
    count = n_particles or len(whole)
    shared = torch.linalg.solve(moments[:k, :k], moments[:k, k:]).T
    shared = _less_chance(shared, moments, count / copies).float()
    if errors.settled:
        return shared, errors
    # The likelihood in terms of the latents and of what the regression leaves of the errors.
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
    """Regression (6, K) of pose errors on latents, less what chance explains.

    Latents explain K / count of the variance of rotations (first three rows) and of shifts by chance. Left
    in, it would grow: pose errors would move into the basis maps bit by bit. Basis maps explain them as
    well as the tangents do, but have to be learnt.
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
    """(K,) mean posterior variance of each latent, 0 to 1: the share of its variance that images leave.

    Of the distance to where EM settles each iteration leaves about this share (Dempster, Laird & Rubin 1977).
    """
    left = processes.add_up(torch.diagonal(latents.covariance, dim1=1, dim2=2).sum(0))
    return left / (n_particles or len(latents.mean))


def out_of_span(latents: Tensor, known: Tensor, processes: Processes = ALONE) -> float:
    """Share of the second moment of latents (N, K) that no combination of the latents `known` (N, K) gives.

    Rows are the process's particles; the share is that of all.
    """
    pairs = (latents, latents), (known, known), (known, latents)
    moments = torch.stack([left.double().T @ right.double() for left, right in pairs])
    own, old, common = processes.add_up(moments)
    return float(1 - (common * (torch.linalg.pinv(old, hermitian=True) @ common)).sum() / own.trace())


def _gram(maps: Tensor) -> Tensor:
    flat = maps.flatten(1)
    return flat @ flat.T
