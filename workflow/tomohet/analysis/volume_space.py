"""Principal components of many volumes, read slab by slab so that memory does not grow with their number."""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomohet.errors import InputError
from tomohet.files.atomic import atomic_path
from tomohet.files.mrc import read_sections, stack_header, stack_shape, write_volume
from tomohet.files.volume_list import ListedVolumes, checksum, listed_stack, listed_volumes
from tomohet.progress import track

SLAB_BYTES = 256 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VolumeSet:
    """Volumes of one shape, in separate files or all in one stack.

    paths : the file of each volume
    first : the section of the file at which the volume begins
    numbers : from the file names, or the position in the stack
    box : px
    pixel_size_A : Å
    listed : the entries of the volumes in their list
    """

    paths: list[Path]
    first: np.ndarray
    numbers: np.ndarray
    box: int
    pixel_size_A: float
    listed: ListedVolumes

    @property
    def stacked(self) -> bool:
        """Whether all volumes are in one file."""
        return self.paths[0] == self.paths[1]

    def name(self, row: int) -> str:
        """Return the name of a volume for a figure."""
        stem = self.paths[row].stem
        return f"{stem} {self.numbers[row]}" if self.stacked else stem

    def copy(self, row: int, path: Path) -> None:
        """Write a volume to a file of its own."""
        if self.stacked:
            write_volume(path, self._sections(row, np.arange(self.box)), self.pixel_size_A)
        else:
            with atomic_path(path) as temporary:
                shutil.copyfile(self.paths[row], temporary)

    def _sections(self, row: int, sections: np.ndarray) -> np.ndarray:
        return read_sections(self.paths[row], self.first[row] + sections)

    def slabs(self, description: str, slab_bytes: int = SLAB_BYTES) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield sections z of all volumes at a time: (slice of z, float32 (n, sections, D, D))."""
        deep = int(np.clip(slab_bytes // (4 * len(self.paths) * self.box**2), 1, self.box))
        for start in track(range(0, self.box, deep), total=None, unit="slabs", description=description):
            part = slice(start, min(start + deep, self.box))
            sections = np.arange(part.start, part.stop)
            yield part, np.stack([self._sections(row, sections) for row in range(len(self.paths))])


def find_volumes(source: str | Path) -> VolumeSet:
    """Find all `*_<number>.mrc` of a folder, by number, or the volumes of one stack, numbered from 0.

    Raises InputError when there are fewer than two, when their shapes differ or are not cubes, or when they
    are not the volumes of the folder's list (`files.volume_list`).
    """
    folder = Path(source)
    if folder.is_file():
        return _volumes_of_stack(folder)
    listed = listed_volumes(folder)
    paths = listed.paths
    if len(paths) < 2:
        raise InputError(f"{folder}: found {len(paths)} volumes named *_NUMBER.mrc, at least 2 are needed")
    shapes = [stack_shape(path) for path in paths]
    for path, shape in zip(paths, shapes, strict=True):
        if shape != shapes[0] or len(set(shape)) != 1:
            raise InputError(
                f"{path}: shape {shape}, but {paths[0].name} is {shapes[0]}; expected cubes of one size"
            )
    numbers = np.array(listed.numbers)
    pixel_size_A = stack_header(paths[0])[1] or 1.0
    return VolumeSet(paths, np.zeros_like(numbers), numbers, shapes[0][0], pixel_size_A, listed)


def _volumes_of_stack(path: Path) -> VolumeSet:
    (sections, rows, box), pixel_size_A = stack_header(path)
    if rows != box or sections % box or sections < 2 * box:
        raise InputError(
            f"{path}: {sections} sections of {box} x {rows} px are not a stack of two or more cubic volumes"
        )
    numbers = np.arange(sections // box)
    listed = listed_stack(path, len(numbers))
    return VolumeSet(listed.paths, box * numbers, numbers, box, pixel_size_A or 1.0, listed)


@dataclass(frozen=True)
class VolumeComponents:
    """Principal components of volumes within a mask.

    `scores` (n, m), `explained` (m,) fractions of the variance, `mean` [z,y,x], `axes` (a, D, D, D) unit
    vectors of the leading components, zero outside the mask.
    """

    scores: np.ndarray
    explained: np.ndarray
    mean: np.ndarray
    axes: np.ndarray

    def on_axis(self, component: int, score: float) -> np.ndarray:
        """Return the mean volume moved by `score` along a component (0-based)."""
        return self.mean + score * self.axes[component]


def mean_and_highest(volumes: VolumeSet) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and maximum over the volumes at each voxel.

    A block that is present in few volumes shows in the maximum.

    Raises InputError when a volume holds values that are not finite, or is not the one that was listed.
    """
    mean = np.empty((volumes.box,) * 3, np.float32)
    highest = np.empty_like(mean)
    checksums = [0] * len(volumes.paths)
    for part, slab in volumes.slabs("mean volume"):
        checksums = [checksum(of_one, before) for of_one, before in zip(slab, checksums, strict=True)]
        finite = np.isfinite(slab).all(axis=(1, 2, 3))
        if not finite.all():
            bad = int(np.argmin(finite))
            raise InputError(
                f"{volumes.paths[bad]}: volume {volumes.numbers[bad]} holds NaN or infinite values; "
                "decode it again"
            )
        mean[part], highest[part] = slab.mean(axis=0, dtype=np.float64), slab.max(axis=0)
    for row, value in enumerate(checksums):
        volumes.listed.check(row, value)
    return mean, highest


