"""Volume series: STAR files with one row per particle, with its position in the tomogram and its orientation.

Supported are optimisation sets of WarpTools and RELION, the particles file of a set alone, and tables of
Warp, M and RELION 3. Particles of a set are placed by the functions of the set's own reader
(`dialects.set_coordinates`), so that map-back, `--volume-series` and the reader agree. Other tables have
coordinates in Å (`wrp...`), or in pixels of the largest pixel size that they state, which is that of the
binned images.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.star import Blocks, as_pairs, as_table, numbers, read_star, require_columns
from tomohet.particles.dialects.linked_files import candidates, find_linked
from tomohet.particles.dialects.optics import GROUP, join_optics
from tomohet.particles.dialects.optimisation_set import FILES
from tomohet.particles.dialects.series_columns import UNIT_MAGNIFICATION
from tomohet.particles.dialects.set_coordinates import particle_poses, particle_positions
from tomohet.particles.dialects.tilt_series import TiltSeries, read_tilt_series
from tomohet.particles.table import refuse_impossible_positions
from tomohet.physics.geometry import euler_to_matrix

PARTICLES, TOMOGRAMS = FILES
CENTRED = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
UNBINNED = "rlnTomoTiltSeriesPixelSize"
WARP_PIXEL_SIZE_A = 1.0  # Warp's own columns (wrpCoordinate...) are in Å


class VolumeSeries(NamedTuple):
    """`table`: particles in `star`, their optics joined; `tomograms`: the set's tomograms file, if any."""

    star: Path
    table: pd.DataFrame
    tomograms: Path | None

    @property
    def where(self) -> str:
        """The name of the table in messages."""
        return f"{self.star}: table of particles"

    @property
    def by_warp(self) -> bool:
        """Whether the columns are Warp's own."""
        return any(column.startswith("wrpCoordinate") for column in self.table.columns)


def read_volume_series(star: Path) -> VolumeSeries:
    """Read a volume series, or the particles file that an optimisation set names.

    Raises InputError when a file is missing, has no table of particles, or a set names a set.
    """
    blocks = read_star(star)
    names = _set_of(blocks)
    if names is None:
        table = _particles(blocks, star)
        return VolumeSeries(star, table, _tomograms_beside(star) if "rlnTomoName" in table else None)
    particles = find_linked(names[PARTICLES], star, None, PARTICLES)
    blocks = read_star(particles)
    if _set_of(blocks) is not None:
        raise InputError(
            f"{star}: {PARTICLES} names {particles}, which is an optimisation set, expected a file with a "
            "row for each particle; correct the name"
        )
    return VolumeSeries(particles, _particles(blocks, particles), _named_tomograms(names, star))


def positions_A(series: VolumeSeries, pixel_size_A: float | None = None) -> np.ndarray:
    """Return coordinates (n, 3) in Å from the tomogram's corner, without refined shifts; NaN where unknown.

    pixel_size_A : pixel size of coordinates in pixels, instead of the file's (in Warp's own columns 1 Å)

    Of several temporal samples (`wrpCoordinateX1`, `...X2`) the first is used.

    Raises InputError when a column, the pixel size or (centred coordinates) the tomograms file is missing,
    and for coordinates that lie in no tomogram.
    """
    table, where = series.table, series.where
    centred = set(CENTRED) <= set(table.columns)
    tilts, lacks = None, "no column _rlnTomoName names the tomograms"
    if "rlnTomoName" in table.columns and (centred or pixel_size_A is None):
        tilts, lacks = _tilt_series(series)
    if tilts is not None:
        unbinned_A = np.array([tilts[name].pixel_size_A for name in table["rlnTomoName"]])
        image_A = numbers(table, "rlnImagePixelSize", where) if "rlnImagePixelSize" in table else unbinned_A
        return particle_positions(table, tilts, image_A, where)[1]
    if centred:
        raise InputError(
            f"{where}: _{CENTRED[0]} counts from the tomogram's centre, so the tomogram's size is needed, "
            f"expected a tomograms file with it: {lacks}; give the optimisation set that names both files"
        )
    position_A = _coordinates(series) * coordinate_pixel_sizes_A(series, pixel_size_A)[:, None]
    refuse_impossible_positions(position_A, where)
    return position_A


