"""Difference between the map of a subset and the map of the other particles, in standard deviations of noise.

Sums of back-projection are linear. One pass over the images therefore gives the half maps of several subsets,
and the half maps of all particles outside each subset. Half h of the difference is D_h = S_h - R_h, with the
subset's map S and the map R of the others. The difference is (D_1 + D_2) / 2, and its noise
(D_1 - D_2) / 2 has the same variance, because the noise of the halves is independent. The variance at a voxel
is the mean of the squared noise in its surroundings.
"""

from dataclasses import dataclass

import numpy as np
import torch

from tomohet.particles.store import Store
from tomohet.physics.backprojection import Accumulator, wiener_map
from tomohet.physics.fourier_grids import lowpass, smooth
from tomohet.physics.fsc import corrected_fsc, resolution_at
from tomohet.physics.masks import tight_mask
from tomohet.reconstruction.half_maps import HALF_MAP_FRACTION, SIGNIFICANT, accumulate
from tomohet.reconstruction.half_sets import half_of_images

ACCUMULATOR_BYTES = 2**30
NOISE_RADIUS = 1.5  # standard deviation, in resolutions, of the Gaussian over which the noise is averaged
HIGH_SIGMA = 4.0


@dataclass(frozen=True)
class SubsetDifference:
    """Difference of a subset of particles from the others, on a grid of box d.

    sigma : (d, d, d) difference over the standard deviation of its noise
    mask : (d, d, d) soft mask around the particle
    resolution_A : of the subset's own half maps (FSC 0.143, masked); the difference is low-passed there
    """

    sigma: np.ndarray
    mask: np.ndarray
    resolution_A: float
    pixel_size_A: float

    @property
    def most(self) -> float:
        """Largest difference inside the mask, in standard deviations."""
        return float(np.abs(self.sigma[self.mask > 0.5]).max(initial=0.0))

    @property
    def share_high(self) -> float:
        """Fraction of the mask's voxels that differ by more than HIGH_SIGMA standard deviations."""
        return float((np.abs(self.sigma[self.mask > 0.5]) > HIGH_SIGMA).mean())


def map_box(box: int, n_maps: int) -> int:
    """Return the box of the maps: the store's, reduced until `n_maps` accumulators fit ACCUMULATOR_BYTES."""
    fitting = int((ACCUMULATOR_BYTES / (64 * n_maps)) ** (1 / 3))
    return min(box, fitting - fitting % 2)


def subset_differences(
    store: Store,
    particles: np.ndarray,
    subsets: np.ndarray,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> list[SubsetDifference]:
    """Compare the map of each subset with that of all other particles, in one pass over the images.

    store : with the poses to be used
    particles : (N,) ordinals in the store, ascending
    subsets : (S, N) bool; no particle is in two of them

    Raises InputError if the particles cannot be divided into two halves.
    """
    n_groups = len(subsets) + 1  # the last one has the particles of no subset
    box = map_box(store.box, 2 * n_groups)
    rows, half, _ = half_of_images(store, particles, "particle", np.random.default_rng(seed))
    group = np.where(subsets.any(0), subsets.argmax(0), len(subsets))
    of_images = np.repeat(group, np.diff(store.offsets)[particles])
    sums = accumulate(
        store,
        rows,
        2 * of_images + half,
        recon_dose_weight=True,
        recon_tilt_weight=True,
        parts=2 * n_groups,
        box=box,
        device=device,
    )
    total = [Accumulator(box, sum(one.sums for one in sums[half::2])) for half in range(2)]
    pixel_size_A = store.pixel_size_A * store.box / box
    mask = tight_mask(sum(_map(one) for one in total), pixel_size_A)
    own = [sums[2 * one : 2 * one + 2] for one in range(len(subsets))]
    return [_difference(halves, total, mask, pixel_size_A) for halves in own]


def _difference(
    own: tuple[Accumulator, ...], total: list[Accumulator], mask: np.ndarray, pixel_size_A: float
) -> SubsetDifference:
    """Return the difference of a subset (two halves) from the rest of the total (two halves)."""
    halves = [_map(one) for one in own]
    others = [
        _map(Accumulator(one.box, whole.sums - one.sums)) for one, whole in zip(own, total, strict=True)
    ]
    curves = corrected_fsc(*halves, mask, np.random.default_rng(0), pixel_size_A)
    resolution_A = resolution_at(curves["corrected"], curves["frequency_1_A"], SIGNIFICANT)
    first, second = (
        lowpass(torch.as_tensor(own - rest), pixel_size_A, resolution_A)
        for own, rest in zip(halves, others, strict=True)
    )
    noise, radius_px = (first - second) / 2, NOISE_RADIUS * resolution_A / pixel_size_A
    variance = smooth(noise.square(), min(radius_px, len(mask) / 4))
    sigma = (first + second) / 2 / variance.clamp_min(1e-12 * variance.max()).sqrt()
    return SubsetDifference(sigma.numpy(), mask, resolution_A, pixel_size_A)


def _map(one: Accumulator) -> np.ndarray:
    return wiener_map(one, HALF_MAP_FRACTION).cpu().numpy()
