"""Positions and orientations of the particles of an optimisation set in their tomograms."""

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.star import numbers, require_columns
from tomohet.particles.dialects.tilt_series import TiltSeries
from tomohet.particles.table import particle_rotations, refuse_impossible_positions

OUTSIDE_TOLERATED = 0.01  # with a larger fraction of particles outside the tomogram, the unit is doubted
SUBTOMOGRAM = ["rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi"]


def particle_poses(table: pd.DataFrame, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return poses (n, 3, 3) particle -> tomogram and refined shifts (n, 3) in Å along the tomogram axes."""
    angles = (numbers(table, f"rlnAngle{name}", where) for name in ("Rot", "Tilt", "Psi"))
    pose = particle_rotations(*angles, where)
    columns = [f"rlnOrigin{axis}Angst" for axis in "XYZ"]
    origin_A = np.stack(
        [numbers(table, c, where) if c in table.columns else np.zeros(len(table)) for c in columns], axis=1
    )
    if not set(SUBTOMOGRAM) & set(table.columns):
        return pose, origin_A
    require_columns(table, SUBTOMOGRAM, where)
    subtomogram = particle_rotations(*(numbers(table, column, where) for column in SUBTOMOGRAM), where)
    return subtomogram @ pose, np.einsum("pij,pj->pi", subtomogram, origin_A)


def particle_positions(
    table: pd.DataFrame, series: dict[str, TiltSeries], pixel_size_A: np.ndarray, where: str
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return positions (n, 3) in Å relative to the tomogram's centre and to its corner, and remarks.

    Centred coordinates are in Å. Other coordinates are unbinned pixels in tomograms of RELION. In those of
    WarpTools they are pixels of the extracted image, unless that places particles outside the tomogram and
    unbinned pixels do not. Centred positions do not need the size of the tomogram; without the size,
    positions from the corner are NaN.

    Raises InputError when there are no coordinates, or uncentred ones in a tomogram of unknown size.
    """
    size_A = np.array([series[name].size_A for name in table["rlnTomoName"]])
    centred = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
    if set(centred) <= set(table.columns):
        centred_A = np.stack([numbers(table, column, where) for column in centred], axis=1)
        refuse_impossible_positions(centred_A, where)
        return centred_A, centred_A + size_A / 2, []
    plain = [f"rlnCoordinate{axis}" for axis in "XYZ"]
    if not set(plain) <= set(table.columns):
        raise InputError(f"{where}: found neither _{centred[0]}, ... nor _{plain[0]}, ... (all of X, Y, Z)")
    if (unknown := np.flatnonzero(np.isnan(size_A).any(axis=1))).size:
        raise InputError(
            f"{where}: row {unknown[0] + 1}: tomogram {table['rlnTomoName'].iloc[unknown[0]]} has no size "
            "(rlnTomoSizeX, rlnTomoSizeY, rlnTomoSizeZ above 0 in data_global of the tomograms file), which "
            f"_{plain[0]} needs; add the size, or give centred coordinates (_{centred[0]}, ...)"
        )
    coordinates = np.stack([numbers(table, f"rlnCoordinate{axis}", where) for axis in "XYZ"], axis=1)
    extracted_A = coordinates * pixel_size_A[:, None]
    unbinned_A = coordinates * np.array([series[name].pixel_size_A for name in table["rlnTomoName"]])[:, None]
    refuse_impossible_positions(unbinned_A, where)
    if not any(tilts.by_warp for tilts in series.values()):
        return unbinned_A - size_A / 2, unbinned_A, _outside_remark(unbinned_A, size_A)
    outside = {}
    for unit, position_A in {"extracted": extracted_A, "unbinned": unbinned_A}.items():
        outside[unit] = int(((position_A < 0) | (position_A > size_A)).any(axis=1).sum())
    if outside["extracted"] > OUTSIDE_TOLERATED * len(table) and outside["unbinned"] < outside["extracted"]:
        remarks = [
            "rlnCoordinateX/Y/Z are treated as unbinned pixels: as pixels of the extracted images, they "
            "would lie outside the tomogram"
        ]
        return unbinned_A - size_A / 2, unbinned_A, remarks
    return extracted_A - size_A / 2, extracted_A, _outside_remark(extracted_A, size_A)


def _outside_remark(position_A: np.ndarray, size_A: np.ndarray) -> list[str]:
    n_outside = int(((position_A < 0) | (position_A > size_A)).any(axis=1).sum())
    return [f"{n_outside} particles lie outside their tomogram"] if n_outside else []
