"""The blocks of an ensemble: from volumes to voxels, linked pairs, communities, and a table of blocks."""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tomohet.analysis.cooccurrence import dependencies, exclusions
from tomohet.analysis.ensemble import Ensemble
from tomohet.analysis.siren.bits import binarise, totals, unpack
from tomohet.analysis.siren.communities import block_states, find_blocks
from tomohet.analysis.siren.pairs import Partners, Voxels, partners_by_phi, partners_by_siren
from tomohet.errors import InputError
from tomohet.files.grids import MapGrid

FEWEST_VOLUMES = 30
LOWEST_OCCUPANCY, HIGHEST_OCCUPANCY = 0.01, 0.99
SLOW_VOXELS = 200_000
COLUMNS = {
    "id": np.int64, "n_voxels": np.int64, "volume_A3": float, "occupancy": float, "mean_state": float,
    "cohesion": float, "x_A": float, "y_A": float, "z_A": float, "requires": object, "excludes": object,
}  # fmt: skip

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Blocks:
    """Blocks found in V volumes on a grid of D^3 voxels.

    table: one row per block, columns as in COLUMNS. `occupancy` is the fraction of volumes in which
        more than half of the block is on; `mean_state` the mean fraction that is on; `cohesion` the mean
        correlation of its voxels with its state; x_A, y_A, z_A the centre of mass; `requires` and
        `excludes` the ids of blocks without which, or with which, it is never there (comma-separated).
    labels: (D, D, D) int64, the block's id, 0 for none. states: (V, B) fraction of the block that is on.
    """

    table: pd.DataFrame
    labels: np.ndarray
    states: np.ndarray
    partners: Partners | None
    n_voxels_tested: int


def blocks_of_ensemble(ensemble: Ensemble, levels: np.ndarray, rule: str, seed: int) -> Blocks:
    """Find blocks of voxels that are on (above `levels` (V,)) and off together.

    rule: `phi` (exact test, effect size phi, no limit on occupancy) or `siren` (the published rule).
    All voxels on in more than 1 % and less than 99 % of the volumes are tested. With fewer than
    30 volumes there is nothing to be learnt from pairs, and the result is empty.

    Raises InputError for an unknown rule.
    """
    if rule not in ("phi", "siren"):
        raise InputError(f"--rule {rule}: expected phi or siren")
    volumes, grid = len(ensemble), ensemble.grid
    if volumes < FEWEST_VOLUMES:
        log.warning("%d volumes are too few to find blocks: at least %d are needed", volumes, FEWEST_VOLUMES)
        return _no_blocks(volumes, grid, 0)
    bits = binarise(ensemble, levels)
    count = totals(bits)
    tested = np.flatnonzero((count > LOWEST_OCCUPANCY * volumes) & (count < HIGHEST_OCCUPANCY * volumes))
    log.info("%d voxels come and go (on in 1 to 99 %% of the volumes)", len(tested))
    if len(tested) < 2:
        return _no_blocks(volumes, grid, len(tested))
    if len(tested) > SLOW_VOXELS:
        log.warning(
            "%.3g pairs of voxels: this takes long; raise --level or use smaller volumes",
            len(tested) ** 2 / 2,
        )
    voxels = Voxels(bits[tested], count[tested], _positions_A(tested, grid), volumes)
    rng = np.random.default_rng(seed)
    partners = partners_by_phi(voxels, rng) if rule == "phi" else partners_by_siren(voxels)
    found = find_blocks(voxels, partners, seed)
    return _described(voxels, tested, found, partners, grid)


def _positions_A(tested: np.ndarray, grid: MapGrid) -> np.ndarray:
    z, y, x = np.unravel_index(tested, grid.shape)
    return (np.column_stack([x, y, z]) * grid.pixel_size_A + grid.origin_A).astype(np.float32)


def _no_blocks(volumes: int, grid: MapGrid, tested: int) -> Blocks:
    table = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})
    return Blocks(table, np.zeros(grid.shape, np.int64), np.zeros((volumes, 0)), None, tested)


def _described(
    voxels: Voxels, tested: np.ndarray, found: np.ndarray, partners: Partners, grid: MapGrid
) -> Blocks:
    labels = np.zeros(grid.shape, dtype=np.int64)
    labels.reshape(-1)[tested] = found + 1
    count = found.max() + 1
    if not count:
        empty = _no_blocks(voxels.volumes, grid, len(tested))
        return Blocks(empty.table, labels, empty.states, partners, len(tested))
    states = block_states(voxels, found).T
    courses = (states - states.mean(axis=0)) / states.std(axis=0)
    rows = []
    for block in range(count):
        members = np.flatnonzero(found == block)
        fraction = voxels.totals[members] / voxels.volumes
        covariance = unpack(voxels.bits[members], voxels.volumes) @ courses[:, block] / voxels.volumes
        centre_A = voxels.xyz_A[members].mean(axis=0, dtype=float)
        rows.append(
            {
                "id": block + 1,
                "n_voxels": len(members),
                "volume_A3": len(members) * grid.pixel_size_A**3,
                "occupancy": (states[:, block] > 0.5).mean(),
                "mean_state": states[:, block].mean(),
                "cohesion": (covariance / np.sqrt(fraction * (1 - fraction))).mean(),
                **dict(zip(("x_A", "y_A", "z_A"), centre_A, strict=True)),
            }
        )
    table = pd.DataFrame(rows)
    names = [str(number) for number in table.id]
    required = dependencies(states > 0.5, names)
    excluded = exclusions(states > 0.5, names)
    excluded = pd.concat([excluded, excluded.rename(columns={"unit": "excludes", "excludes": "unit"})])
    table["requires"] = [_listed(required, "requires", name) for name in names]
    table["excludes"] = [_listed(excluded, "excludes", name) for name in names]
    return Blocks(table[list(COLUMNS)], labels, states, partners, len(tested))


def _listed(pairs: pd.DataFrame, column: str, unit: str) -> str:
    return ",".join(sorted(pairs.loc[pairs.unit == unit, column], key=int))
