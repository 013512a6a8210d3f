"""Control of a subset: random subsets of equal size, and how often they reach its value of a statistic."""

import numpy as np
from scipy.stats import pearson3, skew

DRAWS = 499
LEAST_P = 1e-6  # what the fitted tail is trusted to


def control_labels(
    members: np.ndarray, source: np.ndarray, draws: int, seed: int, stratum: np.ndarray | None = None
) -> np.ndarray:
    """Return labels (1 + draws, N) bool: the subset itself, and random subsets of the same size.

    The labels are exchanged among particles of a stratum. Copies of one particle (`particles.copies`) are
    exchanged together, among particles with as many copies, because they share their noise.

    members : (N,) bool
    source : (N,) number of the particle whose images each particle has
    stratum : (N,) int, of particles that were imaged alike (`matching`); copies have one stratum
    """
    rng = np.random.default_rng(seed)
    labels = np.tile(np.asarray(members, bool), (1 + draws, 1))
    order = np.argsort(source, kind="stable")
    counts = np.unique(source, return_counts=True)[1]
    copies = np.repeat(counts, counts)
    placed = np.zeros(len(order), int) if stratum is None else stratum[order]
    for count, place in np.unique(np.stack([copies, placed]), axis=1).T:
        together = order[(copies == count) & (placed == place)].reshape(-1, count)
        of_each = labels[0][together]
        for draw in labels[1:]:
            draw[together] = of_each[rng.permutation(len(together))]
    return labels


def p_value(values: np.ndarray) -> float:
    """Return the probability of the first value, or a larger one, given the values of random subsets.

    It is the rank of the first among all values. Where it exceeds all others, the Pearson type III
    distribution (a shifted gamma distribution) with the mean, variance and skewness of the others gives the
    tail, down to LEAST_P: a sum of products of normal variables is distributed almost so.

    values : (1 + draws,) of the subset itself and of the draws
    """
    subset, draws = values[0], values[1:]
    by_rank = float((1 + (draws >= subset).sum()) / len(values))
    spread = draws.std()
    if (draws >= subset).any() or not spread > 0:
        return by_rank
    tail = pearson3(skew(draws), loc=draws.mean(), scale=spread).sf(subset)
    return float(min(by_rank, max(tail, LEAST_P)))
