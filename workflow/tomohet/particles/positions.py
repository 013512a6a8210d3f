"""Positions of particles in their tomograms, from STAR files with one row per particle (volume series)."""

from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.star import numbers, read_star, require_columns

POSITION_COLUMNS = ["x_A", "y_A", "z_A"]
NAME_COLUMNS = ("rlnTomoParticleName", "rlnGroupName")
WARP_PIXEL_SIZE_A = 1.0  # Warp's own columns (wrpCoordinate...) are in Å
UNIT_MAGNIFICATION = (
    1e4  # rlnDetectorPixelSize is in µm on the detector: at this magnification its value is Å
)


def positions_from_volume_series(star: str | Path, source_ids: pd.Series | np.ndarray) -> pd.DataFrame:
    """Positions x_A, y_A, z_A (n, 3) in Å from the tomogram's corner, row i that of particle `source_ids[i]`.

    Particles are found by name (rlnTomoParticleName or rlnGroupName); those that the file does not name get
    NaN. Rows of a file without names are taken in order. Refined shifts (rlnOrigin...) are not taken off, as
    in the positions that optimisation sets give.
    Raises InputError when coordinates or their unit are missing, a name stands twice or none is known, or
    rows without names are more or fewer than the particles.
    """
    source_ids = pd.Index(np.asarray(source_ids).astype(str))
    table, path = volume_series_table(Path(star))
    where = f"{path}: table of particles"
    position = pd.DataFrame(coordinates_A(table, where), columns=POSITION_COLUMNS)
    columns = [column for column in NAME_COLUMNS if column in table.columns]
    if not columns:
        if len(table) != len(source_ids):
            raise InputError(
                f"{where}: {len(table)} rows without names, expected one for each of {len(source_ids)} "
                f"particles; add _{NAME_COLUMNS[1]}, or give the volume series of the same particles"
            )
        return position
    names = [pd.Index(table[column].astype(str)) for column in columns]
    matches = [int(source_ids.isin(index).sum()) for index in names]
    best = int(np.argmax(matches))
    if not matches[best]:
        raise InputError(
            f"{where}: column _{columns[best]}: names none of the {len(source_ids)} particles, found "
            f"`{names[best][0]}`, expected names like `{source_ids[0]}`; give the volume series of "
            "the same particles"
        )
    repeated = names[best].duplicated() & names[best].isin(source_ids)
    if repeated.any():
        raise InputError(
            f"{where}: column _{columns[best]}, row {np.flatnonzero(repeated)[0] + 1}: particle "
            f"`{names[best][repeated][0]}` stands more than once, expected one row per particle"
        )
    first = ~names[best].duplicated()
    return position[first].set_index(names[best][first]).reindex(source_ids).reset_index(drop=True)


def volume_series_table(star: Path) -> tuple[pd.DataFrame, Path]:
    """The table of particles of a file, its optics joined, or of the file that an optimisation set names."""
    blocks = read_star(star)
    for block in blocks.values():
        if isinstance(block, dict) and "rlnTomoParticlesFile" in block:
            return volume_series_table(star.parent / block["rlnTomoParticlesFile"])
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


def coordinates_A(table: pd.DataFrame, where: str, pixel_size_A: float | None = None) -> np.ndarray:
    """Coordinates (n, 3) in Å; `pixel_size_A` overrides the file's, in Warp's own columns 1 Å.

    Of several temporal samples (`wrpCoordinateX1`, `...X2`) the first is taken.
    Raises InputError when a column or the pixel size is missing.
    """
    columns = [f"{coordinate_prefix(table)}Coordinate{axis}{first_sample(table)}" for axis in "XYZ"]
    require_columns(table, columns, where)
    coordinates = np.stack([numbers(table, column, where) for column in columns], axis=1)
    return coordinates * coordinate_pixel_size_A(table, where, pixel_size_A)[:, None]


def coordinate_prefix(table: pd.DataFrame) -> str:
    """`wrp` for tables of Warp and M in their own columns, else `rln`."""
    return "wrp" if any(column.startswith("wrpCoordinate") for column in table.columns) else "rln"


def first_sample(table: pd.DataFrame) -> str:
    """What the columns of the first temporal sample end in."""
    return "1" if "wrpCoordinateX1" in table.columns else ""


def coordinate_pixel_size_A(table: pd.DataFrame, where: str, override: float | None = None) -> np.ndarray:
    """Pixel size of each row's coordinates (n,): the largest that the row has, as images are binned."""
    if override is not None or coordinate_prefix(table) == "wrp":
        return np.full(len(table), WARP_PIXEL_SIZE_A if override is None else override)
    names = [name for name in table.columns if name.endswith("PixelSize")]
    if not names:
        raise InputError(
            f"{where}: no column of a pixel size, the unit of the coordinates; add _rlnPixelSize (in Å) to "
            "the file (subtomo2chimerax: or give it with --star-angpix-override)"
        )
    sizes_A = {name: numbers(table, name, where) for name in names}
    if "rlnDetectorPixelSize" in sizes_A and "rlnMagnification" in table.columns:
        magnification = _above_zero(numbers(table, "rlnMagnification", where), "rlnMagnification", where)
        sizes_A["rlnDetectorPixelSize"] = sizes_A["rlnDetectorPixelSize"] * UNIT_MAGNIFICATION / magnification
    largest = np.max(list(sizes_A.values()), axis=0)
    return _above_zero(largest, " or _".join(names), where)


def _above_zero(values: np.ndarray, column: str, where: str) -> np.ndarray:
    wrong = np.flatnonzero(values <= 0)
    if len(wrong):
        raise InputError(
            f"{where}: column _{column}, row {wrong[0] + 1}: found {values[wrong[0]]:g}, expected more than 0"
        )
    return values
