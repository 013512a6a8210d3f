"""What all image series share: one row per tilt image, rows of one particle joined by a particle name.

Column meaning: specification of tomoDRGN's inputs, A.3. Warp encodes the cumulative dose as a B-factor of
-4 Å² per e/Å² and the cosine of the stage tilt as the scale factor.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.star import numbers, require_columns
from tomohet.particles.paths import read_headers, resolve_stacks
from tomohet.particles.table import (
    ParticleSet,
    half_sets,
    number_images,
    refuse_duplicates,
    refuse_mixed_pixel_sizes,
    rotation_frame,
)
from tomohet.physics.geometry import euler_to_matrix

B_FACTOR_PER_DOSE = -4.0  # Å² per e/Å²
# The magnification at which rlnDetectorPixelSize (µm) equals the pixel size in Å.
UNIT_MAGNIFICATION = 10_000.0


def read_image_series(
    table: pd.DataFrame,
    star: Path,
    datadir: str | Path | None,
    *,
    dialect: str,
    required: list[str],
    particle_column: str = "rlnGroupName",
) -> ParticleSet:
    """One image table from an image series; particles are numbered by first appearance.

    The tilt index of an image is its rank among its particle's images by (stack, section), so that the order
    of rows has no meaning. Raises InputError for missing columns, non-numbers, mixed pixel sizes, duplicates.
    """
    where = f"{star}: table of images"
    require_columns(table, required, where)
    if table.empty:
        raise InputError(f"{where} is empty, expected at least one row")
    ordinal, names = pd.factorize(table[particle_column])
    pixel_size_A = _pixel_sizes(table, where)
    refuse_mixed_pixel_sizes(pixel_size_A, where)

    images = pd.DataFrame({"particle": ordinal, "row": np.arange(len(table))})
    images["stack"], images["section"] = _sections(table["rlnImageName"], where)
    refuse_duplicates(images, where)
    headers = _locate(images, star, datadir)
    images["stack"] = images["stack"].map(headers["stack"])

    angles = (numbers(table, f"rlnAngle{name}", where) for name in ("Rot", "Tilt", "Psi"))
    images = images.assign(**rotation_frame(euler_to_matrix(*angles)))
    for axis in "XY":
        images[f"shift_{axis.lower()}_px"] = _shift(table, axis, pixel_size_A, where)
    images["defocus_u_A"] = numbers(table, "rlnDefocusU", where)
    images["defocus_v_A"] = numbers(table, "rlnDefocusV", where)
    images["defocus_angle_deg"] = numbers(table, "rlnDefocusAngle", where)
    images["voltage_kV"] = numbers(table, "rlnVoltage", where)
    images["cs_mm"] = numbers(table, "rlnSphericalAberration", where)
    images["amplitude_contrast"] = numbers(table, "rlnAmplitudeContrast", where)
    images["phase_shift_deg"] = (
        numbers(table, "rlnPhaseShift", where) if "rlnPhaseShift" in table.columns else 0.0
    )
    images["pixel_size_A"] = pixel_size_A
    images["dose_e_A2"] = numbers(table, "rlnCtfBfactor", where) / B_FACTOR_PER_DOSE + 0.0
    images["tilt_deg"] = _stage_tilt(numbers(table, "rlnCtfScalefactor", where), where)
    images["ctf_premultiplied"] = False
    images["dose_weighted"] = False
    images = images.sort_values(["particle", "stack", "section"], ignore_index=True)
    images["tilt"] = images.groupby("particle").cumcount()
    images = number_images(images)

    return ParticleSet(
        particles=_particles(table, ordinal, names, pixel_size_A),
        images=images,
        dialect=dialect,
        source=star,
        box=int(headers["box"].iloc[0]),
        n_input={
            "particles": len(names),
            "images": len(table),
            "tomograms": len(set(_tomograms(table, ordinal, names))),
        },
        inputs=(star,),
        header_pixel_size_A=float(headers["pixel_size_A"].median()),
    )


def _pixel_sizes(table: pd.DataFrame, where: str) -> np.ndarray:
    detector = numbers(table, "rlnDetectorPixelSize", where)
    if "rlnMagnification" not in table.columns:
        return detector
    magnification = numbers(table, "rlnMagnification", where)
    if (magnification <= 0).any():
        raise InputError(
            f"{where}: column _rlnMagnification holds {magnification.min():g}, expected more than 0"
        )
    return detector * UNIT_MAGNIFICATION / magnification


def _sections(names: pd.Series, where: str) -> tuple[pd.Series, np.ndarray]:
    """Stack path and 1-based section of image names `N@path`."""
    parts = names.str.partition("@")
    sections = pd.to_numeric(parts[0], errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(~(sections >= 1) | (sections % 1 != 0) | (parts[2] == "").to_numpy())
    if len(wrong):
        raise InputError(
            f"{where}: column _rlnImageName, row {wrong[0] + 1}: found `{names.iloc[wrong[0]]}`, expected "
            "`N@stack.mrcs` with N from 1"
        )
    return parts[2], sections.astype(np.int64)


def _locate(images: pd.DataFrame, star: Path, datadir: str | Path | None) -> pd.DataFrame:
    """Headers of all stacks, indexed by the path as written; refuses sections beyond a stack's end."""
    written = list(images["stack"].unique())
    headers = read_headers(resolve_stacks(written, star, datadir))
    headers.index = pd.Index(written)
    depth = images["stack"].map(headers["n_sections"])
    beyond = np.flatnonzero(images["section"] > depth)
    if len(beyond):
        image = images.iloc[beyond[0]]
        raise InputError(
            f"{star}: row {image['row'] + 1}: section {image['section']} of {image['stack']}, but it has "
            f"{depth.iloc[beyond[0]]} sections ({len(beyond)} such rows); is this the right stack?"
        )
    return headers


