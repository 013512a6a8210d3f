"""Analysis of the occupancies of many volumes and particles: calibration, groups, dependencies, classes."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tomohet.analysis.cooccurrence import dependencies
from tomohet.analysis.maven.assembly import Assembly, assembly_of
from tomohet.analysis.maven.calibration import Calibration, calibrate
from tomohet.analysis.maven.clustering import Tree, describe_units, ward
from tomohet.analysis.maven.particles import nearest_class


@dataclass(frozen=True)
class Analysis:
    """Occupancies and the results that follow from them.

    volumes : (V, U) occupancies
    particles : (n, U), or None where only volumes are known
    volume_tree, unit_tree : Ward's trees of volumes and units
    described : one row per unit
    required : pairs of units of which the first is hardly ever present without the second
    particle_classes : (n,) from 1, or None
    """

    volumes: np.ndarray
    particles: np.ndarray | None
    calibration: Calibration
    volume_tree: Tree
    unit_tree: Tree
    described: pd.DataFrame
    required: pd.DataFrame
    assembly: Assembly
    particle_classes: np.ndarray | None

    @property
    def observed(self) -> np.ndarray:
        """Occupancies of the particles where they are known, else of the volumes."""
        return self.volumes if self.particles is None else self.particles


def analyse(
    volumes: np.ndarray,
    particles: np.ndarray | None,
    names: list[str],
    mass: np.ndarray,
    scale: str,
    classes: int | None = None,
    unit_groups: int | None = None,
) -> Analysis:
    """Calibrate amplitudes of volumes (V, U) and particles (n, U), and analyse them.

    The scale and the dependencies between units follow from the particles where they are known, because a
    volume may represent few particles or many. Volumes are grouped into `classes`, units into `unit_groups`
    (None: the number with the best silhouette). A particle belongs to the class whose volumes are nearest.
    """
    calibration = calibrate(volumes if particles is None else particles, mass, scale)
    of_volumes = calibration(volumes)
    of_particles = None if particles is None else calibration(particles)
    observed = of_volumes if of_particles is None else of_particles
    limited = np.clip(of_volumes, 0, 1)
    volume_tree, unit_tree = ward(limited, classes), ward(limited.T, unit_groups)
    required = dependencies(observed > calibration.modes.cut.to_numpy(), names)
    return Analysis(
        volumes=of_volumes,
        particles=of_particles,
        calibration=calibration,
        volume_tree=volume_tree,
        unit_tree=unit_tree,
        described=describe_units(observed, names, calibration.modes),
        required=required,
        assembly=assembly_of(required),
        particle_classes=None
        if of_particles is None
        else nearest_class(of_particles, of_volumes, volume_tree.groups),
    )
