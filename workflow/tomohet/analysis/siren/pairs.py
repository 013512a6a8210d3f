"""All pairs of voxels: how many are linked at which significance, and each voxel's closest partners.

Every pair is looked at; what is kept are K partners per voxel, so that memory grows with the voxels alone.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np

from tomohet.analysis.siren.bits import common_ones
from tomohet.analysis.siren.statistics import (
    LOG10_P,
    binomial_cutoffs,
    hypergeometric_cutoffs,
    least_phi,
    lift,
    phi_cutoffs,
    significance,
    siren_p_values,
)
from tomohet.progress import track

PARTNERS = 30
PAIRS_PER_CHUNK = 20_000_000
PAIRS_FOR_SIGNIFICANCE = 40_000_000


@dataclass(frozen=True)
class Voxels:
    """N voxels in V volumes: `bits` (N, W) uint64, `totals` (N,) on-counts, `xyz_A` (N, 3) float32."""

    bits: np.ndarray
    totals: np.ndarray
    xyz_A: np.ndarray
    volumes: int


@dataclass(frozen=True)
class Partners:
    """The linked voxels of largest phi of every voxel.

    index (N, K) int32, -1 where there are fewer; phi (N, K) float32; pairs: pairs of voxels looked at;
    linked: pairs that passed; p_value: the significance demanded of each (None: no pair was significant).
    """

    index: np.ndarray
    phi: np.ndarray
    pairs: int
    linked: int
    p_value: float | None


def partners_by_phi(voxels: Voxels, rng: np.random.Generator, keep: int = PARTNERS) -> Partners:
    """Partners by the exact hypergeometric test at a false discovery rate of 0.01 over all pairs, and phi.

    The significance is found on all pairs, or on those of randomly drawn voxels where there are too many.
    """
    n, volumes = len(voxels.bits), voxels.volumes
    kinds, rank = _ranked(voxels.totals)
    cutoffs = hypergeometric_cutoffs(kinds, volumes, LOG10_P)
    rows = np.arange(n)
    if n * n > PAIRS_FOR_SIGNIFICANCE:
        rows = np.sort(rng.choice(n, max(1, PAIRS_FOR_SIGNIFICANCE // n), replace=False))
    counts = _over_rows(
        lambda part: _count_significant(voxels.bits, rank, rows[part], cutoffs), len(rows), n, "significance"
    )
    chosen = significance(sum(counts), len(rows) * (n - 1))
    if chosen is None:
        nothing = np.full((n, keep), -1, np.int32), np.zeros((n, keep), np.float32)
        return Partners(*nothing, pairs=n * (n - 1) // 2, linked=0, p_value=None)
    needed = np.maximum(cutoffs[:, :, chosen], phi_cutoffs(kinds, volumes, least_phi(volumes)))
    found = _over_rows(
        lambda part: _partners_by_table(
            voxels.bits, rank, kinds, volumes, needed.astype(np.int32), part.start, part.stop, keep
        ),
        n,
        n,
        "pairs of voxels",
    )
    return _joined(found, n, float(10.0 ** -LOG10_P[chosen]))


def partners_by_siren(
    voxels: Voxels,
    positive: np.ndarray | None = None,
    negative: np.ndarray | None = None,
    keep: int = PARTNERS,
) -> Partners:
    """Partners by SIREn's published rule: joint presence above its cut-off times a lift that grows with
    distance, and joint absence above its own.

    positive, negative: cut-offs (V + 1, V + 1) by the totals; default: the exact binomial ones at the
    p-values of `siren_p_values`.
    """
    n, volumes = len(voxels.bits), voxels.volumes
    kinds, rank = _ranked(voxels.totals)
    positive_p, negative_p = siren_p_values(max(1, n * (n - 1) // 2))
    if positive is None or negative is None:
        positive, negative = binomial_cutoffs(kinds, volumes, positive_p, negative_p)
    else:
        positive, negative = (
            np.asarray(table, np.float64)[np.ix_(kinds, kinds)] for table in (positive, negative)
        )
    xyz_A = np.ascontiguousarray(voxels.xyz_A, dtype=np.float64)
    found = _over_rows(
        lambda part: _partners_by_siren(
            voxels.bits, rank, kinds, volumes, positive, negative, xyz_A, part.start, part.stop, keep
        ),
        n,
        n,
        "pairs of voxels",
    )
    return _joined(found, n, positive_p)


def _ranked(totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kinds, rank = np.unique(totals, return_inverse=True)
    return kinds.astype(np.int64), rank.astype(np.int32).reshape(-1)


def _over_rows(work: Callable, rows: int, columns: int, description: str) -> list:
    """`work(slice of rows)` for all rows, on as many threads as the process may use, in order."""
    size = max(1, PAIRS_PER_CHUNK // max(columns, 1))
    parts = [slice(start, min(start + size, rows)) for start in range(0, rows, size)]
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as threads:
        results = threads.map(work, parts)
        return list(track(results, total=len(parts), unit="chunks", description=description))


def _joined(found: list, n: int, p_value: float) -> Partners:
    index, phi, linked = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Partners(index, phi, pairs=n * (n - 1) // 2, linked=int(linked.sum()) // 2, p_value=p_value)


@numba.njit(cache=True, nogil=True)
def _count_significant(bits, rank, rows, cutoffs):
    """Number of pairs (row, any other voxel) at or below each p-value of `cutoffs` (U, U, K)."""
    steps = cutoffs.shape[2]
    exactly = np.zeros(steps + 1, dtype=np.int64)
    for i in rows:
        for j in range(bits.shape[0]):
            if i == j:
                continue
            n11 = common_ones(bits[i], bits[j])
            needed = cutoffs[rank[i], rank[j]]
            if n11 < needed[0]:
                continue
            low, high = 1, steps
            while low < high:
                middle = (low + high) // 2
                if n11 >= needed[middle]:
                    low = middle + 1
                else:
                    high = middle
            exactly[low] += 1
    return exactly[1:][::-1].cumsum()[::-1]


@numba.njit(cache=True, nogil=True)
def _keep_best(index, phi, j, value):
    """Put partner j into the lists (K,), which descend in phi, if it is among the best."""
    place = phi.size - 1
    if index[place] >= 0 and value <= phi[place]:
        return
    while place > 0 and (index[place - 1] < 0 or value > phi[place - 1]):
        index[place], phi[place] = index[place - 1], phi[place - 1]
        place -= 1
    index[place], phi[place] = j, value


@numba.njit(cache=True, nogil=True)
def _partners_by_table(bits, rank, kinds, volumes, needed, start, stop, keep):
    index = np.full((stop - start, keep), -1, dtype=np.int32)
    phi = np.zeros((stop - start, keep), dtype=np.float32)
    linked = np.zeros(stop - start, dtype=np.int64)
    deviation = np.sqrt(kinds * (volumes - kinds))
    for i in range(start, stop):
        n_i, row = kinds[rank[i]], needed[rank[i]]
        for j in range(bits.shape[0]):
            n11 = common_ones(bits[i], bits[j])
            if n11 < row[rank[j]] or i == j:
                continue
            linked[i - start] += 1
            covariance = n11 * volumes - n_i * kinds[rank[j]]
            value = covariance / (deviation[rank[i]] * deviation[rank[j]])
            _keep_best(index[i - start], phi[i - start], j, value)
    return index, phi, linked


@numba.njit(cache=True, nogil=True)
def _partners_by_siren(bits, rank, kinds, volumes, positive, negative, xyz_A, start, stop, keep):
    index = np.full((stop - start, keep), -1, dtype=np.int32)
    phi = np.zeros((stop - start, keep), dtype=np.float32)
    linked = np.zeros(stop - start, dtype=np.int64)
    deviation = np.sqrt(kinds * (volumes - kinds))
    for i in range(start, stop):
        n_i = kinds[rank[i]]
        for j in range(bits.shape[0]):
            n11 = common_ones(bits[i], bits[j])
            cutoff = positive[rank[i], rank[j]]
            n_j = kinds[rank[j]]
            if i == j or n11 <= min(cutoff, min(n_i, n_j)):  # the lift is above 1
                continue
            n00 = volumes - n_i - n_j + n11
            if n00 <= min(negative[rank[i], rank[j]], volumes - max(n_i, n_j)):
                continue
            squared = 0.0
            for axis in range(3):
                squared += (xyz_A[i, axis] - xyz_A[j, axis]) ** 2
            if n11 <= min(lift(math.sqrt(squared)) * cutoff, min(n_i, n_j)):
                continue
            linked[i - start] += 1
            value = (n11 * volumes - n_i * n_j) / (deviation[rank[i]] * deviation[rank[j]])
            _keep_best(index[i - start], phi[i - start], j, value)
    return index, phi, linked
