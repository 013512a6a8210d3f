"""A set of volumes on one grid, numbered by their file names, read in batches of bounded memory."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np

from tomohet.errors import InputError
from tomohet.files.grids import MapGrid, read_grid, same_grid
from tomohet.files.mrc import read_volume
from tomohet.files.volume_list import ListedVolumes, checksum, listed_stack, listed_volumes
from tomohet.progress import track

BYTES_PER_BATCH = 64 * 2**20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ensemble:
    """Volumes of one grid.

    numbers : (V,) int64, ascending
    files : (V,) paths, or one volume stack
    listed : the entries of the volumes in their list
    """

    source: Path
    numbers: np.ndarray
    files: tuple[Path, ...]
    grid: MapGrid
    listed: ListedVolumes

    def __len__(self) -> int:
        return len(self.numbers)

    def batches(self, description: str) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield (rows, float32 volumes (m, D, D, D)) in the order of `numbers`.

        Raises InputError when a volume holds values that are not finite.
        """
        box = self.grid.box
        size = max(1, BYTES_PER_BATCH // (4 * box**3))
        with track(total=len(self), unit="volumes", description=description) as progress:
            for start in range(0, len(self), size):
                rows = slice(start, min(start + size, len(self)))
                volumes = self._read(rows)
                finite = np.isfinite(volumes).all(axis=(1, 2, 3))
                if not finite.all():
                    number = self.numbers[rows][~finite][0]
                    raise InputError(
                        f"{self.source}: volume {number} holds NaN or infinite values; decode it again"
                    )
                yield rows, volumes
                progress.update(len(volumes))

    def mean(self) -> np.ndarray:
        """Compute the mean volume (D, D, D) float32.

        Raises InputError when a volume is not the one that was listed.
        """
        total = np.zeros((self.grid.box,) * 3)
        for rows, volumes in self.batches("mean volume"):
            for row, volume in enumerate(volumes, start=rows.start):
                self.listed.check(row, checksum(volume))
            total += volumes.sum(axis=0, dtype=np.float64)
        return (total / len(self)).astype(np.float32)

    def group_means(self, groups: np.ndarray) -> np.ndarray:
        """Compute the mean volume of every group (G, D, D, D) float32; `groups` (V,) from 1 to G."""
        box, count = self.grid.box, int(groups.max())
        total = np.zeros((count, box**3))
        belongs = (groups[:, None] == np.arange(1, count + 1)).astype(np.float64)
        for rows, volumes in self.batches("mean volumes of classes"):
            total += belongs[rows].T @ volumes.reshape(len(volumes), -1)
        means = total / belongs.sum(axis=0)[:, None]
        return means.astype(np.float32).reshape(-1, box, box, box)

    def _read(self, rows: slice) -> np.ndarray:
        box = self.grid.box
        if len(self.files) == len(self):
            return np.stack([read_volume(file)[0] for file in self.files[rows]])
        with mrcfile.mmap(self.files[0], mode="r", permissive=True) as stack:
            sections = stack.data.reshape(-1, box, box)[rows.start * box : rows.stop * box]
            return sections.astype(np.float32).reshape(-1, box, box, box)


def open_ensemble(path: str | Path) -> Ensemble:
    """Open a folder of `<name>_<number>.mrc` files, or one MRC stack of volumes (numbered from 0).

    A volume's number is the integer after the last underscore of its name; numbers need not be contiguous.

    Raises
    ------
    InputError
        when there is no volume, when two volumes have one number, when their grids differ or are not cubic,
        or when they are not the volumes of the folder's list (`files.volume_list`).

    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path)
    if path.is_file():
        return _open_stack(path)
    raise InputError(f"{path}: no such folder of volumes or volume stack")


def _open_folder(folder: Path) -> Ensemble:
    listed = listed_volumes(folder)
    files = tuple(listed.paths)
    if not files:
        raise InputError(f"{folder}: no volumes found; expected files named like vol_000.mrc")
    twice = np.flatnonzero(np.diff(listed.numbers) == 0)
    if len(twice):
        one, other = files[twice[0]].name, files[twice[0] + 1].name
        raise InputError(f"{folder}: {one} and {other} share the number {listed.numbers[twice[0]]}")
    grid = read_grid(files[0])
    if len(set(grid.shape)) != 1:
        raise InputError(f"{files[0]}: shape {grid.shape} is not a cube")
    for file in files[1:]:
        other = read_grid(file)
        if not same_grid(grid, other):
            raise InputError(
                f"{file}: shape {other.shape}, {other.pixel_size_A:.4g} Å/px, origin {other.origin_A} differ "
                f"from {files[0].name}: {grid.shape}, {grid.pixel_size_A:.4g} Å/px, {grid.origin_A}"
            )
    log.info("%s: %d volumes, box %d, %.4g Å/px", folder, len(files), grid.box, grid.pixel_size_A)
    return Ensemble(folder, np.array(listed.numbers, dtype=np.int64), files, grid, listed)


def _open_stack(file: Path) -> Ensemble:
    grid = read_grid(file)
    sections, rows, columns = grid.shape
    if rows != columns or sections % columns:
        raise InputError(f"{file}: shape {grid.shape} is not a stack of cubic volumes")
    count = sections // columns
    log.info("%s: %d volumes, box %d, %.4g Å/px", file, count, columns, grid.pixel_size_A)
    cubic = MapGrid((columns,) * 3, grid.pixel_size_A, grid.origin_A)
    return Ensemble(file, np.arange(count), (file,), cubic, listed_stack(file, count))
