"""Tomograms, their tilts, and the positions of the particles in them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.particles.table import rotation_frame
from tomohet.physics.geometry import euler_to_matrix, matrix_to_euler, random_rotations
from tomohet.simulation.config import SimulationConfig
from tomohet.simulation.packing import PACKED_FRACTION, keep_apart

TOMOGRAM_SIZE_A = np.array([6000.0, 6000.0, 1800.0])
UNBINNED_PIXEL_SIZE_A = 1.5
TILT_AXIS_DEG, TILT_AXIS_SPREAD_DEG = 85.0, 0.5
ANGLE_DECIMALS, MATRIX_DECIMALS, LENGTH_DECIMALS = 5, 9, 3
CANDIDATES_PER_PARTICLE = 20


@dataclass(frozen=True)
class Tomogram:
    """One tilt series of t tilts, sorted by stage angle.

    rotation : (t, 3, 3), tomogram -> image
    defocus_u_A, defocus_v_A : (t,) at the tomogram's centre, Å
    defocus_angle_deg : (t,) astigmatism angle
    dose_e_A2 : (t,) cumulative, before the exposure
    visible : (t,) tilts that are used
    """

    name: str
    tilt_deg: np.ndarray
    rotation: np.ndarray
    defocus_u_A: np.ndarray
    defocus_v_A: np.ndarray
    defocus_angle_deg: np.ndarray
    dose_e_A2: np.ndarray
    visible: np.ndarray


@dataclass(frozen=True)
class Particles:
    """n particles in the order of the files: tomograms interleaved at random.

    tomogram : (n,) index
    number : (n,) from 1 within the tomogram
    position_A : (n, 3), x, y, z from the corner of the tomogram
    euler_deg : (n, 3) rot, tilt, psi of the particle in the tomogram
    origin_px : (n, 3), the shift that centres it
    """

    tomogram: np.ndarray
    number: np.ndarray
    position_A: np.ndarray
    euler_deg: np.ndarray
    origin_px: np.ndarray


def dose_symmetric_scheme(tilt_max_deg: float, tilt_step_deg: float) -> np.ndarray:
    """Return stage angles (t,) in the order of exposure of the dose-symmetric scheme.

    The order is 0, +s, -s, -2s, +2s, ... (Hagen, Wan & Briggs 2017).
    """
    steps = np.arange(1, int(np.floor(tilt_max_deg / tilt_step_deg + 1e-6)) + 1)
    first = np.where(steps % 2 == 1, 1, -1)
    pairs = np.stack([first * steps, -first * steps], axis=1).ravel()
    return np.concatenate([[0.0], pairs * tilt_step_deg])


def make_tomograms(config: SimulationConfig, rng: np.random.Generator) -> list[Tomogram]:
    """Make tilt series of one scheme, each with its own defocus, astigmatism, tilt axis and hidden tilts."""
    exposed = dose_symmetric_scheme(config.tilt_max, config.tilt_step)
    exposure = np.argsort(exposed)
    dose = exposure * config.total_dose / len(exposed)
    return [
        _tomogram(f"TS_{i:03d}", exposed[exposure], dose, config, rng)
        for i in range(1, config.n_tomograms + 1)
    ]


def _tomogram(
    name: str, tilt_deg: np.ndarray, dose: np.ndarray, config: SimulationConfig, rng: np.random.Generator
) -> Tomogram:
    n = len(tilt_deg)
    axis_deg = rng.normal(TILT_AXIS_DEG, TILT_AXIS_SPREAD_DEG) + rng.normal(0, 0.1, n)
    defocus = rng.uniform(*config.defocus_A) + rng.normal(0, config.defocus_jitter_A, n)
    astigmatism = np.abs(config.astigmatism_A * (1 + 0.3 * rng.normal(size=n))) / 2
    hidden = (rng.random(n) < config.hidden_fraction) & (dose > 0)
    return Tomogram(
        name=name,
        tilt_deg=tilt_deg,
        rotation=euler_to_matrix(0.0, tilt_deg, axis_deg).round(MATRIX_DECIMALS) + 0.0,
        defocus_u_A=(defocus + astigmatism).round(LENGTH_DECIMALS),
        defocus_v_A=(defocus - astigmatism).round(LENGTH_DECIMALS),
        defocus_angle_deg=((rng.uniform(0, 180) + rng.normal(0, 5, n)) % 180).round(LENGTH_DECIMALS),
        dose_e_A2=dose,
        visible=~hidden,
    )


def place_particles(
    config: SimulationConfig, pixel_size_A: float, distance_A: float, rng: np.random.Generator
) -> Particles:
    """Place particles with uniform orientations, at least `distance_A` apart, in random tomograms.

    Raises InputError when a tomogram cannot hold its number of particles.
    """
    tomogram = rng.permutation(np.arange(config.n_particles) % config.n_tomograms)
    number = pd.Series(tomogram).groupby(tomogram).cumcount().to_numpy() + 1
    position_A = np.empty((config.n_particles, 3))
    for i in range(config.n_tomograms):
        position_A[tomogram == i] = _positions(int((tomogram == i).sum()), distance_A, rng)
    return Particles(
        tomogram=tomogram,
        number=number,
        position_A=position_A.round(LENGTH_DECIMALS),
        euler_deg=matrix_to_euler(random_rotations(config.n_particles, rng)).round(ANGLE_DECIMALS),
        origin_px=(config.shift_px * rng.uniform(-1, 1, (config.n_particles, 3))).round(ANGLE_DECIMALS),
    )


def _positions(n: int, distance_A: float, rng: np.random.Generator) -> np.ndarray:
    """Place `n` points (n, 3) in a tomogram, `distance_A` from each other and half of it from the faces."""
    room = TOMOGRAM_SIZE_A - distance_A
    most = int(0.6 * PACKED_FRACTION * room.clip(min=0).prod() / (np.pi / 6 * distance_A**3))
    if n > most:
        raise InputError(
            f"simulate: {n} particles of {distance_A:.0f} Å do not fit into a tomogram, at most {most} do: "
            f"raise n_tomograms {n / max(most, 1):.1f}-fold"
        )
    points = rng.uniform(0, room, (CANDIDATES_PER_PARTICLE * n, 3))
    return points[keep_apart(points, distance_A)[:n]] + distance_A / 2


@dataclass(frozen=True)
class Geometry:
    """Tilt series and the particles in them: as they were imaged, or as files state them."""

    tomograms: list[Tomogram]
    particles: Particles

    def images(self, members: np.ndarray, config: SimulationConfig, pixel_size_A: float) -> pd.DataFrame:
        """Return the `image_table` of particles (m,) of one tomogram."""
        tomogram = self.tomograms[self.particles.tomogram[members[0]]]
        return image_table(tomogram, self.particles, members, config, pixel_size_A)


def binning(pixel_size_A: float) -> int:
    """Return the binning factor of the images relative to the pixels of the tilt series."""
    return max(1, round(pixel_size_A / UNBINNED_PIXEL_SIZE_A))


def tomogram_size_px(pixel_size_A: float) -> np.ndarray:
    """Return the extent (3,) of every tomogram in unbinned pixels."""
    return np.round(TOMOGRAM_SIZE_A / (pixel_size_A / binning(pixel_size_A))).astype(int)


def image_table(
    tomogram: Tomogram,
    particles: Particles,
    members: np.ndarray,
    config: SimulationConfig,
    pixel_size_A: float,
) -> pd.DataFrame:
    """Tabulate all tilt images, hidden ones included, of some particles of one tomogram.

    members : (m,) particle numbers

    Rows are sorted by (particle, tilt). Columns are those of the prepared store, `visible`, and the position
    in the tilt image, `image_x_px, image_y_px`. A tilt's defocus is that at the tomogram's centre plus the
    height of the particle in the tilted frame.
    """
    n_tilts = len(tomogram.tilt_deg)
    pose = euler_to_matrix(*particles.euler_deg[members].T)
    rotation = tomogram.rotation[None] @ pose[:, None]
    shift = np.einsum("tij,pj->pti", tomogram.rotation, particles.origin_px[members])
    size_A = tomogram_size_px(pixel_size_A) * pixel_size_A / binning(pixel_size_A)
    centred_A = particles.position_A[members] - size_A / 2
    height_A = centred_A @ tomogram.rotation[:, 2, :].T
    image_px = (centred_A @ tomogram.rotation[:, :2].transpose(0, 2, 1) + size_A[:2] / 2) / pixel_size_A
    tilt = np.tile(np.arange(n_tilts), len(members))
    table = pd.DataFrame({"particle": np.repeat(members, n_tilts), "tilt": tilt})
    table = table.assign(**rotation_frame(rotation.reshape(-1, 3, 3)))
    table["shift_x_px"], table["shift_y_px"] = shift[..., 0].ravel(), shift[..., 1].ravel()
    table["defocus_u_A"] = (tomogram.defocus_u_A + height_A).ravel()
    table["defocus_v_A"] = (tomogram.defocus_v_A + height_A).ravel()
    table["defocus_angle_deg"] = tomogram.defocus_angle_deg[tilt]
    table["voltage_kV"] = config.voltage_kV
    table["cs_mm"] = config.cs_mm
    table["amplitude_contrast"] = config.amplitude_contrast
    table["phase_shift_deg"] = 0.0
    table["pixel_size_A"] = pixel_size_A
    table["dose_e_A2"] = tomogram.dose_e_A2[tilt]
    table["tilt_deg"] = np.abs(tomogram.tilt_deg)[tilt]
    table["ctf_premultiplied"] = False
    table["dose_weighted"] = False
    table["scale_factor"], table["dose_b_factor_A2"] = 1.0, 0.0
    table["image_x_px"], table["image_y_px"] = image_px[..., 0].T.ravel(), image_px[..., 1].T.ravel()
    table["visible"] = tomogram.visible[tilt]
    return table
