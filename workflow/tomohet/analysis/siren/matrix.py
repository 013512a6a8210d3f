"""All pairs of voxels by matrix products: the engine for GPUs, with the same results as `popcount`.

The number of common volumes of all pairs is X^T X of the 0/1 states X. It is exact: in 16 bits below 2048
volumes, because float16 holds every integer up to 2048, and in 32 bits below 2^24.
"""

from collections.abc import Iterator

import numpy as np
import torch

from tomohet.analysis.siren.popcount import noise_of
from tomohet.analysis.siren.statistics import FAR_A, LIFT_FAR, LIFT_INTERCEPT, LIFT_NEAR, LIFT_SLOPE_PER_A
from tomohet.progress import track

PAIRS_PER_TILE = {"cpu": 4_000_000, "cuda": 64_000_000}
LARGEST_EXACT_HALF = 2048
NOBODY = torch.iinfo(torch.int64).min


def count_significant(
    voxels, rank: np.ndarray, rows: np.ndarray, cutoffs: np.ndarray, device: torch.device
) -> np.ndarray:
    """Count significant pairs as `popcount.count_significant` does."""
    table = torch.as_tensor(cutoffs, device=device).to(torch.int32)
    states = _States(voxels, device)
    least = states.comparable(table[:, :, 0])
    rank, xyz_A = torch.as_tensor(rank, device=device).long(), _positions(voxels, device)
    noise_A = torch.as_tensor(noise_of(voxels), device=device)
    passing = torch.zeros(table.shape[2], dtype=torch.int64, device=device)
    for i, j, common in states.tiles(rows, "significance"):
        first, second = torch.nonzero(common >= _of_pairs(least, rank, i, j), as_tuple=True)
        n11, first, second = common[first, second], i[first], j[second]
        counted = (first != second) & _apart(xyz_A, noise_A, first, second)
        n11, first, second = n11[counted], first[counted], second[counted]
        for step in range(table.shape[2]):
            passing[step] += (n11 >= table[rank[first], rank[second], step]).sum()
    return passing.cpu().numpy()


