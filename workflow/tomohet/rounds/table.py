"""The one particle table of a round: everything known about each of its particles, one row per particle."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.digests import is_there
from tomohet.files.tables import read_table
from tomohet.particles.joining import rows_of_all
from tomohet.particles.positions import POSITION_COLUMNS, positions_from_volume_series
from tomohet.rounds.layout import ROUND_STAGES

PARENT = "parent_"  # of the columns that show a particle on its parent's axes
AXIS = re.compile(r"(v?(pc|umap)|linear_z)\d+")


def particle_table(
    store_particles: pd.DataFrame,
    indices: np.ndarray,
    round_dir: str | Path,
    volume_series: str | Path | None = None,
) -> pd.DataFrame:
    """Join the store's columns of the particles `indices` (ordinals) with what the round's stages have found.

    A stage that has not run is left out. Rows ascend in `particle`. Positions that the store does not know
    are taken from the STAR file `volume_series`.

    Raises InputError when a stage's table misses a particle, names one twice, or repeats a column, and when
    the volume series is not that of the store's particles.
    """
    round_dir = Path(round_dir)
    if volume_series is not None:
        store_particles = _with_positions(store_particles, volume_series)
    table = store_particles[store_particles["particle"].isin(indices)].sort_values(
        "particle", ignore_index=True
    )
    if len(table) != len(indices):
        raise InputError(
            f"{round_dir}: {len(indices) - len(table)} of {len(indices)} selected particles are not "
            "in the store; was the store prepared anew? Run the round's selection again"
        )
    known = [stage for stage in ROUND_STAGES if stage.by_particle]
    for stage in known:
        table = _join(table, stage.path(round_dir, stage.by_particle), key="particle")
    # A stage that knows its numbers for every particle is not asked for those of volumes.
    known = [stage for stage in known if is_there(stage.path(round_dir, stage.by_particle))]
    for stage in ROUND_STAGES:
        if stage.by_volume and stage not in known and "volume" in table:
            table = _join(table, stage.path(round_dir, stage.by_volume), key="volume")
    return table


def with_axes_of_parent(table: pd.DataFrame, parent_table: str | Path) -> pd.DataFrame:
    """Join the axes of the parent's table, so that a round can be shown among all of its parent's particles.

    Columns pc1, umap1, vpc1, vumap1, linear_z1, ... of the parent become parent_pc1, ...; they are not handed
    on further.

    Raises InputError when the parent's table lacks a particle.
    """
    key = "particle"
    found = read_table(parent_table, {key: "whole numbers"}, lambda name: name == key or AXIS.fullmatch(name))
    rows = rows_of_all(table[key].to_numpy(), found.pop(key).to_numpy(), parent_table)
    theirs = found.iloc[rows].add_prefix(PARENT).reset_index(drop=True)
    return pd.concat([table.reset_index(drop=True), theirs], axis=1)


def _with_positions(store_particles: pd.DataFrame, volume_series: str | Path) -> pd.DataFrame:
    """Return the store's particles; the volume series gives a position to those without one."""
    unknown = store_particles[POSITION_COLUMNS].isna().any(axis=1).to_numpy()
    if not unknown.any():
        return store_particles
    # All particles are looked up, not only the unknown: rows without names count from the first particle.
    found = positions_from_volume_series(volume_series, store_particles["source_id"])
    known = store_particles[POSITION_COLUMNS].to_numpy(np.float64)
    placed = np.where(unknown[:, None], found.to_numpy(), known)
    return store_particles.assign(**dict(zip(POSITION_COLUMNS, placed.T, strict=True)))


def _join(table: pd.DataFrame, path: Path, key: str) -> pd.DataFrame:
    if not is_there(path):
        return table
    found = read_table(path, {key: "whole numbers"})
    if found[key].duplicated().any():
        twice = found.loc[found[key].duplicated(), key].iloc[0]
        raise InputError(f"{path}: {key} {twice} appears more than once")
    rows = pd.Index(found[key]).get_indexer(table[key])
    missing = np.unique(table[key][rows < 0].dropna())
    if len(missing):
        raise InputError(f"{path}: has no row for {len(missing)} {key}s, the first is {missing[0]}")
    repeated = [name for name in found.columns if name != key and name in table.columns]
    if repeated:
        raise InputError(f"{path}: column '{repeated[0]}' is in another stage's table already")
    if (rows < 0).any():  # particles without a volume
        return table.merge(found, on=key, how="left", validate="many_to_one")
    if not np.array_equal(rows, np.arange(len(found))):
        found = found.iloc[rows].reset_index(drop=True)
    return pd.concat([table, found.drop(columns=key)], axis=1)
