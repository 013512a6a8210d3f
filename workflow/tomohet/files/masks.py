"""Reader of masks, which tolerates rounding errors and refuses all other invalid values."""

from pathlib import Path

import numpy as np

from tomohet.errors import InputError
from tomohet.files.mrc import read_volume

# Largest deviation from 0 or 1 that programs leave by rounding, resampling, or storage as 16-bit numbers.
TOLERANCE = 1e-3
PIXEL_SIZE_TOLERANCE = 0.01  # relative; headers are often rounded


def read_mask(path: str | Path, box: int, pixel_size_A: float) -> np.ndarray:
    """Read a mask (D, D, D) float32 [z, y, x], from 0 to 1, for maps of `box` px and `pixel_size_A`.

    Values outside that range by at most `TOLERANCE` are clipped, and values below it count as 0, so that
    "inside" is "more than 0". A header without a pixel size is accepted.

    Raises InputError for another box or pixel size, values that are not finite or not from 0 to 1, and an
    empty mask.
    """
    mask, own_A = read_volume(path)
    if mask.shape != (box,) * 3:
        raise InputError(
            f"{path}: a mask of shape {mask.shape}, expected {(box,) * 3} as in the maps; resample it"
        )
    if own_A > 0 and pixel_size_A > 0 and abs(own_A - pixel_size_A) > PIXEL_SIZE_TOLERANCE * pixel_size_A:
        raise InputError(
            f"{path}: a mask of {own_A:.4g} Å per voxel, expected {pixel_size_A:.4g} Å as in the maps; "
            "resample it, or correct its header"
        )
    wrong = np.count_nonzero(~np.isfinite(mask))
    if wrong:
        raise InputError(f"{path}: {wrong} voxels of the mask are NaN or infinite; make the mask again")
    lowest, highest = float(mask.min()), float(mask.max())
    if lowest < -TOLERANCE or highest > 1 + TOLERANCE:
        raise InputError(
            f"{path}: values from {lowest:.3g} to {highest:.3g}, expected a mask from 0 to 1; a density "
            "becomes a mask by a threshold"
        )
    mask[mask < TOLERANCE] = 0
    if not mask.any():
        raise InputError(f"{path}: the mask is empty: its highest value is {highest:.3g}")
    return np.minimum(mask, 1, out=mask)
