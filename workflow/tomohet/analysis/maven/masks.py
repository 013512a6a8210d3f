"""Masks drawn from densities by the rule of RELION's `relion_mask_create`."""

import re

import numpy as np
from scipy.ndimage import distance_transform_edt

from tomohet.errors import InputError

RELION_THRESHOLD = 0.01
FRACTION_OF_PEAK = 0.2


def unit_mask(
    density: np.ndarray, threshold: float, extend_px: float = 0.0, soft_edge_px: float = 0.0
) -> np.ndarray:
    """Draw the mask of a density [z, y, x]: 1 inside, 0 outside, a raised cosine in the soft edge; float32.

    Inside are voxels at or above `threshold`, and voxels at a distance strictly below `extend_px` voxels from
    them (negative: shrunk by the mirrored rule). Outside, at distance d < `soft_edge_px`, the mask is 0.5 +
    0.5 cos(pi d / soft_edge_px).

    Raises InputError for a negative soft edge.
    """
    if soft_edge_px < 0:
        raise InputError(f"soft edge of {soft_edge_px} px: expected 0 or more")
    inside = density >= threshold
    if not inside.any() or inside.all():
        return inside.astype(np.float32)
    if extend_px > 0:
        inside |= distance_transform_edt(~inside) < extend_px
    elif extend_px < 0:
        inside &= distance_transform_edt(inside) >= -extend_px
    mask = inside.astype(np.float32)
    if soft_edge_px > 0 and inside.any() and not inside.all():
        distance = distance_transform_edt(~inside)
        edge = (distance > 0) & (distance < soft_edge_px)
        mask[edge] = 0.5 + 0.5 * np.cos(np.pi * distance[edge] / soft_edge_px)
    return mask


def density_threshold(density: np.ndarray, threshold: float | None) -> float:
    """Return the threshold at which a unit's density becomes its mask.

    It is `threshold` if given. Otherwise it is RELION's 0.01 (atomic numbers per Å³), or a fifth of the
    density's peak where that is lower: models of pseudo-atoms are far thinner than protein.
    """
    if threshold is not None:
        return threshold
    return min(RELION_THRESHOLD, FRACTION_OF_PEAK * float(density.max()))


def in_pixels(length: str | float, pixel_size_A: float) -> float:
    """Convert a length such as `3`, `3px` or `10A` to pixels.

    Raises InputError for another text.
    """
    found = re.fullmatch(r"\s*([-+]?[0-9.]+)\s*(px|A|Å)?\s*", str(length))
    try:
        number = float(found[1])
    except (TypeError, ValueError):
        raise InputError(f"length '{length}': expected pixels (3 or 3px) or ångströms (10A)") from None
    return number / pixel_size_A if found[2] in ("A", "Å") else number
