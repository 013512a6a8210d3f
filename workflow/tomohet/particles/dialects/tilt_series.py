"""Tilt series of a tomograms STAR file.

Each tomogram has one table, in this file (RELION 4, WarpTools) or in a separate file (RELION 5). Each tilt
has a projection matrix or alignment angles.

Sources: RELION, src/jaz/tomography/tomogram.cpp (`setProjectionMatrix`, `getDepthOffset`, `getCtf`) and
tomogram_set.cpp (`loadTomogram`: a matrix wins over angles; -999 for a size that is not known yet); Warp,
TiltSeries.cs (`GetPositionInAllTilts`) and RelionParticleSeriesExport.cs (`GetRelionHand`).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from tomohet.errors import InputError
from tomohet.files.star import as_table, numbers, read_star, require_columns
from tomohet.particles.dialects.linked_files import find_linked
from tomohet.particles.table import refuse_impossible_optics

GLOBAL_COLUMNS = ["rlnTomoName", "rlnTomoTiltSeriesPixelSize"]
PROJECTION_COLUMNS = ["rlnTomoProjX", "rlnTomoProjY", "rlnTomoProjZ"]
ANGLE_COLUMNS = ["rlnTomoYTilt", "rlnTomoZRot"]  # RELION treats an absent rlnTomoXTilt as 0
SHIFT_COLUMNS = ["rlnTomoXShiftAngst", "rlnTomoYShiftAngst"]  # of the tilt images, already applied to stacks
SERIES_FILE = "rlnTomoTiltSeriesStarFile"
# Largest difference of the stage tilt from the angle between beam and tomogram normal: lamellae are milled at
# up to about 20 degrees and levelled in reconstruction, and alignments of single tilts vary by a few more.
PLAUSIBLE_PRETILT_DEG = 30.0
COSINE_TOLERANCE = 0.05  # root mean square; alignments vary by 3 degrees, which is 0.045 at 60 degrees
ROTATION_TOLERANCE = 0.01


@dataclass(frozen=True)
class TiltSeries:
    """One tomogram's tilts in table order (F of them).

    rotation : (F, 3, 3) from tomogram to image coordinates
    depth_axis : (F, 3) direction along which defocus grows, in tomogram coordinates
    scale_factor : (F,) amplitude rlnCtfScalefactor (1 without it)
    dose_b_factor_A2 : the tomogram's rlnCtfBfactorPerElectronDose (0 without it)
    size_A : (3,) the tomogram's extent in x, y, z, NaN when unknown
    pixel_size_A : of the unbinned tomogram
    by_warp : whether WarpTools wrote the series; its matrices have no translation
    remarks : observations that the user should know
    """

    name: str
    rotation: np.ndarray
    depth_axis: np.ndarray
    defocus_u_A: np.ndarray
    defocus_v_A: np.ndarray
    defocus_angle_deg: np.ndarray
    phase_shift_deg: np.ndarray
    dose_e_A2: np.ndarray
    tilt_deg: np.ndarray
    scale_factor: np.ndarray
    dose_b_factor_A2: float
    size_A: np.ndarray
    pixel_size_A: float
    by_warp: bool
    remarks: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rotation)

    def depth_A(self, centred_A: np.ndarray) -> np.ndarray:
        """Return the defocus offset (p, F) in Å of positions (p, 3) relative to the tomogram's centre."""
        return centred_A @ self.depth_axis.T


