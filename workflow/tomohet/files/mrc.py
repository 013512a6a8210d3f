"""MRC volumes and image stacks, read as float32 in any mode and byte order of the file."""

import bz2
import gzip
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import mrcfile
import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from mrcfile.utils import mode_from_dtype

from tomohet.errors import InputError
from tomohet.files.atomic import atomic_path
from tomohet.files.regular import refuse_irregular

REAL_MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
UNREADABLE_MODES = {3: " (complex integers)", 4: " (complex numbers)", 101: " (4-bit numbers)"}
LARGEST_MODE = 101
COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open}
MOST_DEFLATED = 1040  # highest compression ratio of gzip
HEADER_BYTES = HEADER_DTYPE.itemsize
BIG_ENDIAN_STAMP = 0x11  # first byte of the machine stamp


@dataclass(frozen=True)
class Header:
    """What a file's header says.

    shape : (sections, rows, columns)
    dtype : of a pixel, with the byte order of the file
    offset : byte at which the data start
    step_A : Å per pixel along x, y, z, as cell edge over sampling; 0 where the header has none
    origin_A : x, y, z of the first voxel: the header's origin field or, where that is zero, its start indices
        times the step (the rule of ChimeraX)
    axes : the axes (1 x, 2 y, 3 z) along columns, rows and sections
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    offset: int
    step_A: tuple[float, float, float]
    origin_A: tuple[float, float, float]
    axes: tuple[int, int, int]

    @property
    def pixel_size_A(self) -> float:
        """Å per pixel along x; 0 when the header has none."""
        return self.step_A[0]


def read_volume(path: str | Path) -> tuple[np.ndarray, float]:
    """Read a volume as float32 [z, y, x] and its pixel size in Å (0 when the header has none).

    Raises InputError when the file is missing, unreadable or not three-dimensional.
    """
    path = Path(path)
    header = read_header(path)
    if header.shape[0] == 1:
        raise InputError(
            f"{path}: expected a volume, found one image of {header.shape[2]} x {header.shape[1]} px"
        )
    return np.array(_data(path, header), dtype=np.float32), header.pixel_size_A


def read_map(path: str | Path) -> tuple[np.ndarray, float]:
    """Read a volume as `read_volume` does, and its pixel size in Å.

    Raises InputError also when the header has no pixel size.
    """
    volume, pixel_size_A = read_volume(path)
    refuse_without_pixel_size(path, pixel_size_A)
    return volume, pixel_size_A


def refuse_without_pixel_size(path: str | Path, *step_A: float) -> None:
    """Raise InputError when the header of `path` has no pixel size, which nothing here may guess."""
    if min(step_A) <= 0:
        raise InputError(
            f'{path}: the header has no pixel size; write it there, e.g. 4 Å: python -c "import mrcfile; '
            f"m = mrcfile.open('{path}', 'r+'); m.voxel_size = 4; m.close()\""
        )


def stack_header(path: str | Path) -> tuple[tuple[int, int, int], float]:
    """Read shape (sections, rows, columns) and pixel size in Å (0 if unknown) of a stack's header.

    Only the header is read. Sections are counted by nz, whatever the header states about volumes, crystals
    and machine.

    Raises InputError when the file is not an MRC stack of real numbers, or is shorter than its header states.
    """
    header = read_header(path)
    return header.shape, header.pixel_size_A


def stack_shape(path: str | Path) -> tuple[int, int, int]:
    """Return (sections, rows, columns) of a stack; a single image counts as one section."""
    return stack_header(path)[0]


def stack_dtype(path: str | Path) -> np.dtype:
    """Return the type of a file's pixels, in this machine's byte order."""
    return read_header(path).dtype.newbyteorder("=")


def read_sections(path: str | Path, sections: np.ndarray) -> np.ndarray:
    """Read images of a stack by 0-based section number, in the order given.

    Returns float32 (m, D, D); only the requested pages are read from disk.

    Raises InputError when a section lies outside the stack.
    """
    path, sections = Path(path), np.asarray(sections, dtype=np.int64)
    header = read_header(path)
    outside = sections[(sections < 0) | (sections >= header.shape[0])]
    if outside.size:
        raise InputError(
            f"{path}: section {outside[0] + 1} is requested, but the stack holds {header.shape[0]}; "
            "check rlnImageName and that the stack was extracted completely"
        )
    # Sections are read in ascending order, forwards on the disk; then the caller's order is restored.
    ascending, place = np.unique(sections, return_inverse=True)
    images = np.asarray(_data(path, header)[ascending], dtype=np.float32)
    return images[place.reshape(-1)]


def read_header(path: str | Path) -> Header:
    """Read the header of a file in either byte order, compressed or not.

    The byte order is the one in which the mode is known; mode 0 reads the same in both, and there the machine
    stamp decides, without which a file counts as little-endian.

    Raises InputError when the file is missing, not an MRC file of real numbers, or shorter than its header
    states.
    """
    path = Path(path)
    content, compressed = _head(path)
    if len(content) < HEADER_BYTES:
        raise InputError(
            f"{path}: cannot be read as an MRC file: {len(content)} bytes, its header alone has "
            f"{HEADER_BYTES}; copy or extract it again"
        )
    header = np.frombuffer(content, dtype=HEADER_DTYPE)[0]
    swapped = not 0 <= header["mode"] <= LARGEST_MODE
    # Mode 0 reads the same in both byte orders.
    swapped |= bool(header["mode"] == 0 and header["machst"][0] == BIG_ENDIAN_STAMP)
    if swapped:
        header = np.frombuffer(content, dtype=HEADER_DTYPE.newbyteorder())[0]
    mode, shape = int(header["mode"]), (int(header["nz"]), int(header["ny"]), int(header["nx"]))
    if mode not in REAL_MODES or min(shape) < 1 or header["nsymbt"] < 0:
        what = UNREADABLE_MODES.get(mode, "")
        raise InputError(
            f"{path}: mode {mode}{what}, shape {shape}, expected a stack of real images or a volume in "
            f"one of the modes {', '.join(map(str, REAL_MODES))}; convert it to mode 2"
        )
    dtype = np.dtype(REAL_MODES[mode])
    offset = HEADER_BYTES + int(header["nsymbt"])
    expected = offset + dtype.itemsize * math.prod(shape)
    if not compressed:
        _refuse_truncated(path, path.stat().st_size, expected, shape)
    x, y, z = (_step_A(float(header["cella"][axis]), int(header[f"m{axis}"])) for axis in "xyz")
    origin = [float(header["origin"][axis]) for axis in "xyz"]
    if not any(origin):
        starts = (int(header[f"n{axis}start"]) for axis in "xyz")
        origin = [step * start for step, start in zip((x, y, z), starts, strict=True)]
    axes = (int(header["mapc"]), int(header["mapr"]), int(header["maps"]))
    order = dtype.newbyteorder() if swapped else dtype
    return Header(shape, order, offset, (x, y, z), (origin[0], origin[1], origin[2]), axes)


def _step_A(cell_A: float, sampling: int) -> float:
    """Return Å per pixel, or 0 when the header has none."""
    return cell_A / sampling if sampling > 0 and math.isfinite(cell_A) and cell_A > 0 else 0.0


def _head(path: Path) -> tuple[bytes, bool]:
    """Return the first bytes, decompressed, and whether the file is compressed."""
    refuse_irregular(path)
    try:
        with open(path, "rb") as file:
            content = file.read(HEADER_BYTES)
        opener = _opener(content)
        if opener is not None:
            with opener(path, "rb") as file:
                content = file.read(HEADER_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path}: no such MRC file; check the path, or pass --datadir") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as an MRC file ({error})") from error
    return content, opener is not None


def _opener(content: bytes) -> Callable | None:
    return next((opener for magic, opener in COMPRESSED.items() if content.startswith(magic)), None)


def _data(path: Path, header: Header) -> np.ndarray:
    """Return all pixels as stored: memory-mapped, or decompressed."""
    with open(path, "rb") as file:
        opener = _opener(file.read(4))
    if opener is None:
        return np.memmap(path, header.dtype, "r", header.offset, header.shape)
    status, count = path.stat(), math.prod(header.shape)
    expected = header.offset + count * header.dtype.itemsize
    if opener is gzip.open:
        _refuse_truncated(path, MOST_DEFLATED * status.st_size, expected, header.shape)
    content = _decompressed(path, opener, expected, status.st_mtime_ns, status.st_size)
    _refuse_truncated(path, len(content), expected, header.shape)
    return np.frombuffer(content, header.dtype, count, header.offset).reshape(header.shape)


@lru_cache(maxsize=2)
def _decompressed(path: Path, opener: Callable, expected: int, changed_ns: int, size: int) -> bytes:
    """Decompress a whole file; the last files are cached, because a stack is read in several chunks.

    No more is decompressed than the header announces (`expected` bytes), because the rest could have any
    size.
    """
    try:
        with opener(path, "rb") as file:
            content = file.read(expected)
            longer = file.read(1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be decompressed ({error}); copy it again") from error
    except (MemoryError, OverflowError) as error:
        raise InputError(f"{path}: {expected:,} bytes do not fit in memory; decompress the file") from error
    if longer:
        raise InputError(
            f"{path}: holds more than the {expected:,} bytes that its header announces; copy it again"
        )
    return content


def _refuse_truncated(path: Path, size: int, expected: int, shape: tuple[int, int, int]) -> None:
    if size < expected:
        raise InputError(
            f"{path}: truncated: {size} bytes, but its header announces {shape[0]} sections "
            f"of {shape[2]} x {shape[1]} px ({expected} bytes); copy or extract it again"
        )


def write_volume(path: str | Path, volume: np.ndarray, pixel_size_A: float) -> None:
    """Write a volume [z, y, x] as float32 (MRC mode 2), atomically."""
    _write(path, volume, pixel_size_A, is_stack=False)


def write_stack(path: str | Path, images: np.ndarray, pixel_size_A: float) -> None:
    """Write images (m, D, D) as a float32 image stack, atomically."""
    _write(path, images, pixel_size_A, is_stack=True)


@contextmanager
def new_stack(
    path: str | Path, shape: tuple[int, int, int], dtype: str, pixel_size_A: float
) -> Iterator[np.ndarray]:
    """Provide an image stack of float32 or float16 to be filled piece by piece.

    It is put in place at the end.
    """
    with atomic_path(path) as temporary:
        mode = mode_from_dtype(np.dtype(dtype))
        with mrcfile.new_mmap(temporary, shape, mrc_mode=mode, overwrite=True) as mrc:
            mrc.set_image_stack()
            mrc.voxel_size = pixel_size_A
            yield mrc.data  # pyright: ignore[reportReturnType]


def create_volume_stack(path: str | Path, n: int, box: int, pixel_size_A: float) -> None:
    """Create a file for `n` float32 volumes of `box`^3 voxels, which begin at its byte `HEADER_BYTES`.

    It is a volume stack in the sense of MRC2014: space group 401, and the cell is that of one volume.
    """
    with mrcfile.new_mmap(path, (n, box, box, box), mrc_mode=2, overwrite=True) as mrc:
        mrc.voxel_size = pixel_size_A


def _write(path: str | Path, data: np.ndarray, pixel_size_A: float, is_stack: bool) -> None:
    data = np.ascontiguousarray(data, dtype=np.float32)
    if data.ndim != 3:
        raise ValueError(f"expected a three-dimensional array, found shape {data.shape}")
    with atomic_path(path) as temporary, mrcfile.new(temporary, overwrite=True) as mrc:
        mrc.set_data(data)
        if is_stack:
            mrc.set_image_stack()
        mrc.voxel_size = pixel_size_A
