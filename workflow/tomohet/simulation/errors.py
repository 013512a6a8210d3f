"""Errors of refinement, alignment and CTF fitting: the difference between stated and true geometry."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from tomohet.physics.geometry import euler_to_matrix, matrix_to_euler
from tomohet.simulation.config import SimulationConfig
from tomohet.simulation.tilt_series import (
    ANGLE_DECIMALS,
    LENGTH_DECIMALS,
    Geometry,
    Particles,
    Tomogram,
)


@dataclass(frozen=True)
class Errors:
    """Stated values minus the truth, for n particles and s tomograms of t tilts.

    pose_rotvec_deg : (n, 3), w: the stated rotation (volume -> image) is the true one R times exp([w]x), so
        the true one is the stated one times exp(-[w]x)
    pose_shift_A : (n, 3), d: the stated origin is the true one plus R d
    tilt_shift_A : (n, t, 2), x and y in the image
    defocus_A : (s, t)
    """

    pose_rotvec_deg: np.ndarray
    pose_shift_A: np.ndarray
    tilt_shift_A: np.ndarray
    defocus_A: np.ndarray

    @property
    def in_files(self) -> bool:
        """Whether the files state another geometry; shifts of single tilts are only in the images."""
        return any(e.any() for e in (self.pose_rotvec_deg, self.pose_shift_A, self.defocus_A))


def draw_errors(config: SimulationConfig, n_tilts: int, streams: dict[str, np.random.Generator]) -> Errors:
    """Draw normal errors of the sizes in the configuration, each kind from a separate random stream.

    Every particle has one rotation and one shift for all its tilts. Every tilt image of every particle has
    its own shift. Every tilt of a tomogram has one error of defocus for all its particles.
    """
    n = config.n_particles

    def normal(name: str, deviation: float, shape: tuple[int, ...]) -> np.ndarray:
        return deviation * streams[name].normal(size=shape) if deviation else np.zeros(shape)

    return Errors(
        # The deviation of each component, such that the mean square of the angle is as configured.
        pose_rotvec_deg=normal("pose_rotation", config.pose_error_deg / np.sqrt(3), (n, 3)),
        pose_shift_A=normal("pose_shift", config.pose_error_A, (n, 3)),
        tilt_shift_A=normal("tilt_shift", config.tilt_shift_A, (n, n_tilts, 2)),
        defocus_A=normal("defocus", config.defocus_error_A, (config.n_tomograms, n_tilts)),
    )


def stated_geometry(true: Geometry, errors: Errors, pixel_size_A: float) -> Geometry:
    """Return the geometry as the files state it; `true` itself if they state the truth."""
    if not errors.in_files:
        return true
    return Geometry(
        [_stated_tomogram(*pair) for pair in zip(true.tomograms, errors.defocus_A, strict=True)],
        _stated_particles(true.particles, errors, pixel_size_A),
    )


def _stated_tomogram(tomogram: Tomogram, error_A: np.ndarray) -> Tomogram:
    return replace(
        tomogram,
        defocus_u_A=(tomogram.defocus_u_A + error_A).round(LENGTH_DECIMALS),
        defocus_v_A=(tomogram.defocus_v_A + error_A).round(LENGTH_DECIMALS),
    )


def _stated_particles(particles: Particles, errors: Errors, pixel_size_A: float) -> Particles:
    pose = euler_to_matrix(*particles.euler_deg.T)
    turn = Rotation.from_rotvec(errors.pose_rotvec_deg, degrees=True).as_matrix()
    moved_px = np.einsum("nij,nj->ni", pose, errors.pose_shift_A) / pixel_size_A
    return replace(
        particles,
        euler_deg=matrix_to_euler(pose @ turn).round(ANGLE_DECIMALS),
        origin_px=(particles.origin_px + moved_px).round(ANGLE_DECIMALS),
    )
