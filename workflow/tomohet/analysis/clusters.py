"""Clusters of latents: k-means with centres on real particles, and Gaussian mixtures chosen by BIC."""

import logging
import warnings
from dataclasses import dataclass

import numpy as np

from tomohet.analysis.chunks import chunks, variances

MAX_COMPONENTS = 10
PARTICLES_PER_CLUSTER = 50  # where the latents have no groups
MAX_DIMENSIONS = 8
LOOKED_AT = 10_000  # rows among which distinct ones are counted first; all rows if these are too few
MIXTURE_ROWS = 20_000  # a mixture is fitted to at most this number of particles; all are then assigned

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clusters:
    """k-means clusters with their centres on particles.

    labels : (n,) int
    centres : (k, zdim) latents of the central particles
    rows : (k,) rows of the central particles
    """

    labels: np.ndarray
    centres: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class Mixture:
    """A Gaussian mixture: `labels` (n,), `probability` (n,) of that label, `bic` of each model tried."""

    labels: np.ndarray
    probability: np.ndarray
    components: int
    covariance: str
    bic: dict[str, float]


def kmeans(z: np.ndarray, k: int, seed: int, restarts: int = 10) -> Clusters:
    """Cluster z (n, zdim) by k-means, started by k-means++ `restarts` times; the best result is kept.

    Each centre is the member nearest to its cluster's mean, so that the decoded centre is an observed latent.
    Labels follow the leaf order of an average-linkage tree of the centres, so that neighbouring labels are
    alike. When z has fewer than `k` distinct rows there are fewer clusters, and a message says so.
    """
    from sklearn.cluster import KMeans

    distinct = len(np.unique(z[:LOOKED_AT], axis=0))
    if distinct < k and len(z) > LOOKED_AT:
        distinct = len(np.unique(z, axis=0))
    if distinct < k:
        log.warning("k-means: %d clusters asked for, only %d distinct points", k, distinct)
    k = min(k, distinct)
    fit = KMeans(k, init="k-means++", n_init=restarts, random_state=seed).fit(z)
    distance = np.concatenate(
        [np.linalg.norm(z[h] - fit.cluster_centers_[fit.labels_[h]], axis=1) for h in chunks(len(z))]
    )
    # The first member of each cluster, with members sorted by distance.
    nearest_first = np.lexsort((distance, fit.labels_))
    kinds, starts = np.unique(fit.labels_[nearest_first], return_index=True)
    rows = nearest_first[starts]
    order = leaf_order(z[rows])
    new_label = np.full(fit.labels_.max() + 1, -1)
    new_label[kinds[order]] = np.arange(len(order))
    return Clusters(new_label[fit.labels_].astype(np.int64), z[rows[order]], rows[order].astype(np.int64))


def number_of_clusters(n: int, states: int | None, mixture: Mixture) -> int:
    """Return the number of k-means clusters of `n` particles, from what is known of their groups.

    It is the number of states, else that of the mixture's components. Without groups, clusters only divide
    the latent space: one per 50 particles, 2 to 20.
    """
    groups = states if states is not None else mixture.components
    return groups if groups > 1 else int(np.clip(n // PARTICLES_PER_CLUSTER, 2, 20))


def leaf_order(centres: np.ndarray) -> np.ndarray:
    """Order centres (k, d) as the leaves of their average-linkage tree, with neighbours as near as possible.

    Optimal leaf ordering: Bar-Joseph et al. 2001, Bioinformatics 17:S22.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage

    if len(centres) < 3:
        return np.lexsort(centres.T[::-1])
    return leaves_list(linkage(centres, "average", optimal_ordering=True))


def gaussian_mixture(scores: np.ndarray, seed: int, max_components: int = MAX_COMPONENTS) -> Mixture:
    """Fit the Gaussian mixture with the lowest Bayesian information criterion (Schwarz 1978).

    scores : (n, m) principal-component scores, variance descending

    The mixture uses the leading components that hold 95 % of the variance, at most 8. Mixtures of one to
    `max_components` Gaussians, with one tied or with full covariances, compete. A model with more parameters
    than a third of the observed numbers does not take part.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    x = informative(scores)
    scale = x.std()
    if scale == 0 or len(x) < 4:
        return Mixture(np.zeros(len(x), np.int64), np.ones(len(x)), 1, "tied", {})
    x = x / scale
    rng = np.random.default_rng(seed)
    sample = x if len(x) <= MIXTURE_ROWS else rng.choice(x, MIXTURE_ROWS, replace=False)
    distinct = len(np.unique(sample, axis=0))
    best, bic = None, {}
    for kind in ("tied", "full"):
        for count in range(1, max_components + 1):
            if count > distinct or free_parameters(kind, count, x.shape[1]) > sample.size / 3:
                continue
            model = GaussianMixture(
                count, covariance_type=kind, n_init=3, reg_covar=1e-4, random_state=seed, max_iter=300
            )
            with warnings.catch_warnings():
                # A mixture that does not converge loses by its BIC.
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(sample)
            bic[f"{kind} {count}"] = value = float(model.bic(sample))
            if best is None or value < bic[f"{best.covariance_type} {best.n_components}"]:
                best = model
    if best is None:
        return Mixture(np.zeros(len(x), np.int64), np.ones(len(x)), 1, "tied", {})
    new_label = np.argsort(leaf_order(best.means_))
    labels, probability = np.zeros(len(x), np.int64), np.zeros(len(x))
    for here in chunks(len(x)):
        of_each = best.predict_proba(x[here])
        labels[here], probability[here] = new_label[of_each.argmax(axis=1)], of_each.max(axis=1)
    return Mixture(
        labels,
        probability,
        best.n_components,
        best.covariance_type,
        bic,
    )


def informative(scores: np.ndarray) -> np.ndarray:
    """Return the leading columns of scores (n, m) that hold 95 % of the variance, at most 8 and n / 10."""
    variance = variances(scores)
    if variance.sum() == 0:
        return scores[:, :1]
    needed = np.searchsorted(np.cumsum(variance) / variance.sum(), 0.95) + 1
    return np.asarray(scores[:, : max(1, min(needed, MAX_DIMENSIONS, len(scores) // 10))], np.float64)


def free_parameters(kind: str, components: int, dimensions: int) -> int:
    """Count the free parameters of a Gaussian mixture with `tied` or `full` covariances."""
    covariance = dimensions * (dimensions + 1) // 2 * (components if kind == "full" else 1)
    return components * dimensions + components - 1 + covariance
