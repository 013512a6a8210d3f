"""Masks of maps: spheres, soft edges, and masks drawn automatically around the density."""

import math

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from tomohet.physics.fourier_grids import lowpass


def distance_from_centre(box: int) -> np.ndarray:
    """Return the distance of every voxel from voxel D//2, in voxels: (D, D, D) float32."""
    axis = np.arange(box, dtype=np.float32) - box // 2
    return np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)


def sphere_mask(box: int, radius_px: float | None = None, edge_px: float = 0.0) -> np.ndarray:
    """Draw a sphere about voxel D//2 with a raised-cosine edge outside it: (D, D, D) float32.

    radius_px : default D/2 - edge_px, so that the mask is 0 at the box's faces
    """
    radius_px = box / 2 - edge_px if radius_px is None else radius_px
    return _fall(distance_from_centre(box) - radius_px, edge_px)


def extend(core: np.ndarray, dilate_px: float, edge_px: float) -> np.ndarray:
    """Grow a boolean region by `dilate_px` voxels and give it a raised-cosine edge of `edge_px`; float32."""
    if not core.any():
        return np.zeros(core.shape, np.float32)
    return _fall(_distance(core) - dilate_px, edge_px)


def _distance(core: np.ndarray) -> np.ndarray:
    """Return the distance of every voxel from a boolean region, in voxels; 0 inside."""
    return np.asarray(ndimage.distance_transform_edt(np.logical_not(core)))


def _fall(distance_px: np.ndarray, edge_px: float) -> np.ndarray:
    """Return 1 where the distance is not positive, 0 beyond `edge_px`, a raised cosine between."""
    if edge_px <= 0:
        return (distance_px <= 0).astype(np.float32)
    return (0.5 * (1 + np.cos(np.pi * np.clip(distance_px / edge_px, 0, 1)))).astype(np.float32)


def soft_mask(
    map1: np.ndarray,
    map2: np.ndarray,
    percentile: float = 99.0,
    dilate_px: int | None = None,
    edge_px: int | None = None,
) -> np.ndarray:
    """Draw a mask around the densest voxels of two maps, as tomoDRGN does; (D, D, D) float32.

    Voxels at or above `percentile` of either map are dilated `dilate_px` times through faces, and get a
    quarter-cosine edge of `edge_px` voxels; both default to ceil(D/30).
    """
    width = math.ceil(len(map1) / 30)
    dilate_px = width if dilate_px is None else dilate_px
    edge_px = width if edge_px is None else edge_px
    core = (map1 >= np.percentile(map1, percentile)) | (map2 >= np.percentile(map2, percentile))
    if dilate_px > 0:  # scipy repeats zero iterations until nothing changes
        core = ndimage.binary_dilation(core, iterations=dilate_px)
    if edge_px <= 0:
        return core.astype(np.float32)
    distance = np.minimum(_distance(core), edge_px)
    return np.cos(np.pi / 2 * distance / edge_px).astype(np.float32)


def tight_mask(
    density: np.ndarray,
    pixel_size_A: float,
    lowpass_A: float | None = None,
    dilate_A: float | None = None,
    edge_A: float | None = None,
) -> np.ndarray:
    """Draw a soft mask around the particle in one map (positive density), for FSC curves; (D, D, D) float32.

    The map is low-passed (default: 6 voxels, at least 15 Å) and thresholded by Otsu's method within the box's
    sphere. Pieces smaller than a tenth of the largest are removed. The result is grown by `dilate_A` and
    given a cosine edge of `edge_A` (defaults: D/16 and D/10 voxels, at least 2 and 3). It stays within the
    sphere. Where no density is found, the result is the sphere.
    """
    box = len(density)
    lowpass_A = max(15.0, 6 * pixel_size_A) if lowpass_A is None else lowpass_A
    dilate_px = max(2.0, box / 16) if dilate_A is None else dilate_A / pixel_size_A
    edge_px = max(3.0, box / 10) if edge_A is None else edge_A / pixel_size_A
    sphere = sphere_mask(box, edge_px=edge_px)
    smooth = np.asarray(lowpass(density, pixel_size_A, lowpass_A))
    inside = smooth[sphere == 1]
    if not np.ptp(inside) > 0:
        return sphere
    pieces = np.zeros(smooth.shape, np.int32)
    ndimage.label((smooth > threshold_otsu(inside)) & (sphere == 1), output=pieces)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    if not sizes.any():
        return sphere
    core = (sizes >= 0.1 * sizes.max())[pieces]
    core &= pieces > 0
    return extend(core, dilate_px, edge_px) * sphere
