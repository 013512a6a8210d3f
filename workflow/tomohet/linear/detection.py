"""Is there heterogeneity that these images can show at all?

The kernel K_pq = <X_p, X_q> of the particles' difference maps (`reconstruction.particle_maps`) has a leading
eigenvalue even when all particles are the same: noise. How large, the images themselves tell: give half of a
particle's tilt images the opposite sign. Noise is as likely with either sign, so that without heterogeneity
nothing changes; but what distinguishes a particle is in all its tilts alike, and cancels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import gumbel_r

from tomohet.linear.significance import FOUND_P
from tomohet.linear.spectral import Kernels, largest_eigenvalues
from tomohet.processes import ALONE, Processes
from tomohet.reconstruction.particle_maps import DifferenceMaps

# Every fourth tilt: groups of a particle see it from nearly the same directions.
TILT_GROUPS = 4
_BALANCED = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])
DRAWS = 30


@dataclass(frozen=True)
class Detection:
    """eigenvalues (n,) of the kernel, and those of the null draws (draws, n), largest first.

    p_value: probability of such a leading eigenvalue without heterogeneity (Gumbel distribution with the
    mean and the variance of the draws). n_components: eigenvalues beyond what noise alone gives.
    """

    eigenvalues: np.ndarray
    null: np.ndarray
    p_value: float
    n_components: int

    @property
    def found(self) -> bool:
        """Whether there is anything to find."""
        return self.p_value < FOUND_P

    @property
    def excess(self) -> float:
        """The leading eigenvalue above those of the draws, in their standard deviations."""
        leading = self.null[:, 0]
        return float((self.eigenvalues[0] - leading.mean()) / leading.std(ddof=1))


def detect_heterogeneity(
    grouped: DifferenceMaps,
    n_eigenvalues: int = 10,
    seed: int = 0,
    processes: Processes = ALONE,
    n_particles: int | None = None,
    source: np.ndarray | None = None,
) -> Detection:
    """Test difference maps of particles, in TILT_GROUPS groups of tilts, for heterogeneity.

    grouped: those of the process's part of n_particles; source (N,): of `copies.numbered_sources`.
    """
    count = n_particles or len(grouped.rms)
    n_eigenvalues = min(n_eigenvalues, count - 1)
    draw = torch.Generator().manual_seed(seed)
    of_each = torch.randint(len(_BALANCED), (DRAWS, count), generator=draw)
    if source is not None:  # copies have the same noise: they get the signs of the first
        of_each = of_each[:, torch.as_tensor(source)]
    drawn = _BALANCED[of_each[:, processes.part(count)]]
    # The images as they are, and the draws: all by the same steps.
    signs = torch.cat([torch.ones_like(drawn[:1]), drawn]).to(grouped.rms)
    start = torch.randn(count, len(signs), generator=draw).to(grouped.rms)
    kernels = Kernels(grouped, signs.permute(1, 2, 0), processes, count)
    eigenvalues, *null = largest_eigenvalues(kernels, start, n_eigenvalues)
    null = np.array(null)
    by_chance = gumbel(null[:, 0])
    p_value = float(by_chance.sf(eigenvalues[0]))
    below = np.flatnonzero(eigenvalues <= by_chance.isf(FOUND_P))
    n_components = int(below[0]) if len(below) else n_eigenvalues
    return Detection(eigenvalues, null, p_value, n_components)


def gumbel(draws: np.ndarray):
    """The Gumbel distribution, of leading eigenvalues, with the mean and the variance of draws (n, ...)."""
    scale = draws.std(0, ddof=1) * np.sqrt(6) / np.pi
    return gumbel_r(draws.mean(0) - np.euler_gamma * scale, scale)
