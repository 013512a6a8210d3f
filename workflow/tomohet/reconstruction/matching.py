"""Strata of particles within which a subset and the others are imaged alike: view, number of tilts, dose.

A random subset has other viewing directions than a subset that follows the view, and so it is no fair
control. Controls are therefore drawn within strata of the propensity score, the estimated probability that a
particle of such a view, number of tilts and mean dose is a member (Rosenbaum & Rubin 1984, J. Am. Stat.
Assoc. 79:516). Random subsets that take as many particles from each stratum as the subset does have nearly
its distribution of views, tilts and doses. Labels are centred within strata, so that differences between
strata do not count.

The score is from a random forest. It is cross-fitted: no particle has taken part in the fit that gives its
own score, so that the strata of a membership that follows no condition do not separate members from others.
"""

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from tomohet.particles.conditions import imaging_conditions

MATCHED = ["view_x", "view_y", "view_z", "n_tilts", "mean_dose_e_A2"]  # columns of `imaging_conditions`
FOLDS, TREES, PER_LEAF, MOST_PER_TREE = 5, 8, 10, 5000
PER_STRATUM, MOST_STRATA = 10, 20  # five strata remove 90 % of the bias of one condition (ibid.)
LEAST_SOURCES = 10  # of the members and of the others, for a fit


def matched_conditions(store, particles: np.ndarray) -> np.ndarray:
    """Return (N, 5) how particles (store ordinals) were imaged: direction of the beam, tilts, dose (e/Å²).

    The direction of the beam is that of the lowest tilt, in the frame of the volume.
    """
    return imaging_conditions(store, particles)[MATCHED].to_numpy(np.float64)


def strata_of(conditions: np.ndarray, members: np.ndarray, source: np.ndarray, seed: int) -> np.ndarray:
    """Return the stratum (N,) int of each particle, numbered by ascending propensity score.

    All copies of a particle have its stratum, by their mean score. There is one stratum if members or others
    have fewer than LEAST_SOURCES particles.

    conditions : (N, p)
    members : (N,) bool
    source : (N,) number of the particle whose images each particle has
    """
    number = np.unique(source, return_inverse=True)[1]
    counts = np.bincount(number)
    share = np.bincount(number, weights=members) / counts
    if min((share > 0).sum(), (share < 1).sum()) < LEAST_SOURCES:
        return np.zeros(len(members), int)
    order = np.lexsort((np.random.default_rng(seed).random(len(counts)), share))
    fold = np.empty(len(counts), int)
    fold[order] = np.arange(len(counts)) % FOLDS
    forest = RandomForestClassifier(
        TREES,
        min_samples_leaf=PER_LEAF,
        max_features=None,
        max_samples=min(1.0, MOST_PER_TREE / len(members)),
        random_state=seed,
    )
    split = PredefinedSplit(fold[number])
    score = cross_val_predict(forest, conditions, members, cv=split, method="predict_proba")[:, 1]
    rank = rankdata(np.bincount(number, weights=score) / counts, method="ordinal") - 1
    strata = np.clip(len(counts) // PER_STRATUM, 1, MOST_STRATA)
    return (rank * strata // len(counts))[number]


def mean_of_stratum(members: np.ndarray, stratum: np.ndarray) -> np.ndarray:
    """Return for each particle (N,) the fraction of its stratum that are members."""
    return (np.bincount(stratum, weights=members) / np.bincount(stratum))[stratum]


def exchangeable_share(members: np.ndarray, stratum: np.ndarray) -> float:
    """Return the fraction of the membership's variance that lies within strata, from 0 to 1.

    It is about 1 for a membership that follows no condition, and 0 if the strata decide it: then no other
    subset was imaged alike.
    """
    labels = pd.Series(np.asarray(members, float))
    strata = labels.groupby(stratum)
    within = (strata.var().fillna(0.0) * strata.size()).sum() / len(labels)
    return float(min(1.0, within / labels.var()))
