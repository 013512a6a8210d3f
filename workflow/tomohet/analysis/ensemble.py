"""A set of volumes on one grid, in files or a stack, read volume by volume or slab by slab."""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomohet.errors import InputError
from tomohet.files.atomic import atomic_path
from tomohet.files.grids import MapGrid, read_grid, same_grid, write_on_grid
from tomohet.files.mrc import read_sections, read_volume
from tomohet.files.volume_list import ListedVolumes, checksum, listed_stack, listed_volumes
from tomohet.progress import track

BYTES_PER_BATCH = 64 * 2**20
SLAB_BYTES = 256 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ensemble:
    """Volumes of one grid, in a file each or all in one stack.

    source : their folder, or the stack
    numbers : (V,) int64, ascending: from the file names, or the position in the stack
    grid : of one volume
    listed : the paths of the volumes and their entries in the list
    """

    source: Path
    numbers: np.ndarray
    grid: MapGrid
    listed: ListedVolumes

    @property
    def paths(self) -> list[Path]:
        """The file (V,) of each volume."""
        return self.listed.paths

    @property
    def stacked(self) -> bool:
        """Whether all volumes are in one file."""
        return self.paths[0] == self.source

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

    def slabs(self, description: str, slab_bytes: int = SLAB_BYTES) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield sections z of all volumes at a time: (slice of z, float32 (V, sections, D, D))."""
        box = self.grid.box
        deep = int(np.clip(slab_bytes // (4 * len(self) * box**2), 1, box))
        for start in track(range(0, box, deep), total=None, unit="slabs", description=description):
            part = slice(start, min(start + deep, box))
            sections = np.arange(part.start, part.stop)
            yield part, np.stack([self._sections(row, sections) for row in range(len(self))])

    def name(self, row: int) -> str:
        """Return the name of a volume for a figure."""
        stem = self.paths[row].stem
        return f"{stem} {self.numbers[row]}" if self.stacked else stem

    def copy(self, row: int, path: Path) -> None:
        """Write a volume to a file of its own."""
        if self.stacked:
            write_on_grid(path, self._sections(row, np.arange(self.grid.box)), self.grid)
        else:
            with atomic_path(path) as temporary:
                shutil.copyfile(self.paths[row], temporary)

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
        if not self.stacked:
            return np.stack([read_volume(path)[0] for path in self.paths[rows]])
        sections = np.arange(rows.start * box, rows.stop * box)
        return read_sections(self.source, sections).reshape(-1, box, box, box)

    def _sections(self, row: int, sections: np.ndarray) -> np.ndarray:
        first = row * self.grid.box if self.stacked else 0
        return read_sections(self.paths[row], first + sections)


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
    files = listed.paths
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
    return Ensemble(folder, np.array(listed.numbers, dtype=np.int64), grid, listed)


def _open_stack(file: Path) -> Ensemble:
    grid = read_grid(file)
    sections, rows, columns = grid.shape
    if rows != columns or sections % columns:
        raise InputError(f"{file}: shape {grid.shape} is not a stack of cubic volumes")
    count = sections // columns
    log.info("%s: %d volumes, box %d, %.4g Å/px", file, count, columns, grid.pixel_size_A)
    cubic = MapGrid((columns,) * 3, grid.pixel_size_A, grid.origin_A)
    return Ensemble(file, np.arange(count), cubic, listed_stack(file, count))
