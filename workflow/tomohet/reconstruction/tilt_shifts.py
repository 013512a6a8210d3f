"""Shifts of single tilt images that alignment has left, as low-rank noise.

An image whose content lies by a small d from where its file says differs, to first order, by D d from what
the model expects, with D the two tangents of its slice: -2 pi i k S mu, k in cycles per pixel. With
d ~ N(0, t^2) for each image by itself that is noise of covariance t^2 D D', which is integrated out of
every image's likelihood in closed form. t follows from the data: with the latents
integrated out, v = D' (y - model) / s2 has the covariance J + t^2 J J, J = D' D / s2 less what the latents
take of it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tomohet.physics.fourier import HalfPlane
from tomohet.reconstruction.pose_errors import LEAST_GAIN

# Standard deviations (px) along x and y that are compared: no more than slices are linear in.
DEVIATIONS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class ShiftLikelihood:
    """What images say of their shifts, beside their particles' K latents.

    tangents (m, n, 2) complex, images per px along x and y; precision (m, 2, 2), cross (m, 2, K) and
    projection (m, 2): log p(y | z, d) = (projection - cross z) d - d precision d / 2 + what d does not
    change.
    """

    tangents: Tensor
    precision: Tensor
    cross: Tensor
    projection: Tensor

    def integrated_out(self, a: Tensor, b: Tensor, deviation_px: float) -> tuple[Tensor, Tensor]:
        """Each image's A (m, K, K) and b (m, K) of the latents, its shift integrated out."""
        right = torch.cat([self.cross, self.projection[..., None]], dim=2)
        solved = torch.linalg.solve(self._with_prior(deviation_px), right)
        taken = self.cross.transpose(1, 2) @ solved
        return a - taken[..., :-1], b - taken[..., -1]

    def moments(self, deviation_px: float, mean: Tensor, second: Tensor) -> Tensor:
        """E[d z'] (m, 2, K) from the means (m, K) and second moments (m, K, K) of the latents."""
        expected = self.projection[:, :, None] * mean[:, None] - self.cross @ second
        return torch.linalg.solve(self._with_prior(deviation_px), expected)

    def residual(self, mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
        """v (m, 2) and J (m, 2, 2) of images, latents of posterior mean (m, K) and covariance (m, K, K)
        integrated out."""
        left = self.projection - (self.cross @ mean[..., None])[..., 0]
        return left, self.precision - self.cross @ covariance @ self.cross.transpose(1, 2)

    def _with_prior(self, deviation_px: float) -> Tensor:
        return self.precision + torch.eye(2).to(self.precision) / deviation_px**2


def tangents(half_plane: HalfPlane, slices: Tensor) -> Tensor:
    """(m, n, 2) change of slices (m, n) as their content moves by a pixel along x, y."""
    return -2j * torch.pi * half_plane.frequency.to(slices.dtype) * slices[..., None]


def log_likelihoods(v: Tensor, information: Tensor) -> Tensor:
    """(DEVIATIONS,) of v (m, 2) ~ N(0, J + t^2 J J), with J (m, 2, 2) and each deviation t, all images
    together, each by itself."""
    values, axes = torch.linalg.eigh(information.double())
    squares = (axes.transpose(1, 2) @ v.double()[..., None])[..., 0].square()
    seen = values > 1e-9 * values.max()
    values, squares = values[seen], squares[seen]

    def at(t: float) -> Tensor:
        variance = values * (1 + t**2 * values)
        return -(squares / variance + variance.log()).sum() / 2

    return torch.stack([at(t) for t in DEVIATIONS.tolist()])


def most_likely(log_likelihood: np.ndarray, copies: float = 1.0) -> float:
    """Deviation (px) at the maximum of `log_likelihoods`, by a parabola; 0 where images do not tell that
    there is any. copies: of each image."""
    best = int(log_likelihood.argmax())
    if log_likelihood[best] - log_likelihood[0] <= LEAST_GAIN * copies:
        return 0.0
    if best == len(DEVIATIONS) - 1:
        return float(DEVIATIONS[best])
    before, there, after = log_likelihood[best - 1 : best + 2]
    step = DEVIATIONS[1] - DEVIATIONS[0]
    return float(DEVIATIONS[best] + step / 2 * (before - after) / (before - 2 * there + after))