def components(
    volumes: VolumeSet, mean: np.ndarray, mask: np.ndarray, most: int, n_axes: int
) -> VolumeComponents:
    """Compute principal components by the Gram matrix of mean-subtracted, masked volumes (Sirovich 1987).

    mean, mask : [z,y,x]

    At most `most` components are kept, and at most n - 1; axes are computed for the first `n_axes`. The files
    are read twice. Memory holds the slab, n² numbers and the axes.
    """
    n = len(volumes.paths)
    gram = np.zeros((n, n))
    for part, slab in volumes.slabs("Gram matrix"):
        inside = mask[part] > 0
        x = (slab[:, inside] - mean[part][inside]) * mask[part][inside]
        gram += x @ x.T
    values, vectors = np.linalg.eigh(gram)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    kept = int(min(most, n - 1))
    vectors = vectors[:, :kept]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(kept)])
    roots = np.sqrt(values[:kept])
    # Volumes of a linear model span few dimensions; the others hold only noise of float32 rounding.
    real = roots > 1e-3 * max(roots[0], 1e-30)
    scores = np.where(real, vectors * roots, 0)
    n_axes = min(n_axes, int(real.sum()))
    weights = (vectors[:, :n_axes] / np.maximum(roots[:n_axes], 1e-30)).T.astype(np.float32)
    axes = np.zeros((n_axes, *mean.shape), np.float32)
    if n_axes:
        for part, slab in volumes.slabs("eigenvolumes"):
            centred = (slab - mean[part]) * mask[part]
            axes[:, part] = np.tensordot(weights, centred, axes=1)
    total = max(values.sum(), 1e-30)
    return VolumeComponents(scores.astype(np.float32), values[:kept] / total, mean, axes)


def analysis_mask(
    highest: np.ndarray,
    pixel_size_A: float,
    kind: str | None,
    percentile: float | None,
    dilate_px: int | None,
    edge_px: int | None,
) -> np.ndarray:
    """Draw the one mask [z,y,x] of all volumes from their voxel-wise maximum.

    kind None: around the density, thresholded automatically; others as in `comparison_mask`.
    """
    from tomohet.physics.masks import tight_mask

    if kind is None:
        return tight_mask(highest, pixel_size_A)
    return comparison_mask(highest, highest, kind, percentile, dilate_px, edge_px)


def comparison_mask(
    one: np.ndarray,
    other: np.ndarray,
    kind: str,
    percentile: float | None,
    dilate_px: int | None,
    edge_px: int | None,
) -> np.ndarray:
    """Draw one mask for two volumes [z,y,x].

    kind none; sphere; soft: voxels above `percentile` (default 99) of either volume, dilated and given a soft
    edge (defaults D/30 px); tight: the same without the edge.
    """
    from tomohet.physics import masks

    if kind == "none":
        return np.ones_like(one)
    if kind == "sphere":
        return masks.sphere_mask(len(one))
    percentile = 99.0 if percentile is None else percentile
    return masks.soft_mask(one, other, percentile, dilate_px, 0 if kind == "tight" else edge_px)
