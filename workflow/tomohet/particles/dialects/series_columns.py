"""Columns of image series: the column for each quantity, its unit, and the precedence of columns.

`QUANTITIES` lists, for every quantity of the table, the columns that can give it and the factor to the
table's unit. `SHIFTS_A` and `SHIFTS_PX` do so for the two units of shifts. The first column that is present
wins:

- particle: rlnTomoParticleName before rlnGroupName before rlnGroupNumber, since RELION may use groups for
  noise spectra; names are text, so that `000123` and `123` differ;
- pixel size: rlnImagePixelSize, else rlnDetectorPixelSize * 10^4 / rlnMagnification (10^4 if not given);
- shift: rlnOriginX/YAngst / pixel size; rlnOriginX/Y (px), if also present, must be equal to it;
- dose: rlnMicrographPreExposure before rlnCtfBfactor (Warp: -4 x dose) before tomodrgnTotalDose. A column
  with a single value, such as the B-factor 0 of `cryodrgn parse_relion`, is used only if no other column has
  several values. RELION's refined B-factors need not follow the dose, so they do not contradict a
  pre-exposure;
- tilt: rlnTomoNominalStageTiltAngle before rlnTomoYTilt before rlnCtfScalefactor, its cosine in Warp's files;
  a scale factor above 1 or below 0 is an amplitude (RELION's CtfRefine) and does not state a tilt;
- tomodrgnTotalDose and tomodrgnPseudoStageTilt, which tomoDRGN computed from rlnCtfBfactor and
  rlnCtfScalefactor, must agree with these columns where they are used, and replace them where they are
  absent;
- optics: a column of the particle table before one of the same name in the optics table.

cisTEM (https://github.com/timothygrant80/cisTEM): its own RELION export, ExportRefinementPackageWizard.cpp,
writes phi, theta, psi as rot, tilt, psi and the *negative* of its shifts (Å) as origins; the phase shift is
in radians; the pre-exposure is the dose before the image.
"""

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from tomohet.errors import InputError
from tomohet.files.star import numbers
from tomohet.particles.table import refuse_bad_pixel_sizes

PARTICLE_ID_COLUMNS = (
    "rlnTomoParticleName",
    "rlnGroupName",
    "rlnGroupNumber",
    "rlnTomoParticleId",
    "cisTEMParticleGroup",
)
TOMOGRAM_COLUMNS = ("rlnTomoName", "rlnMicrographName", "cisTEMOriginalImageFilename")
STACK_COLUMNS = ("rlnImageName", "cisTEMStackFilename")
TILT_COLUMNS = ("rlnTomoNominalStageTiltAngle", "rlnTomoYTilt")  # degrees, with a sign
B_FACTOR_PER_DOSE = -4.0  # Å² per e/Å², by which Warp writes the cumulative dose as a B-factor
# Factors multiplied into images besides the CTF. No program has a column for them in an image series, so only
# this program writes and reads them. For each image column: the file's column, and the value if it is absent.
OWN_COLUMNS = {
    "dose_weighted": ("tomohetDoseWeighted", 0.0),
    "scale_factor": ("tomohetScaleFactor", 1.0),
    "dose_b_factor_A2": ("tomohetDoseBfactor", 0.0),
}
# The magnification at which rlnDetectorPixelSize (µm) equals the pixel size in Å.
UNIT_MAGNIFICATION = 10_000.0
DEGREES_PER_RADIAN = 180.0 / np.pi

