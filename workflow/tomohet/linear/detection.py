"""Kernel test for heterogeneity: the leading eigenvalue of the particles' Gram matrix against its null.

The Gram (kernel) matrix K_pq = <X_p, X_q> of the particles' difference maps (`reconstruction.particle_maps`)
has a leading eigenvalue even if all particles are identical. Its null distribution comes from sign flips:
half of each particle's tilt images receive the opposite sign. Noise is equally likely with either sign, so
without heterogeneity the flips change nothing. Structure is the same in all tilts of a particle, and cancels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import gumbel_r

from tomohet.linear.significance import FOUND_P
from tomohet.linear.spectral import Kernels, largest_eigenvalues
from tomohet.processes import ALONE, Processes
from tomohet.reconstruction.particle_maps import DifferenceMaps

# Every fourth tilt belongs to the same group. The groups of a particle therefore cover nearly the same
# directions.
TILT_GROUPS = 4
_BALANCED = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])
DRAWS = 30


@dataclass(frozen=True)
class Detection:
    """Result of the kernel test.

    eigenvalues : (n,) of the Gram matrix, largest first
    null : (draws, n) eigenvalues of the sign-flipped draws, largest first
    p_value : probability of such a leading eigenvalue without heterogeneity, from a Gumbel distribution with
        the mean and the variance of the draws
    n_components : number of eigenvalues above the level of noise
    """

    eigenvalues: np.ndarray
    null: np.ndarray
    p_value: float
    n_components: int

    @property
    def found(self) -> bool:
        """Whether the test finds heterogeneity."""
        return self.p_value < FOUND_P

    @property
    def excess(self) -> float:
        """The leading eigenvalue minus the mean of the draws, in their standard deviations."""
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
    """Test difference maps of particles for heterogeneity.

    grouped : difference maps in TILT_GROUPS groups of tilts, of the process's part of n_particles
    n_eigenvalues : number of eigenvalues to return
    source : (N,) number of each particle's source, from `copies.numbered_sources`
    """
    count = n_particles or len(grouped.rms)
    n_eigenvalues = min(n_eigenvalues, count - 1)
    draw = torch.Generator().manual_seed(seed)
    of_each = torch.randint(len(_BALANCED), (DRAWS, count), generator=draw)
    if source is not None:  # copies have the same noise and receive the signs of the first copy
        of_each = of_each[:, torch.as_tensor(source)]
    drawn = _BALANCED[of_each[:, processes.part(count)]]
    # The unchanged images and the sign-flipped draws go through the same steps.
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
    """Return the Gumbel distribution with the mean and variance of draws (n, ...) of leading eigenvalues."""
    scale = draws.std(0, ddof=1) * np.sqrt(6) / np.pi
    return gumbel_r(draws.mean(0) - np.euler_gamma * scale, scale)
