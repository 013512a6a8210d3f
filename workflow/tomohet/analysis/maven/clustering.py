"""Groups of volumes and of units with similar occupancies, and the statistics of each unit."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from sklearn.metrics import silhouette_score

MOST_GROUPS = 12
LEAST_SILHOUETTE = 0.25
MOST_LEAVES = 5000  # memory and time of a tree grow with the square of their number


@dataclass(frozen=True)
class Tree:
    """Ward tree of n rows, and the group of each.

    links : (m - 1, 4), as in scipy, of the m leaves
    order : (m,) rows that are leaves, in the order of the tree; all rows if there are at most 5,000
    groups : (n,) from 1
    """

    links: np.ndarray
    order: np.ndarray
    groups: np.ndarray
    silhouette: float


def ward(rows: np.ndarray, groups: int | None = None) -> Tree:
    """Cluster `rows` (n, m) by Ward's method with Euclidean distances.

    Of more than 5,000 rows the tree is made of 5,000, drawn at random with a fixed seed. Every other row
    belongs to the group whose mean is nearest.

    The number of groups is `groups`, or else the number up to 12 with the highest mean silhouette; a single
    group when no silhouette reaches 0.25. Groups are numbered in leaf order.
    """
    n = len(rows)
    if n > MOST_LEAVES:
        drawn = np.sort(np.random.default_rng(0).choice(n, MOST_LEAVES, replace=False))
        tree = ward(rows[drawn], groups)
        labels = nearest_group(rows, rows[drawn], tree.groups)
        labels[drawn] = tree.groups
        return Tree(tree.links, drawn[tree.order], labels, tree.silhouette)
    if n < 2 or not np.ptp(rows, axis=0).any():
        return Tree(np.empty((0, 4)), np.arange(n), np.ones(n, dtype=np.int64), float("nan"))
    links = linkage(rows, method="ward")
    order = leaves_list(links)
    best, labels = float("nan"), np.ones(n, dtype=np.int64)
    for count in [groups] if groups else range(2, min(MOST_GROUPS, n - 1) + 1):
        trial = fcluster(links, count, criterion="maxclust")
        found = len(np.unique(trial))
        quality = silhouette_score(rows, trial) if 2 <= found < n else float("nan")
        if groups or (quality >= LEAST_SILHOUETTE and not quality <= best):
            best, labels = quality, trial
    return Tree(links, order, _in_leaf_order(labels, order), float(best))


def nearest_group(rows: np.ndarray, grouped: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the group (n,) with the mean nearest to each of `rows` (n, m).

    grouped, groups : (g, m) rows that are in groups, and the group (g,) of each
    """
    kinds = np.unique(groups)
    means = np.stack([grouped[groups == kind].mean(axis=0) for kind in kinds])
    squared = (means**2).sum(axis=1) - 2 * rows @ means.T
    return kinds[squared.argmin(axis=1)]


def _in_leaf_order(labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    kinds, first = np.unique(labels[order], return_index=True)
    rank = np.empty(labels.max() + 1, dtype=np.int64)
    rank[kinds[np.argsort(first)]] = np.arange(1, len(kinds) + 1)
    return rank[labels]


def describe_units(occupancy: np.ndarray, names: list[str], modes: pd.DataFrame) -> pd.DataFrame:
    """Tabulate per unit: mean, standard deviation, fraction above its cut, and its modes (`unit_modes`)."""
    rows = pd.DataFrame(
        {
            "unit": names,
            "mean": occupancy.mean(axis=0),
            "sd": occupancy.std(axis=0),
            "present": (occupancy > modes.cut.to_numpy()).mean(axis=0),
        }
    )
    return pd.concat([rows, modes], axis=1)
