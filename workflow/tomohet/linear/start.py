"""Initial latents of EM: the particles' Gram matrix of coarse difference maps (`linear.spectral`).

All difference maps are held in memory, so more particles require coarser maps. EM then uses the images at
full detail.
"""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tomohet.linear.detection import TILT_GROUPS, Detection, detect_heterogeneity
from tomohet.linear.spectral import kernel_spectrum
from tomohet.particles.copies import numbered_sources
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.particle_maps import DifferenceMaps, grouped_particle_maps

log = logging.getLogger(__name__)

KERNEL_BOXES = (32, 24, 20, 16)
KERNEL_PARTICLES = 10_000
# Memory of the maps in half precision; the eigenvalues take at most 100 MiB in addition.
KERNEL_BYTES = 320 * 2**20
N_EIGENVALUES = 10


@dataclass(frozen=True)
class Comparison:
    """Difference maps of the particles in the Gram matrix.

    observations : of these particles
    maps : difference maps of the process's part
    """

    observations: Observations
    maps: DifferenceMaps

    def latents(self, k: int) -> Tensor:
        """Return (n, k) eigenvectors of the Gram matrix, scaled to unit variance, of the process's part."""
        seen, count = self.observations, len(self.observations.everyone)
        _, vectors = kernel_spectrum(self.maps, k, seen.processes, count)
        scaled = vectors[seen.processes.part(count)] * np.sqrt(count)
        return torch.as_tensor(scaled, dtype=torch.float32, device=seen.device)


def compare(observations: Observations, mean: MeanMap, seed: int, n_groups: int = 1) -> Comparison:
    """Compute difference maps of the observed particles, or of a random part, in n_groups groups of tilts."""
    compared = kernel_particles(observations.everyone, seed)
    box = kernel_box(observations.store.box, observations.max_frequency, len(compared) * n_groups)
    maps = grouped_particle_maps(observations.alike(compared, box), mean, n_groups)
    return Comparison(observations.alike(compared), maps)


def detect(observations: Observations, mean: MeanMap, seed: int) -> Detection:
    """Run the kernel test on the observed particles."""
    seen = compare(observations, mean, seed, TILT_GROUPS)
    processes = observations.processes
    everyone = seen.observations.everyone
    source = numbered_sources(observations.store.particles, everyone)
    return detect_heterogeneity(seen.maps, N_EIGENVALUES, seed, processes, len(everyone), source)


def kernel_particles(particles: np.ndarray, seed: int) -> np.ndarray:
    """Return the particles of the Gram matrix, ascending: all, or KERNEL_PARTICLES drawn at random."""
    if len(particles) <= KERNEL_PARTICLES:
        return particles
    log.info(
        "the initial latents and the kernel test use %d of %d particles", KERNEL_PARTICLES, len(particles)
    )
    return np.sort(np.random.default_rng(seed).choice(particles, KERNEL_PARTICLES, replace=False))


def kernel_box(box: int, max_frequency: float, n_maps: int) -> int:
    """Return the box of the difference maps.

    It is the smallest of KERNEL_BOXES that holds `max_frequency` (or else the largest of them), reduced until
    n_maps fit into KERNEL_BYTES.
    """
    filled = [d for d in KERNEL_BOXES if d >= 2 * max_frequency * box][-1:] or KERNEL_BOXES[:1]
    fitting = [d for d in KERNEL_BOXES if n_maps * d**3 * 2 <= KERNEL_BYTES] or KERNEL_BOXES[-1:]
    return min(box, filled[0], fitting[0])
