"""Empirical-Bayes prior variance of the basis maps at each voxel (locality).

Particles usually differ in a few regions, while noise in the basis maps fills the whole mask. The prior
variance at each voxel is estimated from the posterior: the square of the map plus its posterior variance,
smoothed. Repeating the update reduces the prior variance, and therefore the noise, where particles do not
differ.
"""

import torch
from torch import Tensor

from tomohet.physics.fourier_grids import smooth
from tomohet.physics.shells import nearest_grid, shell_points
from tomohet.reconstruction.mean_map import MeanMap

LEAST = 0.05  # lower limit relative to the mean variance, so that no region is excluded for good


def local_variance(
    basis: Tensor,
    mean: MeanMap,
    scales: Tensor,
    precision: Tensor,
    variance: Tensor,
    smoothing_px: float,
) -> Tensor:
    """Return the next estimate of `variance` (K, D, D, D), relative to each map's mean inside the mask.

    Each basis map has a variance map of its own, so that a difference of few particles in one region is not
    judged by a difference of many particles elsewhere.

    basis : (K, D, D, D) posterior means under the present prior
    scales : (K, n_shells) prior power relative to P_mu
    precision : (K, n_shells) precision of the data, from `NormalEquations.precision`
    variance : (K, D, D, D) present estimate
    smoothing_px : standard deviation of the Gaussian
    """
    masks = mean.mask.square().reshape(-1, *basis.shape[1:])  # one mask for all maps, or one for each map
    within = [smooth(mask, smoothing_px).clamp_min(LEAST) for mask in masks]
    maps = zip(basis, scales, precision, variance, strict=True)
    return torch.stack(
        [
            _of_one(*one, mean, masks[j % len(masks)], within[j % len(masks)], smoothing_px)
            for j, one in enumerate(maps)
        ]
    )


def coefficient_variance(mean: MeanMap, scales: Tensor, precision: Tensor, variance: Tensor) -> Tensor:
    """Return the posterior variance (K, n_shells) of a Fourier coefficient of each basis map.

    The maps are confined by the mask and by `variance`; the arguments are those of `local_variance`.
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
    """Return the estimate (D, D, D) of one basis map; `within` is the smoothed square of the mask."""
    box, n_shells = len(variance), len(mean.power)
    points = shell_points(nearest_grid(box, basis.device), n_shells)
    power = scale * mean.power  # of a Fourier coefficient where the local variance is 1
    of_voxel = power * points / box**6  # each shell's contribution to a voxel's prior variance
    left = torch.zeros_like(variance)
    for shell in range(1, n_shells):
        left += of_voxel[shell] / (1 + precision[shell] * power[shell] * variance)
    found = smooth(basis.square() + mask * variance * left, smoothing_px) / within
    return (found * mask.sum() / (found * mask).sum()).clamp_min(LEAST)
