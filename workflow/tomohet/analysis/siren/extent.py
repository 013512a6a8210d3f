"""Spatial extent of a block, compared with the extent of correlated noise.

Noise of neighbouring voxels is correlated up to a distance that can be measured in the solvent. Agreement of
voxels nearer than that is no evidence of a structure. Beyond it, noise is scattered. With few independent
volumes some sets of voxels always agree by chance; such a set contains the neighbours of its members no more
often than any other voxels. A piece of structure, in contrast, is compact.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label as components_of
from scipy.stats import norm

from tomohet.analysis.ensemble import Ensemble
from tomohet.analysis.solvent import solvent_shell

UNRELATED = 0.15  # correlation of the noise below which voxels count as independent
LARGEST_NOISE_PX = 4.0
CLEAR_SIGMAS = 6.0  # standard deviations of the solvent; noise alone reaches 1.6 to 2.7
SPECK_OF_CLEAR_PX = 1.5  # distance over which neighbours are correlated by the sampling alone
MOST_VOLUMES_SAMPLED = 50
SHELL_PX = 1.5
LEAST_COMPACTNESS = 0.2
SIGNIFICANCE = 0.01
NONE, NOT_TESTED = -1, -2


@dataclass(frozen=True)
class Noise:
    """Noise of the volumes, as measured in the solvent.

    extent_px : distance at which the noise of two voxels is hardly correlated (0.15), at most 4 voxels
    clear : (D, D, D) bool, voxels whose mean densities when on and when off differ by at least six standard
        deviations of the solvent, so that noise hardly affects their state
    """

    extent_px: float
    clear: np.ndarray

    def extents(self, voxels: np.ndarray) -> np.ndarray:
        """Return the distance (N,) float32 within which a voxel (flat index) shares its noise with others.

        It is at most 1.5 voxels for voxels in `clear`.
        """
        clear = self.clear.reshape(-1)[voxels]
        return np.where(clear, min(self.extent_px, SPECK_OF_CLEAR_PX), self.extent_px).astype(np.float32)


@dataclass(frozen=True)
class Space:
    """N voxels: `tested` (N,) flat indices into a volume of `shape`; extent_px (N,) of their noise."""

    tested: np.ndarray
    shape: tuple[int, int, int]
    extent_px: np.ndarray


def noise_of(ensemble: Ensemble, mean: np.ndarray, levels: np.ndarray) -> Noise:
    """Measure the noise of the volumes from their differences from the mean volume, in the solvent.

    levels : (V,), above which a voxel is on

    The solvent is the shell near the structure. The extent of the noise is below 1 if the noise is white; it
    is measured on up to 50 volumes.
    """
    shell = solvent_shell(mean)
    sampled = np.linspace(0, len(ensemble) - 1, min(len(ensemble), MOST_VOLUMES_SAMPLED)).astype(int)
    count, above, below = np.zeros(mean.shape), np.zeros(mean.shape), np.zeros(mean.shape)
    variance = 0.0
    power = np.zeros((mean.shape[0], mean.shape[1], mean.shape[2] // 2 + 1))
    for rows, volumes in ensemble.batches("noise"):
        for number, volume in enumerate(volumes, start=rows.start):
            noise = volume - mean
            noise -= np.median(noise[shell])
            variance += (noise[shell] ** 2).mean() / len(ensemble)
            on = volume > levels[number]
            count += on
            above += np.where(on, noise, 0)
            below += np.where(on, 0, noise)
            if number in sampled:
                inside = np.where(shell, noise, 0)
                inside[shell] -= inside[shell].mean()
                power += np.abs(np.fft.rfftn(inside)) ** 2
    changing = (count > 0) & (count < len(ensemble))
    step = above / np.maximum(count, 1) - below / np.maximum(len(ensemble) - count, 1)
    return Noise(_extent_px(power, shell), changing & (step >= CLEAR_SIGMAS * np.sqrt(variance)))


def _extent_px(power: np.ndarray, shell: np.ndarray) -> float:
    """Find the distance at which the autocorrelation of masked noise, given its power, falls to 0.15."""
    products = np.fft.irfftn(power, shell.shape, axes=(0, 1, 2))
    both = np.abs(np.fft.rfftn(shell.astype(float))) ** 2
    pairs = np.fft.irfftn(both, shell.shape, axes=(0, 1, 2))
    lags = np.meshgrid(*(np.fft.fftfreq(n) * n for n in shell.shape), indexing="ij", sparse=True)
    lag = np.sqrt(sum(along**2 for along in lags))
    if products[0, 0, 0] <= 0:
        return 0.0
    near = (lag <= LARGEST_NOISE_PX + 0.5) & (pairs > 0.5)
    ring = np.rint(lag[near]).astype(int)
    covariance = np.bincount(ring, products[near]) / np.bincount(ring, pairs[near])
    correlation = covariance / covariance[0]
    below = np.flatnonzero(correlation < UNRELATED)
    if not len(below):
        return LARGEST_NOISE_PX
    first = below[0]
    step = (correlation[first - 1] - UNRELATED) / (correlation[first - 1] - correlation[first])
    return float(first - 1 + step)


def speck(extent_px: float) -> float:
    """Return the number of voxels of a ball as wide as the noise's extent, at least one."""
    return max(1.0, 4 / 3 * np.pi * (extent_px / 2) ** 3)