QUANTITIES: dict[str, dict[str, float]] = {
    "rot_deg": {"rlnAngleRot": 1.0, "cisTEMAnglePhi": 1.0},
    "tilt_angle_deg": {"rlnAngleTilt": 1.0, "cisTEMAngleTheta": 1.0},
    "psi_deg": {"rlnAnglePsi": 1.0, "cisTEMAnglePsi": 1.0},
    "defocus_u_A": {"rlnDefocusU": 1.0, "cisTEMDefocus1": 1.0},
    "defocus_v_A": {"rlnDefocusV": 1.0, "cisTEMDefocus2": 1.0},
    "defocus_angle_deg": {"rlnDefocusAngle": 1.0, "cisTEMDefocusAngle": 1.0},
    "voltage_kV": {"rlnVoltage": 1.0, "cisTEMMicroscopeVoltagekV": 1.0, "cisTEMVoltage": 1.0},
    "cs_mm": {"rlnSphericalAberration": 1.0, "cisTEMMicroscopeCsMM": 1.0, "cisTEMCs": 1.0},
    "amplitude_contrast": {"rlnAmplitudeContrast": 1.0, "cisTEMAmplitudeContrast": 1.0},
    "phase_shift_deg": {"rlnPhaseShift": 1.0, "cisTEMPhaseShift": DEGREES_PER_RADIAN},
    "dose_e_A2": {
        "rlnMicrographPreExposure": 1.0,
        "rlnCtfBfactor": 1 / B_FACTOR_PER_DOSE,
        "tomodrgnTotalDose": 1.0,
        "cisTEMPreExposure": 1.0,
    },
}
DOSE_COLUMNS = tuple(QUANTITIES["dose_e_A2"])
SHIFTS_A = {("rlnOriginXAngst", "rlnOriginYAngst"): 1.0, ("cisTEMXShift", "cisTEMYShift"): -1.0}
SHIFTS_PX = ("rlnOriginX", "rlnOriginY")
# Columns of the same quantity must agree up to their number of decimals.
SHIFT_TOLERANCE_PX = 0.01
DOSE_TOLERANCE_E_A2 = 0.02
COSINE_TOLERANCE = 1e-3
NAMES_AT_ONCE = 100_000  # image names that are split at once, which takes ten times their own memory
MOST_COSINE = 1.01  # rounding may bring a cosine above 1


def first_column(table: pd.DataFrame, candidates) -> str | None:
    """Return the first of the candidate columns that the table has."""
    return next((column for column in candidates if column in table.columns), None)


def stack_names(table: pd.DataFrame) -> pd.Series:
    """Return each row's stack as written, without `N@`; empty texts when no column names it."""
    column = first_column(table, STACK_COLUMNS)
    if column is None:
        return pd.Series("", index=table.index, dtype=object)
    if column != "rlnImageName":
        return table[column].astype(str)
    return split_names(table[column])[1].astype(str)


def split_names(names: pd.Series) -> tuple[np.ndarray, pd.Series]:
    """Split image names `N@stack` into N, float64 (n,), and `stack`, as categories (few stacks, many images).

    N is NaN where it is no number; the stack is empty where the name has no `@`.
    """
    sections, stacks = np.empty(len(names)), []
    for here in range(0, len(names), NAMES_AT_ONCE):
        parts = names.iloc[here : here + NAMES_AT_ONCE].astype(str).str.partition("@")
        sections[here : here + NAMES_AT_ONCE] = pd.to_numeric(parts[0], errors="coerce")
        stacks.append(pd.Categorical(parts[2]))
    together = union_categoricals(stacks, sort_categories=True) if stacks else pd.Categorical([])
    return sections, pd.Series(together, index=names.index)


def quantity(table: pd.DataFrame, name: str, where: str) -> np.ndarray:
    """Return one of `QUANTITIES` (n,) in the table's unit.

    Raises InputError for a missing column or values that are not numbers.
    """
    candidates = QUANTITIES[name]
    column = first_column(table, candidates)
    if column is None:
        raise InputError(f"{where}: column {' or '.join(f'_{c}' for c in candidates)} is missing")
    return numbers(table, column, where) * candidates[column] + 0.0


def pixel_sizes_A(table: pd.DataFrame, where: str) -> np.ndarray:
    """Return the pixel size of every image (n,), Å.

    They may differ. Raises InputError unless all are above 0.
    """
    column = first_column(table, ("rlnImagePixelSize", "cisTEMPixelSize", "rlnDetectorPixelSize"))
    if column is None:
        raise InputError(f"{where}: column _rlnImagePixelSize or _rlnDetectorPixelSize is missing")
    sizes = numbers(table, column, where)
    if column == "rlnDetectorPixelSize" and "rlnMagnification" in table.columns:
        magnification = numbers(table, "rlnMagnification", where)
        if (magnification <= 0).any():
            raise InputError(
                f"{where}: column _rlnMagnification holds {magnification.min():g}, expected more than 0"
            )
        sizes = sizes * UNIT_MAGNIFICATION / magnification
    refuse_bad_pixel_sizes(sizes, where)
    return sizes


