"""Positions and orientations of particles in their tomograms, from STAR files of 3-D particles."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.star import require_columns
from tomohet.particles.volume_series import VolumeSeries, poses_and_origins, positions_A, read_volume_series
from tomohet.physics.geometry import matrix_to_euler


def read_placements(
    star: Path, tomogram_column: str | None = None, pixel_size_A: float | None = None
) -> pd.DataFrame:
    """Read one row per particle: tomogram, x_A, y_A, z_A (the particle's centre), rot_deg, tilt_deg, psi_deg.

    The centre is the coordinate minus the refined shift. All files that `particles.volume_series` reads are
    supported; `tomogram_column` and `pixel_size_A` (of coordinates in pixels) override the file.

    Raises InputError when a column, the pixel size or a tomogram's size is missing.
    """
    series = read_volume_series(star)
    column = _tomogram_column(series, tomogram_column)
    require_columns(series.table, [column], series.where)
    pose, origin_A = poses_and_origins(series, pixel_size_A)
    position_A = positions_A(series, pixel_size_A)
    tomogram = series.table[column].astype(str).to_numpy()
    if (unknown := np.flatnonzero(np.isnan(position_A).any(axis=1))).size:
        raise InputError(
            f"{series.where}: row {unknown[0] + 1}: tomogram {tomogram[unknown[0]]} has no size, expected "
            "one, as centred coordinates count from its centre; add rlnTomoSizeX, rlnTomoSizeY and "
            f"rlnTomoSizeZ to {series.tomograms}"
        )
    placed = pd.DataFrame({"tomogram": tomogram})
    placed[["x_A", "y_A", "z_A"]] = position_A - origin_A
    placed[["rot_deg", "tilt_deg", "psi_deg"]] = matrix_to_euler(pose)
    return placed


def _tomogram_column(series: VolumeSeries, wanted: str | None) -> str:
    """Return the column that names the tomograms: the user's, else Warp's or RELION's."""
    if wanted is not None:
        return wanted.removeprefix("_")
    if series.by_warp:
        return "wrpSourceName"
    return "rlnTomoName" if "rlnTomoName" in series.table else "rlnMicrographName"


def folder_name(tomogram: str) -> str:
    """Name a tomogram's folder: its file name, with `_` for all but letters, digits, `.`, `-` and `_`."""
    return "tomo_" + re.sub(r"[^\w.-]", "_", Path(tomogram).name)
