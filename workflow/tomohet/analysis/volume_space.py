"""Principal components of many volumes, read slab by slab so that memory does not grow with their number."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomohet.analysis.ensemble import Ensemble, open_ensemble
from tomohet.errors import InputError
from tomohet.files.volume_list import checksum

MOST_COMPARED = 5_000  # volumes that are compared with each other; more are placed on the components of these


def find_volumes(source: str | Path) -> Ensemble:
    """Open two or more volumes of a folder or a stack (`analysis.ensemble.open_ensemble`).

    Raises InputError as that does, and for a single volume.
    """
    volumes = open_ensemble(source)
    if len(volumes) < 2:
        raise InputError(f"{source}: holds one volume, at least 2 are needed to compare")
    return volumes


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


def mean_and_highest(volumes: Ensemble) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and maximum over the volumes at each voxel.

    A block that is present in few volumes shows in the maximum.

    Raises InputError when a volume holds values that are not finite, or is not the one that was listed.
    """
    mean = np.empty((volumes.grid.box,) * 3, np.float32)
    highest = np.empty_like(mean)
    checksums = [0] * len(volumes)
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
    volumes: Ensemble, mean: np.ndarray, mask: np.ndarray, most: int, n_axes: int
) -> VolumeComponents:
    """Compute principal components by the Gram matrix of mean-subtracted, masked volumes (Sirovich 1987).

    mean, mask : [z,y,x]

    At most `most` components are kept, and at most n - 1; axes are computed for the first `n_axes`. The files
    are read twice. Of more than `MOST_COMPARED` volumes, evenly spaced ones give the components, and all are
    projected on them. Memory holds the slab, the square of the compared volumes and the axes.
    """
    compared = np.unique(
        np.linspace(0, len(volumes) - 1, min(len(volumes), MOST_COMPARED)).round().astype(int)
    )
    n = len(compared)
    projected = n < len(volumes)
    few = compared if projected else slice(None)
    gram = np.zeros((n, n))
    for part, slab in volumes.slabs("Gram matrix"):
        inside = mask[part] > 0
        x = (slab[few][:, inside] - mean[part][inside]) * mask[part][inside]
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
    shown = n_axes
    n_axes = int(real.sum()) if projected else min(n_axes, int(real.sum()))
    weights = (vectors[:, :n_axes] / np.maximum(roots[:n_axes], 1e-30)).T.astype(np.float32)
    axes = np.zeros((n_axes, *mean.shape), np.float32)
    if projected:
        scores = np.zeros((len(volumes), kept))
    if n_axes:
        for part, slab in volumes.slabs("eigenvolumes"):
            centred = (slab - mean[part]) * mask[part]
            axes[:, part] = np.tensordot(weights, centred[few], axes=1)
            if projected:
                scores[:, :n_axes] += centred.reshape(len(volumes), -1) @ axes[:, part].reshape(n_axes, -1).T
    total = max(values.sum(), 1e-30)
    return VolumeComponents(scores.astype(np.float32), values[:kept] / total, mean, axes[:shown])


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