def read_tilt_series(
    path: Path, needed: list[str], datadir: str | Path | None = None
) -> dict[str, TiltSeries]:
    """Read the tilt series of all `needed` tomograms, by name.

    Raises InputError when a tomogram has no table, its file is missing, or a table has neither projection
    matrices nor alignment angles.
    """
    blocks = read_star(path)
    overview = as_table(blocks.get("global"))
    if overview is None:
        raise InputError(f"{path}: found no table data_global, expected the list of tomograms")
    where = f"{path}: table data_global"
    require_columns(overview, GLOBAL_COLUMNS, where)
    overview = overview.set_index("rlnTomoName", drop=False)
    if not overview.index.is_unique:
        twice = overview.index[overview.index.duplicated()][0]
        raise InputError(f"{where}: tomogram {twice} appears twice")
    linked = SERIES_FILE in overview.columns
    absent = [name for name in needed if name not in overview.index or not (linked or name in blocks)]
    if absent:
        raise InputError(
            f"{path}: {len(absent)} of {len(needed)} tomograms of the particles have no tilt series here: "
            f"{', '.join(absent[:3])}; do particles and tomograms belong together?"
        )
    series = {}
    for name in needed:
        table, where = as_table(blocks.get(name)), f"{path}: table data_{name}"
        if table is None:
            table, where = _linked_table(name, overview.loc[name, SERIES_FILE], path, datadir)
        series[name] = _tilt_series(name, table, where, overview.loc[[name]], f"{path}: table data_global")
    return series


def _linked_table(
    name: str, written: str, path: Path, datadir: str | Path | None
) -> tuple[pd.DataFrame, str]:
    """Return the table of tilts in the tomogram's own STAR file, and its location for messages."""
    file = find_linked(written, path, datadir, f"{SERIES_FILE} of tomogram {name}")
    blocks = read_star(file)
    block = name if name in blocks else next(iter(blocks))
    if block != name and len(blocks) > 1:
        raise InputError(f"{file}: found no table data_{name}, expected the tilts of tomogram {name}")
    return as_table(blocks[block]), f"{file}: table data_{block}"


def _tilt_series(
    name: str, table: pd.DataFrame, where: str, overview: pd.DataFrame, summary: str
) -> TiltSeries:
    if table.empty:
        raise InputError(f"{where} is empty, expected one row per tilt")
    require_columns(
        table, ["rlnMicrographPreExposure", "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"], where
    )
    rotation, by_warp = _rotations(table, where)
    pixel_size_A = numbers(overview, "rlnTomoTiltSeriesPixelSize", summary)[0]
    if pixel_size_A <= 0:
        raise InputError(f"{summary}: tomogram {name}: pixel size {pixel_size_A:g} Å, expected more than 0")
    hand = _optional(overview, "rlnTomoHand", summary, 1.0)[0]
    if abs(hand) != 1:
        raise InputError(f"{summary}: tomogram {name}: rlnTomoHand {hand:g}, expected 1 or -1")
    slope = _optional(overview, "rlnTomoDefocusSlope", summary, 1.0)[0]
    defocus_A = {f"defocus_{axis}_A": numbers(table, f"rlnDefocus{axis.upper()}", where) for axis in "uv"}
    refuse_impossible_optics(pd.DataFrame(defocus_A), where)
    scale_factor = _optional(table, "rlnCtfScalefactor", where, 1.0)
    return TiltSeries(
        name=name,
        rotation=rotation,
        depth_axis=_depth_axis(rotation, hand, slope, by_warp),
        **defocus_A,
        defocus_angle_deg=numbers(table, "rlnDefocusAngle", where),
        phase_shift_deg=_optional(table, "rlnPhaseShift", where, 0.0),
        dose_e_A2=_doses_e_A2(table, where),
        tilt_deg=_tilt_deg(table, where, scale_factor, rotation),
        scale_factor=scale_factor,
        dose_b_factor_A2=float(_optional(overview, "rlnCtfBfactorPerElectronDose", summary, 0.0)[0]),
        size_A=_size_px(overview, summary) * pixel_size_A,
        pixel_size_A=pixel_size_A,
        by_warp=by_warp,
        remarks=_remarks(table, where, overview),
    )


def _size_px(overview: pd.DataFrame, where: str) -> np.ndarray:
    """Return the extent (3,) of the tomogram in unbinned pixels; NaN when a size is absent or not above 0."""
    size_px = np.array([_optional(overview, f"rlnTomoSize{axis}", where, np.nan)[0] for axis in "XYZ"])
    return size_px if (size_px > 0).all() else np.full(3, np.nan)


