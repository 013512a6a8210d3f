"""Positions of particles in their tomograms, from STAR files with one row per particle (volume series)."""

from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.particles.copies import numbered_copies, original_names
from tomohet.particles.volume_series import VolumeSeries, positions_A, read_volume_series

POSITION_COLUMNS = ["x_A", "y_A", "z_A"]
NAME_COLUMNS = ("rlnGroupName", "rlnTomoParticleName")  # one name for a particle in files of any kind
PLACE_COLUMNS = ("rlnTomoName", "rlnMicrographName")


def positions_from_volume_series(star: str | Path, source_ids: pd.Series | np.ndarray) -> pd.DataFrame:
    """Return positions x_A, y_A, z_A (n, 3) in Å from the tomogram's corner, in the order of `source_ids`.

    Particles are found as by `rows_by_name`; those that the file does not name get NaN. Refined shifts
    (rlnOrigin...) are not subtracted, as in the positions from optimisation sets.

    Raises InputError as `rows_by_name` does, and when coordinates or their unit are missing.
    """
    series = read_volume_series(Path(star))
    position = pd.DataFrame(positions_A(series), columns=POSITION_COLUMNS)
    row = rows_by_name(series, source_ids)
    return position.reindex(pd.Index(row).where(row >= 0)).reset_index(drop=True)


def rows_by_name(series: VolumeSeries, source_ids: pd.Series | np.ndarray) -> np.ndarray:
    """Return the row (n,) of a volume series of each particle, in the order of `source_ids`, or -1.

    Particles are found by name: rlnTomoParticleName or rlnGroupName, or tomogram/name where names are unique
    only within a tomogram. Copies of a particle have the same name again. Rows of a file without names are
    taken in order.

    Raises InputError when a name appears twice or none is known, or the number of rows without names differs
    from the number of particles.
    """
    source_ids = pd.Index(np.asarray(source_ids).astype(str))
    table, where = series.table, series.where
    columns = [column for column in NAME_COLUMNS if column in table.columns]
    if not columns:
        if len(table) != len(source_ids):
            raise InputError(
                f"{where}: {len(table)} rows without names, expected one for each of {len(source_ids)} "
                f"particles; add _{NAME_COLUMNS[0]}, or give the volume series of the same particles"
            )
        return np.arange(len(table))
    columns += [f"{place}, _{name}" for place in PLACE_COLUMNS if place in table for name in columns]
    names = [pd.Index(_joined(table, column.split(", _"))) for column in columns]
    copies = original_names(source_ids.to_series()).to_numpy() != source_ids
    if copies.any():
        names = [pd.Index(numbered_copies(index.to_series())) for index in names]
    matches = [int(source_ids.isin(index).sum()) for index in names]
    best = int(np.argmax(matches))
    if not matches[best]:
        raise InputError(
            f"{where}: column _{columns[best]}: it names none of the {len(source_ids)} particles, found "
            f"`{names[best][0]}`, expected names like `{source_ids[0]}`; give the volume series of "
            "the same particles"
        )
    if copies.any() and not names[best].isin(source_ids[copies]).any():
        raise InputError(
            f"{where}: column _{columns[best]}: it names each particle once, but the particles are "
            "symmetry-expanded; expand the volume series in the same way"
        )
    repeated = names[best].duplicated() & names[best].isin(source_ids)
    if repeated.any():
        raise InputError(
            f"{where}: column _{columns[best]}, row {np.flatnonzero(repeated)[0] + 1}: particle "
            f"`{names[best][repeated][0]}` appears more than once, expected one row per particle"
        )
    first = np.flatnonzero(~names[best].duplicated())
    found = names[best][first].get_indexer(source_ids)
    return np.where(found >= 0, first[found], -1)


def _joined(table: pd.DataFrame, columns: list[str]) -> pd.Series:
    """Return the texts of one column, or `first/second` of two."""
    first, *second = (table[column].astype(str) for column in columns)
    return first + "/" + second[0] if second else first
