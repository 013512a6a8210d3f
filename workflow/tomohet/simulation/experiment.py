"""All quantities of a simulation that are drawn before its first image."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tomohet.simulation.config import SimulationConfig
from tomohet.simulation.errors import Errors, draw_errors, stated_geometry
from tomohet.simulation.neighbours import Neighbours, draw_neighbours
from tomohet.simulation.orientations import with_preferred_orientation
from tomohet.simulation.specimen import DIAMETER_BOXES, Specimen, make_specimen
from tomohet.simulation.states import States, draw_states
from tomohet.simulation.tilt_series import Geometry, make_tomograms, place_particles

# Random streams in the order in which they are spawned: a new one is appended, so that no seed changes.
STREAMS = (
    *("specimen", "states", "particles", "tomograms"),
    *("pose_rotation", "pose_shift", "tilt_shift", "defocus", "orientation", "neighbours"),
)


@dataclass(frozen=True)
class Experiment:
    """Specimen in image units, states, the geometry of the images and that of the files, noise.

    background_gain : factor on the fields of the background (`simulation.background`)
    """

    config: SimulationConfig
    specimen: Specimen
    states: States
    true: Geometry
    stated: Geometry
    errors: Errors
    preferred_direction: np.ndarray
    neighbours: Neighbours
    noise_std: float
    density_scale: float
    background_gain: float = 0.0

    @property
    def has_surroundings(self) -> bool:
        """Whether the camera sees more than the particles."""
        return self.background_gain > 0 or len(self.neighbours.particle) > 0

    def images_of(self, members: np.ndarray) -> pd.DataFrame:
        """Return the image table of particles (m,) of one tomogram, as they were imaged."""
        pixel_size_A = self.specimen.pixel_size_A
        images = self.true.images(members, self.config, pixel_size_A)
        if self.config.tilt_shift_A:
            shift_px = self.errors.tilt_shift_A[members].reshape(-1, 2) / pixel_size_A
            images["shift_x_px"] -= shift_px[:, 0]
            images["shift_y_px"] -= shift_px[:, 1]
        return images

    def stated_images_of(self, members: np.ndarray) -> pd.DataFrame:
        """Return the image table of particles (m,) of one tomogram, as the files state it."""
        return self.stated.images(members, self.config, self.specimen.pixel_size_A)

    def members(self, tomogram: int) -> np.ndarray:
        """Return the particles (m,) of a tomogram, ascending."""
        return np.flatnonzero(self.true.particles.tomogram == tomogram)


def draw_experiment(config: SimulationConfig) -> Experiment:
    """Draw specimen, states, geometry, errors and neighbours, each from a separate random stream.

    Densities are not scaled and there is no noise yet.
    """
    seeds = np.random.SeedSequence(config.seed).spawn(len(STREAMS))
    streams = {name: np.random.default_rng(seed) for name, seed in zip(STREAMS, seeds, strict=True)}
    specimen = make_specimen(config, streams["specimen"])
    states = draw_states(specimen, config.n_particles, streams["states"])
    distance_A = config.diameter_A or DIAMETER_BOXES * specimen.box * specimen.pixel_size_A
    particles = place_particles(config, specimen.pixel_size_A, distance_A, streams["particles"])
    particles, preferred = with_preferred_orientation(
        particles, config.preferred_orientation, streams["orientation"]
    )
    true = Geometry(make_tomograms(config, streams["tomograms"]), particles)
    errors = draw_errors(config, len(true.tomograms[0].tilt_deg), streams)
    return Experiment(
        config=config,
        specimen=specimen,
        states=states,
        true=true,
        stated=stated_geometry(true, errors, specimen.pixel_size_A),
        errors=errors,
        preferred_direction=preferred,
        neighbours=draw_neighbours(config, specimen, streams["neighbours"]),
        noise_std=0.0,
        density_scale=1.0,
    )
