"""How much power maps of differences have: their prior's, learnt from the data (empirical Bayes).

The prior of a map is c P_mu, with P_mu the mean map's power in each Fourier shell. c follows from the map's
own posterior, variance included: without that, what is uncertain would count as absent.
"""

import torch
from torch import Tensor

from tomohet.physics.shells import nearest_grid, shell_points, shell_power
from tomohet.reconstruction.mean_map import MeanMap

# Left to itself the prior of a weak component shrinks with every iteration, until nothing is left of it.
LEAST_PRIOR_SCALE, MOST_PRIOR_SCALE = 0.05, 1e2
# In the spectrum of a shell others count by a Gaussian of this standard deviation (shells), and a little.
NEAR, FAR = 1.0, 1e-4
# Coefficients that every shell counts for: where there are no data at all the prior stays what it was.
LEAST_WEIGHT = 1e-6


def prior_scales(maps: Tensor, mean: MeanMap, precision: Tensor, scales: Tensor, variance: Tensor) -> Tensor:
    """New prior scales c (K,) of maps' power c P_mu, the same in all shells.

    c is the mean of `power_ratio`, weighted by what the data say.
    """
    ratio, weight = power_ratio(maps, mean, precision, scales[:, None] * mean.power, variance)
    scale = (weight * ratio).sum(1) / weight.sum(1).clamp_min(1e-12)
    return scale.clamp(LEAST_PRIOR_SCALE, MOST_PRIOR_SCALE)


def shell_scales(maps: Tensor, mean: MeanMap, precision: Tensor, scales: Tensor, variance: Tensor) -> Tensor:
    """New prior scales c (K, n_shells) of maps' power c P_mu, shell by shell.

    What comes and goes is smaller than the whole and has another spectrum: c grows with the frequency, often
    a hundredfold. log c is that of `power_ratio`, smoothed over shells and weighted by what the data say.
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
    """Power of maps (K, D, D, D) as it follows from their posteriors, over the mean map's P_mu, and how much
    the data say of it: both (K, n_shells).

    Per shell q = precision P and P_new = (|F U|^2 + f P / (1 + q)) / f with P the prior's `power`
    (K, n_shells) and f the mean of the mask's square times the local `variance` (`linear.locality`). The
    weight is the number of points times (q / (1 + q))^2.
    """
    n_shells = len(mean.power)
    fraction = (mean.mask.square() * variance).mean((-3, -2, -1)).expand(len(maps))[:, None]
    q = precision[:, :n_shells] * power
    new = (shell_power(maps) + fraction * power / (1 + q)) / fraction
    points = shell_points(nearest_grid(len(mean.volume), maps.device), n_shells)
    weight = points * (q / (1 + q)).square()
    weight[:, 0] = 0
    return new / mean.power, weight
