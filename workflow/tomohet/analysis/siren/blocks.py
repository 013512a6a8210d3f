"""Blocks of an ensemble: from volumes to voxels, linked pairs, communities, and a table of blocks."""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tomohet.analysis.cooccurrence import related, relations
from tomohet.analysis.ensemble import Ensemble
from tomohet.analysis.siren.bits import binarise, repeat, totals, unpack
from tomohet.analysis.siren.communities import block_states, filled, find_blocks
from tomohet.analysis.siren.extent import Noise, Space, compact, noise_of
from tomohet.analysis.siren.independence import Sampling, equal_sampling
from tomohet.analysis.siren.pairs import Partners, Voxels, partners_by_phi, partners_by_siren
from tomohet.analysis.siren.statistics import MOST_VOLUMES
from tomohet.errors import InputError
from tomohet.files.shares import ALL_ROWS, Shares

FEWEST_VOLUMES = 30
LOWEST_OCCUPANCY, HIGHEST_OCCUPANCY = 0.01, 0.99
SLOW_VOXELS = 400_000
MOST_COURSES = 20_000
COLUMNS = {
    "id": np.int64, "n_voxels": np.int64, "volume_A3": float, "occupancy": float, "mean_state": float,
    "cohesion": float, "compactness": float, "n_effective": float, "x_A": float, "y_A": float, "z_A": float,
    "requires": object, "excludes": object,
}  # fmt: skip

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Blocks:
    """Blocks found in V volumes on a grid of D^3 voxels.

    table : one row per block, columns as in COLUMNS. `occupancy` is the fraction of volumes (of particles,
        where volumes stand for unequal numbers of them) in which more than half of the block is on;
        `mean_state` the mean fraction of the block that is on; `cohesion` the mean correlation of its voxels
        with its state; `compactness` as in `extent.compact`; `n_effective` the number of independent volumes
        that its states are worth; x_A, y_A, z_A the centre of mass; `requires` and `excludes` the ids
        (comma-separated) of the blocks without which, or together with which, the block never occurs.
    relations : as returned by `cooccurrence.relations`
    labels : (D, D, D) int64, the block's id, 0 for none
    states : (V, B) fraction of the block that is on
    """

    table: pd.DataFrame
    relations: pd.DataFrame
    labels: np.ndarray
    states: np.ndarray
    partners: Partners | None
    n_voxels_tested: int
    n_effective: float
    noise_px: float


@dataclass(frozen=True)
class Task:
    """Settings that are the same for all levels at which an ensemble is cut.

    rule : `phi` (exact test, effect size phi, no limit on occupancy) or `siren` (the published rule)
    engine : `popcount`, `matrix-cpu` or `matrix-cuda`, which give the same blocks
    shares : the pairs of voxels that this job examines, and those that others have examined
    """

    ensemble: Ensemble
    sampling: Sampling
    noise: Noise
    rule: str = "phi"
    seed: int = 0
    engine: str = "popcount"
    shares: Shares = ALL_ROWS


def blocks_of_ensemble(
    ensemble: Ensemble, levels: np.ndarray, rule: str, seed: int, sampling: Sampling | None = None
) -> Blocks:
    """Find blocks of voxels that are on (above `levels` (V,)) and off together; see `blocks_at`."""
    noise = noise_of(ensemble, ensemble.mean(), levels)
    return blocks_at(levels, Task(ensemble, sampling or equal_sampling(len(ensemble)), noise, rule, seed))


def blocks_at(levels: np.ndarray, task: Task, given: np.ndarray | None = None, name: str = "pairs") -> Blocks:
    """Find blocks of voxels that are on (above `levels` (V,)) and off together.

    given : (D, D, D) int64 ids of blocks to start from instead of a search (0: none); these blocks are
        extended and keep their ids
    name : of the shares of the pairs, where several jobs divide them

    Voxels that are on in more than 1 % and less than 99 % of the volumes are tested. With fewer than 30
    volumes pairs carry no information, and the result is empty.

    Raises InputError for an unknown rule, or more than 32,766 volumes (copies of volumes included).
    """
    if task.rule not in ("phi", "siren"):
        raise InputError(f"--rule {task.rule}: expected phi or siren")
    volumes, grid = len(task.ensemble), task.ensemble.grid
    if task.sampling.copies.sum() > MOST_VOLUMES:
        raise InputError(
            f"{volumes} volumes, {task.sampling.copies.sum()} with their weights: at most {MOST_VOLUMES} can "
            "be counted; choose fewer volumes, or --weights equal"
        )
    if volumes < FEWEST_VOLUMES:
        log.warning("%d volumes are too few to find blocks: at least %d are needed", volumes, FEWEST_VOLUMES)
        return _no_blocks(task, 0)
    bits, tested = tested_voxels(levels, task)
    log.info("%d voxels vary (on in 1 to 99 %% of the volumes)", len(tested))
    if len(tested) < 2:
        return _no_blocks(task, len(tested))
    if len(tested) > SLOW_VOXELS:
        log.warning(
            "%.3g pairs of voxels: this takes long; raise --level or use smaller volumes",
            len(tested) ** 2 / 2,
        )
    space = Space(tested, grid.shape, task.noise.extents(tested))
    if given is not None:
        return _expanded(_voxels(bits, tested, task), space, given, task)
    voxels, partners = pair_partners(bits, tested, task, name)
    found = find_blocks(voxels, partners, task.seed, space)
    return _described(voxels, space, found, np.arange(found.max() + 1) + 1, partners, task)


