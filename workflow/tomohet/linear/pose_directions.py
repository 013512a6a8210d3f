"""Direction test of pose errors: an unconstrained covariance matrix against two variances.

Alignment errors have no preferred direction among the six degrees of freedom of a pose. Two effects that look
like pose errors have one. A moving part also rotates the particle a little, about one axis. A particle that
hardly changes when it rotates about its own axis is poorly aligned about that axis. The maximum marginal
likelihood of a full covariance matrix V is therefore compared with that of two variances, one for rotations
and one for shifts.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tomohet.reconstruction.pose_errors import N_TANGENTS

ITERATIONS, MOST_PARTICLES = 200, 2000
# Nats. V has 19 more parameters than two variances; chance gains this much in one data set of a thousand.
LEAST_GAIN = 22.0
# Fraction of the normalised variance along the leading direction; 1/6 without any preference.
LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Direction:
    """Leading direction of the pose errors.

    share : fraction of the errors' variance along it, in units of the mean variances of rotations and shifts
    gain : log-likelihood gain (nats) of a full covariance matrix over two variances
    """

    share: float
    gain: float

    @property
    def preferred(self) -> bool:
        """Whether the errors lie mostly along one direction, by a gain of at least LEAST_GAIN."""
        return self.gain > LEAST_GAIN and self.share > LEAST_SHARE


def direction_of_errors(a: Tensor, b: Tensor, deviation: np.ndarray) -> Direction:
    """Estimate the direction of the pose errors by EM (Dempster, Laird & Rubin 1977) of their covariance.

    EM starts from the two variances.

    a : (N, 6, 6) likelihood of the errors about the input poses, with latents integrated out
    b : (N, 6) the same
    deviation : (2,) standard deviation of a rotation (rad) and of a shift (px) along one axis
    """
    some = slice(None, None, -(-len(a) // MOST_PARTICLES))
    unit = torch.as_tensor(np.repeat(deviation, 3), dtype=torch.float64, device=a.device)
    a, b = a[some].double() * unit[:, None] * unit, b[some].double() * unit

    def settled(average) -> tuple[Tensor, float]:
        """Run EM, applying a constraint to the covariance in each step; return the covariance and log p."""
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
