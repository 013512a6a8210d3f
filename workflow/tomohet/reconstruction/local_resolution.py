"""Local resolution of a map from its half maps: their local correlation in bands of frequencies.

Both half maps are filtered to a band around each frequency. Their correlation inside a Gaussian window about
each voxel is the local Fourier shell correlation (Cardone, Heymann & Steven 2013, J. Struct. Biol. 184:226).
The local resolution is where it first falls below the threshold.
"""

import numpy as np
import torch
from torch import Tensor

from tomohet.physics.fourier import inverse3, transform3
from tomohet.physics.fourier_grids import smooth
from tomohet.physics.shells import radius_grid

THRESHOLD = 0.5
BANDS = 20
WINDOW = 1.5  # standard deviation of the window, in resolutions of the whole map
BEYOND = 1.4  # the last band lies at so many times the frequency of the whole map's resolution


def local_resolution(
    half1: np.ndarray, half2: np.ndarray, mask: np.ndarray, pixel_size_A: float, resolution_A: float
) -> np.ndarray:
    """Return the resolution (Å) at each voxel (D, D, D) float32 where the mask exceeds 0.5, and 0 elsewhere.

    Values range from the box's edge to the frequency of the last band: BEYOND times that of the resolution,
    at most Nyquist's.

    resolution_A : of the whole map
    """
    box = len(half1)
    last = min(box / 2, BEYOND * box * pixel_size_A / resolution_A)
    radii = np.linspace(1, last, min(BANDS, max(2, round(last))))
    width = max(1.0, radii[1] - radii[0])
    spectra = [transform3(torch.as_tensor(half).float()) for half in (half1, half2)]
    radius = radius_grid(box)
    window_px = min(WINDOW * resolution_A / pixel_size_A, box / 6)
    found, before = np.full(half1.shape, radii[0]), np.ones(half1.shape)
    falling = np.ones(half1.shape, bool)
    for previous, current in zip([radii[0], *radii[:-1]], radii, strict=True):
        band = torch.exp(-0.5 * ((radius - current) / (0.5 * width)) ** 2)
        here = _local_correlation(*(inverse3(one * band, box) for one in spectra), window_px).numpy()
        crossing = falling & (here < THRESHOLD)
        share = np.where(crossing, (before - THRESHOLD) / np.maximum(before - here, 1e-6), 1.0)
        found = np.where(falling, previous + share.clip(0, 1) * (current - previous), found)
        falling &= ~crossing
        before = here
    inside = mask > 0.5
    return np.where(inside, box * pixel_size_A / found, 0.0).astype(np.float32)


def _local_correlation(first: Tensor, second: Tensor, window_px: float) -> Tensor:
    """Return the correlation of two maps (D, D, D) inside a Gaussian window about each voxel."""
    product, *powers = (
        smooth(values, window_px) for values in (first * second, first.square(), second.square())
    )
    power = (powers[0] * powers[1]).clamp_min(0).sqrt()
    # Empty maps have the correlation 0. Where maps are all but empty, rounding may exceed the limits.
    return (product / power.clamp_min(torch.finfo(power.dtype).tiny)).clamp(-1, 1)
