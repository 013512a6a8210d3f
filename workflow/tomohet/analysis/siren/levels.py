"""The density level above which a voxel of a volume is on."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from skimage.filters import threshold_otsu

from tomohet.analysis.ensemble import Ensemble
from tomohet.analysis.solvent import solvent_shell
from tomohet.errors import InputError
from tomohet.files.tables import read_csv

KINDS = ("auto", "solvent", "volume", "own-solvent", "own-maximum", "cnn")
LEAST_SIGMAS = 3.0
SIGMAS = 5.0  # standard deviations of the solvent, for the level `solvent`
# Fraction of the robust maximum: median of the contours deposited with 3,784 maps (IQR 0.14 to 0.26).
AUTHORS_FRACTION = 0.19
ROBUST_MAXIMUM = 99.999  # percentile
A3_PER_KDA = 1210.0
OUTLYING_SIGMAS, LEAST_OUTLYING = 3.0, 0.1
MOST_VOLUMES_SAMPLED = 50
VOXELS_SAMPLED_PER_VOLUME = 20_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Greys:
    """Grey values of V volumes.

    solvent : (V,) float32, median of each volume's solvent
    sigma : (V,) float32, the solvent's standard deviation (from the median absolute deviation)
    maximum : (V,) float32, robust maximum
    otsu : Otsu's threshold above the solvent, all volumes pooled
    """

    solvent: np.ndarray
    sigma: np.ndarray
    maximum: np.ndarray
    otsu: float


@dataclass(frozen=True)
class Levels:
    """`values` (V,) float32: level of every volume on its own grey scale; `solvent` (V,): its background."""

    values: np.ndarray
    solvent: np.ndarray

    def scaled(self, factor: float) -> np.ndarray:
        """Return levels (V,) whose heights above the solvent are `factor` times as large."""
        return (self.solvent + factor * (self.values - self.solvent)).astype(np.float32)


def read_levels(
    ensemble: Ensemble,
    level: str,
    mean: np.ndarray,
    rng: np.random.Generator,
    mass_kDa: float | None = None,
    network: Path | None = None,
    device: str = "auto",
) -> Levels:
    """Determine the level of every volume, on its own grey scale.

    Volumes of one decoder need one height above solvent:
    `auto`: Otsu's threshold of all volumes, at least three standard deviations of the solvent.
    `solvent`: five standard deviations of the solvent.
    `volume`: the height at which the mean volume encloses `mass_kDa` of protein (1.21 Å³/Da).

    Other volumes need separate heights:
    `own-solvent`: five standard deviations of the volume's own solvent.
    `own-maximum`: 0.19 of the volume's 99.999th percentile above solvent, as authors choose.
    `cnn`: the prediction of SIREn's network with the weights in `network`.

    A number is the level itself, for all volumes. A CSV table has columns volume and level (or is SIREn's
    predictions.csv: vol_id, position in the ensemble, and denormalized_predictions).

    Raises InputError for any other text, a table that lacks a volume, or a missing mass or network.
    """
    if level not in KINDS:
        values = _given(ensemble, level)
        return Levels(values, greys(ensemble, mean, rng).solvent)
    seen = greys(ensemble, mean, rng)
    if level == "cnn":
        if network is None:
            raise InputError("--level cnn: SIREn's weights are needed; give their file as --cnn-weights")
        from tomohet.analysis.siren.cnn import predicted_levels

        return Levels(predicted_levels(ensemble, network, device), seen.solvent)
    if level == "own-maximum":
        height = AUTHORS_FRACTION * (seen.maximum - seen.solvent)
    elif level == "own-solvent":
        height = SIGMAS * seen.sigma
    else:
        noise = float(np.median(seen.sigma))
        if level == "auto":
            one = max(seen.otsu, LEAST_SIGMAS * noise)
        elif level == "solvent":
            one = SIGMAS * noise
        else:
            one = _enclosing(ensemble, mean, mass_kDa)
        log.info("level: %.4g above each volume's solvent, whose sigma is %.4g", one, noise)
        height = np.full(len(ensemble), one)
    return Levels((seen.solvent + height).astype(np.float32), seen.solvent)


def greys(ensemble: Ensemble, mean: np.ndarray, rng: np.random.Generator) -> Greys:
    """Measure grey values of solvent and structure in one pass over the volumes.

    Volumes without zero frequency have no common zero. All values are therefore measured from each volume's
    own solvent, the shell around the structure in the `mean` volume.
    """
    box, volumes = ensemble.grid.box, len(ensemble)
    solvent = np.flatnonzero(solvent_shell(mean))
    sphere = np.flatnonzero(np.linalg.norm(np.indices(mean.shape) - box // 2, axis=0) < box / 2 - 1)
    sampled = np.linspace(0, volumes - 1, min(volumes, MOST_VOLUMES_SAMPLED)).astype(int)
    voxels = rng.choice(sphere, min(len(sphere), VOXELS_SAMPLED_PER_VOLUME), replace=False)
    background, sigma, maximum = (np.empty(volumes, dtype=np.float32) for _ in range(3))
    pooled = []
    for rows, batch in ensemble.batches("levels"):
        flat = batch.reshape(len(batch), -1)
        background[rows] = np.median(flat[:, solvent], axis=1)
        above = flat - background[rows, None]
        sigma[rows] = 1.4826 * np.median(np.abs(above[:, solvent]), axis=1)
        maximum[rows] = np.percentile(flat, ROBUST_MAXIMUM, axis=1)
        pooled.append(above[np.ix_(np.isin(np.arange(volumes)[rows], sampled), voxels)])
    density = np.concatenate(pooled)
    otsu = float(threshold_otsu(density)) if np.ptp(density) > 0 else 0.0
    return Greys(background, sigma, maximum, otsu)


def outlying_volumes(ensemble: Ensemble, levels: np.ndarray) -> np.ndarray:
    """Find the numbers of the volumes with far more or far less density above their level (V,) than most.

    Such a volume differs from the median by more than three times the median absolute deviation (as a
    standard deviation), and by more than a tenth.
    """
    enclosed = np.empty(len(ensemble))
    for rows, volumes in ensemble.batches("enclosed volumes"):
        enclosed[rows] = (volumes > levels[rows, None, None, None]).sum(axis=(1, 2, 3))
    away = np.abs(enclosed - np.median(enclosed))
    limit = max(OUTLYING_SIGMAS * 1.4826 * np.median(away), LEAST_OUTLYING * np.median(enclosed))
    return ensemble.numbers[away > limit]


def _enclosing(ensemble: Ensemble, mean: np.ndarray, mass_kDa: float | None) -> float:
    """Find the height above solvent at which the mean volume encloses the volume of such a protein."""
    if mass_kDa is None or not mass_kDa > 0:
        raise InputError(
            f"--level volume: the molecular mass in kDa is needed (--mass-kda), found {mass_kDa}"
        )
    count = round(mass_kDa * A3_PER_KDA / ensemble.grid.pixel_size_A**3)
    solvent = np.median(mean[solvent_shell(mean)])
    if not 1 <= count < mean.size / 2:
        raise InputError(
            f"--mass-kda {mass_kDa}: that is {count} voxels, of {mean.size} in the box; expected at most half"
        )
    height = float(np.partition(mean.reshape(-1), -count)[-count] - solvent)
    if height <= 0:
        raise InputError(
            f"--mass-kda {mass_kDa}: the contour that encloses this mass lies below the mean volume's solvent"
        )
    return height


def _given(ensemble: Ensemble, level: str) -> np.ndarray:
    """Read levels (V,) from a number or a table."""
    if Path(level).is_file():
        return _levels_of_table(ensemble, Path(level))
    try:
        number = float(level)
    except ValueError:
        raise InputError(
            f"--level {level}: expected {', '.join(KINDS)}, a number, or a CSV table, found no such file"
        ) from None
    if not np.isfinite(number):
        raise InputError(f"--level {level}: expected a finite number")
    return np.full(len(ensemble), number, dtype=np.float32)


def _levels_of_table(ensemble: Ensemble, path: Path) -> np.ndarray:
    table = read_csv(path)
    if {"volume", "level"} <= set(table.columns):
        levels = table.set_index("volume")["level"]
    elif {"vol_id", "denormalized_predictions"} <= set(table.columns):
        levels = table.set_index("vol_id")["denormalized_predictions"]
        outside = levels.index[(levels.index < 0) | (levels.index >= len(ensemble))]
        if len(outside):
            raise InputError(
                f"{path}: vol_id {outside[0]}, but there are {len(ensemble)} volumes, counted from 0"
            )
        levels.index = ensemble.numbers[levels.index]
    else:
        raise InputError(f"{path}: columns {list(table.columns)}, expected volume and level")
    missing = np.setdiff1d(ensemble.numbers, levels.index[levels.notna()])
    if len(missing):
        raise InputError(
            f"{path}: no level for volume {missing[0]} ({len(missing)} of {len(ensemble)} are missing)"
        )
    if levels.index.has_duplicates:
        raise InputError(
            f"{path}: volume {levels.index[levels.index.duplicated()][0]} appears more than once"
        )
    return levels.loc[ensemble.numbers].to_numpy(dtype=np.float32)
