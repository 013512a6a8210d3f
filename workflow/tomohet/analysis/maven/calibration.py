"""Calibration of amplitudes on the maps' grey scale to occupancies.

An occupancy is 0 for an absent unit and 1 for a present one.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from tomohet.analysis.maven.occupancy import check_dense
from tomohet.errors import InputError

UPPER_QUANTILE = 0.95
# Two modes are accepted if the middle third between them holds less than this part of an even distribution.
SHALLOWEST_VALLEY = 0.5
FEWEST_VALUES = 5  # in either mode
MOST_VALUES = 20_000  # a mixture is fitted to at most this number of values
ABSENT, PRESENT = 0.0, 1.0


@dataclass(frozen=True)
class Level:
    """Amplitude of a present unit, in grey values per unit of reference density, and its relative spread."""

    level: float
    spread: float


@dataclass(frozen=True)
class Calibration:
    """occupancy = (amplitude - absent) / (present - absent), clipped to 0..1 if `clipped`.

    absent, present : (U,) amplitudes
    level : amplitude of a present unit, common to all units, where it is used
    modes : one row per unit, see `unit_modes`
    """

    absent: np.ndarray
    present: np.ndarray
    clipped: bool
    level: Level | None
    modes: pd.DataFrame

    def __call__(self, amplitudes: np.ndarray) -> np.ndarray:
        """Convert amplitudes (n, U) to occupancies (n, U)."""
        occupancies = (amplitudes - self.absent) / (self.present - self.absent)
        return np.clip(occupancies, 0, 1) if self.clipped else occupancies


def calibrate(amplitudes: np.ndarray, mass: np.ndarray, scale: str) -> Calibration:
    """Calibrate amplitudes (n, U) of many volumes or particles.

    scale
        `present`: one level for all units, that of present units (see `present_level`), and 0.
        `modes`: as `present`, but a unit whose amplitudes have two modes, one on each side of half the level,
        is scaled from its own lower mode (0) to its own upper mode (1).
        `percentile`: MAVEn's: all values together clipped to their percentiles 10 and 90.
        `none`: as measured.

    Raises InputError for amplitudes that cannot be scaled.
    """
    units = amplitudes.shape[1]
    absent, level = np.full(units, ABSENT), None
    if scale == "percentile":
        low, high = np.percentile(amplitudes, [10, 90])
        if not high > low:
            raise InputError("all occupancies are equal: they cannot be scaled by percentiles")
        absent, present = np.full(units, low), np.full(units, high)
    elif scale == "none":
        present = np.full(units, PRESENT)
    else:
        level = present_level(amplitudes, mass)
        present = np.full(units, level.level)
    modes = unit_modes((amplitudes - absent) / (present - absent))
    if scale == "modes":
        straddles = ((modes.low_mode < 0.5) & (modes.high_mode > 0.5)).to_numpy()
        low = np.where(straddles, modes.low_mode.fillna(0) * level.level, absent)
        high = np.where(straddles, modes.high_mode.fillna(0) * level.level, present)
        absent, present = low, high
        modes["cut"] = np.where(
            straddles, (modes.cut - modes.low_mode) / (modes.high_mode - modes.low_mode), modes.cut
        )
    return Calibration(absent, present, scale == "percentile", level, modes)


def present_level(amplitudes: np.ndarray, mass: np.ndarray) -> Level:
    """Estimate the amplitude of a present unit, common to all units and volumes.

    It is the centre of the upper mode of all amplitudes, weighted by mass: the median of the amplitudes above
    half of this median, iterated from their 95th percentile. No unit is stretched: a unit that is always
    present stays near 1, and one that is never present stays near 0.

    Raises InputError when the volumes are not denser in the units than in the solvent.
    """
    values = amplitudes.ravel()
    weights = np.broadcast_to(mass, amplitudes.shape).ravel()
    level = _weighted_quantile(values, weights, UPPER_QUANTILE)
    check_dense(np.array([level]))
    for _ in range(100):
        upper = values > 0.5 * level
        before, level = level, _weighted_quantile(values[upper], weights[upper], 0.5)
        if abs(level - before) <= 1e-9 * level:
            break
    upper = values > 0.5 * level
    deviation = _weighted_quantile(np.abs(values[upper] - level), weights[upper], 0.5)
    return Level(level=level, spread=1.4826 * deviation / level)


def unit_modes(values: np.ndarray) -> pd.DataFrame:
    """Find the two modes of every unit's values (n, U), where the unit has two.

    A unit is bimodal when two Gaussians of equal width have a better BIC than one, and there is a valley
    between them. The valley is required because a unit that moves or slides has many values in between, which
    two Gaussians fit well too.

    Columns: low_mode, high_mode, mode_sd (their width), low_se, high_se (standard errors of the modes),
    confused (fraction of values expected on the wrong side of the cut), all nan where there is one mode; and
    cut, the value that belongs to either mode with equal probability, or 0.5 where there is one mode or both
    lie on one side of 0.5.
    """
    return pd.DataFrame([_modes(column) for column in values.T])


def _modes(values: np.ndarray) -> dict[str, float]:
    nan = float("nan")
    one_mode = dict.fromkeys(("low_mode", "high_mode", "mode_sd", "low_se", "high_se", "confused"), nan)
    one_mode["cut"] = 0.5
    if len(values) < 2 * FEWEST_VALUES or not np.ptp(values) > 0:
        return one_mode
    column = values[:: -(-len(values) // MOST_VALUES), None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        one, two = (
            GaussianMixture(k, covariance_type="tied", random_state=0, reg_covar=1e-4).fit(column)
            for k in (1, 2)
        )
    order = np.argsort(two.means_[:, 0])
    low, high = two.means_[order, 0]
    share_low, share_high = two.weights_[order]
    width = float(np.sqrt(two.covariances_[0, 0]))
    if two.bic(column) >= one.bic(column) or _valley(values, low, high) > SHALLOWEST_VALLEY:
        return one_mode
    found = {
        "low_mode": float(low),
        "high_mode": float(high),
        "mode_sd": width,
        "low_se": width / np.sqrt(share_low * len(column)),
        "high_se": width / np.sqrt(share_high * len(column)),
        "confused": nan,
        "cut": 0.5,
    }
    if low < 0.5 < high:
        # The point where both Gaussians, of equal width, have equal density; never beyond the modes.
        cut = (low + high) / 2 + width**2 / (high - low) * np.log(share_low / share_high)
        found["cut"] = float(np.clip(cut, low, high))
        found["confused"] = float(
            share_low * norm.sf(found["cut"], low, width) + share_high * norm.cdf(found["cut"], high, width)
        )
    return found


def _valley(values: np.ndarray, low: float, high: float) -> float:
    """Return the number of values in the middle third between the modes, relative to an even distribution."""
    place = (values - low) / (high - low)
    between = (place > 0) & (place < 1)
    middle = (place > 1 / 3) & (place < 2 / 3)
    return 3 * middle.sum() / max(between.sum(), 1)


def _weighted_quantile(values: np.ndarray, weights: np.ndarray, quantile: float) -> float:
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(cumulative, quantile * cumulative[-1])])
