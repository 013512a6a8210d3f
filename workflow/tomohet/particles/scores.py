"""Scores of images as normal deviates: the mean over its standard error over particles."""

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student_t

LEAST_PROBABILITY = 1e-300  # smaller tail probabilities underflow
MOST_Z = float(norm.isf(LEAST_PROBABILITY))


def z_over_particles(score: np.ndarray, particle: np.ndarray) -> float:
    """Convert scores (m,) of images, summed within particles, to the normal deviate of their mean.

    Over n particles, mean over standard error is Student's t with n - 1 degrees of freedom. The result is the
    z of equal probability (`normal_deviate`), and 0 for a single particle.
    """
    sums = np.bincount(np.unique(particle, return_inverse=True)[1], score)
    spread = sums.std(ddof=1) * np.sqrt(len(sums)) if len(sums) > 1 else 0.0
    if not spread > 0:
        return 0.0
    ratio = float(sums.sum() / spread)
    return normal_deviate(float(student_t.sf(abs(ratio), len(sums) - 1)), ratio)


def normal_deviate(tail: float, sign: float) -> float:
    """Return the normal deviate of this sign with the probability `tail` beyond it; 37 at most."""
    return float(np.copysign(norm.isf(max(tail, LEAST_PROBABILITY)), sign))
