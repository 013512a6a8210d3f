"""Choice of the latents to decode to volumes, and of the volume that represents each particle."""

import numpy as np
import pandas as pd

from tomohet.analysis.clusters import kmeans
from tomohet.analysis.latent import check_finite


def choose_latents(
    z: np.ndarray, particles: np.ndarray, count: int, seed: int
) -> tuple[np.ndarray, pd.DataFrame]:
    """Choose at most `count` latents (m, zdim) to decode; return them and a table `particle, volume`.

    The table has one row per particle. Every particle has its own volume when there are at most `count`
    particles. Otherwise k-means clusters the particles, and the member nearest to a cluster's mean represents
    the cluster.
    """
    check_finite(z)
    if len(z) <= count:
        return z, pd.DataFrame({"particle": particles, "volume": np.arange(len(z))})
    # One start is enough: the clusters only have to cover the latents, and restarts hardly improve hundreds.
    found = kmeans(z, count, seed, restarts=1)
    return found.centres, pd.DataFrame({"particle": particles, "volume": found.labels})
