"""Initial latents of EM: the particles' Gram matrix of coarse difference maps (`linear.spectral`).

All difference maps are held in memory, so more particles require coarser maps. EM then uses the images at
full detail.
"""

import logging

import numpy as np
import torch
from torch import Tensor

from tomohet.linear.spectral import kernel_spectrum
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.particle_maps import particle_maps

log = logging.getLogger(__name__)

KERNEL_BOXES = (32, 24, 20, 16)
KERNEL_PARTICLES = 10_000
# Memory of the maps in half precision.
KERNEL_BYTES = 320 * 2**20


def kernel_latents(observations: Observations, mean: MeanMap, k: int, seed: int) -> tuple[np.ndarray, Tensor]:
    """Return the particles of the Gram matrix (store ordinals), and their initial latents.

    The latents (n, k) of the process's part are the leading eigenvectors, scaled to unit variance. The
    difference maps are not kept.
    """
    compared = kernel_particles(observations.everyone, seed)
    count, processes = len(compared), observations.processes
    box = kernel_box(observations.store.box, observations.max_frequency, count)
    maps = particle_maps(observations.alike(compared, box), mean)
    _, vectors = kernel_spectrum(maps, k, processes, count)
    scaled = vectors[processes.part(count)] * np.sqrt(count)
    return compared, torch.as_tensor(scaled, dtype=torch.float32, device=observations.device)


def kernel_particles(particles: np.ndarray, seed: int) -> np.ndarray:
    """Return the particles of the Gram matrix, ascending: all, or KERNEL_PARTICLES drawn at random."""
    if len(particles) <= KERNEL_PARTICLES:
        return particles
    log.info("the initial latents are those of %d of %d particles", KERNEL_PARTICLES, len(particles))
    return np.sort(np.random.default_rng(seed).choice(particles, KERNEL_PARTICLES, replace=False))


def kernel_box(box: int, max_frequency: float, n_maps: int) -> int:
    """Return the box of the difference maps.

    It is the smallest of KERNEL_BOXES that holds `max_frequency` (or else the largest of them), reduced until
    n_maps fit into KERNEL_BYTES.
    """
    filled = [d for d in KERNEL_BOXES if d >= 2 * max_frequency * box][-1:] or KERNEL_BOXES[:1]
    fitting = [d for d in KERNEL_BOXES if n_maps * d**3 * 2 <= KERNEL_BYTES] or KERNEL_BOXES[-1:]
    return min(box, filled[0], fitting[0])