def shifts_px(table: pd.DataFrame, pixel_size_A: np.ndarray, where: str) -> np.ndarray:
    """Return the shifts (n, 2) to apply to the images along x and y, px; files written by Warp have none.

    Raises InputError when one axis is missing, or when shifts in Å and in px contradict each other.
    """
    for pair in (*SHIFTS_A, SHIFTS_PX):
        have = [column for column in pair if column in table.columns]
        if len(have) == 1:
            lacks = next(column for column in pair if column != have[0])
            raise InputError(f"{where}: column _{have[0]} is present, but _{lacks} is missing")
    in_A = next((pair for pair in SHIFTS_A if pair[0] in table.columns), None)
    stored = None
    if SHIFTS_PX[0] in table.columns:
        stored = np.stack([numbers(table, column, where) for column in SHIFTS_PX], axis=1)
    if in_A is None:
        return np.zeros((len(table), 2)) if stored is None else stored
    shifts = np.stack([numbers(table, column, where) for column in in_A], axis=1)
    shifts = SHIFTS_A[in_A] * shifts / pixel_size_A[:, None] + 0.0
    if stored is not None:
        for axis in (0, 1):
            _refuse_contradiction(
                shifts[:, axis],
                stored[:, axis],
                SHIFT_TOLERANCE_PX,
                f"{where}: columns _{in_A[axis]} / pixel size and _{SHIFTS_PX[axis]}",
                "px",
            )
    return shifts


def dose_column(table: pd.DataFrame) -> str | None:
    """Return the column of the doses: the first of `DOSE_COLUMNS` with several values, else the first.

    A first column of zeros is passed over for another column with a single value. None when there is no such
    column.
    """
    there = [column for column in DOSE_COLUMNS if column in table.columns]
    varied = (column for column in there if (table[column] != table[column].iloc[0]).any())
    nonzero = (column for column in there if pd.to_numeric(table[column].iloc[0], errors="coerce") != 0)
    return next(varied, None) or next(nonzero, None) or next(iter(there), None)


def doses_e_A2(table: pd.DataFrame, where: str) -> tuple[np.ndarray, list[str]]:
    """Return the cumulative dose before each exposure (n,), e/Å², and remarks.

    Raises InputError when no column states it, columns contradict each other, or a dose is below 0.
    """
    column = dose_column(table)
    if column is None:
        raise InputError(f"{where}: column {' or '.join(f'_{c}' for c in DOSE_COLUMNS)} is missing")
    dose = numbers(table, column, where) * QUANTITIES["dose_e_A2"][column] + 0.0
    if column == "rlnCtfBfactor" and "tomodrgnTotalDose" in table.columns:
        other = pd.to_numeric(table["tomodrgnTotalDose"], errors="coerce").to_numpy(np.float64)
        both = f"{where}: columns _rlnCtfBfactor / {B_FACTOR_PER_DOSE:g} and _tomodrgnTotalDose"
        _refuse_contradiction(dose, other, DOSE_TOLERANCE_E_A2, both, "e/Å²")
    if {"cisTEMPreExposure", "cisTEMTotalExposure"} <= set(table.columns):
        after = numbers(table, "cisTEMTotalExposure", where)
        if (wrong := np.flatnonzero(after < dose)).size:
            row = wrong[0]
            raise InputError(
                f"{where}: column _cisTEMTotalExposure, row {row + 1}: found {after[row]:g}, expected at "
                f"least the _cisTEMPreExposure of {dose[row]:g} e/Å²"
            )
    if (wrong := np.flatnonzero(dose < 0)).size:
        raise InputError(
            f"{where}: column _{column}, row {wrong[0] + 1}: found {table[column].iloc[wrong[0]]}, which is "
            f"a dose of {dose[wrong[0]]:g} e/Å², expected 0 or more"
        )
    return dose, _b_factor_remark(table, column, dose)


