"""STAR files with refined poses: the pose columns change in the rows of refined particles, as text.

An error (rotation vector, shift d in Å along the axes of the stated pose) takes the stated pose to the
refined one (`refined_poses`, `physics.geometry.corrected_poses`). With E the rotation of the vector:

- image series, one row per tilt image of rotation R: R becomes R E, and R d is subtracted from the shift;
- one row per particle of rotation A (rlnAngleRot, ...): A becomes A E, and A d is subtracted from the origin.
  The orientation S of a subtomogram, which is applied before both (`dialects.set_coordinates`), stays;
- one row per particle without an origin: the coordinates move by A d.

Missing origins are added as rlnOriginXAngst, ... where RELION 3.1 or later or the reader of an image series
looks for them. In a table of Warp without an origin the coordinates are moved.
"""

import logging
import re
from dataclasses import replace

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.star import as_table, numbers, read_star
from tomohet.files.star_editing import decimals, extended, names_in, replaced
from tomohet.particles.dialects import series_columns as columns_of
from tomohet.particles.dialects.image_series import image_table
from tomohet.particles.dialects.optics import join_optics
from tomohet.particles.export import ParticleFile, StarType
from tomohet.particles.refined_poses import RefinedPoses
from tomohet.particles.table import particle_rotations
from tomohet.particles.volume_series import VolumeSeries, coordinate_pixel_sizes_A, read_volume_series
from tomohet.physics.geometry import corrected_poses, matrix_to_euler

LEAST_DECIMALS_DEG, LEAST_DECIMALS = 4, 3  # decimals of angles; of lengths in Å and px
AXES = "XYZ"
IMAGE_ANGLES = ("rot_deg", "tilt_angle_deg", "psi_deg")  # keys of `series_columns.QUANTITIES`

log = logging.getLogger(__name__)


def with_refined_poses(
    file: ParticleFile, star_type: StarType, poses: RefinedPoses, keep: np.ndarray
) -> ParticleFile:
    """Write refined poses into the file's rows `keep` (bool) whose particles `poses` lists.

    All other rows keep their text, except for 0 in an origin column that is added.

    Raises InputError when the file states no poses.
    """
    error, listed = poses.of_rows(file.particle)
    rows = listed & keep
    log.info("%s: refined poses of %d particles", file.path, len(np.unique(file.particle[rows])))
    if not rows.any():
        return file
    error[~rows] = 0.0
    if star_type == "imageseries":
        angles, lengths = _of_images(file, error)
    else:
        angles, lengths = _of_particles(file, error, star_type)
    block = file.blocks[file.table]
    texts = _texts(block, angles, LEAST_DECIMALS_DEG) | _texts(block, lengths, LEAST_DECIMALS)
    there = {name: text[rows].tolist() for name, text in texts.items() if name in names_in(block)}
    new = {name: text.tolist() for name, text in texts.items() if name not in there}
    block = extended(replaced(block, there, rows), new)
    return replace(file, blocks=[*file.blocks[: file.table], block, *file.blocks[file.table + 1 :]])


def _texts(block, values: dict[str, np.ndarray], least: int) -> dict[str, np.ndarray]:
    """Format columns of numbers (m,) as text, with the decimals of the file's column, at least `least`."""
    texts = {}
    for name, column in values.items():
        digits = max(least, decimals(block, name))
        texts[name] = np.char.mod(f"%.{digits}f", np.round(column, digits) + 0.0)  # no -0
    return texts


