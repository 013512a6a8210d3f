"""The one table of particles and tilt images that every STAR dialect becomes."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.errors import InputError

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
    "row",
)
PIXEL_SIZE_TOLERANCE = 1e-3  # relative; below it a difference is rounding, not another magnification


@dataclass(frozen=True)
class ParticleSet:
    """All particles of one input file.

    `particles`: one row per particle, `PARTICLE_COLUMNS`; `particle` counts from 0 in input order, `x_A, y_A,
    z_A` are positions in the tomogram (null when unknown), `half` is the upstream half set 1 or 2 (or null).
    `images`: one row per usable tilt image, `IMAGE_COLUMNS`, sorted by (particle, tilt) with `image` = row
    number; `tilt` is the index in the tilt series, `section` counts from 1, `r00..r22` rotate volume to image
    coordinates, shifts are what must be applied to the image, dose is cumulative before the exposure,
    `tilt_deg` >= 0. `row` numbers the image in the input, hidden tilts included (what `--ind-imgs` counts).
    `n_input`: counts before anything was left out: particles, images, tomograms.
    `remarks`: what the reader noticed and the user should know.
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

    @property
    def pixel_sizes_A(self) -> np.ndarray:
        """The different pixel sizes of the images, ascending; sizes that differ by rounding count as one."""
        return np.array([sizes[0] for sizes in _distinct(self.images["pixel_size_A"])])

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
    images = images.sort_values(["particle", "tilt"], kind="stable", ignore_index=True)
    images["image"] = np.arange(len(images))
    return images[list(IMAGE_COLUMNS)]


def rotation_frame(rotations: np.ndarray) -> dict[str, np.ndarray]:
    """Columns r00..r22 of rotations (n, 3, 3)."""
    return dict(zip(ROTATION_COLUMNS, rotations.reshape(-1, 9).T, strict=True))


def half_sets(values: pd.Series | None, n: int) -> pd.Series:
    """Upstream half sets as a nullable integer column; anything but 1 and 2 becomes null."""
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


def refuse_mixed_pixel_sizes(pixel_size_A: np.ndarray, where: str) -> None:
    """Raise InputError unless all images have one pixel size; says which `--rescale` would mend it."""
    distinct = _distinct(pixel_size_A)
    if len(distinct) > 1:
        found = ", ".join(f"{sizes[0]:g} Å ({len(sizes)} images)" for sizes in distinct)
        raise InputError(
            f"{where}: mixed pixel sizes {found}, expected one; bring all images to one with "
            f"--rescale {distinct[-1][-1]:g}"
        )


def _distinct(pixel_size_A: np.ndarray) -> list[np.ndarray]:
    """Pixel sizes, ascending, cut into groups wherever two neighbours differ by more than rounding."""
    ascending = np.sort(np.asarray(pixel_size_A, dtype=np.float64))
    return np.split(ascending, np.flatnonzero(np.diff(ascending) > PIXEL_SIZE_TOLERANCE * ascending[:-1]) + 1)


def refuse_duplicates(images: pd.DataFrame, where: str) -> None:
    """Raise InputError when two rows point at the same section of the same stack."""
    repeated = images.duplicated(["stack", "section"], keep=False)
    if repeated.any():
        first = images[repeated].iloc[0]
        same = images[(images["stack"] == first["stack"]) & (images["section"] == first["section"])]
        raise InputError(
            f"{where}: duplicate: {first['section']}@{first['stack']} is used by input rows "
            f"{', '.join(str(row + 1) for row in same['row'].iloc[:3])} ({int(repeated.sum())} rows share "
            "their image with another); remove the duplicate particles"
        )