def tested_voxels(levels: np.ndarray, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Select the voxels that are on in 1 to 99 % of the volumes: words (N, W) and flat indices (N,)."""
    bits = binarise(task.ensemble, levels)
    count, volumes = totals(bits), len(task.ensemble)
    tested = np.flatnonzero((count > LOWEST_OCCUPANCY * volumes) & (count < HIGHEST_OCCUPANCY * volumes))
    return np.ascontiguousarray(bits[tested]), tested


def pair_partners(
    bits: np.ndarray, tested: np.ndarray, task: Task, name: str = "pairs"
) -> tuple[Voxels, Partners]:
    """Find the voxels' partners by the task's rule; bits (N, W), tested (N,); `name` as in `blocks_at`."""
    voxels = _voxels(bits, tested, task)
    how = {"engine": task.engine, "shares": task.shares, "name": name}
    if task.rule == "phi":
        return voxels, partners_by_phi(voxels, np.random.default_rng(task.seed), **how)
    return voxels, partners_by_siren(voxels, **how)


def _voxels(bits: np.ndarray, tested: np.ndarray, task: Task) -> Voxels:
    grid, sampling = task.ensemble.grid, task.sampling
    z, y, x = np.unravel_index(tested, grid.shape)
    xyz_A = (np.column_stack([x, y, z]) * grid.pixel_size_A + grid.origin_A).astype(np.float32)
    drawn = np.random.default_rng(task.seed).permutation(len(tested))[:MOST_COURSES]
    effective = sampling.effective(unpack(bits[drawn], len(sampling.copies)))
    if (sampling.copies > 1).any():
        bits = repeat(bits, sampling.copies)
    return Voxels(
        bits,
        totals(bits),
        xyz_A,
        int(sampling.copies.sum()),
        weighted=sampling.kish,
        effective=effective,
        noise_A=task.noise.extents(tested) * grid.pixel_size_A,
    )


def _expanded(voxels: Voxels, space: Space, given: np.ndarray, task: Task) -> Blocks:
    """Extend the given blocks by the voxels that follow them, under the blocks' own ids."""
    ids, seeds = np.unique(given.reshape(-1)[space.tested], return_inverse=True)
    if ids[0] == 0:
        ids, seeds = ids[1:], seeds - 1
    lost = np.setdiff1d(np.unique(given[given > 0]), ids)
    if len(lost):
        log.warning("blocks %s: none of their voxels varies at this level", ", ".join(map(str, lost)))
    if not len(ids):
        return _no_blocks(task, len(space.tested))
    # A block's state is that of its given voxels; blocks keep their numbers instead of being sorted by size.
    labels = filled(voxels, seeds, space, renumber=False)
    kept = np.unique(labels[labels >= 0])
    compressed = np.where(labels >= 0, np.searchsorted(kept, labels), -1)
    return _described(voxels, space, compressed, ids[kept], None, task)


def _no_blocks(task: Task, tested: int) -> Blocks:
    table = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})
    nothing = relations(np.zeros((1, 0), bool), np.zeros(0, int))
    labels = np.zeros(task.ensemble.grid.shape, np.int64)
    states = np.zeros((len(task.ensemble), 0))
    return Blocks(table, nothing, labels, states, None, tested, task.sampling.kish, task.noise.extent_px)


def _described(
    voxels: Voxels, space: Space, found: np.ndarray, ids: np.ndarray, partners: Partners | None, task: Task
) -> Blocks:
    """Tabulate the blocks `found` (N,) with ids `ids` (B,): table, relations and states."""
    grid, sampling = task.ensemble.grid, task.sampling
    if not len(ids):
        empty = _no_blocks(task, len(space.tested))
        return Blocks(
            empty.table, empty.relations, empty.labels, empty.states, partners, len(space.tested),
            voxels.effective, task.noise.extent_px,
        )  # fmt: skip
    labels = np.zeros(grid.shape, dtype=np.int64)
    labels.reshape(-1)[space.tested] = np.append(ids, 0)[found]
    counted = block_states(voxels, found).T
    states = counted[np.cumsum(sampling.copies) - sampling.copies]
    courses = (counted - counted.mean(axis=0)) / counted.std(axis=0)
    compactness, _ = compact(found, space)
    effective = np.array([sampling.effective(states[None, :, block]) for block in range(len(ids))])
    rows = []
    for block, number in enumerate(ids):
        members = np.flatnonzero(found == block)
        fraction = voxels.totals[members] / voxels.volumes
        covariance = unpack(voxels.bits[members], voxels.volumes) @ courses[:, block] / voxels.volumes
        centre_A = voxels.xyz_A[members].mean(axis=0, dtype=float)
        rows.append(
            {
                "id": number,
                "n_voxels": len(members),
                "volume_A3": len(members) * grid.pixel_size_A**3,
                "occupancy": sampling.weights @ (states[:, block] > 0.5),
                "mean_state": sampling.weights @ states[:, block],
                "cohesion": (covariance / np.sqrt(fraction * (1 - fraction))).mean(),
                "compactness": compactness[block],
                "n_effective": effective[block],
                **dict(zip(("x_A", "y_A", "z_A"), centre_A, strict=True)),
            }
        )
    relation_table = relations(states > 0.5, ids, sampling.copies, sampling.kish, effective)
    table = pd.DataFrame(rows)
    for relation in ("requires", "excludes"):
        table[relation] = [related(relation_table, number, relation) for number in ids]
    return Blocks(
        table[list(COLUMNS)], relation_table, labels, states, partners, len(space.tested), voxels.effective,
        task.noise.extent_px,
    )  # fmt: skip