def _b_factor_remark(table: pd.DataFrame, column: str, dose: np.ndarray) -> list[str]:
    """Remark when the doses are pre-exposures that the B-factors, a possible source too, do not follow."""
    if column != "rlnMicrographPreExposure" or "rlnCtfBfactor" not in table.columns:
        return []
    b_factor = pd.to_numeric(table["rlnCtfBfactor"], errors="coerce").to_numpy(np.float64)
    differ = np.abs(b_factor / B_FACTOR_PER_DOSE - dose) > DOSE_TOLERANCE_E_A2 + 1e-3 * dose
    if not (b_factor != 0).any() or not differ.any():
        return []
    return [
        f"doses are _rlnMicrographPreExposure; _rlnCtfBfactor / {B_FACTOR_PER_DOSE:g} differs and is not used"
    ]


def stage_tilts_deg(table: pd.DataFrame, where: str) -> tuple[np.ndarray | None, list[str]]:
    """Return the stage tilt without sign (n,), degrees, and remarks; None when no column states it.

    Raises InputError for angles beyond 90 degrees, and when columns contradict each other.
    """
    if (column := first_column(table, TILT_COLUMNS)) is not None:
        return _tilts_of(table, column, where), []
    if "rlnCtfScalefactor" in table.columns:
        cosine = numbers(table, "rlnCtfScalefactor", where)
        no_cosine = (cosine < 0) | (cosine > MOST_COSINE) | (not cosine.any())
        if no_cosine.any():
            wrong = cosine[no_cosine][0]
            amplitudes = f"_rlnCtfScalefactor ({wrong:g}) is not the cosine of a tilt, so it states no tilts"
            return None, [amplitudes]
        cosine = np.minimum(cosine, 1.0)
        if "tomodrgnPseudoStageTilt" in table.columns:
            # tomoDRGN wrote nan where a cosine was rounded above 1.
            pseudo = pd.to_numeric(table["tomodrgnPseudoStageTilt"], errors="coerce").to_numpy(np.float64)
            both = f"{where}: columns _rlnCtfScalefactor and cos(_tomodrgnPseudoStageTilt)"
            _refuse_no_radians(pseudo, where)
            _refuse_contradiction(cosine, np.cos(pseudo), COSINE_TOLERANCE, both, "")
        return np.degrees(np.arccos(cosine)), _excluded_remark(cosine)
    if "tomodrgnPseudoStageTilt" in table.columns:
        pseudo = numbers(table, "tomodrgnPseudoStageTilt", where)
        _refuse_no_radians(pseudo, where)
        return np.degrees(pseudo), []
    return (_tilts_of(table, "cisTEMTiltAngle", where) if "cisTEMTiltAngle" in table.columns else None), []


def _excluded_remark(cosine: np.ndarray) -> list[str]:
    n_zero = int((cosine == 0).sum())
    return [f"{n_zero} images have rlnCtfScalefactor 0, like excluded ones"] if n_zero else []


def _tilts_of(table: pd.DataFrame, column: str, where: str) -> np.ndarray:
    """Return a column of tilt angles without their signs (n,), degrees."""
    tilt = np.abs(numbers(table, column, where))
    if (wrong := np.flatnonzero(tilt > 90)).size:
        raise InputError(
            f"{where}: column _{column}, row {wrong[0] + 1}: found {table[column].iloc[wrong[0]]}, expected "
            "the stage tilt, -90 to 90 degrees"
        )
    return tilt


def _refuse_no_radians(pseudo: np.ndarray, where: str) -> None:
    if (wrong := np.flatnonzero((pseudo < 0) | (pseudo > np.pi / 2 + 1e-3))).size:
        raise InputError(
            f"{where}: column _tomodrgnPseudoStageTilt, row {wrong[0] + 1}: found {pseudo[wrong[0]]:g}, "
            "expected radians, 0 to 1.571"
        )


def _refuse_contradiction(
    first: np.ndarray, second: np.ndarray, tolerance: float, both: str, unit: str
) -> None:
    """Raise InputError where two columns of one quantity differ; nan is not compared."""
    differ = np.flatnonzero(np.abs(first - second) > tolerance + 1e-3 * np.abs(first))
    if len(differ):
        row = differ[0]
        raise InputError(
            f"{both} contradict each other, row {row + 1}: {first[row]:g} and {second[row]:g} {unit}".rstrip()
            + f" ({len(differ)} such rows); remove the outdated column"
        )
