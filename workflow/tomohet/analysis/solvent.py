"""Solvent regions of a set of volumes."""

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.filters import threshold_otsu

SOLVENT_GAP_PX = 2.0
SHELL_WIDTH_BOXES = 1 / 8
FEWEST_SOLVENT_VOXELS = 100


def solvent_shell(mean: np.ndarray, occupied: np.ndarray | None = None) -> np.ndarray:
    """Find voxels of solvent near the structure, (D, D, D) bool.

    The result is a shell around the density of the mean volume (above Otsu's threshold) and around the voxels
    known to be `occupied`, if any. The shell is near the structure because maps without their lowest
    frequencies have a halo, and this halo is the background under the structure.
    """
    box = len(mean)
    sphere = np.linalg.norm(np.indices(mean.shape) - box // 2, axis=0) < box / 2 - 1
    structure = np.zeros(mean.shape, dtype=bool) if occupied is None else occupied.copy()
    if np.ptp(mean[sphere]) > 0:
        structure |= sphere & (mean > threshold_otsu(mean[sphere]))
    distance = distance_transform_edt(~structure)
    shell = sphere & (distance > SOLVENT_GAP_PX) & (distance <= SOLVENT_GAP_PX + SHELL_WIDTH_BOXES * box)
    if shell.sum() >= FEWEST_SOLVENT_VOXELS:
        return shell
    return sphere & ~structure if (sphere & ~structure).any() else sphere
