"""MRC volumes and image stacks, as float32 whatever mode and byte order the file holds."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mrcfile
import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from tomohet.errors import InputError
from tomohet.files.atomic import atomic_path

LARGEST_MODE = 101
BIG_ENDIAN_STAMP = 0x11  # first byte of the machine stamp


def read_volume(path: str | Path) -> tuple[np.ndarray, float]:
    """Read a volume as float32 [z, y, x] and its pixel size in Å (0 when the header has none).

    Raises InputError when the file is missing, unreadable or not three-dimensional.
    """
    with _opened(path) as mrc:
        if mrc.data.ndim != 3:
            raise InputError(f"{path}: expected a volume, found an array of shape {mrc.data.shape}")
        return mrc.data.astype(np.float32), float(mrc.voxel_size.x)


def stack_header(path: str | Path) -> tuple[tuple[int, int, int], float]:
    """Shape (sections, rows, columns) and pixel size in Å (0 if unknown) of a stack, from its header alone.

    Raises InputError when the file is no MRC stack of real numbers, or is shorter than its header says.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            content = file.read(HEADER_DTYPE.itemsize)
        header = np.frombuffer(content, dtype=HEADER_DTYPE)[0]
        swapped = not 0 <= header["mode"] <= LARGEST_MODE
        # Mode 0 reads the same in both byte orders.
        if swapped or (header["mode"] == 0 and header["machst"][0] == BIG_ENDIAN_STAMP):
            header = np.frombuffer(content, dtype=HEADER_DTYPE.newbyteorder())[0]
        dtype = mrcfile.utils.dtype_from_mode(header["mode"])
    except (ValueError, OSError, IndexError) as error:
        raise InputError(f"{path}: cannot be read as an MRC stack ({error})") from error
    shape = int(header["nz"]), int(header["ny"]), int(header["nx"])
    cell_A, sampling = float(header["cella"]["x"]), int(header["mx"])
    pixel_size_A = cell_A / sampling if sampling > 0 else 0.0
    if dtype.kind == "c" or min(shape) < 1:
        raise InputError(f"{path}: mode {header['mode']}, shape {shape}, expected a stack of real images")
    expected = HEADER_DTYPE.itemsize + int(header["nsymbt"]) + dtype.itemsize * math.prod(shape)
    if path.stat().st_size < expected:
        raise InputError(
            f"{path}: truncated: {path.stat().st_size} bytes, but its header announces {shape[0]} sections "
            f"of {shape[2]} x {shape[1]} px ({expected} bytes); copy or extract it again"
        )
    return shape, pixel_size_A


def stack_shape(path: str | Path) -> tuple[int, int, int]:
    """(sections, rows, columns) of a stack; a single image counts as one section."""
    with _opened(path) as mrc:
        return _as_stack(mrc.data, path).shape


def read_sections(path: str | Path, sections: np.ndarray) -> np.ndarray:
    """Read images of a stack by 0-based section number, in the order given.

    Returns float32 (m, D, D); only the pages asked for are read from disk.
    Raises InputError when a section lies outside the stack.
    """
    sections = np.asarray(sections, dtype=np.int64)
    with _opened(path) as mrc:
        stack = _as_stack(mrc.data, path)
        outside = sections[(sections < 0) | (sections >= len(stack))]
        if outside.size:
            raise InputError(
                f"{path}: section {outside[0] + 1} asked for, but the stack holds {len(stack)}; "
                "check rlnImageName and that the stack was extracted completely"
            )
        # Ascending order reads the disk forwards; the caller's order is restored afterwards.
        ascending, place = np.unique(sections, return_inverse=True)
        images = np.asarray(stack[ascending], dtype=np.float32)
    return images[place.reshape(-1)]


def write_volume(path: str | Path, volume: np.ndarray, pixel_size_A: float) -> None:
    """Write a volume [z, y, x] as float32 (MRC mode 2), atomically."""
    _write(path, volume, pixel_size_A, is_stack=False)


def write_stack(path: str | Path, images: np.ndarray, pixel_size_A: float) -> None:
    """Write images (m, D, D) as a float32 image stack, atomically."""
    _write(path, images, pixel_size_A, is_stack=True)


def _write(path: str | Path, data: np.ndarray, pixel_size_A: float, is_stack: bool) -> None:
    data = np.ascontiguousarray(data, dtype=np.float32)
    if data.ndim != 3:
        raise ValueError(f"expected a three-dimensional array, found shape {data.shape}")
    with atomic_path(path) as temporary, mrcfile.new(temporary, overwrite=True) as mrc:
        mrc.set_data(data)
        if is_stack:
            mrc.set_image_stack()
        mrc.voxel_size = pixel_size_A


def _as_stack(data: np.ndarray, path: str | Path) -> np.ndarray:
    if data.ndim == 2:
        return data[None]
    if data.ndim != 3:
        raise InputError(f"{path}: expected an image stack, found an array of shape {data.shape}")
    return data


@contextmanager
def _opened(path: str | Path) -> Iterator[mrcfile.mrcmemmap.MrcMemmap]:
    """Memory-map an MRC file; every way in which that fails becomes one line for the user."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such MRC file; check the path, or pass --datadir")
    try:
        with warnings.catch_warnings():
            # Permissive reading warns of harmless header oddities (missing map ID, extra bytes).
            warnings.simplefilter("ignore", RuntimeWarning)
            mrc = mrcfile.mmap(path, mode="r", permissive=True)
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: cannot be read as an uncompressed MRC file ({error})") from error
    with mrc:
        if mrc.data is None:
            raise InputError(f"{path}: the MRC header is not valid or the file is truncated")
        yield mrc
