"""Empirical-Bayes prior power of the basis maps, relative to the mean map, for each Fourier shell.

The prior power of a map is c P_mu, with the mean map's power P_mu in each shell. c is estimated from the
posterior of the map, including its posterior variance. Without the variance, power that is uncertain would
count as absent.
"""

import torch
from torch import Tensor

from tomohet.physics.shells import nearest_grid, shell_points, shell_power
from tomohet.reconstruction.mean_map import MeanMap

# Lower and upper limits of c. Without a lower limit the prior of a weak component shrinks to 0 over the
# iterations.
LEAST_PRIOR_SCALE, MOST_PRIOR_SCALE = 0.05, 1e2
# Neighbouring shells are averaged with a Gaussian of this standard deviation (shells), plus a small constant.
NEAR, FAR = 1.0, 1e-4
# Minimum weight of a shell, in coefficients. A shell without any data therefore keeps its prior.
LEAST_WEIGHT = 1e-6


def prior_scales(maps: Tensor, mean: MeanMap, precision: Tensor, scales: Tensor, variance: Tensor) -> Tensor:
    """Return new prior scales c (K,) of the maps' power c P_mu, constant over the shells.

    c is the mean of `power_ratio`, weighted by the information of the data.
    """
    ratio, weight = power_ratio(maps, mean, precision, scales[:, None] * mean.power, variance)
    scale = (weight * ratio).sum(1) / weight.sum(1).clamp_min(1e-12)
    return scale.clamp(LEAST_PRIOR_SCALE, MOST_PRIOR_SCALE)


def shell_scales(maps: Tensor, mean: MeanMap, precision: Tensor, scales: Tensor, variance: Tensor) -> Tensor:
    """Return new prior scales c (K, n_shells) of the maps' power c P_mu, for each shell.

    A part that comes and goes is smaller than the whole particle, and its spectrum differs: c increases with
    frequency, often a hundredfold. log c is the logarithm of `power_ratio`, smoothed over shells and weighted
    by the information of the data.
    """
    ratio, weight = power_ratio(maps, mean, precision, scales * mean.power, variance)
    weight = weight.clamp_min(LEAST_WEIGHT)
    shell = torch.arange(weight.shape[1], dtype=weight.dtype, device=weight.device)
    near = torch.exp(-((shell[:, None] - shell) / NEAR).square() / 2) + FAR
    found = ((weight * ratio.clamp_min(1e-12).log()) @ near / (weight @ near)).exp()
    of_all = (weight * found).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
    return (found * (LEAST_PRIOR_SCALE / of_all).clamp_min(1)).clamp_max(MOST_PRIOR_SCALE)


def power_ratio(
    maps: Tensor, mean: MeanMap, precision: Tensor, power: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the expected power of maps (K, D, D, D) relative to P_mu, and its weight, both (K, n_shells).

    For each shell q = precision P and P_new = (|F U|^2 + f P / (1 + q)) / f, with the prior's `power` P (K,
    n_shells) and the mean f of the squared mask times the local `variance` (`linear.locality`). The weight is
    the number of points times (q / (1 + q))^2.
    """
    n_shells = len(mean.power)
    fraction = (mean.mask.square() * variance).mean((-3, -2, -1)).expand(len(maps))[:, None]
    q = precision[:, :n_shells] * power
    new = (shell_power(maps) + fraction * power / (1 + q)) / fraction
    points = shell_points(nearest_grid(len(mean.volume), maps.device), n_shells)
    weight = points * (q / (1 + q)).square()
    weight[:, 0] = 0
    return new / mean.power, weight
