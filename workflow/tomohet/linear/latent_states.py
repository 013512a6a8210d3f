"""Discrete states as points of the linear latent space.

The likelihood of a particle with latent z is known exactly, log p(y | z) = b z - z A z / 2 (`em.likelihood`),
so that a mixture of points needs no images: expectation maximisation runs on the tables A (N, K, K) and
b (N, K), and a particle whose images settle little counts for little.
"""

from dataclasses import dataclass

import torch
from sklearn.cluster import KMeans
from torch import Tensor

STARTS = 8
MOST_ITERATIONS = 200
# Mean gain of the log likelihood per particle (nats) below which nothing more is to come.
CONVERGED = 1e-6
LEAST_SHARE = 1e-12


@dataclass(frozen=True)
class LatentStates:
    """share (S,) of the particles; point (S, K): where in latent space a state lies. Both float64."""

    share: Tensor
    point: Tensor

    def scores(self, precision: Tensor, projection: Tensor) -> Tensor:
        """(N, S) log likelihood of every particle in every state, over that of the mean map."""
        return _scores(precision.double(), projection.double(), self.point[None])[0]

    def log_responsibility(self, precision: Tensor, projection: Tensor) -> Tensor:
        """(N, S) log probability of every state given a particle's images."""
        joint = self.scores(precision, projection) + self.share.clamp_min(LEAST_SHARE).log()
        return torch.log_softmax(joint, dim=1)


def fit_latent_states(precision: Tensor, projection: Tensor, start: Tensor) -> LatentStates:
    """The likeliest S points by EM from responsibilities `start` (N, S), or the best of (starts, N, S).

    precision, projection: A (N, K, K) and b (N, K). All starts run side by side. A point's own prior is the
    latents', N(0, 1).
    """
    precision, projection = precision.double(), projection.double()
    n, k = projection.shape
    responsibility = start.to(precision).reshape(-1, n, start.shape[-1])
    identity = torch.eye(k, dtype=precision.dtype, device=precision.device)
    previous = -torch.inf
    for _ in range(MOST_ITERATIONS):
        share = responsibility.mean(1)
        left = (responsibility.transpose(1, 2) @ precision.flatten(1)).unflatten(-1, (k, k)) + identity
        right = responsibility.transpose(1, 2) @ projection
        points = torch.linalg.solve(left, right[..., None])[..., 0]
        joint = _scores(precision, projection, points) + share.clamp_min(LEAST_SHARE).log()[:, None]
        responsibility = torch.softmax(joint, dim=2)
        value = torch.logsumexp(joint, dim=2).mean(1) - points.square().sum((1, 2)) / (2 * n)
        if (value - previous).max() < CONVERGED:
            break
        previous = value
    best = value.argmax()
    return LatentStates(share[best], points[best])


def k_means_states(precision: Tensor, projection: Tensor, n_states: int, seed: int = 0) -> LatentStates:
    """`n_states` points from k-means of the particles' latents, by A and b; the likeliest of STARTS."""
    precision, projection = precision.double(), projection.double()
    identity = torch.eye(projection.shape[1], dtype=precision.dtype, device=precision.device)
    latents = torch.linalg.solve(precision + identity, projection[..., None])[..., 0].cpu().numpy()
    k_means = (KMeans(n_states, n_init=1, random_state=seed + start) for start in range(STARTS))
    labels = [start.fit_predict(latents).tolist() for start in k_means]
    start = torch.nn.functional.one_hot(torch.tensor(labels, device=precision.device), n_states)
    return fit_latent_states(precision, projection, start)


def _scores(precision: Tensor, projection: Tensor, points: Tensor) -> Tensor:
    """b m - m A m / 2 of particles (N) at points (starts, S, K): (starts, N, S)."""
    squares = (points[..., :, None] * points[..., None, :]).flatten(-2)
    return projection @ points.transpose(1, 2) - precision.flatten(1) @ squares.transpose(1, 2) / 2
