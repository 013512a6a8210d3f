"""Paths through the latent space: along principal components, and through the graph of neighbours."""

from itertools import pairwise

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from tomohet.analysis.latent import PrincipalComponents
from tomohet.errors import InputError


def component_scores(
    scores: np.ndarray, n: int, limits: tuple[float, float], even_percentiles: bool
) -> np.ndarray:
    """Choose `n` scores (n,) between two percentiles of the scores of one component.

    They are evenly spaced in score, or with `even_percentiles` in percentile.
    """
    if not 0 <= limits[0] < limits[1] <= 100:
        raise InputError(f"--lim {limits[0]:g} {limits[1]:g}: expected two rising percentiles from 0 to 100")
    if n < 2:
        raise InputError(f"-n {n}: a traversal has at least 2 points")
    if even_percentiles:
        return np.percentile(scores, np.linspace(*limits, n))
    return np.linspace(*np.percentile(scores, limits), n)


def support(pcs: PrincipalComponents, component: int, points: np.ndarray) -> np.ndarray:
    """Count the particles nearest to each of the scores `points` (k,) along a component (0-based)."""
    nearest = np.abs(pcs.scores[:, component, None] - points).argmin(axis=1)
    return np.bincount(nearest, minlength=len(points))


def neighbour_graph(z: np.ndarray, max_neighbours: int, mean_neighbours: float | None) -> sparse.csr_array:
    """Build a symmetric graph of particles (n, n), edges weighted by Euclidean distance in z (n, zdim).

    Two particles are joined when either is among the other's `max_neighbours` nearest. With `mean_neighbours`
    a, only edges not longer than the (n a)-th shortest neighbour distance are kept.
    """
    from sklearn.neighbors import NearestNeighbors

    if max_neighbours < 1 or (mean_neighbours is not None and mean_neighbours <= 0):
        raise InputError("--max-neighbors and --avg-neighbors must be positive")
    count = min(max_neighbours, len(z) - 1)
    distance, neighbour = NearestNeighbors(n_neighbors=count).fit(z).kneighbors()
    kept = np.ones_like(distance, bool)
    if mean_neighbours is not None:
        wanted = min(int(len(z) * mean_neighbours), distance.size) - 1
        kept = distance <= np.partition(distance.ravel(), max(wanted, 0))[max(wanted, 0)]
    row = np.repeat(np.arange(len(z)), count).reshape(distance.shape)[kept]
    # Identical latents are neighbours at distance 0, which a sparse matrix would treat as no edge.
    length = np.maximum(distance[kept], np.finfo(np.float64).tiny)
    edges = sparse.coo_array((length, (row, neighbour[kept])), shape=(len(z), len(z))).tocsr()
    return edges.maximum(edges.T).tocsr()


def shortest_path(graph: sparse.csr_array, anchors: list[int]) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Find the particles (int64) on the shortest path through `anchors`, and the legs that have no path."""
    path, broken = [anchors[0]], []
    for start, end in pairwise(anchors):
        _, before = csgraph.dijkstra(graph, directed=False, indices=start, return_predecessors=True)
        if before[end] < 0 and start != end:
            broken.append((start, end))
            path.append(end)
            continue
        leg = [end]
        while leg[-1] != start:
            leg.append(int(before[leg[-1]]))
        path.extend(leg[-2::-1] if len(leg) > 1 else [])
    return np.asarray(path, np.int64), broken


def check_anchors(anchors: list[int], n: int) -> None:
    """Raise InputError unless there are two anchors or more, each a row of n latents."""
    if len(anchors) < 2:
        raise InputError(f"--anchors: {len(anchors)} given, at least 2 particles are needed")
    for anchor in anchors:
        if not 0 <= anchor < n:
            raise InputError(f"--anchors: {anchor} is not a particle; there are {n}, numbered from 0")
