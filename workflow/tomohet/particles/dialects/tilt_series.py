"""Tilt series of a tomograms STAR file with projection matrices (RELION 4, WarpTools)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.star import Blocks, numbers, read_star, require_columns

GLOBAL_COLUMNS = ["rlnTomoName", "rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ", "rlnTomoTiltSeriesPixelSize"]
PROJECTION_COLUMNS = ["rlnTomoProjX", "rlnTomoProjY", "rlnTomoProjZ"]
# How far the stage tilt may be from the angle between beam and tomogram normal: lamellae are milled at up to
# about 20 degrees and levelled in reconstruction, and the alignment of single tilts wanders by a few more.
PLAUSIBLE_PRETILT_DEG = 30.0
ROTATION_TOLERANCE = 0.01


@dataclass(frozen=True)
class TiltSeries:
    """One tomogram's tilts in table order (F of them).

    `rotation` (F, 3, 3) takes tomogram to image coordinates. `size_A` (3,) is the tomogram's extent in
    x, y, z, `pixel_size_A` the unbinned one; `hand` (+1, -1) tells which way its depth axis points.
    """

    name: str
    rotation: np.ndarray
    defocus_u_A: np.ndarray
    defocus_v_A: np.ndarray
    defocus_angle_deg: np.ndarray
    dose_e_A2: np.ndarray
    tilt_deg: np.ndarray
    size_A: np.ndarray
    pixel_size_A: float
    hand: float

    def __len__(self) -> int:
        return len(self.rotation)

    def depth_A(self, centred_A: np.ndarray) -> np.ndarray:
        """Defocus offset (p, F) in Å of positions (p, 3) relative to the tomogram's centre.

        With hand -1 it is the height above the central plane in the tilted frame, T[2] . c. Otherwise the
        depth axis of the tomogram runs the other way and the in-plane terms change sign.
        """
        axis = self.rotation[:, 2, :]
        if self.hand != -1:
            axis = axis * np.array([-1.0, -1.0, 1.0])
        return centred_A @ axis.T


def read_tilt_series(path: Path, needed: list[str]) -> dict[str, TiltSeries]:
    """Tilt series of all `needed` tomograms, by name.

    Raises InputError when a tomogram has no table or a table lacks projection matrices.
    """
    blocks = read_star(path)
    overview = blocks.get("global")
    if not isinstance(overview, pd.DataFrame):
        raise InputError(f"{path}: found no table data_global, expected the list of tomograms")
    where = f"{path}: table data_global"
    require_columns(overview, GLOBAL_COLUMNS, where)
    overview = overview.set_index("rlnTomoName", drop=False)
    if not overview.index.is_unique:
        twice = overview.index[overview.index.duplicated()][0]
        raise InputError(f"{where}: tomogram {twice} stands twice")
    absent = [name for name in needed if name not in overview.index or name not in blocks]
    if absent:
        raise InputError(
            f"{path}: {len(absent)} of {len(needed)} tomograms of the particles have no tilt series here: "
            f"{', '.join(absent[:3])}; do particles and tomograms belong together?"
        )
    return {name: _tilt_series(name, blocks, overview.loc[[name]], path) for name in needed}


def _tilt_series(name: str, blocks: Blocks, overview: pd.DataFrame, path: Path) -> TiltSeries:
    table, where = blocks[name], f"{path}: table data_{name}"
    if not isinstance(table, pd.DataFrame) or table.empty:
        raise InputError(f"{where} is empty, expected one row per tilt")
    require_columns(table, [*PROJECTION_COLUMNS, "rlnMicrographPreExposure"], where)
    rotation = np.stack([_vectors(table[column], where)[:, :3] for column in PROJECTION_COLUMNS], axis=1)
    _refuse_no_rotation(rotation, where)
    summary = f"{path}: table data_global"
    pixel_size_A = numbers(overview, "rlnTomoTiltSeriesPixelSize", summary)[0]
    size_px = np.array([numbers(overview, f"rlnTomoSize{axis}", summary)[0] for axis in "XYZ"])
    return TiltSeries(
        name=name,
        rotation=rotation,
        defocus_u_A=numbers(table, "rlnDefocusU", where),
        defocus_v_A=numbers(table, "rlnDefocusV", where),
        defocus_angle_deg=numbers(table, "rlnDefocusAngle", where),
        dose_e_A2=numbers(table, "rlnMicrographPreExposure", where),
        tilt_deg=stage_tilt(
            numbers(table, "rlnCtfScalefactor", where) if "rlnCtfScalefactor" in table.columns else None,
            rotation,
        ),
        size_A=size_px * pixel_size_A,
        pixel_size_A=pixel_size_A,
        hand=numbers(overview, "rlnTomoHand", summary)[0] if "rlnTomoHand" in overview.columns else 1.0,
    )


def stage_tilt(scale_factor: np.ndarray | None, rotation: np.ndarray) -> np.ndarray:
    """Tilt of each image in degrees, 0..90.

    The scale factor is the cosine of the stage tilt, except that tilts excluded upstream carry 0 or less, and
    refinement programs may overwrite it. Where it is no cosine, or contradicts the geometry by more than a
    lamella's pre-tilt, the angle between the beam and the tomogram's normal (T[2, 2]) is taken instead.
    """
    geometric = np.degrees(np.arccos(np.clip(np.abs(rotation[:, 2, 2]), 0.0, 1.0)))
    if scale_factor is None:
        return geometric
    stage = np.degrees(np.arccos(np.clip(scale_factor, -1.0, 1.0)))
    believed = (scale_factor > 0) & (scale_factor < 1.01)
    believed &= np.abs(stage - geometric) <= PLAUSIBLE_PRETILT_DEG
    return np.where(believed, stage, geometric)


def _vectors(column: pd.Series, where: str) -> np.ndarray:
    """Rows of text `[a,b,c,d]` as float64 (n, 4)."""
    rows = [str(text).strip("[] ").split(",") for text in column]
    try:
        values = np.array(rows, dtype=np.float64)
    except ValueError:
        values = np.full((len(rows), 0), np.nan)
    if values.shape[1] != 4 or not np.isfinite(values).all():
        raise InputError(
            f"{where}: column _{column.name}: found `{column.iloc[0]}`, expected `[a,b,c,d]` in each row"
        )
    return values


def _refuse_no_rotation(matrices: np.ndarray, where: str) -> None:
    """Raise InputError unless all matrices are rotations (orthonormal, determinant +1)."""
    error = np.abs(matrices @ matrices.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    wrong = np.flatnonzero((error > ROTATION_TOLERANCE) | (np.linalg.det(matrices) < 0))
    if len(wrong):
        raise InputError(
            f"{where}: row {wrong[0] + 1}: the projection matrix is no rotation (determinant "
            f"{np.linalg.det(matrices[wrong[0]]):.3f}, expected 1)"
        )
