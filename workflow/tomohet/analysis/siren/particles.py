"""The fraction of every block that is on in every particle, without decoding every particle's map."""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.isotonic import IsotonicRegression

from tomohet.analysis.ensemble import Ensemble
from tomohet.analysis.maven.occupancy import of_volumes, unmixed
from tomohet.analysis.maven.particles import ParticleMaps, of_particles
from tomohet.analysis.maven.units import read_masks
from tomohet.analysis.solvent import solvent_shell


def states_of_particles(
    maps: ParticleMaps,
    ensemble: Ensemble,
    mean: np.ndarray,
    folder: Path,
    states: pd.DataFrame,
    height: float,
    seed: int,
) -> tuple[pd.DataFrame, dict]:
    """Estimate the fraction of every block that is on in every particle; return it and a summary.

    Counting voxels above a level needs the map; the mean density in a block does not (`model.mask_sums`). A
    monotonic function, fitted to the volumes, converts density above solvent to the fraction that is on.

    folder : of the masks block_<id>.mrc
    states : of the volumes, columns siren_<id>
    height : of the level above solvent

    Columns of the result: particle, siren_<id>.

    Raises InputError when the volumes are not of the model in `maps`.
    """
    table = pd.DataFrame({"particle": maps.particles})
    if not len(states.columns):
        return table, {}
    blocks = read_masks(folder, ensemble.grid)
    occupied = np.asarray(blocks.masks.max(axis=0).todense()).reshape(mean.shape) > 0
    solvent = solvent_shell(mean, occupied)
    measured = of_volumes(ensemble, blocks, solvent)
    sums, how = of_particles(maps, ensemble, measured, blocks, solvent, height, seed)
    density, of_each = unmixed(measured, blocks), unmixed(sums, blocks)
    names, misfit = blocks.table.unit.tolist(), {}
    for column in states:
        unit = names.index(f"block_{column.removeprefix('siren_')}")
        course = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        fitted = course.fit_transform(density[:, unit], states[column])
        misfit[column] = float(np.sqrt(((fitted - states[column]) ** 2).mean()))
        table[column] = course.predict(of_each[:, unit])
    return table, how | {"rms_misfit_of_volumes": misfit}
