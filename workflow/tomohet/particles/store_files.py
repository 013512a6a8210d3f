"""The files of a prepared store, which are checked before anything is built from their content."""

import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.damage import UNREADABLE, reason
from tomohet.files.digests import check
from tomohet.files.tables import read_table
from tomohet.files.text import read_yaml
from tomohet.files.values import LIST, MAPPING, TEXT, hold_to, number, one_of, whole
from tomohet.particles.table import ROTATION_COLUMNS

DESCRIPTION, PARTICLES, IMAGES, DATA = "store.yaml", "particles.parquet", "images.parquet", "images.npy"
CHECKSUM = "checksum"  # column of images.parquet: checksum of the image's row in images.npy (`files.rows`)
STACKS = ["stack"]  # columns of paths, which are read as categories, because they are few and long
PREPARE_AGAIN = "run `tomohet prepare` again"
LARGEST_BOX = 2048

_DESCRIBED = {
    "box": whole(2, LARGEST_BOX),
    "pixel_size_A": number(1e-3, 1e4),
    "scale": number(1e-30, 1e30),
    "digest": TEXT,
    "preparation": MAPPING,
    "inverted": LIST,
    "counts": MAPPING,
}
_NUMBERS = (
    *ROTATION_COLUMNS, "shift_x_px", "shift_y_px", "defocus_u_A", "defocus_v_A", "defocus_angle_deg",
    "voltage_kV", "cs_mm", "amplitude_contrast", "phase_shift_deg", "dose_e_A2", "tilt_deg", "noise_scale",
)  # fmt: skip
_OF_IMAGES = {
    "particle": "whole numbers",
    "ctf_premultiplied": "true or false",
    "dose_weighted": "true or false",
}
_OF_IMAGES |= dict.fromkeys(_NUMBERS, "numbers")
_OF_PARTICLES = {"particle": "whole numbers", "n_tilts": "whole numbers", "tomogram": "anything"}


def read_description(folder: Path) -> dict | None:
    """Read the content of `store.yaml`, or return None when there is none.

    Raises InputError when it is damaged, or has a content that is impossible for a store.
    """
    path = folder / DESCRIPTION
    check(path)
    if not path.is_file():
        return None
    try:
        description = read_yaml(path)
    except InputError as error:
        raise InputError(f"{error}; {PREPARE_AGAIN}") from error
    hold_to(description, {"format": whole(1, 1000)}, path)
    hold_to(description, _DESCRIBED, path)
    hold_to(description["preparation"], {"dtype": one_of("float32", "float16")}, f"{path}: preparation")
    hold_to(description["counts"], {"in_input": MAPPING}, f"{path}: counts")
    hold_to(description["counts"]["in_input"], {"images": whole(0, 2**40)}, f"{path}: counts in_input")
    return description


def read_particles(folder: Path) -> pd.DataFrame:
    """Read the table of particles, numbered from 0. Raises InputError when it is damaged."""
    particles = read_table(folder / PARTICLES, _OF_PARTICLES)
    if not np.array_equal(particles["particle"], np.arange(len(particles))):
        raise InputError(f"{folder / PARTICLES}: particles are not numbered 0, 1, 2, ...; {PREPARE_AGAIN}")
    return particles


class StoredImages(NamedTuple):
    """The images of a store that take part.

    table : (m rows) particle after particle
    rows : (m,) their rows in `images.npy`
    n_stored : number of images in the store
    checksums : uint32 (n_stored,), None where the store has none
    """

    table: pd.DataFrame
    rows: np.ndarray
    n_stored: int
    checksums: np.ndarray | None


def read_images(folder: Path, n_particles: int, wanted: np.ndarray | None = None) -> StoredImages:
    """Read the table of images, of all or of the `wanted` particles alone.

    Raises InputError when it is damaged, or has images of other particles.
    """
    path = folder / IMAGES
    if wanted is None:
        return _all_images(path, n_particles)
    particle = read_table(path, {"particle": "whole numbers"}, "particle".__eq__)["particle"].to_numpy()
    _refuse_other_particles(particle, n_particles, path)
    keep = np.isin(particle, wanted)
    table = read_table(path, _OF_IMAGES, CHECKSUM.__ne__, keep, read_dictionary=STACKS)
    _refuse_no_scale(table, path)
    checksums = read_table(path, only=CHECKSUM.__eq__).get(CHECKSUM)
    return StoredImages(
        table.assign(image=np.arange(len(table))),
        np.flatnonzero(keep),
        len(particle),
        None if checksums is None else checksums.to_numpy(np.uint32),
    )


def _all_images(path: Path, n_particles: int) -> StoredImages:
    table = read_table(path, _OF_IMAGES, read_dictionary=STACKS)
    _refuse_other_particles(table["particle"].to_numpy(), n_particles, path)
    _refuse_no_scale(table, path)
    checksums = table.pop(CHECKSUM).to_numpy(np.uint32) if CHECKSUM in table else None
    return StoredImages(table, np.arange(len(table)), len(table), checksums)


def _refuse_other_particles(particle: np.ndarray, n_particles: int, path: Path) -> None:
    outside = len(particle) and not 0 <= particle.min() <= particle.max() < n_particles
    if outside or (particle[1:] < particle[:-1]).any():
        raise InputError(
            f"{path}: some images do not belong to particles 0 to {n_particles - 1}; {PREPARE_AGAIN}"
        )


def _refuse_no_scale(images: pd.DataFrame, path: Path) -> None:
    if not (np.isfinite(images["noise_scale"]) & (images["noise_scale"] != 0)).all():
        raise InputError(f"{path}: noise_scale is 0 or not a number; {PREPARE_AGAIN}")


def read_data(folder: Path, description: dict, n_images: int) -> np.memmap:
    """Open the memory-mapped half planes with the shape (n, n_half, 2) that a store of this box must have.

    Raises InputError when the file's header is damaged, or the file has the wrong length.
    """
    path, box = folder / DATA, description["box"]
    try:
        data = np.load(path, mmap_mode="r")
        size = os.path.getsize(path)
    except UNREADABLE as error:
        raise InputError(f"{path}: the store is damaged ({reason(error)}); {PREPARE_AGAIN}") from error
    # This check precedes any use of the box: a half plane has close to pi / 8 box^2 points.
    if (
        not isinstance(data, np.memmap)
        or data.ndim != 3
        or not data.flags.c_contiguous
        or len(data) != n_images
        or not 0.3 < data.shape[1] / box**2 < 1
        or data.dtype != description["preparation"]["dtype"]
    ):
        raise InputError(f"{path}: tables and images do not match; {PREPARE_AGAIN}")
    if size != data.offset + data.itemsize * math.prod(data.shape):
        raise InputError(f"{path}: {size} bytes, expected {data.offset + data.nbytes}; {PREPARE_AGAIN}")
    return data
