"""Occupancies: one matrix product of masks and volumes, and their calibration to 0 = absent, 1 = present."""

import logging
from dataclasses import dataclass

import numpy as np

from tomohet.analysis.ensemble import Ensemble
from tomohet.analysis.maven.units import Units
from tomohet.errors import InputError

SMALLEST_SINGULAR_VALUE = 0.05  # relative: units closer together than this share their density equally
UPPER_QUANTILE = 0.95
LEAST_ALIGNMENT = 0.4

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gain:
    """Level of a present unit, in grey values per unit of reference density, and its relative spread."""

    level: float
    spread: float


def mask_sums(ensemble: Ensemble, units: Units, solvent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of volume times mask (V, U), and each volume's solvent level (V,), its median over `solvent`."""
    sums = np.empty((len(ensemble), units.masks.shape[0]))
    background = np.empty(len(ensemble))
    masks = units.masks.astype(np.float64)
    inside = np.flatnonzero(solvent)
    for rows, volumes in ensemble.batches("occupancies"):
        flat = volumes.reshape(len(volumes), -1)
        sums[rows] = (masks @ flat.T).T
        background[rows] = np.median(flat[:, inside], axis=1)
    return sums, background


def maven_occupancy(sums: np.ndarray, units: Units) -> np.ndarray:
    """MAVEn's occupancy (V, U), on the maps' grey scale: sum in the mask over sum of the whole density."""
    return sums / units.table.mass.to_numpy()


def unmixed(sums: np.ndarray, background: np.ndarray, units: Units) -> np.ndarray:
    """Amplitude of every unit in every volume (V, U), freed of solvent and of neighbours' density.

    A mask also holds density of the units next to it: S = B A^T, where S are the background-subtracted
    sums, B the amplitudes and A[u, w] the sum of density w over mask u. Solved by least squares;
    units that share their voxels share the amplitude.
    """
    overlap = (units.masks.astype(np.float64) @ units.densities.T.astype(np.float64)).toarray()
    own = np.diag(overlap)
    volume = np.asarray(units.masks.sum(axis=1, dtype=np.float64)).ravel()
    single = (sums - background[:, None] * volume) / own
    return single @ np.linalg.pinv(overlap / own[:, None], rcond=SMALLEST_SINGULAR_VALUE).T


def present_level(amplitudes: np.ndarray, mass: np.ndarray) -> Gain:
    """The amplitude of a unit that is present, one for all units and volumes.

    The centre of the upper mode of all amplitudes, weighted by mass: the median of those above half
    of itself, starting from their 95th percentile. No unit is stretched: one that is always
    there stays near 1, one that is never there near 0.

    Raises InputError when the volumes are not denser in the units than in the solvent.
    """
    values = amplitudes.ravel()
    weights = np.broadcast_to(mass, amplitudes.shape).ravel()
    level = _weighted_quantile(values, weights, UPPER_QUANTILE)
    if not level > 0:
        raise InputError(
            "the volumes are not denser in the units than in the solvent around: the model is not aligned to "
            "them, or their contrast is inverted (decode with --invert)"
        )
    for _ in range(100):
        upper = values > 0.5 * level
        before, level = level, _weighted_quantile(values[upper], weights[upper], 0.5)
        if abs(level - before) <= 1e-9 * level:
            break
    upper = values > 0.5 * level
    deviation = _weighted_quantile(np.abs(values[upper] - level), weights[upper], 0.5)
    return Gain(level=level, spread=1.4826 * deviation / level)


def percentile_scaled(occupancies: np.ndarray, low: float = 10.0, high: float = 90.0) -> np.ndarray:
    """MAVEn's scaling: all values together clipped to two percentiles and mapped to 0..1."""
    bottom, top = np.percentile(occupancies, [low, high])
    if not top > bottom:
        raise InputError("all occupancies are equal: they cannot be scaled by percentiles")
    return (np.clip(occupancies, bottom, top) - bottom) / (top - bottom)


def alignment(mean: np.ndarray, units: Units, structure: np.ndarray) -> float:
    """Correlation of the model's density with the mean volume over `structure` (D, D, D) bool."""
    inside = np.flatnonzero(structure)
    model = np.asarray(units.densities.sum(axis=0)).ravel()[inside]
    return float(np.corrcoef(model, mean.ravel()[inside])[0, 1])


def _weighted_quantile(values: np.ndarray, weights: np.ndarray, quantile: float) -> float:
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(cumulative, quantile * cumulative[-1])])
