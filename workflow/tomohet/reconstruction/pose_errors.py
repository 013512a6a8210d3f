"""Pose errors as latents with known maps: the tangents of the mean map.

Suppose a particle is rotated by a small vector w and shifted by d relative to the pose in the input file. To
first order its map is mu + T a with a = (w, d). The six tangents T are the derivatives of the mean map: -(x
cross grad mu) for rotations, and -grad mu for shifts. A pose error is therefore a latent of a linear model
whose maps are known, and its posterior has a closed form. The prior is a ~ N(0, V), with one variance for
rotations and one for shifts. Both are estimated by maximum marginal likelihood (empirical Bayes), and vanish
if the poses are right.

After a correction by an offset o the remaining error is d = a - o. The prior still refers to the total error
a; only the point of linearisation has moved.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from torch import Tensor

from tomohet.physics.fourier_grids import on_grid

N_TANGENTS = 6
# Limits of the prior standard deviations of a rotation (rad) and of a shift (px) along one axis.
LEAST, MOST = np.array([np.radians(0.02), 0.002]), np.array([np.radians(30.0), 4.0])
FIRST_GUESS = np.array([np.radians(2.0), 0.15])
# Nats. Without pose errors the maximum over two variances exceeds this in fewer than 1 of 100 data sets.
LEAST_GAIN = 6.0
# Maximum number of particles from which the two variances are estimated.
MOST_PARTICLES = 20_000


def tangents(volume: Tensor) -> Tensor:
    """Return the derivatives (6, D, D, D) of a map [z, y, x] with respect to rotation and translation.

    Rotations about x, y, z (per radian) come first, then shifts along x, y, z (per pixel).
    """
    box = len(volume)
    spectrum = torch.fft.rfftn(volume)
    full = 2 * torch.pi * torch.fft.fftfreq(box, device=volume.device)
    half = 2 * torch.pi * torch.fft.rfftfreq(box, device=volume.device)
    # The derivative of a real map has no coefficient at Nyquist.
    full, half = (torch.where(k.abs() < 0.999 * torch.pi, k, 0) for k in (full, half))
    gx, gy, gz = (
        torch.fft.irfftn(1j * k * spectrum, s=volume.shape)
        for k in (half, full[:, None], full[:, None, None])
    )
    axis = torch.arange(box, device=volume.device, dtype=volume.dtype) - box // 2
    x, y, z = axis, axis[:, None], axis[:, None, None]
    return -torch.stack([y * gz - z * gy, z * gx - x * gz, x * gy - y * gx, gx, gy, gz])


@dataclass(frozen=True)
class PoseErrors:
    """Pose errors about a mean map.

    maps : (6, D, D, D) tangents of the mean map
    deviation : (2,) prior standard deviation of a rotation (rad) and of a shift (px of the fine grid) along
        one axis
    offset : (N, 6) corrections of the poses so far, in the frame of the corrected pose
    settled : whether the deviations are fixed
    """

    maps: Tensor
    deviation: np.ndarray
    offset: Tensor
    settled: bool = False

    @property
    def precision(self) -> Tensor:
        """(6,) precision of the prior."""
        precision = np.repeat(self.deviation, 3) ** -2.0
        return torch.as_tensor(precision, dtype=self.maps.dtype, device=self.maps.device)

    @property
    def spread(self) -> tuple[float, float]:
        """Root mean square angle of rotation (degrees), and shift along one axis (px)."""
        return float(np.degrees(self.deviation[0]) * np.sqrt(3)), float(self.deviation[1])

    @property
    def sentence(self) -> str:
        """Size of the pose errors in words."""
        rotation, shift = self.spread
        return f"poses are off by {rotation:.2f} degrees (rms) and {shift:.2f} px along each axis (rms)"

    def cropped(self, box: int) -> "PoseErrors":
        """Return the pose errors on a coarser grid."""
        return replace(self, maps=on_grid(self.maps, box))

    def with_prior(self, a: Tensor, b: Tensor, part: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Return precision (P, K+6, K+6) and projection (P, K+6) of latents and residual pose errors.

        The prior of the pose errors is added to the likelihood's A and b; the prior of the latents is not.

        part : particles to which A and b belong
        """
        a, b = a.clone(), b.clone()
        a[:, -N_TANGENTS:, -N_TANGENTS:] += torch.diag(self.precision.to(a))
        b[:, -N_TANGENTS:] -= self.precision.to(b) * self.offset[part].to(b)
        return a, b

    def marginal(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Return A (N, K, K) and b (N, K) of the latents alone, with pose errors integrated out."""
        return without_last(*self.with_prior(a, b), N_TANGENTS)

    def left(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Return the posterior mean (N, 6) and covariance (N, 6, 6) of the residual errors.

        a, b : likelihood of the pose errors alone
        """
        precision, projection = self.with_prior(a, b)
        covariance = torch.linalg.inv(precision)
        return (covariance @ projection[..., None])[..., 0], covariance


def without_last(a: Tensor, b: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Integrate the last n variables out of the log-density b x - x A x / 2 with A (N, K, K) and b (N, K)."""
    k = a.shape[1] - n
    solved = torch.linalg.solve(a[:, k:, k:], torch.cat([a[:, k:, :k], b[:, k:, None]], dim=2))
    taken = a[:, :k, k:] @ solved
    return a[:, :k, :k] - taken[..., :k], b[:, :k] - taken[..., k]


def of_errors(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return A (N, 6, 6) and b (N, 6) of the residual errors, with the latents z ~ N(0, 1) integrated out."""
    k = a.shape[1] - N_TANGENTS
    a, b = a.roll((-k, -k), (1, 2)), b.roll(-k, 1)
    a[:, N_TANGENTS:, N_TANGENTS:] += torch.eye(k, dtype=a.dtype, device=a.device)
    return without_last(a, b, k)


def prior_deviation(
    a: Tensor, b: Tensor, offset: Tensor, given: tuple[Tensor, Tensor] | None = None
) -> tuple[np.ndarray, float]:
    """Maximise the marginal likelihood of A (N, 6, 6) and b (N, 6) over the size of the pose errors.

    Returns the standard deviations (2,) of rotations and shifts, and the gain (nats) over poses without
    errors. With P = A + V^-1, log p = (b - V^-1 o)' P^-1 (b - V^-1 o) / 2 - o' V^-1 o / 2 - log |V P| / 2.

    given : A and b of some of the images. The likelihood is then that of the other images given these, so the
        errors have to agree in both
    """
    some = slice(None, None, -(-len(a) // MOST_PARTICLES))
    offset = offset[some].double()
    tables = [[table[some].double() for table in pair] for pair in ((a, b), *([given] if given else []))]

    def log_likelihood(log_deviation: np.ndarray) -> float:
        return of_tables(log_deviation, *tables[0]) - sum(of_tables(log_deviation, *t) for t in tables[1:])

    def of_tables(log_deviation: np.ndarray, a: Tensor, b: Tensor) -> float:
        """Return log p of A and b, with the errors integrated out."""
        precision = torch.as_tensor(np.repeat(np.exp(-2 * log_deviation), 3), device=a.device)
        factor = torch.linalg.cholesky(a + torch.diag(precision))
        right = (b - precision * offset)[..., None]
        whitened = torch.linalg.solve_triangular(factor, right, upper=False)
        log_det = 2 * factor.diagonal(dim1=1, dim2=2).log().sum() - len(a) * precision.log().sum()
        return float(whitened.square().sum() - (precision * offset.square()).sum() - log_det) / 2

    bounds = list(zip(np.log(LEAST), np.log(MOST), strict=True))
    found = minimize(
        lambda x: -log_likelihood(x) / len(a), np.log(FIRST_GUESS), bounds=bounds, options={"eps": 1e-4}
    )
    gain = log_likelihood(found.x) - log_likelihood(np.log(LEAST))
    return np.exp(found.x), gain


def composed(offset: np.ndarray, more: np.ndarray) -> np.ndarray:
    """Return the offset (n, 6) of correcting by `offset` and then by `more`, in the frame of the new pose."""
    first, second = Rotation.from_rotvec(offset[:, :3]), Rotation.from_rotvec(more[:, :3])
    shift = second.inv().apply(offset[:, 3:] + more[:, 3:])
    return np.concatenate([(first * second).as_rotvec(), shift], axis=1)
