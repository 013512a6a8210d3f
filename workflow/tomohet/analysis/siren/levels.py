"""The density level above which a voxel of a volume is on."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from skimage.filters import threshold_otsu

from tomohet.analysis.ensemble import Ensemble
from tomohet.analysis.solvent import solvent_shell
from tomohet.errors import InputError

NOISE_SIGMAS = 3.0
MOST_VOLUMES_SAMPLED = 50
VOXELS_SAMPLED_PER_VOLUME = 20_000

log = logging.getLogger(__name__)


def read_levels(ensemble: Ensemble, level: str, mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Level of every volume (V,) float32, on its own grey scale.

    level: `auto` (see `automatic_levels`), a number for all volumes, or a CSV table with columns volume and
        level (or SIREn's predictions.csv: vol_id, position in the ensemble, and denormalized_predictions).

    Raises InputError for a text that is none of these, or a table that lacks a volume.
    """
    if level == "auto":
        return automatic_levels(ensemble, mean, rng)
    if Path(level).is_file():
        return _levels_of_table(ensemble, Path(level))
    try:
        number = float(level)
    except ValueError:
        raise InputError(
            f"--level {level}: expected auto, a number, or a CSV table, found no such file"
        ) from None
    if not np.isfinite(number):
        raise InputError(f"--level {level}: expected a finite number")
    return np.full(len(ensemble), number, dtype=np.float32)


def automatic_levels(ensemble: Ensemble, mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One level above solvent for all volumes, as fits the volumes of one decoder; (V,) float32.

    The height is Otsu's threshold of the density within the box's sphere, all volumes pooled, but at least
    three standard deviations of the solvent (median absolute deviation). Each volume's level is that height
    above its own median in the solvent, for volumes without zero frequency have no common zero.
    """
    box = ensemble.grid.box
    solvent = np.flatnonzero(solvent_shell(mean))
    sphere = np.flatnonzero(np.linalg.norm(np.indices(mean.shape) - box // 2, axis=0) < box / 2 - 1)
    sampled = np.linspace(0, len(ensemble) - 1, min(len(ensemble), MOST_VOLUMES_SAMPLED)).astype(int)
    voxels = rng.choice(sphere, min(len(sphere), VOXELS_SAMPLED_PER_VOLUME), replace=False)
    background = np.empty(len(ensemble), dtype=np.float32)
    noise, pooled = np.empty(len(ensemble)), []
    for rows, volumes in ensemble.batches("levels"):
        flat = volumes.reshape(len(volumes), -1)
        background[rows] = np.median(flat[:, solvent], axis=1)
        above = flat - background[rows, None]
        noise[rows] = 1.4826 * np.median(np.abs(above[:, solvent]), axis=1)
        pooled.append(above[np.ix_(np.isin(np.arange(len(ensemble))[rows], sampled), voxels)])
    density = np.concatenate(pooled)
    floor = NOISE_SIGMAS * float(np.median(noise))
    height = max(float(threshold_otsu(density)) if np.ptp(density) > 0 else 0.0, floor)
    log.info("level: %.4g above each volume's solvent (3 sigma of the solvent: %.4g)", height, floor)
    return (background + height).astype(np.float32)


def _levels_of_table(ensemble: Ensemble, path: Path) -> np.ndarray:
    table = pd.read_csv(path)
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
