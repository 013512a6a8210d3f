"""Whitened back-projections of each particle's residuals (difference maps), in a small box.

    X_p = P^(1/2) M sum_i S_i^H (q_i - w_i S_i mu) / s2

is the gradient of the log-likelihood with respect to a whitened change of the particle's map, at the mean
map. It uses the pose, so particles in different orientations can be compared voxel by voxel. The inner
products <X_p, X_q> form the Gram (kernel) matrix that initialises the linear model. X_p is also the input of
a pose-aware encoder.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tomohet.physics.fourier import crop_fourier
from tomohet.physics.shells import shell_power
from tomohet.physics.slicing import PADDING, scatter, transform_adjoint
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.prior import SpectralPrior
from tomohet.reconstruction.residuals import residuals

PARTICLES_AT_ONCE = 16


@dataclass(frozen=True)
class DifferenceMaps:
    """Difference maps in half precision.

    Rounding to half precision changes an inner product of two maps by a fraction of 3e-4 divided by the root
    of the number of voxels.

    unit : (N, groups, voxels) float16, scaled to unit root mean square
    rms : (N, groups) root mean square before scaling
    """

    unit: Tensor
    rms: Tensor


def particle_maps(observations: Observations, mean: MeanMap) -> Tensor:
    """Compute difference maps of the process's particles, (N, d, d, d) float32, on the observations' device.

    observations : made with a small `box` d
    mean : mean map at the store's box
    """
    maps = mean.volume.new_empty(len(observations), *(observations.box,) * 3)
    for part, own in _blocks(observations, mean, 1):
        maps[part] = own[:, 0]
    return maps


def grouped_particle_maps(observations: Observations, mean: MeanMap, n_groups: int) -> DifferenceMaps:
    """Compute difference maps of groups of tilts (every n-th image); their sum is the map of all tilts.

    They are stored in half precision, because the maps of many particles are held in memory together.
    """
    shape = (len(observations), n_groups)
    rms = mean.volume.new_empty(shape)
    unit = mean.volume.new_empty(*shape, observations.box**3, dtype=torch.float16)
    for part, own in _blocks(observations, mean, n_groups):
        flat = own.flatten(2)
        rms[part] = flat.square().mean(2).sqrt()
        unit[part] = flat / rms[part, :, None].clamp_min(1e-30)
    return DifferenceMaps(unit, rms)


def _blocks(observations: Observations, mean: MeanMap, n_groups: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield positions of particles among the process's own, and their maps (n, groups, d, d, d)."""
    box = observations.box
    volume = crop_fourier(mean.volume, box)
    mask = crop_fourier(mean.mask, box).clamp(0, 1)
    power = shell_power(volume)
    prior = SpectralPrior(mask, power.clamp_min(1e-6 * power.max()))
    size = (PADDING * box) ** 3
    at_once = max(1, PARTICLES_AT_ONCE // n_groups)
    for seen in residuals(observations, mean):
        chunk, residual = seen.chunk, seen.residual[..., None]
        first_image = np.concatenate([[0], np.cumsum(chunk.counts)])
        tilt = np.arange(first_image[-1]) - np.repeat(first_image[:-1], chunk.counts)
        group = torch.as_tensor(tilt % n_groups, device=volume.device)
        for start in range(0, chunk.n_particles, at_once):
            stop = min(start + at_once, chunk.n_particles)
            images = slice(first_image[start], first_image[stop])
            # All particles share one table; they follow each other along its first axis.
            place = (chunk.owner[images] - start) * n_groups + group[images]
            n_tables = (stop - start) * n_groups
            stacked = torch.zeros(n_tables * size, 1, dtype=torch.complex64, device=volume.device)
            index = chunk.index[images] + place[:, None, None] * size
            scatter(stacked, index, chunk.corner_weight[images], residual[images])
            table_of_each = stacked.view(n_tables, size).T
            own = prior.colour_adjoint(2 * transform_adjoint(table_of_each, box))
            of_these = slice(chunk.part.start + start, chunk.part.start + stop)
            yield of_these, own.view(stop - start, n_groups, box, box, box)
