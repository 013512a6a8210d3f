"""Density of every unit in every volume and every particle: sums over masks, and the amplitudes from them."""

import logging
from dataclasses import dataclass

import numpy as np

from tomohet.analysis.ensemble import Ensemble
from tomohet.analysis.maven.units import Units
from tomohet.errors import InputError

SMALLEST_SINGULAR_VALUE = 0.05  # relative: units with more overlap than this share their density equally
LEAST_ALIGNMENT = 0.4

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """Sums (n, U) of n maps over the units' masks, and their solvent level (n,): the mean over solvent."""

    sums: np.ndarray
    background: np.ndarray


def of_volumes(ensemble: Ensemble, units: Units, solvent: np.ndarray) -> Measured:
    """Sum all volumes over the masks, and over `solvent` (D, D, D) bool, in one matrix product."""
    sums = np.empty((len(ensemble), units.masks.shape[0]))
    background = np.empty(len(ensemble))
    masks = units.masks.astype(np.float64)
    inside = np.flatnonzero(solvent)
    for rows, volumes in ensemble.batches("occupancies"):
        flat = volumes.reshape(len(volumes), -1)
        sums[rows] = (masks @ flat.T).T
        background[rows] = flat[:, inside].mean(axis=1, dtype=np.float64)
    return Measured(sums, background)


def voxels_on(ensemble: Ensemble, units: Units, levels: np.ndarray) -> np.ndarray:
    """Count the voxels of every mask (V, U) that lie at or above their volume's level (V,).

    A soft mask counts its voxels with their values.
    """
    counts = np.empty((len(ensemble), units.masks.shape[0]))
    masks = units.masks.astype(np.float64)
    for rows, volumes in ensemble.batches("occupancies"):
        flat = volumes.reshape(len(volumes), -1)
        counts[rows] = (masks @ (flat >= levels[rows, None]).T.astype(np.float64)).T
    return counts


def maven_occupancy(sums: np.ndarray, units: Units) -> np.ndarray:
    """Compute MAVEn's occupancy (n, U), on the maps' grey scale.

    It is the sum in the mask over the sum of the whole density.
    """
    return sums / units.table.mass.to_numpy()


def own_sums(units: Units) -> np.ndarray:
    """Sum every unit's reference density over its own mask, (U,)."""
    return np.asarray(units.masks.multiply(units.densities).sum(axis=1), dtype=np.float64).ravel()


def unmixed(measured: Measured, units: Units, subtract_background: bool = True) -> np.ndarray:
    """Compute the amplitude of every unit in every map (n, U), without solvent and neighbours' density.

    A mask also holds density of the neighbouring units: S = B A^T, where S are the background-subtracted
    sums, B the amplitudes and A[u, w] the sum of density w over mask u. It is solved by least squares; units
    that share their voxels share the amplitude.
    """
    overlap = (units.masks.astype(np.float64) @ units.densities.T.astype(np.float64)).toarray()
    own = np.diag(overlap)
    single = measured.sums / own
    if subtract_background:
        voxels = np.asarray(units.masks.sum(axis=1, dtype=np.float64)).ravel()
        single = single - measured.background[:, None] * (voxels / own)
    return single @ np.linalg.pinv(overlap / own[:, None], rcond=SMALLEST_SINGULAR_VALUE).T


def alignment(mean: np.ndarray, units: Units, structure: np.ndarray) -> float:
    """Correlate the model's density with the mean volume over `structure` (D, D, D) bool."""
    inside = np.flatnonzero(structure)
    model = np.asarray(units.densities.sum(axis=0)).ravel()[inside]
    return float(np.corrcoef(model, mean.ravel()[inside])[0, 1])


def check_dense(amplitudes: np.ndarray) -> None:
    """Raise InputError when no unit is denser than the solvent."""
    if not np.nanmax(amplitudes, initial=-np.inf) > 0:
        raise InputError(
            "the volumes are not denser in the units than in the solvent around them: the model is not "
            "aligned to the volumes, or their contrast is inverted (decode with --invert)"
        )
