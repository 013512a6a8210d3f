"""Slabs of a tomogram: the mean of a few sections around a height, as a grey image."""

import io
from pathlib import Path

import numpy as np
from matplotlib.image import imsave
from skimage.transform import downscale_local_mean

from tomohet.errors import InputError
from tomohet.files.mrc import read_header, read_sections, refuse_without_pixel_size

ENDINGS = (".mrc", ".rec")
SERIES_ENDINGS = (".tomostar", ".mrc", ".rec", ".mdoc", ".xml")  # that a particle's tomogram may carry
LARGEST_EDGE = 1024  # px of the image
GREY_RANGE = (0.5, 99.5)  # percentiles


def tomogram_file(folder: Path, tomogram: str) -> Path:
    """Return the file of a tomogram: NAME.mrc, NAME.rec, or the only one of these named NAME_*.

    Raises InputError when there is none, or more than one.
    """
    name = tomogram
    for ending in SERIES_ENDINGS:
        name = name.removesuffix(ending)
    files = [path for path in sorted(folder.iterdir()) if path.suffix in ENDINGS and path.is_file()]
    found = [path for path in files if path.stem == name] or [
        path for path in files if path.stem.startswith(f"{name}_")
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(f"{folder} has no tomogram {name}.mrc, {name}.rec or {name}_*.mrc.")
    names = ", ".join(path.name for path in found)
    raise InputError(f"{folder} has several files of tomogram {name} ({names}); keep one of them there.")


def slab_image(path: Path, z_A: float | None, thickness_A: float) -> tuple[bytes, dict]:
    """Return the mean of a tomogram's sections as a PNG, y upwards, and its description.

    z_A : height of the middle of the slab above the first section, Å; None for the tomogram's middle
    thickness_A : at least one section is averaged

    The description has the `height_A` of the tomogram, `z_A` and `thickness_A` of the slab, and its
    `width_A`.

    Raises InputError when the height lies outside the tomogram, or the header has no pixel size.
    """
    header = read_header(path)
    step_A = header.step_A[2]
    refuse_without_pixel_size(path, *header.step_A)
    height_A = header.shape[0] * step_A
    z_A = height_A / 2 if z_A is None else z_A
    if not 0 <= z_A <= height_A:
        raise InputError(f"z {z_A:g}: expected a height from 0 to {height_A:g} Å.")
    count = min(max(1, round(thickness_A / step_A)), header.shape[0])
    first = min(max(0, round(z_A / step_A - count / 2)), header.shape[0] - count)
    image = mean_section(path, first, count)
    factor = -(-max(image.shape) // LARGEST_EDGE)
    image = downscale_local_mean(image, (factor, factor)) if factor > 1 else image
    low, high = np.percentile(image, GREY_RANGE)
    file = io.BytesIO()
    imsave(file, image, vmin=low, vmax=max(high, low + 1e-6), cmap="gray", origin="lower", format="png")
    described = {"height_A": height_A, "z_A": (first + count / 2) * step_A, "thickness_A": count * step_A}
    return file.getvalue(), described | {"width_A": header.shape[2] * header.step_A[0]}


def mean_section(path: Path, first: int, count: int) -> np.ndarray:
    """Return the mean (ny, nx) float32 of `count` sections from `first` on; a few are in memory at a time."""
    total = np.zeros(read_header(path).shape[1:], np.float32)
    for start in range(first, first + count, 16):
        total += read_sections(path, np.arange(start, min(start + 16, first + count))).sum(axis=0)
    return total / count