def best_partners(
    voxels, rank: np.ndarray, rule, keep: int, rows: slice, device: torch.device
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Find the best partners as `popcount.best_partners` does."""
    kinds, positive = (torch.as_tensor(part, device=device) for part in (rule.kinds, rule.positive))
    states = _States(voxels, device)
    needed, excluded = (
        states.comparable(torch.as_tensor(table, device=device)) for table in (rule.needed, rule.excluded)
    )
    rank, xyz_A = torch.as_tensor(rank, device=device).long(), _positions(voxels, device)
    total, first_row = kinds[rank], rows.start
    deviation = torch.sqrt((total * (voxels.volumes - total)).double())
    noise_A = torch.as_tensor(noise_of(voxels), device=device)
    best = torch.full((rows.stop - first_row, keep), NOBODY, dtype=torch.int64, device=device)
    linked, exclusive = 0, torch.zeros((), dtype=torch.int64, device=device)
    for i, j, common in states.tiles(np.arange(first_row, rows.stop), "pairs of voxels"):
        exclusive += (common <= _of_pairs(excluded, rank, i, j)).sum()
        row, column = torch.nonzero(common >= _of_pairs(needed, rank, i, j), as_tuple=True)
        first, second, n11 = i[row], j[column], common[row, column].long()
        passes = first != second
        if rule.lifted:
            distance_A = _distance_A(xyz_A, first, second)
            factor = (LIFT_SLOPE_PER_A * distance_A + LIFT_INTERCEPT).clamp(min=LIFT_NEAR)
            factor = torch.where(distance_A >= FAR_A, LIFT_FAR, factor)
            demand = factor * positive[rank[first], rank[second]]
            passes &= n11 > torch.minimum(demand, torch.minimum(total[first], total[second]).double())
        elif rule.apart:
            passes &= _apart(xyz_A, noise_A, first, second)
        first, second, n11 = (part[passes] for part in (first, second, n11))
        linked += len(first)
        covariance = (n11 * voxels.volumes - total[first] * total[second]).double()
        phi = (covariance / (deviation[first] * deviation[second])).float()
        _keep_best(best, first - first_row, _sortable(phi, second))
    phi, index = _unsorted(best)
    return index.cpu().numpy(), phi.cpu().numpy(), linked, int(exclusive)


def _keep_best(best: torch.Tensor, voxel: torch.Tensor, keys: torch.Tensor) -> None:
    """Merge the keys (m,) of voxels (m,), in ascending order of the voxels, into the lists `best` (N, K).

    Most pairs are worse than the K that a voxel has already, and are left out. The rest are few for each
    voxel, so they are laid side by side in a table whose width is the largest number of them.
    """
    better = keys > best[voxel, -1]
    voxel, keys = voxel[better], keys[better]
    if not len(voxel):
        return
    voxels, place, count = voxel.unique_consecutive(return_inverse=True, return_counts=True)
    before = torch.arange(len(keys), device=keys.device) - (count.cumsum(0) - count)[place]
    keep, most = best.shape[1], int(count.max())
    table = best.new_full((len(voxels), keep + most), NOBODY)
    table[:, :keep] = best[voxels]
    table[place, keep + before] = keys
    best[voxels] = table.topk(keep, dim=1).values


def _positions(voxels, device: torch.device) -> torch.Tensor:
    return torch.as_tensor(voxels.xyz_A.astype(np.float64), device=device)


def _distance_A(xyz_A: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    x, y, z = (xyz_A[first] - xyz_A[second]).unbind(dim=1)
    return torch.sqrt(x * x + y * y + z * z)


def _apart(
    xyz_A: torch.Tensor, noise_A: torch.Tensor, first: torch.Tensor, second: torch.Tensor
) -> torch.Tensor:
    return _distance_A(xyz_A, first, second) > torch.maximum(noise_A[first], noise_A[second])


def _of_pairs(table: torch.Tensor, rank: torch.Tensor, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
    """Look up the entries (r, c) of a table (U, U) by the totals of voxels i (r,) and j (c,)."""
    return table[rank[i]][:, rank[j]]


class _States:
    """The states of the voxels on the device, packed, and the products of all pairs, tile by tile.

    A tile has far more pairs than states, so that passes over its pairs take the time. Counts and cut-offs
    therefore stay in the type of the product wherever that holds V + 1 exactly.
    """

    def __init__(self, voxels, device: torch.device) -> None:
        octets = np.ascontiguousarray(voxels.bits).astype("<u8").view(np.uint8)
        self._octets = torch.as_tensor(octets, device=device)
        self._volumes, self._device = voxels.volumes, device
        exact_half = device.type == "cuda" and voxels.volumes < LARGEST_EXACT_HALF
        self._kind = torch.float16 if exact_half else torch.float32
        self._bit = torch.arange(8, dtype=torch.uint8, device=device)

    def comparable(self, table: torch.Tensor) -> torch.Tensor:
        """Return cut-offs in the type of the counts of `tiles`; those above V + 1 can never be reached."""
        return table.clamp(max=self._volumes + 1).to(self._kind)

    def tiles(
        self, rows: np.ndarray, description: str
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield voxels i (r,) of `rows`, voxels j (c,), and their numbers of common volumes (r, c)."""
        n, side = len(self._octets), int(np.sqrt(PAIRS_PER_TILE[self._device.type]))
        every = torch.as_tensor(rows, device=self._device).split(side)
        for i in track(every, total=len(every), unit="rows of tiles", description=description):
            left = self._unpacked(self._octets[i])
            for column in range(0, n, side):
                j = torch.arange(column, min(column + side, n), device=self._device)
                yield i, j, left @ self._unpacked(self._octets[column : column + side]).T

    def _unpacked(self, octets: torch.Tensor) -> torch.Tensor:
        """Unpack octets (N, 8 W) to the states (N, V), 0 or 1: volume v is bit v % 8 of octet v // 8."""
        bits = (octets[:, :, None] >> self._bit) & 1
        return bits.flatten(1)[:, : self._volumes].to(self._kind)


def _sortable(phi: torch.Tensor, voxel: torch.Tensor) -> torch.Tensor:
    """Encode phi and voxel in one int64 that ascends with phi and, for equal phi, descends with the voxel."""
    pattern = phi.view(torch.int32)
    ordered = torch.where(pattern < 0, pattern ^ 0x7FFFFFFF, pattern).long()
    return (ordered << 32) | (0xFFFFFFFF - voxel)


def _unsorted(keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    nobody = keys == NOBODY
    ordered = (keys >> 32).to(torch.int32)
    phi = torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered).view(torch.float32)
    index = (0xFFFFFFFF - (keys & 0xFFFFFFFF)).to(torch.int32)
    return torch.where(nobody, 0.0, phi), torch.where(nobody, -1, index).to(torch.int32)
