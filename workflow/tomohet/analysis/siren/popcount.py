"""All pairs of voxels by counting common bits: the engine for processors."""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from tomohet.analysis.siren.bits import common_ones
from tomohet.analysis.siren.statistics import MOST_VOLUMES, lift
from tomohet.progress import track

PAIRS_PER_CHUNK = 20_000_000


def count_significant(voxels, rank: np.ndarray, rows: np.ndarray, cutoffs: np.ndarray) -> np.ndarray:
    """Count pairs (K,) of one of `rows` and any other voxel with at least `cutoffs` (U, U, K) common volumes.

    rank : (N,) position of every voxel's total among the U totals

    Voxels within `voxels.noise_A` of each other do not count.
    """
    xyz_A, noise_A = voxels.xyz_A.astype(np.float64), noise_of(voxels)
    counts = _over_rows(
        lambda part: _count_significant(voxels.bits, rank, rows[part], cutoffs, xyz_A, noise_A),
        len(rows),
        len(rank),
        "significance",
    )
    return sum(counts)


def best_partners(
    voxels, rank: np.ndarray, rule, keep: int, rows: slice
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Find index (R, K) and phi (R, K) of the partners of largest phi of the voxels `rows`.

    rule : a `pairs.Rule`

    The number of linked and of excluded pairs of these voxels with any other is returned too.
    """
    xyz_A = voxels.xyz_A.astype(np.float64)
    noise_A = noise_of(voxels) if rule.apart else np.full(len(rank), -1.0)
    # The two tables are interleaved in memory because nearly every pair reads both.
    limits = np.minimum(np.stack([rule.needed, rule.excluded], axis=-1), MOST_VOLUMES + 1).astype(np.int16)
    found = _over_rows(
        lambda part: _best_partners(
            voxels.bits, rank, rule.kinds, voxels.volumes, limits, rule.lifted,
            rule.positive, xyz_A, noise_A, rows.start + part.start, rows.start + part.stop, keep,
        ),
        rows.stop - rows.start,
        len(rank),
        "pairs of voxels",
    )  # fmt: skip
    index, phi, linked, excluded = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return index, phi, int(linked.sum()), int(excluded.sum())


def noise_of(voxels) -> np.ndarray:
    """Return the distance (N,) float64 within which each voxel shares its noise with others.

    -1 if unknown.
    """
    return np.full(len(voxels.bits), -1.0) if voxels.noise_A is None else voxels.noise_A.astype(np.float64)


def _over_rows(work: Callable, rows: int, columns: int, description: str) -> list:
    """Run `work(slice of rows)` for all rows, on as many threads as the process may use; keep the order."""
    size = max(1, PAIRS_PER_CHUNK // max(columns, 1))
    parts = [slice(start, min(start + size, rows)) for start in range(0, max(rows, 1), size)]
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as threads:
        results = threads.map(work, parts)
        return list(track(results, total=len(parts), unit="chunks", description=description))


@numba.njit(cache=True, nogil=True)
def _distance_A(xyz_A, i, j):
    squared = 0.0
    for axis in range(3):
        squared += (xyz_A[i, axis] - xyz_A[j, axis]) ** 2
    return math.sqrt(squared)


@numba.njit(cache=True, nogil=True)
def _count_significant(bits, rank, rows, cutoffs, xyz_A, noise_A):
    steps = cutoffs.shape[2]
    exactly = np.zeros(steps + 1, dtype=np.int64)
    for i in rows:
        for j in range(bits.shape[0]):
            n11 = common_ones(bits[i], bits[j])
            needed = cutoffs[rank[i], rank[j]]
            if n11 < needed[0] or i == j or _distance_A(xyz_A, i, j) <= max(noise_A[i], noise_A[j]):
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
    """Insert partner j into the lists (K,), which descend in phi, if it is among the best."""
    place = phi.size - 1
    if index[place] >= 0 and value <= phi[place]:
        return
    while place > 0 and (index[place - 1] < 0 or value > phi[place - 1]):
        index[place], phi[place] = index[place - 1], phi[place - 1]
        place -= 1
    index[place], phi[place] = j, value


@numba.njit(cache=True, nogil=True)
def _best_partners(bits, rank, kinds, volumes, limits, lifted, positive, xyz_A, noise_A, start, stop, keep):
    index = np.full((stop - start, keep), -1, dtype=np.int32)
    phi = np.zeros((stop - start, keep), dtype=np.float32)
    linked = np.zeros(stop - start, dtype=np.int64)
    exclusive = np.zeros(stop - start, dtype=np.int64)
    deviation = np.sqrt(kinds * (volumes - kinds))
    for i in range(start, stop):
        n_i, row = kinds[rank[i]], limits[rank[i]]
        for j in range(bits.shape[0]):
            n11 = common_ones(bits[i], bits[j])
            limit = row[rank[j]]
            if n11 < limit[0]:
                if n11 <= limit[1]:
                    exclusive[i - start] += 1
                continue
            if i == j:
                continue
            n_j = kinds[rank[j]]
            if lifted:
                demand = lift(_distance_A(xyz_A, i, j)) * positive[rank[i], rank[j]]
                if n11 <= min(demand, n_i, n_j):
                    continue
            elif _distance_A(xyz_A, i, j) <= max(noise_A[i], noise_A[j]):
                continue
            linked[i - start] += 1
            value = (n11 * volumes - n_i * n_j) / (deviation[rank[i]] * deviation[rank[j]])
            _keep_best(index[i - start], phi[i - start], j, np.float32(value))
    return index, phi, linked, exclusive
