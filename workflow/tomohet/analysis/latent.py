"""Principal components of latents, percentile points along them, and their UMAP embedding."""

import logging
from dataclasses import dataclass

import numpy as np

from tomohet.analysis.chunks import ROWS, chunks
from tomohet.errors import InputError

UMAP_NEIGHBOURS = 15
LANDMARKS = 50_000  # particles to which UMAP is fitted, at most; the others are placed among them
PLACED_TOGETHER = 10_000  # other particles placed at once: UMAP refines no more than these carefully
PERCENTILES = np.arange(5, 100, 10)  # ten points along a component, from its 5th to its 95th percentile

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PrincipalComponents:
    """Principal components of latents z (n, zdim), centred, not scaled.

    `scores` (n, m), `axes` (m, zdim) orthonormal rows, `mean` (zdim,), `explained` (m,) fractions of the
    total variance, descending; m = min(n, zdim).
    """

    scores: np.ndarray
    axes: np.ndarray
    mean: np.ndarray
    explained: np.ndarray

    def on_axis(self, component: int, scores: np.ndarray) -> np.ndarray:
        """Return latents (k, zdim) with the given scores on `component` (0-based) and 0 on all others."""
        return self.mean + np.asarray(scores)[:, None] * self.axes[component]


def principal_components(z: np.ndarray) -> PrincipalComponents:
    """Compute the principal components of z (n, zdim), each signed so that its largest loading is positive.

    They come from the singular values of z, and for more than 100,000 particles from the covariance of the
    latents, which takes less memory.

    Raises InputError when a latent is not finite.
    """
    from sklearn.decomposition import PCA

    check_finite(z)
    if len(z) == 1:
        nothing = np.zeros((1, 1), np.float32)
        return PrincipalComponents(nothing, np.eye(1, z.shape[1], dtype=np.float32), z[0], nothing[0])
    if len(z) > ROWS:
        return _components_of_many(z)
    pca = PCA(svd_solver="full")
    with np.errstate(invalid="ignore", divide="ignore"):  # identical latents have no variance to divide by
        scores = pca.fit_transform(np.asarray(z, np.float64))
    explained = np.nan_to_num(pca.explained_variance_ratio_)
    signs = np.where(_largest(pca.components_) < 0, -1.0, 1.0)
    return PrincipalComponents(
        (scores * signs).astype(np.float32),
        (pca.components_ * signs[:, None]).astype(np.float32),
        pca.mean_.astype(np.float32),
        explained,
    )


def _components_of_many(z: np.ndarray) -> PrincipalComponents:
    """Compute the principal components of z (n, zdim), n above zdim, from its covariance, chunk by chunk."""
    mean = z.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((z.shape[1], z.shape[1]))
    for here in chunks(len(z)):
        centred = z[here] - mean
        covariance += centred.T @ centred
    variance, axes = np.linalg.eigh(covariance)
    variance, axes = variance[::-1].clip(0), axes.T[::-1]
    axes = axes * np.where(_largest(axes) < 0, -1.0, 1.0)[:, None]
    scores = np.empty(z.shape, np.float32)
    for here in chunks(len(z)):
        scores[here] = (z[here] - mean) @ axes.T
    explained = variance / max(variance.sum(), np.finfo(float).tiny)
    return PrincipalComponents(scores, axes.astype(np.float32), mean.astype(np.float32), explained)


def check_finite(z: np.ndarray) -> None:
    """Raise InputError naming the first particle whose latent holds NaN or infinity."""
    bad = np.flatnonzero(~np.isfinite(z).all(axis=1))
    if len(bad):
        raise InputError(
            f"latents: {len(bad)} of {len(z)} rows are not finite, the first is row {bad[0]}; "
            "the training diverged: use an earlier epoch or a smaller learning rate"
        )


def percentile_scores(scores: np.ndarray, percentiles: np.ndarray = PERCENTILES) -> np.ndarray:
    """Compute percentiles of the scores (n,) of one component."""
    return np.percentile(scores, percentiles)


def nearest_rows(points: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Find for each point (k, zdim) the nearest row of z (n, zdim) (Euclidean); the first row on ties."""
    from sklearn.metrics import pairwise_distances_argmin

    return pairwise_distances_argmin(points, z).astype(np.int64)


def umap_embedding(z: np.ndarray, seed: int, neighbours: int = UMAP_NEIGHBOURS) -> np.ndarray | None:
    """Embed z (n, d) by UMAP (McInnes et al. 2018) to (n, 2), reproducibly for a given seed.

    UMAP is fitted to at most `LANDMARKS` points, drawn at random. Each further point is placed by its nearest
    landmarks and then moved as UMAP moves points, while the landmarks stay.

    Returns None, with a message, when there are too few points for UMAP's number of neighbours.
    """
    if len(z) < neighbours:
        log.warning("UMAP skipped: %d points, at least %d are needed", len(z), neighbours)
        return None
    import warnings

    import umap

    _cache_compiled_umap()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_jobs value", category=UserWarning)
        warnings.filterwarnings("ignore", message="Spectral initiali", category=UserWarning)
        # Duplicates leave the neighbour graph in pieces; the layout is then started at random, seeded.
        warnings.filterwarnings("ignore", message="Graph is not fully connected", category=UserWarning)
        model = umap.UMAP(
            n_neighbors=min(neighbours, len(z) - 1), min_dist=0.1, random_state=seed, transform_seed=seed,
            n_jobs=1,
        )  # fmt: skip
        z = np.asarray(z, np.float32)
        if len(z) <= LANDMARKS:
            return np.asarray(model.fit_transform(z), np.float32)
        log.info("UMAP is fitted to %d of %d points; the others are placed among them", LANDMARKS, len(z))
        landmark = np.zeros(len(z), bool)
        landmark[np.random.default_rng(seed).choice(len(z), LANDMARKS, replace=False)] = True
        embedding = np.empty((len(z), 2), np.float32)
        embedding[landmark] = model.fit_transform(z[landmark])
        others = np.flatnonzero(~landmark)
        for here in chunks(len(others), PLACED_TOGETHER):
            embedding[others[here]] = model.transform(z[others[here]])
    return embedding


def _largest(axes: np.ndarray) -> np.ndarray:
    return axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)]


def _cache_compiled_umap() -> None:
    """Let numba keep umap's compiled code on disk: later processes start in a second instead of ten."""
    import sys

    from numba.core.dispatcher import Dispatcher

    for module in ("umap.umap_", "umap.layouts", "umap.utils", "umap.distances"):
        for function in vars(sys.modules[module]).values():
            if isinstance(function, Dispatcher):
                try:
                    function.enable_caching()
                except RuntimeError as reason:  # no writable folder for the cache: compile each time
                    log.debug("umap's compiled code is not cached: %s", reason)
                    return
