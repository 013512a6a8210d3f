"""Representative particles at the density maxima of a two-dimensional embedding."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.spatial.distance import pdist, squareform


@dataclass(frozen=True)
class Sketch:
    """Density maxima: `members` rows of each, `bins` (m, 2), `density` (b, b) and its `edges`."""

    members: list[np.ndarray]
    bins: np.ndarray
    density: np.ndarray
    edges: tuple[np.ndarray, np.ndarray]


def density_maxima(
    points: np.ndarray,
    n_bins: int,
    smooth_width: float,
    pruned_maxima: int,
    radius: float,
    final_maxima: int,
) -> Sketch:
    """Find the maxima of the histogram (n_bins x n_bins) of points (n, 2), smoothed by a Gaussian.

    `smooth_width` is the standard deviation of the Gaussian in bins.

    A maximum is higher than its eight neighbours. While there are more than `pruned_maxima` and two are
    closer than `radius` bins, the lower of the closest two is dropped. The `final_maxima` highest stay. Each
    maximum owns the points of its 3 x 3 bins, or the nearest point when these are empty.
    """
    counts, *edges = np.histogram2d(*points.T, bins=n_bins)
    density = gaussian_filter(counts, smooth_width, mode="constant") if smooth_width > 0 else counts
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    bins = np.argwhere(density > maximum_filter(density, footprint=ring, mode="mirror"))
    if len(bins) == 0:  # a plateau has no single maximum
        bins = np.array([np.unravel_index(density.argmax(), density.shape)])
    bins = bins[np.argsort(-density[tuple(bins.T)], kind="stable")]
    bins = prune(bins, pruned_maxima, radius)[:final_maxima]
    place = np.stack(
        [
            np.clip(np.searchsorted(e, p, "right") - 1, 0, n_bins - 1)
            for e, p in zip(edges, points.T, strict=True)
        ],
        axis=1,
    )
    members = []
    for one in bins:
        distance = np.abs(place - one).max(axis=1)
        inside = np.flatnonzero(distance <= 1)
        members.append(inside if len(inside) else np.array([distance.argmin()]))
    return Sketch(members, bins, density, tuple(edges))


def prune(bins: np.ndarray, wanted: int, radius: float) -> np.ndarray:
    """Drop maxima (m, 2), sorted from high to low, that are closer than `radius` bins to a higher one."""
    while len(bins) > wanted:
        distance = squareform(pdist(bins))
        np.fill_diagonal(distance, np.inf)
        one, other = np.unravel_index(distance.argmin(), distance.shape)
        if distance[one, other] >= radius:
            break
        bins = np.delete(bins, max(one, other), axis=0)
    return bins


def representatives(z: np.ndarray, members: list[np.ndarray]) -> np.ndarray:
    """Find the rows of z (n, zdim) nearest to the median latent of each group of members."""
    from tomohet.analysis.latent import nearest_rows

    medians = np.stack([np.median(z[group], axis=0) for group in members])
    return nearest_rows(medians, z)


def letters(count: int) -> list[str]:
    """Name representatives A, B, C...; after Z: A1, B1..."""
    return [chr(ord("A") + i % 26) + (str(i // 26) if i >= 26 else "") for i in range(count)]