def _doses_e_A2(table: pd.DataFrame, where: str) -> np.ndarray:
    """Return the cumulative dose before each tilt (F,), e/Å². Raises InputError for a dose below 0."""
    dose = numbers(table, "rlnMicrographPreExposure", where)
    if (wrong := np.flatnonzero(dose < 0)).size:
        raise InputError(
            f"{where}: column _rlnMicrographPreExposure, row {wrong[0] + 1}: found {dose[wrong[0]]:g}, "
            "expected a dose of 0 e/Å² or more"
        )
    return dose


def _remarks(table: pd.DataFrame, where: str, overview: pd.DataFrame) -> tuple[str, ...]:
    """Remark on columns that are not used, and on missing columns that RELION requires."""
    remarks = []
    if "rlnTomoHand" not in overview.columns:
        remarks.append("rlnTomoHand is missing from the tomograms file: treated as 1")
    if not set(PROJECTION_COLUMNS) <= set(table.columns) and not set(SHIFT_COLUMNS) <= set(table.columns):
        remarks.append("rlnTomoXShiftAngst and rlnTomoYShiftAngst are missing, which RELION requires")
    if _optional(table, "rlnCtfBfactor", where, 0.0).any():
        remarks.append("rlnCtfBfactor of the tilts, part of RELION's CTF, is not modelled")
    return tuple(remarks)


def _optional(table: pd.DataFrame, column: str, where: str, otherwise: float) -> np.ndarray:
    return numbers(table, column, where) if column in table.columns else np.full(len(table), otherwise)


def _rotations(table: pd.DataFrame, where: str) -> tuple[np.ndarray, bool]:
    """Return rotations (F, 3, 3) tomogram -> image, and whether WarpTools wrote them.

    RELION's matrices also move the tomogram's centre to that of the tilt image. Those of WarpTools, whose
    tilt series is a dummy, have no translation.
    """
    if set(PROJECTION_COLUMNS) <= set(table.columns):
        rows = np.stack([_vectors(table[column], where) for column in PROJECTION_COLUMNS], axis=1)
        _refuse_no_rotation(rows[:, :, :3], where)
        return rows[:, :, :3], not rows[:, :2, 3].any()
    if not set(ANGLE_COLUMNS) <= set(table.columns):
        missing = [f"_{c}" for c in PROJECTION_COLUMNS if c not in table.columns]
        raise InputError(
            f"{where}: column {', '.join(missing)} is missing, and so are alignment angles "
            "(_rlnTomoXTilt, _rlnTomoYTilt, _rlnTomoZRot); use the tomograms file written after alignment"
        )
    angles = [_optional(table, f"rlnTomo{name}", where, 0.0) for name in ("ZRot", "YTilt", "XTilt")]
    return alignment_rotation(*angles), False


def alignment_rotation(z_rot_deg: np.ndarray, y_tilt_deg: np.ndarray, x_tilt_deg: np.ndarray) -> np.ndarray:
    """Return RELION 5's rotation (F, 3, 3) tomogram -> image.

    It rotates about x first, then y, then z, each right-handed.
    """
    return Rotation.from_euler(
        "ZYX", np.stack([z_rot_deg, y_tilt_deg, x_tilt_deg], 1), degrees=True
    ).as_matrix()


def _depth_axis(rotation: np.ndarray, hand: float, slope: float, by_warp: bool) -> np.ndarray:
    """Return the direction (F, 3) along which defocus grows.

    RELION adds hand x slope x (height above the tomogram's centre in the tilted frame). WarpTools writes the
    hand with the opposite sign: -1 for matrices along whose third row defocus grows. On real images
    premultiplied by Warp the power spectra fit this sign and not RELION's. WarpTools writes +1 for series
    whose angles Warp inverts (`AreAnglesInverted`): there it rotates the point mirrored in z by the reversed
    tilt, which is minus the third row.
    """
    return (-hand if by_warp else hand * slope) * rotation[:, 2, :]


