"""Where particles lie in their tomograms and how they are turned, from STAR files of 3-D particles."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.files.star import numbers, require_columns
from tomohet.particles.positions import (
    coordinate_pixel_size_A,
    coordinate_prefix,
    coordinates_A,
    first_sample,
    volume_series_table,
)


def read_placements(
    star: Path, tomogram_column: str | None = None, pixel_size_A: float | None = None
) -> pd.DataFrame:
    """One row per particle: tomogram, x_A, y_A, z_A (the particle's centre), rot_deg, tilt_deg, psi_deg.

    Reads optimisation sets, and volume series of Warp, M and RELION. `tomogram_column` and `pixel_size_A`
    (of the coordinates) override what the file says.
    Raises InputError when a column or the pixel size is missing.
    """
    table, source = volume_series_table(star)
    where = f"{source}: table of particles"
    prefix = coordinate_prefix(table)
    if prefix == "wrp":
        column = tomogram_column or "wrpSourceName"
    else:
        column = tomogram_column or ("rlnTomoName" if "rlnTomoName" in table else "rlnMicrographName")
    column = column.removeprefix("_")
    angles = [f"{prefix}Angle{name}{first_sample(table)}" for name in ("Rot", "Tilt", "Psi")]
    require_columns(table, [column, *angles], where)
    position_A = coordinates_A(table, where, pixel_size_A)
    if prefix == "rln":
        position_A = position_A - _origin_A(table, coordinate_pixel_size_A(table, where, pixel_size_A), where)
    return _placements(table[column], position_A, [numbers(table, name, where) for name in angles])


def _origin_A(table: pd.DataFrame, pixel_size_A: np.ndarray, where: str) -> np.ndarray:
    """Refined shifts (n, 3) in Å: in Å where the file says so, else in pixels; zero where there are none."""
    shifts = []
    for axis in "XYZ":
        if f"rlnOrigin{axis}Angst" in table:
            shifts.append(numbers(table, f"rlnOrigin{axis}Angst", where))
        elif f"rlnOrigin{axis}" in table:
            shifts.append(numbers(table, f"rlnOrigin{axis}", where) * pixel_size_A)
        else:
            shifts.append(np.zeros(len(table)))
    return np.stack(shifts, axis=1)


def _placements(tomogram: pd.Series, position_A: np.ndarray, angles: list[np.ndarray]) -> pd.DataFrame:
    placed = pd.DataFrame({"tomogram": tomogram.astype(str).to_numpy()})
    placed[["x_A", "y_A", "z_A"]] = position_A
    placed[["rot_deg", "tilt_deg", "psi_deg"]] = np.stack(angles, axis=1)
    return placed


def folder_name(tomogram: str) -> str:
    """Name of a tomogram's folder: its file name, with `_` for all but letters, digits, `.`, `-` and `_`."""
    return "tomo_" + re.sub(r"[^\w.-]", "_", Path(tomogram).name)
