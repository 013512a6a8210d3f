"""Grid of an MRC map: shape, voxel size and origin, for comparing maps with models."""

from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np

from tomohet.errors import InputError
from tomohet.files.atomic import atomic_path
from tomohet.files.mrc import read_header, refuse_without_pixel_size

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

    Raises
    ------
    InputError
        for a missing or unreadable file, voxels that are not cubes, axes that are not stored as x, y, z, or a
        header without pixel size.

    """
    header = read_header(path)
    step_A = np.array(header.step_A)
    refuse_without_pixel_size(path, *header.step_A)
    if np.ptp(step_A) > RELATIVE_TOLERANCE * step_A.min():
        raise InputError(
            f"{path}: voxels of {step_A[0]:.4g} x {step_A[1]:.4g} x {step_A[2]:.4g} Å are not cubes; "
            "resample the map"
        )
    if header.axes not in ((1, 2, 3), (0, 0, 0)):
        raise InputError(
            f"{path}: axes are stored as {header.axes}, expected (1, 2, 3); rewrite the map with x fastest"
        )
    return MapGrid(header.shape, header.pixel_size_A, header.origin_A)


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