def _tilt_deg(table: pd.DataFrame, where: str, scale_factor: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Return the tilt of each image (F,), degrees, without sign: the nominal tilt, or else `stage_tilt`."""
    if "rlnTomoNominalStageTiltAngle" in table.columns:
        return np.abs(numbers(table, "rlnTomoNominalStageTiltAngle", where))
    return stage_tilt(scale_factor if "rlnCtfScalefactor" in table.columns else None, rotation)


def stage_tilt(scale_factor: np.ndarray | None, rotation: np.ndarray) -> np.ndarray:
    """Estimate the tilt of each image (F,), degrees, 0..90, from scale factors (F,) and rotations (F, 3, 3).

    As written after CTF estimation, the scale factor is the cosine of the stage tilt. Tilts excluded upstream
    have 0 or less, and refinement makes it an amplitude. It is therefore used only if one pre-tilt explains
    it for the whole series. Where it is not a cosine, or contradicts the geometry by more than a lamella's
    pre-tilt, the angle between the beam and the tomogram's normal (T[2, 2]) is used instead.
    """
    geometric = np.degrees(np.arccos(np.clip(np.abs(rotation[:, 2, 2]), 0.0, 1.0)))
    if scale_factor is None:
        return geometric
    stage = np.degrees(np.arccos(np.clip(scale_factor, -1.0, 1.0)))
    believed = (scale_factor > 0) & (scale_factor < 1.01)
    believed &= np.abs(stage - geometric) <= PLAUSIBLE_PRETILT_DEG
    own = scale_factor[believed], geometric[believed], rotation[believed]
    if not believed.any() or not _follows_a_cosine(*own):
        return geometric
    return np.where(believed, stage, geometric)


def _follows_a_cosine(scale_factor: np.ndarray, geometric_deg: np.ndarray, rotation: np.ndarray) -> bool:
    """Tell whether scale factors (F,) are cosines of the series' tilts plus any one pre-tilt."""
    normal = rotation[:, 2, :2]
    along = normal @ np.linalg.svd(normal)[2][0]  # the side to which each image is tilted
    signed_deg = np.where(along < 0, -geometric_deg, geometric_deg)
    pretilt_deg = np.linspace(-PLAUSIBLE_PRETILT_DEG, PLAUSIBLE_PRETILT_DEG, 121)
    error = np.cos(np.radians(signed_deg[:, None] + pretilt_deg)) - scale_factor[:, None]
    return bool(np.sqrt((error**2).mean(axis=0)).min() <= COSINE_TOLERANCE)


def _vectors(column: pd.Series, where: str) -> np.ndarray:
    """Parse rows of text `[a,b,c,d]` to float64 (n, 4)."""
    values = np.array([_four_numbers(str(text)) for text in column]).reshape(-1, 4)
    wrong = ~np.isfinite(values).all(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{where}: column _{column.name}, row {row + 1}: found `{column.iloc[row]}`, "
            f"expected four numbers `[a,b,c,d]` ({wrong.sum()} such rows)"
        )
    return values


def _four_numbers(text: str) -> list[float]:
    """Parse one `[a,b,c,d]`; not-a-number four times where it is none."""
    try:
        values = [float(value) for value in text.strip("[] ").split(",")]
    except ValueError:
        values = []
    return values if len(values) == 4 else [np.nan] * 4


def _refuse_no_rotation(matrices: np.ndarray, where: str) -> None:
    """Raise InputError unless all matrices are rotations (orthonormal, determinant +1)."""
    error = np.abs(matrices @ matrices.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    wrong = np.flatnonzero((error > ROTATION_TOLERANCE) | (np.linalg.det(matrices) < 0))
    if len(wrong):
        raise InputError(
            f"{where}: row {wrong[0] + 1}: the projection matrix is not a rotation (determinant "
            f"{np.linalg.det(matrices[wrong[0]]):.3f}, expected 1)"
        )
