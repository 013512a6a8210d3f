"""All pairs of voxels by matrix products: the engine for GPUs, with the same results as `popcount`.

The number of common volumes of all pairs is X^T X of the 0/1 states X. It is exact: in 16 bits up to 2048
volumes, since products are summed in 32 bits, and in 32 bits up to 2^24.
"""

from collections.abc import Iterator

import numpy as np
import torch

from tomohet.analysis.siren.bits import unpack
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
    rank, xyz_A = torch.as_tensor(rank, device=device).long(), _positions(voxels, device)
    noise_A = torch.as_tensor(noise_of(voxels), device=device)
    passing = torch.zeros(table.shape[2], dtype=torch.int64, device=device)
    for i, j, common in _tiles(voxels, rows, device, "significance"):
        first, second = torch.nonzero(common >= table[rank[i]][:, rank[j], 0], as_tuple=True)
        n11, first, second = common[first, second], i[first], j[second]
        counted = (first != second) & _apart(xyz_A, noise_A, first, second)
        n11, first, second = n11[counted], first[counted], second[counted]
        for step in range(table.shape[2]):
            passing[step] += (n11 >= table[rank[first], rank[second], step]).sum()
    return passing.cpu().numpy()


def best_partners(
    voxels, rank: np.ndarray, rule, keep: int, device: torch.device
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Find the best partners as `popcount.best_partners` does."""
    kinds, needed, excluded, positive = (
        torch.as_tensor(part, device=device)
        for part in (rule.kinds, rule.needed, rule.excluded, rule.positive)
    )
    rank, xyz_A = torch.as_tensor(rank, device=device).long(), _positions(voxels, device)
    total, n = kinds[rank], len(rank)
    deviation = torch.sqrt((total * (voxels.volumes - total)).double())
    noise_A = torch.as_tensor(noise_of(voxels), device=device)
    best = torch.full((n, keep), NOBODY, dtype=torch.int64, device=device)
    linked = exclusive = 0
    for i, j, common in _tiles(voxels, np.arange(n), device, "pairs of voxels"):
        exclusive += int((common <= excluded[rank[i]][:, rank[j]]).sum())
        row, column = torch.nonzero(common >= needed[rank[i]][:, rank[j]], as_tuple=True)
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
        row, column, first, second, n11 = (part[passes] for part in (row, column, first, second, n11))
        linked += len(row)
        covariance = (n11 * voxels.volumes - total[first] * total[second]).double()
        phi = (covariance / (deviation[first] * deviation[second])).float()
        keys = torch.full(common.shape, NOBODY, dtype=torch.int64, device=device)
        keys[row, column] = _sortable(phi, second)
        candidates = torch.cat([best[i], keys.topk(min(keep, len(j)), dim=1).values], dim=1)
        best[i] = candidates.topk(keep, dim=1).values
    phi, index = _unsorted(best)
    return index.cpu().numpy(), phi.cpu().numpy(), linked // 2, exclusive // 2


def _positions(voxels, device: torch.device) -> torch.Tensor:
    return torch.as_tensor(voxels.xyz_A.astype(np.float64), device=device)


def _distance_A(xyz_A: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    x, y, z = (xyz_A[first] - xyz_A[second]).unbind(dim=1)
    return torch.sqrt(x * x + y * y + z * z)


def _apart(
    xyz_A: torch.Tensor, noise_A: torch.Tensor, first: torch.Tensor, second: torch.Tensor
) -> torch.Tensor:
    return _distance_A(xyz_A, first, second) > torch.maximum(noise_A[first], noise_A[second])


def _tiles(
    voxels, rows: np.ndarray, device: torch.device, description: str
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield voxels i (r,), voxels j (c,), and their numbers of common volumes (r, c) int32."""
    n = len(voxels.bits)
    side = int(np.sqrt(PAIRS_PER_TILE[device.type]))
    exact_half = device.type == "cuda" and voxels.volumes <= LARGEST_EXACT_HALF
    kind = torch.float16 if exact_half else torch.float32
    starts = range(0, len(rows), side)
    for start in track(starts, total=len(starts), unit="rows of tiles", description=description):
        i = rows[start : start + side]
        left = torch.as_tensor(unpack(voxels.bits[i], voxels.volumes), device=device).to(kind)
        for column in range(0, n, side):
            right = unpack(voxels.bits[column : column + side], voxels.volumes)
            common = left @ torch.as_tensor(right, device=device).to(kind).T
            j = torch.arange(column, column + len(right), device=device)
            yield torch.as_tensor(i, device=device), j, common.to(torch.int32)


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