def _of_images(file: ParticleFile, error: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Compute angles and shifts (m,) of the rows of an image series, by the column that the reader reads."""
    table, where = _images(file)
    names = table.get("rlnImageName", pd.Series(dtype=str)).astype(str)
    if (whole := np.flatnonzero(~names.str.contains("@"))).size:
        raise InputError(
            f"{where}: column _rlnImageName, row {whole[0] + 1}: found `{names.iloc[whole[0]]}`, expected "
            "`N@stack` as in an image series; is this a volume series (--starfile-type volumeseries)?"
        )
    rotation, more_A = corrected_poses(_rotations(table, where), error)
    found = (columns_of.first_column(table, columns_of.QUANTITIES[angle]) for angle in IMAGE_ANGLES)
    columns = [column for column in found if column is not None]  # all three: `_rotations` has read them
    pixel_size_A = columns_of.pixel_sizes_A(table, where)
    shift_A = columns_of.shifts_px(table, pixel_size_A, where) * pixel_size_A[:, None] + more_A
    shifts = {}
    for pair, sign in columns_of.SHIFTS_A.items():
        if pair[0] in table:
            shifts |= dict(zip(pair, sign * shift_A.T, strict=True))
    if columns_of.SHIFTS_PX[0] in table:
        shifts |= dict(zip(columns_of.SHIFTS_PX, (shift_A / pixel_size_A[:, None]).T, strict=True))
    if not shifts:
        shifts = dict(zip(next(iter(columns_of.SHIFTS_A)), shift_A.T, strict=True))
    return dict(zip(columns, matrix_to_euler(rotation).T, strict=True)), shifts


def image_rotations(file: ParticleFile) -> tuple[np.ndarray, np.ndarray]:
    """Return rotations (m, 3, 3), volume -> image, and doses (m,), e/Å², of the rows of an image series."""
    table, where = _images(file)
    return _rotations(table, where), columns_of.doses_e_A2(table, where)[0]


def _images(file: ParticleFile) -> tuple[pd.DataFrame, str]:
    """Return the table of tilt images with their optics, in the rows of the export, and its name."""
    blocks = read_star(file.path)
    name, table = image_table(blocks)
    where = f"{file.path}: table data_{name}"
    table = join_optics(table, as_table(blocks.get("optics")), file.path, where)
    _refuse_other_rows(table, file, where)
    return table, where


def _rotations(table: pd.DataFrame, where: str) -> np.ndarray:
    """Return the rotations (m, 3, 3), volume -> image, of tilt images."""
    rot, tilt, psi = (columns_of.quantity(table, angle, where) for angle in IMAGE_ANGLES)
    return particle_rotations(rot, tilt, psi, where)


def _of_particles(
    file: ParticleFile, error: np.ndarray, star_type: StarType
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Compute angles, and origins or coordinates (m,), by column, for a file of one row per particle."""
    series = read_volume_series(file.path)
    _refuse_other_rows(series.table, file, series.where)
    if series.by_warp:
        return _of_samples(series, error)
    angles, move_A = _turned(series, [f"rlnAngle{name}" for name in ("Rot", "Tilt", "Psi")], error)
    in_A, in_px = [f"rlnOrigin{axis}Angst" for axis in AXES], [f"rlnOrigin{axis}" for axis in AXES]
    there = set(series.table)
    has_A, has_px = bool(there & set(in_A)), bool(there & set(in_px))
    of_set = star_type == "optimisation_set"  # its reader does not know origins in pixels
    by_relion = of_set or "rlnTomoName" in there or any(block.name == "optics" for block in file.blocks)
    pixel_size_A = coordinate_pixel_sizes_A(series) if has_px else None
    if not (has_A or has_px or by_relion):
        pixel_size_A = coordinate_pixel_sizes_A(series)
        log.warning(
            "%s: it has no origin columns: coordinates move to the refined centres, so subtomograms have to "
            "be extracted again",
            file.path,
        )
        names = [f"rlnCoordinate{axis}" for axis in AXES]
        return angles, _moved(series, names, move_A / pixel_size_A[:, None])
    lengths = {}
    if has_A or of_set or not has_px:
        for axis, column in enumerate(in_A):
            instead = column not in there and in_px[axis] in there and not of_set
            stated_A = _stated(series, in_px[axis]) * pixel_size_A if instead else _stated(series, column)
            lengths[column] = stated_A - move_A[:, axis]
    if has_px:
        for axis, column in enumerate(in_px):
            if column in there or not lengths.keys() & set(in_A):
                lengths[column] = _stated(series, column) - move_A[:, axis] / pixel_size_A
    return angles, lengths


def _of_samples(
    series: VolumeSeries, error: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Compute angles and coordinates (m,), Å, in Warp's columns, of all temporal samples."""
    found = (re.fullmatch(r"wrpCoordinateX(\d*)", str(name)) for name in series.table)
    angles, coordinates = {}, {}
    for sample in (match[1] for match in found if match):
        names = [f"wrpAngle{name}{sample}" for name in ("Rot", "Tilt", "Psi")]
        of_sample, move_A = _turned(series, names, error)
        angles |= of_sample
        coordinates |= _moved(series, [f"wrpCoordinate{axis}{sample}" for axis in AXES], move_A)
    return angles, coordinates


def _turned(
    series: VolumeSeries, columns: list[str], error: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the angles (m,) of refined rotations by column, and the moves (m, 3), Å, of the centres."""
    _refuse_without(series, columns, "angles")
    rot, tilt, psi = (numbers(series.table, column, series.where) for column in columns)
    rotation = particle_rotations(rot, tilt, psi, series.where)
    turned, _ = corrected_poses(rotation, error)
    angles = dict(zip(columns, matrix_to_euler(turned).T, strict=True))
    return angles, np.einsum("mij,mj->mi", rotation, error[:, 3:])


def _moved(series: VolumeSeries, columns: list[str], move: np.ndarray) -> dict[str, np.ndarray]:
    _refuse_without(series, columns, "coordinates")
    return {column: _stated(series, column) + move[:, axis] for axis, column in enumerate(columns)}


def _stated(series: VolumeSeries, column: str) -> np.ndarray:
    """Return a column as the file states it (m,); 0 without the column."""
    if column not in series.table:
        return np.zeros(len(series.table))
    return numbers(series.table, column, series.where)


def _refuse_without(series: VolumeSeries, columns: list[str], what: str) -> None:
    if missing := [column for column in columns if column not in series.table]:
        raise InputError(
            f"{series.where}: column _{missing[0]} is missing, expected {what} that refined poses can "
            "change; export this file without --with-refined-poses, or add its poses"
        )


def _refuse_other_rows(table: pd.DataFrame, file: ParticleFile, where: str) -> None:
    """Raise InputError unless the table of poses has the rows of the table that is exported."""
    if len(table) != file.n_rows:
        raise InputError(
            f"{where}: found {len(table)} rows with their optics groups, expected {file.n_rows}; an optics "
            "group may appear only once in data_optics"
        )
