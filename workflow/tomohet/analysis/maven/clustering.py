"""Groups of volumes and of units with alike occupancies, and the modes of each unit's."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_score
from sklearn.mixture import GaussianMixture

MOST_GROUPS = 12
LEAST_SILHOUETTE = 0.25
LEAST_SEPARATION = 2.0  # standard deviations between the modes of a bimodal unit
FEWEST_VOLUMES = 5


@dataclass(frozen=True)
class Tree:
    """Ward tree of n rows: `links` (n-1, 4) as in scipy, `order` (n,) of the leaves, `groups` (n,) from 1."""

    links: np.ndarray
    order: np.ndarray
    groups: np.ndarray
    silhouette: float


def ward(rows: np.ndarray, groups: int | None = None) -> Tree:
    """Ward clustering of `rows` (n, m) with Euclidean distances.

    The number of groups is `groups`, or else the one of highest mean silhouette up to 12; a single group when
    no silhouette reaches 0.25. Groups are numbered in leaf order.
    """
    n = len(rows)
    if n < 2 or not np.ptp(rows, axis=0).any():
        return Tree(np.empty((0, 4)), np.arange(n), np.ones(n, dtype=np.int64), float("nan"))
    links = linkage(rows, method="ward")
    order = leaves_list(links)
    best, labels = float("nan"), np.ones(n, dtype=np.int64)
    for count in [groups] if groups else range(2, min(MOST_GROUPS, n - 1) + 1):
        trial = fcluster(links, count, criterion="maxclust")
        found = len(np.unique(trial))
        quality = silhouette_score(rows, trial) if 2 <= found < n else float("nan")
        if groups:
            best, labels = quality, trial
        elif quality >= LEAST_SILHOUETTE and not quality <= best:
            best, labels = quality, trial
    return Tree(links, order, _in_leaf_order(labels, order), float(best))


def _in_leaf_order(labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    kinds, first = np.unique(labels[order], return_index=True)
    rank = np.empty(labels.max() + 1, dtype=np.int64)
    rank[kinds[np.argsort(first)]] = np.arange(1, len(kinds) + 1)
    return rank[labels]


def describe_units(occupancy: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Per unit: mean, standard deviation, fraction above 0.5, and its two modes where it is bimodal.

    A unit is bimodal when two Gaussians of one width have a better BIC than one and lie two standard
    deviations apart. `cut` is 0.5 or, where the modes lie on both sides of it, the value between them that is
    equally likely to be of either.
    """
    rows = []
    for name, values in zip(names, occupancy.T, strict=True):
        low, high, cut = _modes(values)
        rows.append(
            {
                "unit": name,
                "mean": values.mean(),
                "sd": values.std(),
                "present": (values > 0.5).mean(),
                "low_mode": low,
                "high_mode": high,
                "cut": cut,
            }
        )
    return pd.DataFrame(rows)


def _modes(values: np.ndarray) -> tuple[float, float, float]:
    nan = float("nan")
    if len(values) < 2 * FEWEST_VOLUMES or not np.ptp(values) > 0:
        return nan, nan, 0.5
    column = values[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        one, two = (
            GaussianMixture(k, covariance_type="tied", random_state=0, reg_covar=1e-4).fit(column)
            for k in (1, 2)
        )
    low, high = np.sort(two.means_[:, 0])
    width = np.sqrt(two.covariances_[0, 0])
    if two.bic(column) >= one.bic(column) or high - low < LEAST_SEPARATION * width:
        return nan, nan, 0.5
    if not low < 0.5 < high:
        return float(low), float(high), 0.5
    between = np.linspace(low, high, 501)
    odds = two.predict_proba(between[:, None])[:, np.argmax(two.means_[:, 0])]
    return float(low), float(high), float(between[np.argmin(np.abs(odds - 0.5))])
