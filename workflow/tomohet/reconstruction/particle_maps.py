"""Whitened back-projections of each particle's residuals (difference maps), in a small box.

    X_p = P^(1/2) M sum_i S_i^H (q_i - w_i S_i mu) / s2

is the gradient of the log-likelihood with respect to a whitened change of the particle's map, at the mean
map. It uses the pose, so particles in different orientations can be compared voxel by voxel. The inner
products <X_p, X_q> form the Gram (kernel) matrix that initialises the linear model. X_p is also the input of
a pose-aware encoder.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tomohet.physics.fourier_grids import crop_fourier
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

    unit : (N, voxels) float16, scaled to unit root mean square
    rms : (N,) root mean square before scaling
    """

    unit: Tensor
    rms: Tensor


def particle_maps(observations: Observations, mean: MeanMap) -> DifferenceMaps:
    """Compute the difference maps of the process's particles, on the observations' device.

    They are stored in half precision, because the maps of many particles are held in memory together.

    observations : made with a small `box` d
    mean : mean map at the store's box
    """
    box = observations.box
    volume = crop_fourier(mean.volume, box)
    mask = crop_fourier(mean.mask, box).clamp(0, 1)
    power = shell_power(volume)
    prior = SpectralPrior(mask, power.clamp_min(1e-6 * power.max()))
    rms = volume.new_empty(len(observations))
    unit = volume.new_empty(len(observations), box**3, dtype=torch.float16)
    size = (PADDING * box) ** 3
    for seen in residuals(observations, mean):
        chunk, residual = seen.chunk, seen.residual[..., None]
        first_image = np.concatenate([[0], np.cumsum(chunk.counts)])
        for start in range(0, chunk.n_particles, PARTICLES_AT_ONCE):
            stop = min(start + PARTICLES_AT_ONCE, chunk.n_particles)
            images = slice(first_image[start], first_image[stop])
            # All particles share one table; they follow each other along its first axis.
            stacked = torch.zeros((stop - start) * size, 1, dtype=torch.complex64, device=volume.device)
            index = chunk.index[images] + (chunk.owner[images] - start)[:, None, None] * size
            scatter(stacked, index, chunk.corner_weight[images], residual[images])
            table_of_each = stacked.view(stop - start, size).T
            maps = prior.colour_adjoint(2 * transform_adjoint(table_of_each, box)).flatten(1)
            part = slice(chunk.part.start + start, chunk.part.start + stop)
            rms[part] = maps.square().mean(1).sqrt()
            unit[part] = maps / rms[part, None].clamp_min(1e-30)
    return DifferenceMaps(unit, rms)
