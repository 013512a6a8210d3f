"""Grid of an MRC map: shape, voxel size and origin, for comparing maps with models."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np

from tomohet.errors import InputError
from tomohet.files.atomic import atomic_path
from tomohet.files.mrc import stack_header

RELATIVE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class MapGrid:
    """The grid of a map: voxel (i, j, k) lies at `origin_A + pixel_size_A * (i, j, k)`, all as x, y, z.

    shape : (sections, rows, columns) of the file, that is z, y, x
    """

    shape: tuple[int, int, int]
    pixel_size_A: float
    origin_A: tuple[float, float, float]

    @property
    def box(self) -> int:
        """Edge of a cubic map in voxels."""
        return self.shape[2]


def read_grid(path: str | Path) -> MapGrid:
    """Read the grid of an MRC file from its header alone.

    The origin is the header's origin field or, where that is zero, its start indices times the voxel size
    (the rule of ChimeraX). Files whose machine stamp is missing are read as little-endian.

    Raises
    ------
    InputError
        for a missing or unreadable file, voxels that are not cubes, axes that are not stored as x, y, z, or a
        header without voxel size.

    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such MRC file; check the path")
    stack_header(path)  # checks the file's length before the extended header is read
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            with mrcfile.open(path, header_only=True, permissive=True) as mrc:
                header = mrc.header.copy()  # pyright: ignore[reportOptionalMemberAccess]
                edges_A = mrc.voxel_size.copy()
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: cannot be read as an MRC file ({error})") from error
    step_A = np.array([edges_A.x, edges_A.y, edges_A.z], dtype=float)
    if not np.all(np.isfinite(step_A)) or step_A.min() <= 0:
        raise InputError(f"{path}: the header has no voxel size; set it to the pixel size in Å")
    if np.ptp(step_A) > RELATIVE_TOLERANCE * step_A.min():
        raise InputError(
            f"{path}: voxels of {step_A[0]:.4g} x {step_A[1]:.4g} x {step_A[2]:.4g} Å are not cubes; "
            "resample the map"
        )
    axes = tuple(int(axis) for axis in (header.mapc, header.mapr, header.maps))
    if axes not in ((1, 2, 3), (0, 0, 0)):
        raise InputError(
            f"{path}: axes are stored as {axes}, expected (1, 2, 3); rewrite the map with x fastest"
        )
    origin_A = np.array([header.origin.x, header.origin.y, header.origin.z], dtype=float)
    if not origin_A.any():
        origin_A = step_A * [int(header.nxstart), int(header.nystart), int(header.nzstart)]
    return MapGrid(
        shape=(int(header.nz), int(header.ny), int(header.nx)),
        pixel_size_A=float(step_A[0]),
        origin_A=tuple(origin_A.tolist()),
    )


def write_on_grid(path: str | Path, volume: np.ndarray, grid: MapGrid) -> None:
    """Write a volume [z, y, x] as float32 with the voxel size and origin of `grid`, atomically."""
    with atomic_path(path) as temporary, mrcfile.new(temporary, overwrite=True) as mrc:
        mrc.set_data(np.ascontiguousarray(volume, dtype=np.float32))
        mrc.voxel_size = grid.pixel_size_A
        mrc.header.origin = grid.origin_A  # pyright: ignore[reportOptionalMemberAccess]


def same_grid(one: MapGrid, other: MapGrid) -> bool:
    """Tell whether two maps have the same shape, and voxels of the same size at the same positions."""
    scale = one.pixel_size_A
    return (
        one.shape == other.shape
        and abs(one.pixel_size_A - other.pixel_size_A) <= RELATIVE_TOLERANCE * scale
        and np.abs(np.subtract(one.origin_A, other.origin_A)).max() <= 0.05 * scale
    )
