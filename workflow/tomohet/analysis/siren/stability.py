"""Dependence of the blocks on the level at which volumes are cut, and blocks found in randomised volumes."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np

from tomohet.analysis.siren.bits import pack, unpack
from tomohet.analysis.siren.blocks import Blocks, Task, blocks_at, pair_partners, tested_voxels
from tomohet.analysis.siren.communities import find_blocks
from tomohet.analysis.siren.extent import NONE, Space
from tomohet.analysis.siren.levels import Levels
from tomohet.files.shares import ALL_ROWS, ShareWritten

LEVEL_FACTORS = (0.8, 1.2)
MOST_VOXELS = 20_000


def jaccard(labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Compute the best Jaccard index of every block of `labels` (ids from 1, ascending) with one of `others`.

    Both are (D, D, D) int64, 0 for none.
    """
    ids, one = np.unique(labels, return_inverse=True)
    kinds, two = np.unique(others, return_inverse=True)
    overlap = np.zeros((len(ids), len(kinds)))
    np.add.at(overlap, (one.reshape(-1), two.reshape(-1)), 1)
    union = overlap.sum(axis=1, keepdims=True) + overlap.sum(axis=0) - overlap
    shared = (overlap / union)[:, kinds > 0]
    return shared.max(axis=1, initial=0)[ids > 0]


def examine_share(levels: Levels, task: Task) -> None:
    """Examine this job's share of the pairs at the level and at its multiples, and write each."""
    for factor in (1.0, *LEVEL_FACTORS):
        with suppress(ShareWritten):
            search(levels, task, factor)


def search(levels: Levels, task: Task, factor: float = 1.0, given: np.ndarray | None = None) -> Blocks:
    """Find the blocks at a multiple of the level's height above the solvent; `given` as in `blocks_at`."""
    height = levels.values if factor == 1 else levels.scaled(factor)
    return blocks_at(height, task, given, f"pairs_at_{factor}")


def level_stability(found: Blocks, blocks_of: Callable[[float], Blocks]) -> tuple[np.ndarray, dict]:
    """Compute the smallest Jaccard index of every block (B,) with those at 0.8 and 1.2 of the level.

    blocks_of : returns the blocks at a multiple of the level's height above the solvent (`search`)

    A summary is returned too.
    """
    worst, counts = np.ones(len(found.table)), {}
    for factor in LEVEL_FACTORS:
        other = blocks_of(factor)
        counts[f"n_blocks_at_{factor}"] = len(other.table)
        by_id = dict(
            zip(np.unique(found.labels[found.labels > 0]), jaccard(found.labels, other.labels), strict=True)
        )
        worst = np.minimum(worst, [by_id[number] for number in found.table.id])
    return worst, counts | {"median_jaccard": float(np.median(worst)) if len(worst) else None}


def blocks_of_randomised(levels: np.ndarray, task: Task) -> dict | None:
    """Search for blocks in volumes whose pieces are unrelated, but equally smooth over latents and in space.

    Voxels within the noise's extent stay together: cubes of that edge exchange their places and get random
    signs of their latent harmonics (Moran spectral randomisation). Each voxel keeps its occupancy. Up to
    20,000 voxels from the middle of the box are used.

    Returns n_voxels, n_linked (pairs) and n_blocks; None without latents.
    """
    if not task.sampling.bands:
        return None
    bits, tested = tested_voxels(levels, task)
    shape, sampling = task.ensemble.grid.shape, task.sampling
    if len(tested) > MOST_VOXELS:
        z = np.unravel_index(tested, shape)[0]
        middle = np.sort(np.argsort(np.abs(z - shape[0] // 2), kind="stable")[:MOST_VOXELS])
        bits, tested = bits[middle], tested[middle]
    if len(tested) < 2:
        return {"n_voxels": len(tested), "n_linked": 0, "n_blocks": 0}
    rng = np.random.default_rng(task.seed)
    edge = max(1, int(np.median(task.noise.extents(tested))))
    place = np.column_stack(np.unravel_index(tested, shape))
    cubes, group = np.unique(place // edge, axis=0, return_inverse=True)
    group = group.reshape(-1)
    moved = place - (place // edge) * edge + edge * rng.permutation(cubes)[group]
    on = unpack(bits, len(sampling.copies))
    unrelated = sampling.randomised(on, group, rng)
    total = on[:, sampling.rows].sum(axis=1, keepdims=True)
    volumes = len(sampling.rows)
    rank = unrelated.argsort(axis=1).argsort(axis=1)
    surrogate = pack((rank >= volumes - total).T)
    kept = ((total > 0) & (total < volumes))[:, 0] & (moved < shape).all(axis=1)
    order = np.flatnonzero(kept)[np.argsort(np.ravel_multi_index(moved[kept].T, shape))]
    places = np.ravel_multi_index(moved[order].T, shape)
    # A voxel that is moved to another place keeps its flag of whether noise affects it.
    clear = np.zeros(shape, dtype=bool)
    clear.reshape(-1)[places] = task.noise.clear.reshape(-1)[tested[order]]
    noise = replace(task.noise, clear=clear)
    drawn = replace(
        sampling,
        weights=sampling.weights[sampling.rows],
        copies=sampling.copies[sampling.rows],
        rows=np.arange(volumes),
    )
    few = replace(task, sampling=drawn, noise=noise, shares=ALL_ROWS)
    voxels, partners = pair_partners(surrogate[order], places, few)
    labels = find_blocks(voxels, partners, task.seed, Space(places, shape, noise.extents(places)))
    return {
        "n_voxels": len(places),
        "n_linked": partners.linked,
        "n_blocks": int(labels.max(initial=NONE) + 1),
    }
