"""The common table of particles and tilt images, into which every STAR dialect is converted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.physics.geometry import euler_to_matrix

PARTICLE_COLUMNS = ("particle", "source_id", "tomogram", "x_A", "y_A", "z_A", "n_tilts", "half")
ROTATION_COLUMNS = tuple(f"r{i}{j}" for i in range(3) for j in range(3))
IMAGE_COLUMNS = (
    "image",
    "particle",
    "tilt",
    "stack",
    "section",
    *ROTATION_COLUMNS,
    "shift_x_px",
    "shift_y_px",
    "defocus_u_A",
    "defocus_v_A",
    "defocus_angle_deg",
    "voltage_kV",
    "cs_mm",
    "amplitude_contrast",
    "phase_shift_deg",
    "pixel_size_A",
    "dose_e_A2",
    "tilt_deg",
    "ctf_premultiplied",
    "dose_weighted",
    "scale_factor",
    "dose_b_factor_A2",
    "row",
)
PIXEL_SIZE_TOLERANCE = 1e-3  # relative; a smaller difference is rounding, not another magnification
# Smallest and largest possible value of a microscope, and the range in words; others have another unit.
OPTICS_BOUNDS = {
    "voltage_kV": (50.0, 1500.0, "kV, 50 to 1500"),
    "cs_mm": (0.0, 10.0, "mm, 0 to 10"),
    "amplitude_contrast": (0.0, 1.0, "a fraction from 0 to 1"),
    "defocus_u_A": (-1e6, 1e6, "Å, -1e6 to 1e6"),
    "defocus_v_A": (-1e6, 1e6, "Å, -1e6 to 1e6"),
}
RELION_COLUMNS = {
    "voltage_kV": "rlnVoltage",
    "cs_mm": "rlnSphericalAberration",
    "amplitude_contrast": "rlnAmplitudeContrast",
    "defocus_u_A": "rlnDefocusU",
    "defocus_v_A": "rlnDefocusV",
}
LARGEST_POSITION_A = 1e6  # 0.1 mm; tomograms are a few µm wide
ROTATIONS_AT_ONCE = 100_000  # converted at once, which takes several times their own memory
LARGEST_ANGLE_DEG = 360.01  # angles cover one turn, up to rounding


@dataclass(frozen=True)
class ParticleSet:
    """All particles of one input file.

    particles : one row per particle, `PARTICLE_COLUMNS`; `particle` counts from 0 in input order; `x_A, y_A,
        z_A` are positions in the tomogram (null when unknown); `half` is the upstream half set 1 or 2 (or
        null)
    images : one row per usable tilt image, `IMAGE_COLUMNS`, sorted by (particle, tilt) with `image` = row
        number; `tilt` is the index in the tilt series; `section` counts from 1; `r00..r22` rotate volume to
        image coordinates; shifts are those to apply to the image; dose is cumulative before the exposure;
        `tilt_deg` >= 0; `ctf_premultiplied`, `dose_weighted`, `scale_factor` and `dose_b_factor_A2` describe
        the factors that the extraction multiplied into the images (`physics.imaging.ImageParameters`); `row`
        numbers the image in the input, hidden tilts included (the number that `--ind-imgs` uses)
    n_input : numbers of particles, images and tomograms before anything was left out
    remarks : observations of the reader that the user should know
    expansion : description in words if images occur several times, in poses that a point group relates;
        `particles` then has `copy_of` (`particles.copies`)
    """

    particles: pd.DataFrame
    images: pd.DataFrame
    dialect: str
    source: Path
    box: int
    n_input: dict[str, int]
    inputs: tuple[Path, ...]
    header_pixel_size_A: float
    remarks: tuple[str, ...] = field(default=())
    expansion: str = ""

    @property
    def pixel_sizes_A(self) -> np.ndarray:
        """The different pixel sizes of the images, ascending; sizes that differ by rounding count as one."""
        return np.array([sizes[0] for sizes in _distinct(self.images["pixel_size_A"].to_numpy())])

    @property
    def pixel_size_A(self) -> float:
        """The pixel size of all images; of mixed ones the coarsest, to which all can be resampled."""
        sizes = self.pixel_sizes_A
        return float(self.images["pixel_size_A"].iloc[0] if len(sizes) == 1 else sizes[-1])

    def rotations(self) -> np.ndarray:
        """Rotations volume -> image of all images, float64 (n, 3, 3)."""
        return self.images[list(ROTATION_COLUMNS)].to_numpy(np.float64).reshape(-1, 3, 3)


def number_images(images: pd.DataFrame) -> pd.DataFrame:
    """Sort images by (particle, tilt), number them, and keep exactly `IMAGE_COLUMNS`."""
    order = np.lexsort((images["tilt"], images["particle"]))
    images = in_order(images.reset_index(drop=True), order)
    return images.assign(image=np.arange(len(images)))[list(IMAGE_COLUMNS)]


def one_after_another(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of all tables in one; columns are moved out of the tables one by one."""
    names = list(tables[0].columns)
    columns = {name: pd.concat([table.pop(name) for table in tables], ignore_index=True) for name in names}
    return pd.concat(columns, axis=1)


def in_order(images: pd.DataFrame, order: np.ndarray) -> pd.DataFrame:
    """Return the rows of a table in another order; columns are moved one by one, in place, to save memory."""
    if not (order == np.arange(len(order))).all():
        for name in images.columns:
            images[name] = images[name].array.take(order)
    return images


