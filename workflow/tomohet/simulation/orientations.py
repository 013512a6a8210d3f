"""Preferred orientation: viewing directions drawn from a von Mises-Fisher distribution."""

from dataclasses import replace

import numpy as np
from scipy.optimize import brentq
from scipy.spatial.transform import Rotation

from tomohet.simulation.tilt_series import ANGLE_DECIMALS, Particles

# Above this concentration all directions agree within a fraction of a degree.
LARGEST_CONCENTRATION = 1e7


def concentration(mean_cosine: float) -> float:
    """Return the concentration kappa of the von Mises-Fisher distribution of a mean cosine 0 < A < 1.

    Solves A = coth(kappa) - 1 / kappa (Mardia & Jupp, Directional Statistics, 2000).
    """

    def excess(kappa: float) -> float:
        return 1 / np.tanh(kappa) - 1 / kappa - mean_cosine

    return brentq(excess, 1e-4, LARGEST_CONCENTRATION) if excess(LARGEST_CONCENTRATION) > 0 else np.inf


def preferred_directions(
    n: int, mean_cosine: float, preferred: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw unit vectors (n, 3) about the unit vector `preferred` (3,), with a mean cosine to it."""
    kappa = concentration(mean_cosine)
    u = rng.random(n)
    # Inverse of the distribution function of the cosine.
    cosine = np.ones(n) if np.isinf(kappa) else 1 + np.log(u + (1 - u) * np.exp(-2 * kappa)) / kappa
    cosine = cosine.clip(-1, 1)
    azimuth, sine = rng.uniform(0, 2 * np.pi, n), np.sqrt(1 - cosine**2)
    about_z = np.stack([sine * np.cos(azimuth), sine * np.sin(azimuth), cosine], axis=1)
    turn, _ = Rotation.align_vectors(preferred[None], np.array([[0.0, 0.0, 1.0]]))
    return turn.apply(about_z)


def with_preferred_orientation(
    particles: Particles, mean_cosine: float, rng: np.random.Generator
) -> tuple[Particles, np.ndarray]:
    """Redraw the particles' rotations; return them and the particle's preferred direction (3,).

    A particle's viewing direction is the direction in the particle along the z axis of its tomogram, the beam
    at stage angle 0; the angle about that axis is uniform. With mean cosine 0 the particles are not redrawn,
    and the direction is 0.
    """
    if mean_cosine == 0:
        return particles, np.zeros(3)
    n = len(particles.euler_deg)
    preferred = rng.normal(size=3)
    preferred /= np.linalg.norm(preferred)
    x, y, z = preferred_directions(n, mean_cosine, preferred, rng).T
    # The third row of the rotation matrix is (sin tilt cos rot, sin tilt sin rot, cos tilt).
    rot, tilt = np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(np.hypot(x, y), z))
    psi = rng.uniform(-180, 180, n)
    euler = np.stack([rot, tilt, psi], axis=1).round(ANGLE_DECIMALS)
    return replace(particles, euler_deg=euler), preferred
