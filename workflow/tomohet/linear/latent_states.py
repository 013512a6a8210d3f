"""Mixture of points in latent space, by EM on the particles' likelihoods: discrete states.

The log-likelihood of a particle at the latents z is known exactly, log p(y | z) = b z - z A z / 2
(`likelihood`). EM for the mixture therefore runs on the tables A (N, K, K) and b (N, K) and needs no images.
Particles whose images carry little information contribute little.
"""

from dataclasses import dataclass

import torch
from sklearn.cluster import KMeans
from torch import Tensor

STARTS = 8
MOST_ITERATIONS = 200
# EM stops when the log-likelihood gain per particle (nats) falls below this value.
CONVERGED = 1e-6
LEAST_SHARE = 1e-12


@dataclass(frozen=True)
class LatentStates:
    """Mixture of S states in latent space; tensors are float64.

    share : (S,) mixing weights
    point : (S, K) latents of the states
    value : log posterior of mixing weights and points divided by the number of particles, up to a constant
    """

    share: Tensor
    point: Tensor
    value: float

    def scores(self, precision: Tensor, projection: Tensor) -> Tensor:
        """Return the (N, S) log-likelihood of each particle in each state, relative to the mean map."""
        return _scores(precision.double(), projection.double(), self.point)

    def spread_scores(self, precision: Tensor, projection: Tensor) -> Tensor:
        """Return the (N, S) log-likelihoods of states that are spread out to fill the latent space.

        Each state is spread uniformly, half-way to its nearest neighbour and equally far in the opposite
        direction. Let v be that half distance divided by sqrt 3 (the standard deviation), u = b - A m and i =
        v A v. The spread adds (v u)^2 / (2 (1 + i)) - log(1 + i) / 2 to a score.
        """
        precision, projection = precision.double(), projection.double()
        v = self.nearest / (2 * 3**0.5)
        information, of_point = (
            precision.flatten(1) @ (v[:, :, None] * other[:, None, :]).flatten(1).T
            for other in (v, self.point)
        )
        along = projection @ v.T - of_point
        added = (along.square() / (1 + information) - torch.log1p(information)) / 2
        return self.scores(precision, projection) + added

    @property
    def nearest(self) -> Tensor:
        """(S, K) vector from each state to its nearest neighbour; 0 if there is only one state."""
        if len(self.point) == 1:
            return torch.zeros_like(self.point)
        distance = torch.cdist(self.point, self.point).fill_diagonal_(torch.inf)
        return self.point[distance.argmin(1)] - self.point

    def log_likelihood(self, scores: Tensor) -> Tensor:
        """Return the (N,) log-likelihood of particles under the mixture, from scores (N, S)."""
        return torch.logsumexp(scores + self.share.clamp_min(LEAST_SHARE).log(), dim=1)

    def log_responsibility(self, precision: Tensor, projection: Tensor) -> Tensor:
        """Return the (N, S) log-probability of each state given a particle's images."""
        joint = self.scores(precision, projection) + self.share.clamp_min(LEAST_SHARE).log()
        return torch.log_softmax(joint, dim=1)


def fit_latent_states(precision: Tensor, projection: Tensor, responsibility: Tensor) -> LatentStates:
    """Fit S points by EM, starting from responsibilities (N, S).

    The prior of a point is the prior of the latents, N(0, 1).

    precision : A (N, K, K)
    projection : b (N, K)
    """
    precision, projection = precision.double(), projection.double()
    n, k = projection.shape
    responsibility = responsibility.to(precision)
    identity = torch.eye(k, dtype=precision.dtype, device=precision.device)
    previous = -torch.inf
    for _ in range(MOST_ITERATIONS):
        share = responsibility.mean(0)
        left = (responsibility.T @ precision.flatten(1)).unflatten(-1, (k, k)) + identity
        point = torch.linalg.solve(left, (responsibility.T @ projection)[..., None])[..., 0]
        joint = _scores(precision, projection, point) + share.clamp_min(LEAST_SHARE).log()
        responsibility = torch.softmax(joint, dim=1)
        value = (torch.logsumexp(joint, dim=1).mean() - point.square().sum() / (2 * n)).item()
        if value - previous < CONVERGED:
            break
        previous = value
    return LatentStates(share, point, value)


def k_means_states(precision: Tensor, projection: Tensor, n_states: int, seed: int = 0) -> LatentStates:
    """Fit `n_states` points, starting from k-means of the latents; return the likeliest of STARTS fits.

    precision : A (N, K, K)
    projection : b (N, K)
    """
    precision, projection = precision.double(), projection.double()
    identity = torch.eye(projection.shape[1], dtype=precision.dtype, device=precision.device)
    latents = torch.linalg.solve(precision + identity, projection[..., None])[..., 0].cpu().numpy()

    def started(start: int) -> LatentStates:
        label = KMeans(n_states, n_init=1, random_state=seed + start).fit_predict(latents)
        one_hot = torch.nn.functional.one_hot(torch.as_tensor(label, dtype=torch.int64), n_states)
        return fit_latent_states(precision, projection, one_hot.to(precision))

    return max((started(start) for start in range(STARTS)), key=lambda states: states.value)


def _scores(precision: Tensor, projection: Tensor, point: Tensor) -> Tensor:
    """Return b m - m A m / 2 of N particles at points (S, K), as (N, S)."""
    squares = (point[:, :, None] * point[:, None, :]).flatten(1)
    return projection @ point.T - precision.flatten(1) @ squares.T / 2