def poses_and_origins(
    series: VolumeSeries, pixel_size_A: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return poses (n, 3, 3) particle -> tomogram and refined shifts (n, 3) in Å along the tomogram's axes.

    A set's subtomogram orientation S is applied to both (`set_coordinates.particle_poses`). Shifts in pixels
    (rlnOriginX) have the pixel size of the coordinates.

    Raises InputError when angles are missing.
    """
    table, where = series.table, series.where
    if series.by_warp:
        columns = [f"wrpAngle{name}{_sample(table)}" for name in ("Rot", "Tilt", "Psi")]
        require_columns(table, columns, where)
        angles = (numbers(table, column, where) for column in columns)
        return euler_to_matrix(*angles), np.zeros((len(table), 3))
    pose, origin_A = particle_poses(table, where)
    for i, axis in enumerate("XYZ"):
        if f"rlnOrigin{axis}" in table.columns and f"rlnOrigin{axis}Angst" not in table.columns:
            shift_px = numbers(table, f"rlnOrigin{axis}", where)
            origin_A[:, i] = shift_px * coordinate_pixel_sizes_A(series, pixel_size_A)
    return pose, origin_A


def _set_of(blocks: Blocks) -> dict[str, str] | None:
    """Return the pairs that name a set's files, None when the file is not a set."""
    return next((pairs for pairs in map(as_pairs, blocks.values()) if PARTICLES in pairs), None)


def _particles(blocks: Blocks, star: Path) -> pd.DataFrame:
    """Return the table of particles of a file, with its optics joined (the particle's own value wins)."""
    others = {name: block for name, block in blocks.items() if name not in ("optics", "general")}
    tables = {name: block for name, block in others.items() if isinstance(block, pd.DataFrame)} or others
    particles = as_table(blocks.get("particles"))
    if particles is None and len(tables) == 1:
        particles = as_table(next(iter(tables.values())))
    if particles is None or particles.empty:
        raise InputError(f"{star}: no table of particles; blocks found: {', '.join(blocks) or 'none'}")
    optics = as_table(blocks.get("optics"))
    if GROUP not in particles:  # the optics tell a pixel size at most, which such a table has itself
        return particles
    return join_optics(particles, optics, star, f"{star}: table of particles")


def _named_tomograms(names: dict[str, str], star: Path) -> Path | None:
    """Return the tomograms file that the set `star` names; None when it names none that exists."""
    if TOMOGRAMS not in names:
        return None
    return next((path for path in candidates(names[TOMOGRAMS], star, None) if path.is_file()), None)


def _tomograms_beside(star: Path) -> Path | None:
    """Return the tomograms file of the set that names the particles file `star`, else the only one nearby."""
    for path in sorted(star.parent.glob("*optimisation_set*.star")):
        try:
            names = _set_of(read_star(path)) or {}
        except InputError:  # the user did not ask for this file
            continue
        named = candidates(names.get(PARTICLES, ""), path, None)
        if any(place.is_file() and place.samefile(star) for place in named):
            return _named_tomograms(names, path)
    beside = sorted(star.parent.glob("*tomograms*.star"))
    return beside[0] if len(beside) == 1 else None


def _tilt_series(series: VolumeSeries) -> tuple[dict[str, TiltSeries] | None, str]:
    """Return the tilt series of the particles' tomograms, or None and the reason for their absence."""
    if series.tomograms is None:
        return None, "found none that belongs to this file"
    try:
        return read_tilt_series(series.tomograms, list(series.table["rlnTomoName"].unique())), ""
    except InputError as refusal:
        return None, str(refusal)


def _coordinates(series: VolumeSeries) -> np.ndarray:
    """Return the coordinates (n, 3) as written in the file."""
    prefix = "wrp" if series.by_warp else "rln"
    columns = [f"{prefix}Coordinate{axis}{_sample(series.table)}" for axis in "XYZ"]
    require_columns(series.table, columns, series.where)
    return np.stack([numbers(series.table, column, series.where) for column in columns], axis=1)


def _sample(table: pd.DataFrame) -> str:
    """Return the suffix of the columns of the first temporal sample."""
    return "1" if "wrpCoordinateX1" in table.columns else ""


def coordinate_pixel_sizes_A(series: VolumeSeries, override: float | None = None) -> np.ndarray:
    """Return the pixel size of each row's coordinates (n,), Å.

    In a set's particles file, recognised by `UNBINNED`, it is that of the tilt series, as in RELION, or
    (tomograms `*.tomostar` of WarpTools) that of the extracted images. In other tables it is the largest one,
    that of the binned images.
    """
    table, where = series.table, series.where
    if override is not None or series.by_warp:
        return np.full(len(table), WARP_PIXEL_SIZE_A if override is None else override)
    if "rlnTomoName" in table and UNBINNED in table:
        by_warptools = table["rlnTomoName"].astype(str).str.endswith(".tomostar").all()
        column = "rlnImagePixelSize" if by_warptools and "rlnImagePixelSize" in table else UNBINNED
        return _above_zero(numbers(table, column, where), column, where)
    names = [name for name in table.columns if name.endswith("PixelSize")]
    if not names:
        raise InputError(
            f"{where}: no column with a pixel size, the unit of the coordinates; add _rlnPixelSize (in Å) to "
            "the file (subtomo2chimerax: or give it with --star-angpix-override)"
        )
    sizes_A = {name: numbers(table, name, where) for name in names}
    if "rlnDetectorPixelSize" in sizes_A and "rlnMagnification" in table.columns:
        magnification = _above_zero(numbers(table, "rlnMagnification", where), "rlnMagnification", where)
        sizes_A["rlnDetectorPixelSize"] = sizes_A["rlnDetectorPixelSize"] * UNIT_MAGNIFICATION / magnification
    return _above_zero(np.max(list(sizes_A.values()), axis=0), " or _".join(names), where)


def _above_zero(values: np.ndarray, column: str, where: str) -> np.ndarray:
    wrong = np.flatnonzero(values <= 0)
    if len(wrong):
        raise InputError(
            f"{where}: column _{column}, row {wrong[0] + 1}: found {values[wrong[0]]:g}, expected more than 0"
        )
    return values
