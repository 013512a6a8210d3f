"""Where particles differ: the prior variance of the basis maps, voxel by voxel, learnt from the data.

Particles mostly differ in a few places, while noise in the basis maps is everywhere inside the mask. As the
power of each map follows from its posterior (empirical Bayes), so does the power at each place: what the maps
have there, smoothed, and the variance that is left to them. Places without differences then hold the less
noise, the more often this is done.
"""

import torch
from torch import Tensor

from tomohet.physics.shells import nearest_grid, shell_points
from tomohet.reconstruction.mean_map import MeanMap

LEAST = 0.05  # of the mean variance: no place is given up


def local_variance(
    basis: Tensor,
    mean: MeanMap,
    scales: Tensor,
    precision: Tensor,
    variance: Tensor,
    smoothing_px: float,
) -> Tensor:
    """The next estimate of `variance` (K, D, D, D), each map's relative to its mean inside the mask.

    A map of its own each: what few particles have in one place is not measured by what many have elsewhere.
    basis: posterior means (K, D, D, D) under prior power scales P_mu (K, n_shells), mask and `variance`;
    precision: of the data per shell, (K, n_shells), as of `NormalEquations.precision`; smoothing_px: standard
    deviation.
    """
    masks = mean.mask.square().reshape(-1, *basis.shape[1:])  # one for all maps, or one for each
    within = [smooth(mask, smoothing_px).clamp_min(LEAST) for mask in masks]
    maps = zip(basis, scales, precision, variance, strict=True)
    return torch.stack(
        [
            _of_one(*one, mean, masks[j % len(masks)], within[j % len(masks)], smoothing_px)
            for j, one in enumerate(maps)
        ]
    )


def coefficient_variance(mean: MeanMap, scales: Tensor, precision: Tensor, variance: Tensor) -> Tensor:
    """Posterior variance (K, n_shells) of a Fourier coefficient of each basis map inside mask and `variance`.

    Arguments as of `local_variance`.
    """
    local = mean.mask.square() * variance
    left = torch.zeros(len(scales), len(mean.power), device=scales.device)
    for shell in range(1, len(mean.power)):
        power = scales[:, shell] * mean.power[shell]
        known = (precision[:, shell] * power)[:, None, None, None]
        left[:, shell] = power * (local / (1 + known * variance)).mean((1, 2, 3))
    return left


def _of_one(
    basis: Tensor,
    scale: Tensor,
    precision: Tensor,
    variance: Tensor,
    mean: MeanMap,
    mask: Tensor,
    within: Tensor,
    smoothing_px: float,
) -> Tensor:
    """The estimate (D, D, D) of one basis map; within: the smoothed square of the mask."""
    box, n_shells = len(variance), len(mean.power)
    points = shell_points(nearest_grid(box, basis.device), n_shells)
    power = scale * mean.power  # of a Fourier coefficient, where the variance is 1
    of_voxel = power * points / box**6  # each shell's share of a voxel's prior variance
    left = torch.zeros_like(variance)
    for shell in range(1, n_shells):
        left += of_voxel[shell] / (1 + precision[shell] * power[shell] * variance)
    found = smooth(basis.square() + mask * variance * left, smoothing_px) / within
    return (found * mask.sum() / (found * mask).sum()).clamp_min(LEAST)


def smooth(volume: Tensor, sigma_px: float) -> Tensor:
    """A map (D, D, D) convolved with a Gaussian of the given standard deviation."""
    box = volume.shape[-1]
    axis = torch.exp(-2 * (torch.pi * sigma_px * torch.fft.fftfreq(box, device=volume.device)) ** 2)
    gaussian = axis[:, None, None] * axis[:, None] * axis[: box // 2 + 1]
    return torch.fft.irfftn(torch.fft.rfftn(volume) * gaussian, s=volume.shape)
