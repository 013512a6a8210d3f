"""Number of common volumes that two voxels need to count as linked, for every pair of their totals.

With fixed totals n_i and n_j, the number n11 of volumes in which both voxels are on is a sufficient
statistic. Whether two voxels are linked is decided by comparing n11 with a table indexed by the totals, (U,
U) over their U distinct values.
"""

import math

import numba
import numpy as np
from scipy.stats import binom

FALSE_DISCOVERY_RATE = 0.01
LEAST_PHI = 0.3
MOST_PHI = 0.6  # highest required phi, for few volumes: voxels of one block hardly agree better
PHI_FOR_FEW_VOLUMES = 3.3  # required phi times sqrt(n): above what n independent volumes reach by chance
LOG10_P = np.arange(1.5, 20.01, 0.5)
ENTRIES_OF_TABLE = 100_000_000
MOST_VOLUMES = 32_766  # counts are tabulated in 16 bits
SIREN_POSITIVE_P, SIREN_NEGATIVE_P, SIREN_DRAWS = 0.01, 0.05, 1000
LIFT_NEAR, LIFT_FAR, FAR_A = 1.25, 1.75, 40.0
LIFT_SLOPE_PER_A, LIFT_INTERCEPT = 0.02, 0.95


def least_phi(volumes: float) -> float:
    """Return the smallest phi that links voxels.

    It is 0.3, or more, up to 0.6, for fewer than 121 independent volumes.
    """
    return min(max(LEAST_PHI, PHI_FOR_FEW_VOLUMES / math.sqrt(volumes)), MOST_PHI)


def p_value_grid(kinds: int) -> np.ndarray:
    """Return -log10 of the p-values that are distinguished.

    They have steps of 0.5, or more for many distinct totals.
    """
    steps = max(2, min(len(LOG10_P), ENTRIES_OF_TABLE // max(kinds, 1) ** 2))
    return LOG10_P[:: -(-len(LOG10_P) // steps)]


def phi_coefficient(n11: np.ndarray, n_i: np.ndarray, n_j: np.ndarray, volumes: int) -> np.ndarray:
    """Compute the correlation of two binary variables from their counts."""
    covariance = n11 * volumes - n_i * n_j
    return covariance / np.sqrt(n_i * (volumes - n_i) * n_j * (volumes - n_j))


def phi_cutoffs(n_i: np.ndarray, n_j: np.ndarray, volumes: int, phi: float) -> np.ndarray:
    """Return the smallest n11 (U, W) int32 at which voxels of totals n_i (U,) and n_j (W,) reach `phi`."""
    spread_i, spread_j = (np.sqrt(n * (volumes - n).astype(np.float64)) for n in (n_i, n_j))
    needed = (phi * np.multiply.outer(spread_i, spread_j) + np.multiply.outer(n_i, n_j)) / volumes
    return np.ceil(needed - 1e-9).astype(np.int32)


@numba.njit(cache=True, nogil=True)
def hypergeometric_cutoffs(totals, volumes, log10_p):
    """Find the smallest n11 whose upper tail is at most 10^-log10_p, for all pairs of totals.

    Returns (U, U, K) int16. The test is Fisher's exact one-sided test: P(N11 >= n11) for two sets of n_i and
    n_j volumes drawn independently. `log10_p` (K,) ascends; n11 = volumes + 1 where no count is rare enough.
    """
    log_factorial = np.zeros(volumes + 1)
    for n in range(1, volumes + 1):
        log_factorial[n] = log_factorial[n - 1] + math.log(n)
    limits = 10.0 ** (-log10_p)
    table = np.full((totals.size, totals.size, log10_p.size), volumes + 1, dtype=np.int16)
    for i in range(totals.size):
        for j in range(i + 1):
            n_i, n_j = totals[i], totals[j]
            constant = (
                log_factorial[n_i] + log_factorial[n_j] + log_factorial[volumes - n_i]
                + log_factorial[volumes - n_j] - log_factorial[volumes]
            )  # fmt: skip
            tail = 0.0
            for n11 in range(min(n_i, n_j), max(0, n_i + n_j - volumes) - 1, -1):
                tail += math.exp(
                    constant - log_factorial[n11] - log_factorial[n_i - n11] - log_factorial[n_j - n11]
                    - log_factorial[volumes - n_i - n_j + n11]
                )  # fmt: skip
                if tail > limits[0]:
                    break
                for k in range(log10_p.size):
                    if tail > limits[k]:
                        break
                    table[i, j, k] = n11
                    table[j, i, k] = n11
    return table


def significance(passing: np.ndarray, tested: int, log10_p: np.ndarray = LOG10_P) -> int | None:
    """Return the index of the largest p-value at which Benjamini and Hochberg's procedure rejects, or None.

    passing : (K,) number of tested pairs at or below each p-value 10^-log10_p

    On this grid of p-values the false discovery rate is controlled, and at most one step of power is lost.
    """
    expected = tested * 10.0 ** (-log10_p)
    accepted = np.flatnonzero(expected <= FALSE_DISCOVERY_RATE * passing)
    return int(accepted[0]) if len(accepted) else None


def siren_p_values(pairs: int) -> tuple[float, float]:
    """Return the p-values that SIREn in effect requires of joint presence and joint absence.

    Nominally they are 0.01 and 0.05 divided by the number of pairs. But SIREn's cut-offs are percentiles of
    1000 draws, hence never beyond the largest draw, whose median is the quantile at 1 - 0.5^(1/1000).
    """
    largest_draw = 1 - 0.5 ** (1 / SIREN_DRAWS)
    return max(SIREN_POSITIVE_P / pairs, largest_draw), max(SIREN_NEGATIVE_P / pairs, largest_draw)


def binomial_cutoffs(
    totals: np.ndarray, volumes: int, positive_p: float, negative_p: float
) -> tuple[np.ndarray, np.ndarray]:
    """Compute SIREn's cut-offs of joint presence and joint absence, each (U, U) float64.

    SIREn draws both voxels' states with replacement, so that n11 ~ Binomial(V, f_i f_j) and n00 ~ Binomial(V,
    (1 - f_i)(1 - f_j)), f = n / V. The cut-offs are the exact upper quantiles of these distributions.
    """
    on = totals / volumes
    positive = binom.isf(positive_p, volumes, np.multiply.outer(on, on))
    negative = binom.isf(negative_p, volumes, np.multiply.outer(1 - on, 1 - on))
    return positive, negative


@numba.njit(cache=True, nogil=True)
def lift(distance_A):
    """Return SIREn's factor on the cut-off of joint presence: 1.25 nearby, 1.75 from 40 Å on."""
    if distance_A >= FAR_A:
        return LIFT_FAR
    return max(LIFT_NEAR, LIFT_SLOPE_PER_A * distance_A + LIFT_INTERCEPT)
