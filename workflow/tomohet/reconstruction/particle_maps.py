"""Every particle's own back-projected difference from the mean map, at a small box.

X_p = P^(1/2) M sum_i S_i^H (q_i - w_i S_i mu) / s2: the gradient of the log-likelihood with respect to a
whitened change of the particle's map at the mean. It uses the pose, so that particles in different
orientations can be compared voxel by voxel: inner products <X_p, X_q> are the kernel of the linear latent
model (its spectral start), and X_p is what a pose-aware encoder sees.
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
    """unit (N, groups, voxels) float16: maps of unit root mean square; rms (N, groups): what each has really.

    Rounded so, an inner product of two maps changes by 3e-4 of itself over the root of the voxels.
    """

    unit: Tensor
    rms: Tensor


def particle_maps(observations: Observations, mean: MeanMap) -> Tensor:
    """Whitened difference maps of the process's particles, (N, d, d, d) float32 on the observations' device.

    observations: made with a small `box` d; mean: at the store's box.
    """
    maps = mean.volume.new_empty(len(observations), *(observations.box,) * 3)
    for part, own in _blocks(observations, mean, 1):
        maps[part] = own[:, 0]
    return maps


def grouped_particle_maps(observations: Observations, mean: MeanMap, n_groups: int) -> DifferenceMaps:
    """The same from every n-th tilt image alone, groups of tilts; their sum is the whole. In half precision,
    since the maps of many particles are held together."""
    shape = (len(observations), n_groups)
    rms = mean.volume.new_empty(shape)
    unit = mean.volume.new_empty(*shape, observations.box**3, dtype=torch.float16)
    for part, own in _blocks(observations, mean, n_groups):
        flat = own.flatten(2)
        rms[part] = flat.square().mean(2).sqrt()
        unit[part] = flat / rms[part, :, None].clamp_min(1e-30)
    return DifferenceMaps(unit, rms)


def _blocks(observations: Observations, mean: MeanMap, n_groups: int) -> Iterator[tuple[slice, Tensor]]:
    """Some particles' positions among the process's own and their maps (n, groups, d, d, d), in turn."""
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
            # One table for all: the particles lie one behind another along its first axis.
            place = (chunk.owner[images] - start) * n_groups + group[images]
            n_tables = (stop - start) * n_groups
            stacked = torch.zeros(n_tables * size, 1, dtype=torch.complex64, device=volume.device)
            index = chunk.index[images] + place[:, None, None] * size
            scatter(stacked, index, chunk.corner_weight[images], residual[images])
            table_of_each = stacked.view(n_tables, size).T
            own = prior.colour_adjoint(2 * transform_adjoint(table_of_each, box))
            of_these = slice(chunk.part.start + start, chunk.part.start + stop)
            yield of_these, own.view(stop - start, n_groups, box, box, box)
