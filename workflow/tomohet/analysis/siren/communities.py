"""Blocks from linked pairs of voxels: communities, which are merged and then extended."""

import numpy as np

from tomohet.analysis.siren.bits import unpack
from tomohet.analysis.siren.extent import NONE, Space, without_scattered, without_specks
from tomohet.analysis.siren.pairs import Partners, Voxels
from tomohet.analysis.siren.statistics import least_phi

MERGE_CORRELATION = 0.85
MEMBER_RESPONSE = 0.5
FEWEST_VOXELS = 6
VOXELS_PER_CHUNK = 20_000


def find_blocks(voxels: Voxels, partners: Partners, seed: int, space: Space) -> np.ndarray:
    """Return the block of every voxel (N,) int64, numbered from 0 by decreasing size, -1 for none.

    Communities are found in the graph of partners (weights phi). Communities that are scattered in space are
    removed, and communities whose states correlate by 0.85 or more become one block. The blocks are then
    extended (`filled`).
    """
    labels = _without_small(communities(partners, seed))
    labels = _without_small(without_scattered(labels, space))
    if labels.max(initial=NONE) == NONE:
        return labels
    return filled(voxels, _merged(labels, block_states(voxels, labels)), space)


def filled(voxels: Voxels, labels: np.ndarray, space: Space, renumber: bool = True) -> np.ndarray:
    """Assign every voxel to the block that it follows best, if any; remove specks and scattered blocks.

    renumber : number the blocks by size, and remove the small ones; else blocks keep their numbers
    """
    labels = without_specks(_assigned(voxels, block_states(voxels, labels)), space)
    if not renumber:
        return labels
    return _without_small(without_scattered(_without_small(labels), space))


def communities(partners: Partners, seed: int) -> np.ndarray:
    """Find the community of every voxel (N,) int64 by Louvain's method with refinement.

    -1 without a partner.
    """
    import networkit

    n = len(partners.index)
    linked = partners.index >= 0
    first, slot = np.nonzero(linked)
    second = partners.index[linked].astype(np.int64)
    labels = np.full(n, NONE)
    if not len(first):
        return labels
    low, high = np.minimum(first, second), np.maximum(first, second)
    _, once = np.unique(low * n + high, return_index=True)
    weights = partners.phi[first, slot].astype(np.float64)[once]
    # One thread and one seed: the communities must not depend on the machine.
    networkit.setNumberOfThreads(1)
    networkit.setSeed(seed, False)
    graph = networkit.GraphFromCoo((weights, (low[once], high[once])), n=n, weighted=True, directed=False)
    method = networkit.community.PLM(graph, refine=True)
    method.run()
    found = np.array(method.getPartition().getVector())
    connected = np.zeros(n, dtype=bool)
    connected[first] = connected[second] = True
    labels[connected] = found[connected]
    return labels


def block_states(voxels: Voxels, labels: np.ndarray) -> np.ndarray:
    """Compute the fraction of every block's voxels that is on in every volume, (B, V) float64."""
    members = np.flatnonzero(labels != NONE)
    blocks = labels.max() + 1
    on = np.zeros((blocks, voxels.volumes))
    for start in range(0, len(members), VOXELS_PER_CHUNK):
        part = members[start : start + VOXELS_PER_CHUNK]
        belongs = np.zeros((blocks, len(part)), dtype=np.float32)
        belongs[labels[part], np.arange(len(part))] = 1
        on += belongs @ unpack(voxels.bits[part], voxels.volumes).astype(np.float32)
    return on / np.bincount(labels[members], minlength=blocks)[:, None]


def _merged(labels: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Join the two most similar communities until no two states correlate by 0.85."""
    sizes = np.bincount(labels[labels != NONE], minlength=len(states)).astype(float)
    target = np.arange(len(states))
    total = states * sizes[:, None]
    courses = _standardised(total)
    alike = courses @ courses.T / courses.shape[1]
    np.fill_diagonal(alike, -1)
    while alike.max() >= MERGE_CORRELATION:
        keep, join = np.unravel_index(alike.argmax(), alike.shape)
        target[target == join] = keep
        total[keep] += total[join]
        courses[keep] = _standardised(total[keep])
        alive = np.unique(target)
        alike[join, :] = alike[:, join] = -1
        alike[keep, alive] = alike[alive, keep] = courses[alive] @ courses[keep] / courses.shape[1]
        alike[keep, keep] = -1
    joined = labels.copy()
    joined[labels != NONE] = target[labels[labels != NONE]]
    return _renumbered(joined)


def _assigned(voxels: Voxels, states: np.ndarray) -> np.ndarray:
    """Assign each voxel to the block that it correlates with best, if it responds to that block.

    The response is the slope of the voxel's state on the block's state. It is 1 for the average member, and
    one half where the block's edge lies at the level at which the volumes were cut, however often the block
    occurs.
    """
    courses = _standardised(states).astype(np.float32)
    spread = states.std(axis=1)
    least = least_phi(voxels.effective or voxels.volumes)
    labels = np.full(len(voxels.bits), NONE)
    for start in range(0, len(labels), VOXELS_PER_CHUNK):
        part = np.arange(start, min(start + VOXELS_PER_CHUNK, len(labels)))
        fraction = voxels.totals[part] / voxels.volumes
        covariance = unpack(voxels.bits[part], voxels.volumes).astype(np.float32) @ courses.T / voxels.volumes
        correlation = covariance / np.sqrt(fraction * (1 - fraction))[:, None]
        best = correlation.argmax(axis=1)
        row = np.arange(len(part))
        response = covariance[row, best] / spread[best]
        follows = (response >= MEMBER_RESPONSE) & (correlation[row, best] >= least)
        labels[part[follows]] = best[follows]
    return labels


def _standardised(courses: np.ndarray) -> np.ndarray:
    centred = courses - courses.mean(axis=-1, keepdims=True)
    return centred / centred.std(axis=-1, keepdims=True)


def _without_small(labels: np.ndarray) -> np.ndarray:
    sizes = np.bincount(labels[labels != NONE], minlength=1)
    small = (labels != NONE) & (sizes[labels] < FEWEST_VOXELS)
    return _renumbered(np.where(small, NONE, labels))


def _renumbered(labels: np.ndarray) -> np.ndarray:
    """Renumber the labels from 0 by decreasing size (ties: by first voxel)."""
    kinds, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    real = kinds != NONE
    order = np.lexsort((first[real], -sizes[real]))
    renumbered = np.full(len(labels), NONE)
    for number, kind in enumerate(kinds[real][order]):
        renumbered[labels == kind] = number
    return renumbered