def _shift(table: pd.DataFrame, axis: str, pixel_size_A: np.ndarray, where: str) -> np.ndarray | float:
    """Shift to apply along x or y, px; files written by Warp have none."""
    if f"rlnOrigin{axis}Angst" in table.columns:
        return numbers(table, f"rlnOrigin{axis}Angst", where) / pixel_size_A
    if f"rlnOrigin{axis}" in table.columns:
        return numbers(table, f"rlnOrigin{axis}", where)
    return 0.0


def _stage_tilt(scale_factor: np.ndarray, where: str) -> np.ndarray:
    """Stage tilt in degrees, 0..90, from its cosine; rounding above 1 is clipped."""
    wrong = np.flatnonzero((scale_factor < 0) | (scale_factor > 1.01))
    if len(wrong):
        raise InputError(
            f"{where}: column _rlnCtfScalefactor, row {wrong[0] + 1}: found {scale_factor[wrong[0]]:g}, "
            "expected the cosine of the stage tilt, 0 to 1"
        )
    return np.degrees(np.arccos(np.minimum(scale_factor, 1.0)))


def _tomograms(table: pd.DataFrame, ordinal: np.ndarray, names: pd.Index) -> np.ndarray:
    """Each particle's tomogram: its first row's micrograph or, lacking it, its name up to the last `_`."""
    if "rlnMicrographName" in table.columns:
        first_rows = np.unique(ordinal, return_index=True)[1]
        return table["rlnMicrographName"].iloc[first_rows].astype(str).to_numpy()
    return pd.Series(names.astype(str)).str.replace(r"_[^_]*$", "", regex=True).to_numpy()


def _particles(
    table: pd.DataFrame, ordinal: np.ndarray, names: pd.Index, pixel_size_A: np.ndarray
) -> pd.DataFrame:
    first_rows = np.unique(ordinal, return_index=True)[1]
    particles = pd.DataFrame({"particle": np.arange(len(names)), "source_id": names.astype(str)})
    particles["tomogram"] = _tomograms(table, ordinal, names)
    particles[["x_A", "y_A", "z_A"]] = _positions(table, ordinal, pixel_size_A, len(names))
    particles["n_tilts"] = np.bincount(ordinal)
    subset = table["rlnRandomSubset"].iloc[first_rows] if "rlnRandomSubset" in table.columns else None
    particles["half"] = half_sets(subset, len(names))
    return particles


def _positions(table: pd.DataFrame, ordinal: np.ndarray, pixel_size_A: np.ndarray, n: int) -> np.ndarray:
    """Positions (n, 3) in Å; NaN unless the file has three coordinates that are the same for all tilts.

    Image series mostly carry the two-dimensional position in each tilt image, which is no position in 3-D.
    """
    columns = [f"rlnCoordinate{axis}" for axis in "XYZ"]
    unknown = np.full((n, 3), np.nan)
    if not all(column in table.columns for column in columns):
        return unknown
    coordinates = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    first_rows = np.unique(ordinal, return_index=True)[1]
    if not np.allclose(coordinates, coordinates[first_rows][ordinal], atol=1e-3):
        return unknown
    return coordinates[first_rows] * pixel_size_A[first_rows, None]
