"""Do the errors of poses lie along one direction?

Errors of an alignment have no reason to prefer one of the six directions in which a particle can turn and
move. What looks like them may: a part that moves turns the particle a little about one axis, and a particle
that hardly differs as it turns about its own axis is aligned badly about that one alone. The covariance V of
the errors of maximum marginal likelihood tells, set against that of two variances, for turns and moves.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tomohet.reconstruction.pose_errors import N_TANGENTS

ITERATIONS, MOST_PARTICLES = 200, 2000
# Nats: V has 19 numbers more than two variances, of which chance explains so much in one set of a thousand.
LEAST_GAIN = 22.0
# Of the variance, in units of the two variances: a sixth without any preference.
LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Direction:
    """share: of the errors' variance along the direction of most, in units of their mean variances of turns
    and moves; gain: nats of any covariance over two variances."""

    share: float
    gain: float

    @property
    def preferred(self) -> bool:
        """Whether the errors lie mostly along one direction, by a gain of at least LEAST_GAIN."""
        return self.gain > LEAST_GAIN and self.share > LEAST_SHARE


def direction_of_errors(a: Tensor, b: Tensor, deviation: np.ndarray) -> Direction:
    """From the likelihood of the errors of N particles about poses that are as stated, A (N, 6, 6) and b
    (N, 6), latents integrated out; deviation (2,): of a turn (rad) and of a move (px) along one axis.

    EM (Dempster, Laird & Rubin 1977) of the covariance, from that of the two variances.
    """
    some = slice(None, None, -(-len(a) // MOST_PARTICLES))
    unit = torch.as_tensor(np.repeat(deviation, 3), dtype=torch.float64, device=a.device)
    a, b = a[some].double() * unit[:, None] * unit, b[some].double() * unit

    def settled(average) -> tuple[Tensor, float]:
        """The covariance, averaged as it may be, and log p."""
        covariance = torch.eye(N_TANGENTS, dtype=torch.float64, device=a.device)
        for _ in range(ITERATIONS):
            left = torch.linalg.inv(a + torch.linalg.inv(covariance))
            mean = (left @ b[..., None])[..., 0]
            covariance = average((mean[:, :, None] * mean[:, None] + left).mean(0))
        factor = torch.linalg.cholesky(a + torch.linalg.inv(covariance))
        whitened = torch.linalg.solve_triangular(factor, b[..., None], upper=False)
        log_det = 2 * factor.diagonal(dim1=1, dim2=2).log().sum() + len(a) * torch.logdet(covariance)
        return covariance, float(whitened.square().sum() - log_det) / 2

    def two_variances(covariance: Tensor) -> Tensor:
        means = covariance.diagonal().unflatten(0, (2, 3)).mean(1)
        return torch.diag(means.repeat_interleave(3))

    two, of_two = settled(two_variances)
    whole, of_whole = settled(lambda covariance: covariance)
    scale = two.diagonal().rsqrt()
    variances = torch.linalg.eigvalsh(scale[:, None] * whole * scale)
    return Direction(float(variances[-1] / variances.sum()), of_whole - of_two)
