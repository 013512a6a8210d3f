"""Random points with a minimum distance: dense, without the order of a lattice."""

from collections.abc import Callable

import numpy as np
from scipy.spatial import cKDTree

# Random sequential packing of spheres fills 0.38 of space: no more points than this fit at distance d.
PACKED_FRACTION = 0.38
CANDIDATES_PER_POINT = 25


def keep_apart(points: np.ndarray, distance: float) -> np.ndarray:
    """Return indices of a maximal subset of `points` (n, d), no two closer than `distance`.

    Earlier points are preferred: the result equals accepting the points one after another, each if it is far
    from all accepted before. It is found in a few rounds; each round accepts the points that precede all
    their undecided neighbours.
    """
    pairs = cKDTree(points).query_pairs(distance, output_type="ndarray")
    early, late = pairs.min(axis=1), pairs.max(axis=1)
    accepted = np.zeros(len(points), bool)
    undecided = np.ones(len(points), bool)
    while undecided.any():
        preceded = np.zeros(len(points), bool)
        live = undecided[early] & undecided[late]
        early, late = early[live], late[live]
        preceded[late] = True
        new = undecided & ~preceded
        accepted |= new
        undecided &= ~new
        undecided[late[new[early]]] = False
    return np.flatnonzero(accepted)


def fill(
    inside: Callable[[np.ndarray], np.ndarray],
    lower: np.ndarray,
    upper: np.ndarray,
    n: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, float]:
    """Place `n` well-spread points within a shape: return positions (n, 3) and the shape's volume.

    inside : maps points (m, 3) to booleans; the shape lies between the corners `lower` and `upper` (3,)
    """
    trial = rng.uniform(lower, upper, (200 * n, 3))
    trial = trial[inside(trial)]
    volume = float(np.prod(upper - lower)) * len(trial) / (200 * n)
    candidates = trial[: CANDIDATES_PER_POINT * n]
    distance = 0.9 * (6 * PACKED_FRACTION * volume / (np.pi * n)) ** (1 / 3)
    while True:
        kept = keep_apart(candidates, distance)
        if len(kept) >= n:
            return candidates[kept[:n]], volume
        distance *= 0.97
