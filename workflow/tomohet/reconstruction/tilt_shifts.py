"""Residual shifts of single tilt images, as noise of rank 2 that is integrated out.

A small shift d of the content of an image changes the image to first order by D d. The two tangents of its
slice are D = -2 pi i k S mu, with k in cycles per pixel. With independent shifts d ~ N(0, t^2) this is noise
with the covariance t^2 D D', which is integrated out of each image's likelihood in closed form. t is
estimated by maximum likelihood: with the latents integrated out, v = D' (y - model) / s2 has the covariance J
+ t^2 J J, where J is D' D / s2 reduced by the part that the latents explain.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tomohet.physics.lattice import HalfPlane
from tomohet.reconstruction.pose_errors import LEAST_GAIN

# Standard deviations (px) along x and y that are compared, within the linear range of slices.
DEVIATIONS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class ShiftLikelihood:
    """Joint likelihood of image shifts and of the particles' K latents.

    log p(y | z, d) = (projection - cross z) d - d precision d / 2 + terms without d.

    tangents : (m, n, 2) complex, change of the images per px along x and y
    precision : (m, 2, 2)
    cross : (m, 2, K)
    projection : (m, 2)
    """

    tangents: Tensor
    precision: Tensor
    cross: Tensor
    projection: Tensor

    def integrated_out(self, a: Tensor, b: Tensor, deviation_px: float) -> tuple[Tensor, Tensor]:
        """Return each image's A (m, K, K) and b (m, K) of the latents, with its shift integrated out."""
        right = torch.cat([self.cross, self.projection[..., None]], dim=2)
        solved = torch.linalg.solve(self._with_prior(deviation_px), right)
        taken = self.cross.transpose(1, 2) @ solved
        return a - taken[..., :-1], b - taken[..., -1]

    def moments(self, deviation_px: float, mean: Tensor, second: Tensor) -> Tensor:
        """Return E[d z'] (m, 2, K) from the means (m, K) and second moments (m, K, K) of the latents."""
        expected = self.projection[:, :, None] * mean[:, None] - self.cross @ second
        return torch.linalg.solve(self._with_prior(deviation_px), expected)

    def residual(self, mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
        """Return v (m, 2) and J (m, 2, 2) of images, with the latents integrated out.

        mean, covariance : (m, K) and (m, K, K) posterior of the latents
        """
        left = self.projection - (self.cross @ mean[..., None])[..., 0]
        return left, self.precision - self.cross @ covariance @ self.cross.transpose(1, 2)

    def _with_prior(self, deviation_px: float) -> Tensor:
        return self.precision + torch.eye(2).to(self.precision) / deviation_px**2


def tangents(half_plane: HalfPlane, slices: Tensor) -> Tensor:
    """Return the change (m, n, 2) of slices (m, n) for a shift of one pixel along x and y."""
    return -2j * torch.pi * half_plane.frequency.to(slices.dtype) * slices[..., None]


def log_likelihoods(v: Tensor, information: Tensor) -> Tensor:
    """Return the log-likelihood (DEVIATIONS,) of all images together for each deviation t.

    The model is v ~ N(0, J + t^2 J J).

    v : (m, 2)
    information : (m, 2, 2) J
    """
    values, axes = torch.linalg.eigh(information.double())
    squares = (axes.transpose(1, 2) @ v.double()[..., None])[..., 0].square()
    seen = values > 1e-9 * values.max()
    values, squares = values[seen], squares[seen]

    def at(t: float) -> Tensor:
        variance = values * (1 + t**2 * values)
        return -(squares / variance + variance.log()).sum() / 2

    return torch.stack([at(t) for t in DEVIATIONS.tolist()])


def most_likely(log_likelihood: np.ndarray, copies: float = 1.0) -> float:
    """Return the deviation (px) at the maximum of `log_likelihoods`, refined by a parabola.

    Returns 0 if the images do not show any shifts.

    copies : mean number of copies of each image
    """
    best = int(log_likelihood.argmax())
    if log_likelihood[best] - log_likelihood[0] <= LEAST_GAIN * copies:
        return 0.0
    if best == len(DEVIATIONS) - 1:
        return float(DEVIATIONS[best])
    before, there, after = log_likelihood[best - 1 : best + 2]
    step = DEVIATIONS[1] - DEVIATIONS[0]
    return float(DEVIATIONS[best] + step / 2 * (before - after) / (before - 2 * there + after))
