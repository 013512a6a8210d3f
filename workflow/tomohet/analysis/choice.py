"""Which latents to decode to volumes, and which volume stands for which particle."""

import numpy as np
import pandas as pd

from tomohet.analysis.clusters import kmeans
from tomohet.analysis.latent import check_finite


def choose_latents(
    z: np.ndarray, particles: np.ndarray, count: int, seed: int
) -> tuple[np.ndarray, pd.DataFrame]:
    """At most `count` latents (m, zdim) to decode, and a table `particle, volume` with a row per particle.

    Every particle has its own volume when there are not more than `count`; else the particles are sketched
    by k-means, and each is represented by the member nearest to its cluster's mean.
    """
    check_finite(z)
    if len(z) <= count:
        return z, pd.DataFrame({"particle": particles, "volume": np.arange(len(z))})
    # One start: a sketch covers the latents, and with hundreds of clusters restarts hardly improve it.
    found = kmeans(z, count, seed, restarts=1)
    return found.centres, pd.DataFrame({"particle": particles, "volume": found.labels})