def compact(labels: np.ndarray, space: Space) -> tuple[np.ndarray, np.ndarray]:
    """Measure how compact each block is (B,), and by how many sigmas it exceeds random voxels (B,).

    labels : (N,) block of each tested voxel, -1 for none

    Compactness rests on the fraction of tested neighbours of a block's voxels (from the noise's extent to 1.5
    voxels beyond) that are in the block. It is scaled from 0, the block's fraction of all tested voxels, to
    1. Voxels within one extent of the noise count as a single voxel.
    """
    count = labels.max(initial=NONE) + 1
    members = labels != NONE
    sizes = np.bincount(labels[members], minlength=count)
    extents = np.array([np.median(space.extent_px[labels == block]) for block in range(count)])
    inside, around = np.zeros(count), np.zeros(count)
    for extent_px in np.unique(extents):
        of_blocks = extents == extent_px
        same, tested = _neighbours(labels, space, extent_px)
        inside[of_blocks] = np.bincount(labels[members], same[members], count)[of_blocks]
        around[of_blocks] = np.bincount(labels[members], tested[members], count)[of_blocks]
    share = (sizes - 1) / max(len(labels) - 1, 1)
    judged = (around > 0) & (share < 1) & (sizes > 1)
    excess = np.where(judged, inside / np.maximum(around, 1) - share, 0)
    independent = np.maximum(1.0, around / 2 / np.array([speck(extent_px) for extent_px in extents]) ** 2)
    deviation = np.sqrt(np.where(judged, share * (1 - share), 1) / independent)
    return excess / np.where(judged, 1 - share, 1), excess / deviation


def without_scattered(labels: np.ndarray, space: Space) -> np.ndarray:
    """Remove the blocks that are no more compact than chance from labels (N,); their voxels become -1.

    Significance is one in a hundred for all blocks together (normal distribution, Bonferroni).
    """
    compactness, sigmas = compact(labels, space)
    if not len(sigmas):
        return labels
    kept = (compactness >= LEAST_COMPACTNESS) & (sigmas >= norm.isf(SIGNIFICANCE / len(sigmas)))
    return np.where((labels != NONE) & kept[labels], labels, NONE)


def without_specks(labels: np.ndarray, space: Space) -> np.ndarray:
    """Remove the pieces of blocks that are no larger than a speck of noise from labels (N,)."""
    volume = np.full(space.shape, NONE)
    volume.reshape(-1)[space.tested] = labels
    for block in range(labels.max(initial=NONE) + 1):
        if not (labels == block).any():
            continue
        largest_speck = speck(float(np.median(space.extent_px[labels == block])))
        pieces, count = components_of(volume == block, np.ones((3, 3, 3)))
        sizes = np.bincount(pieces.reshape(-1), minlength=count + 1)
        volume[(pieces > 0) & (sizes[pieces] <= largest_speck)] = NONE
    return volume.reshape(-1)[space.tested]


def _neighbours(labels: np.ndarray, space: Space, extent_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Count each voxel's neighbours in the shell around it: (N,) in its own block, and (N,) tested."""
    nearest = max(extent_px, 0.5)
    reach = int(np.ceil(nearest + SHELL_PX))
    shell = np.indices((2 * reach + 1,) * 3).reshape(3, -1).T - reach
    distance = np.linalg.norm(shell, axis=1)
    shell = shell[(distance > nearest) & (distance <= nearest + SHELL_PX)]
    padded = np.full(np.add(space.shape, 2 * reach), NOT_TESTED)
    place = np.ravel_multi_index(np.add(np.unravel_index(space.tested, space.shape), reach), padded.shape)
    padded.reshape(-1)[place] = labels
    steps = shell @ np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    same, tested = np.zeros(len(labels), np.int64), np.zeros(len(labels), np.int64)
    for step in steps:
        neighbour = padded.reshape(-1)[place + step]
        same += neighbour == labels
        tested += neighbour != NOT_TESTED
    return same, tested
