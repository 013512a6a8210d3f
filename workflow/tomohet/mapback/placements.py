"""Where particles lie in their tomograms and how they are turned, from STAR files of 3-D particles."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.star import numbers, read_star, require_columns

M_PIXEL_SIZE_A = 1.0  # M writes coordinates in Å


def read_placements(
    star: Path, tomogram_column: str | None = None, pixel_size_A: float | None = None
) -> pd.DataFrame:
    """One row per particle: tomogram, x_A, y_A, z_A (the particle's centre), rot_deg, tilt_deg, psi_deg.

    Reads optimisation sets, and volume series of Warp, M and RELION. `tomogram_column` and `pixel_size_A`
    (of the coordinates) override what the file says.
    Raises InputError when a column or the pixel size is missing.
    """
    table, source = particle_table(star)
    where = f"{source}: table of particles"
    if any(column.startswith("wrpCoordinate") for column in table.columns):
        return _warp_placements(table, where, tomogram_column, pixel_size_A)
    column = tomogram_column or ("rlnTomoName" if "rlnTomoName" in table else "rlnMicrographName")
    column = column.removeprefix("_")
    angles = [f"rlnAngle{name}" for name in ("Rot", "Tilt", "Psi")]
    coordinates = [f"rlnCoordinate{axis}" for axis in "XYZ"]
    require_columns(table, [column, *angles, *coordinates], where)
    pixel_A = pixel_size_A if pixel_size_A is not None else coordinate_pixel_size_A(table, where)
    position = np.stack([numbers(table, name, where) for name in coordinates], axis=1) * pixel_A
    return _placements(
        table[column], position - _origin_A(table, pixel_A, where), [numbers(table, a, where) for a in angles]
    )


def particle_table(star: Path) -> tuple[pd.DataFrame, Path]:
    """The table of particles of a file, its optics joined, or of the file that an optimisation set names."""
    blocks = read_star(star)
    for block in blocks.values():
        if isinstance(block, dict) and "rlnTomoParticlesFile" in block:
            return particle_table(star.parent / block["rlnTomoParticlesFile"])
    tables = {name: block for name, block in blocks.items() if isinstance(block, pd.DataFrame)}
    particles = tables.get("particles")
    if particles is None and len(tables) == 1:
        particles = next(iter(tables.values()))
    if particles is None or particles.empty:
        raise InputError(f"{star}: no table of particles; blocks found: {', '.join(blocks) or 'none'}")
    optics = tables.get("optics")
    if optics is not None and "rlnOpticsGroup" in optics and "rlnOpticsGroup" in particles:
        own = [name for name in optics.columns if name == "rlnOpticsGroup" or name not in particles.columns]
        particles = particles.merge(optics[own], on="rlnOpticsGroup", how="left")
    return particles, star


def coordinate_pixel_size_A(table: pd.DataFrame, where: str) -> float:
    """Pixel size of the coordinates: the largest of the file's pixel sizes, as images are binned."""
    names = [name for name in table.columns if "Pixel" in name]
    if not names:
        raise InputError(f"{where}: no column of a pixel size; give it with --star-angpix-override")
    return max(float(numbers(table, name, where)[0]) for name in names)


def _warp_placements(
    table: pd.DataFrame, where: str, tomogram_column: str | None, pixel_size_A: float | None
) -> pd.DataFrame:
    """Warp and M; with several temporal samples (`...X1`, `...X2`) the first is taken."""
    first = "1" if "wrpCoordinateX1" in table.columns else ""
    coordinates = [f"wrpCoordinate{axis}{first}" for axis in "XYZ"]
    angles = [f"wrpAngle{name}{first}" for name in ("Rot", "Tilt", "Psi")]
    column = (tomogram_column or "wrpSourceName").removeprefix("_")
    require_columns(table, [column, *coordinates, *angles], where)
    pixel_A = M_PIXEL_SIZE_A if pixel_size_A is None else pixel_size_A
    position = np.stack([numbers(table, name, where) for name in coordinates], axis=1) * pixel_A
    return _placements(table[column], position, [numbers(table, name, where) for name in angles])


def _origin_A(table: pd.DataFrame, pixel_size_A: float, where: str) -> np.ndarray:
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