def rotation_frame(rotations: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns r00..r22 of rotations (n, 3, 3)."""
    return dict(zip(ROTATION_COLUMNS, rotations.reshape(-1, 9).T, strict=True))


def particle_rotations(
    rot_deg: np.ndarray, tilt_deg: np.ndarray, psi_deg: np.ndarray, where: str
) -> np.ndarray:
    """Convert Euler angles (n,) of a file to rotation matrices (n, 3, 3).

    Raises InputError when rot or psi is beyond one turn or tilt outside -180..360 degrees: WarpTools dev0 to
    dev25 converted angles to degrees twice (Warp, CHANGES.md, dev26).
    """
    wrong = (np.abs(rot_deg) > LARGEST_ANGLE_DEG) | (np.abs(psi_deg) > LARGEST_ANGLE_DEG)
    wrong |= (tilt_deg < LARGEST_ANGLE_DEG / -2) | (tilt_deg > LARGEST_ANGLE_DEG)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"{where}: row {row + 1}: found angles rot {rot_deg[row]:g}, tilt {tilt_deg[row]:g} and psi "
            f"{psi_deg[row]:g}, expected degrees within one turn ({int(wrong.sum())} such rows); WarpTools "
            "dev0 to dev25 wrote angles 57.2958 times too large: export again with dev26 or later"
        )
    rotations = np.empty((len(rot_deg), 3, 3))
    for start in range(0, len(rotations), ROTATIONS_AT_ONCE):
        here = slice(start, start + ROTATIONS_AT_ONCE)
        rotations[here] = euler_to_matrix(rot_deg[here], tilt_deg[here], psi_deg[here])
    return rotations


def half_sets(values: pd.Series | None, n: int) -> pd.Series:
    """Convert upstream half sets to a nullable integer column; anything but 1 and 2 becomes null."""
    if values is None:
        return pd.Series(pd.array([pd.NA] * n, dtype="Int8"))
    numeric = pd.to_numeric(values, errors="coerce")
    return numeric.where(numeric.isin((1, 2))).astype("Int8").reset_index(drop=True)


def refuse_bad_pixel_sizes(pixel_size_A: np.ndarray, where: str) -> None:
    """Raise InputError unless every pixel size is a number above 0; they may differ."""
    pixel_size_A = np.asarray(pixel_size_A, dtype=np.float64)
    wrong = np.flatnonzero(~(np.isfinite(pixel_size_A) & (pixel_size_A > 0)))
    if len(wrong):
        raise InputError(
            f"{where}: row {wrong[0] + 1}: pixel size {pixel_size_A[wrong[0]]:g} Å, expected more than 0; "
            "correct the pixel size in the file"
        )


def outside_bounds(table: pd.DataFrame, name: str) -> np.ndarray:
    """Return bool (n,): where a column of `OPTICS_BOUNDS` holds an impossible value for a microscope."""
    low, high, _ = OPTICS_BOUNDS[name]
    return ~table[name].between(low, high).to_numpy()


def refuse_impossible_optics(
    table: pd.DataFrame, where: str, columns: Mapping[str, str] = RELION_COLUMNS
) -> None:
    """Raise InputError for the first value outside `OPTICS_BOUNDS`, such as amplitude contrast in per cent.

    table : columns of `OPTICS_BOUNDS` as far as the file gives them, rows in the order of the file's table
    columns : the names of the columns in the file
    """
    for name in (name for name in OPTICS_BOUNDS if name in table):
        if (wrong := np.flatnonzero(outside_bounds(table, name))).size:
            found = table[name].iloc[wrong[0]]
            raise InputError(
                f"{where}: column _{columns[name]}, row {wrong[0] + 1}: found {found:g}, expected "
                f"{OPTICS_BOUNDS[name][2]} ({len(wrong)} such rows); correct the value in the file"
            )


def refuse_mixed_pixel_sizes(pixel_size_A: np.ndarray, where: str) -> None:
    """Raise InputError unless all images have one pixel size; the message gives a suitable `--rescale`."""
    distinct = _distinct(pixel_size_A)
    if len(distinct) > 1:
        found = ", ".join(f"{sizes[0]:g} Å ({len(sizes)} images)" for sizes in distinct)
        raise InputError(
            f"{where}: mixed pixel sizes {found}, expected one; resample all images to one with "
            f"--rescale {distinct[-1][-1]:g}"
        )


def _distinct(pixel_size_A: np.ndarray) -> list[np.ndarray]:
    """Divide ascending pixel sizes into groups wherever two neighbours differ by more than rounding."""
    ascending = np.sort(np.asarray(pixel_size_A, dtype=np.float64))
    return np.split(ascending, np.flatnonzero(np.diff(ascending) > PIXEL_SIZE_TOLERANCE * ascending[:-1]) + 1)


def refuse_impossible_positions(position_A: np.ndarray, where: str) -> None:
    """Raise InputError for the first position (n, 3) in Å that lies in no tomogram.

    NaN (unknown) is accepted.
    """
    wrong = np.flatnonzero((np.abs(position_A) > LARGEST_POSITION_A).any(axis=1))
    if len(wrong):
        found = ", ".join(f"{value:g}" for value in position_A[wrong[0]])
        raise InputError(
            f"{where}: row {wrong[0] + 1}: found a particle at ({found}) Å, expected a position in a "
            f"tomogram ({len(wrong)} such rows); correct the coordinates"
        )
