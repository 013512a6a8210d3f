"""Ensembles of volumes with known blocks, or with none, for the benchmark of SIREn."""

import pickle
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
from scipy.ndimage import gaussian_filter

from tomohet.physics.molmap import molmap

PIXEL_A, RESOLUTION_A = 6.0, 15.0
CORE_A, SHELL_A, BLOCK_A = 45.0, 80.0, 24.0
ATOM_SPACING_A = 3.7
NOISE = 0.12  # of the density within the structure
OCCUPANCIES = (0.1, 0.3, 0.5, 0.7, 0.9)
SWEEP_A = 60.0  # of the continuous motion
FEATURES = 256  # random Fourier features of a smooth function of the latents
NULLS = ("independent", "smooth in latents", "smooth in latents and space", "noise maps")


@dataclass(frozen=True)
class Known:
    """What is true of an ensemble.

    stack: its file. names, parts (B, D, D, D), states (V, B) bool: its blocks, their density and presence.
    core (D, D, D): what is always there. stages (S, D, D, D): the moving piece from one end to the other.
    """

    stack: Path
    names: tuple[str, ...]
    parts: np.ndarray
    states: np.ndarray
    core: np.ndarray
    stages: np.ndarray

    def masks(self, level: float) -> np.ndarray:
        """Where each block is above the level and the core is not, (B, D, D, D) bool."""
        return (self.parts > level) & (self.core < level)

    def swept(self, level: float) -> np.ndarray:
        """Voxels (D, D, D) that the moving piece enters and leaves."""
        above = self.stages > level
        return above.any(axis=0) & ~above.all(axis=0) & (self.core < level)


def known_ensemble(folder: Path, volumes: int, seed: int, box: int = 48, smooth_noise: bool = False) -> Known:
    """Volumes of a core and nine pieces that come, go or move, as functions of independent latents.

    Five independent blocks in 10 to 90 % of the volumes; one in half of the volumes that have the third; a
    pair that is never there together; and a piece that moves along a line. Noise is white, or `smooth_noise`:
    at the resolution in space, and of the latents' smoothness.
    """
    rng = np.random.default_rng(seed)
    places = _sphere_points(9) * SHELL_A
    core = _ball(np.zeros(3), CORE_A, box, rng)
    z = rng.normal(size=(volumes, 9))
    rank = z.argsort(axis=0).argsort(axis=0) / volumes
    states = np.zeros((volumes, 8), dtype=bool)
    states[:, :5] = rank[:, :5] < OCCUPANCIES
    states[:, 5] = states[:, 2] & (z[:, 5] > 0)
    states[:, 6] = rank[:, 6] < 0.4
    states[:, 7] = ~states[:, 6] & (rank[:, 7] < 0.7)
    parts = np.stack([_ball(place, BLOCK_A, box, rng) for place in places[:8]])
    along = np.cross(places[8], (0, 0, 1.0))
    along /= np.linalg.norm(along)
    moving = _ball_atoms(BLOCK_A, rng)
    steps = np.linspace(-0.5, 0.5, 25)
    stages = np.stack([_density(moving + places[8] + SWEEP_A * step * along, box) for step in steps])
    stage = np.rint(rank[:, 8] * (len(steps) - 1)).astype(int)
    full = np.median(core[core > 0.5 * core.max()])
    noise = _noise(rng, z, box, "smooth in latents and space" if smooth_noise else "independent")
    stack = _written(
        folder,
        z,
        box,
        lambda v: core + np.tensordot(states[v], parts, 1) + stages[stage[v]] + NOISE * full * noise(v),
    )
    names = (*(f"in {share:.0%}" for share in OCCUPANCIES), "nested", "exclusive 1", "exclusive 2")
    return Known(stack, names, parts, states, core, stages)


def null_ensemble(folder: Path, volumes: int, seed: int, kind: str, box: int = 32, core: bool = True) -> Path:
    """Volumes of a core (or of nothing) and noise, in which nothing comes and goes together.

    kind: `independent`: white in space, new in every volume. `smooth in latents`: every voxel is a smooth
    function of four latents of its own. `smooth in latents and space`: likewise, at the resolution in space.
    `noise maps`: four maps of noise at the resolution times the four latents, as a linear decoder has it.
    """
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(volumes, 4))
    noise = _noise(rng, z, box, kind)
    if not core:
        return _written(folder, z, box, noise)
    ball = _ball(np.zeros(3), box / 32 * 55.0, box, rng)
    full = np.median(ball[ball > 0.5 * ball.max()])
    return _written(folder, z, box, lambda v: ball + NOISE * full * noise(v))


def _noise(rng: np.random.Generator, z: np.ndarray, box: int, kind: str):
    """A function from the volume's row to noise (D, D, D) of unit standard deviation."""
    if kind == "independent":
        return lambda v: rng.normal(size=(box,) * 3)
    if kind == "noise maps":
        courses = z
    else:
        phases = rng.uniform(0, 2 * np.pi, FEATURES)
        courses = np.sqrt(2) * np.cos(z @ rng.normal(size=(z.shape[1], FEATURES)) + phases)
    maps = rng.normal(size=(courses.shape[1], box, box, box)).astype(np.float32)
    if kind != "smooth in latents":
        width = RESOLUTION_A / (np.pi * np.sqrt(2)) / PIXEL_A
        maps = np.stack([gaussian_filter(one, width, mode="wrap") for one in maps])
        maps /= maps.std()
    courses = courses / np.sqrt(courses.shape[1])
    return lambda v: np.tensordot(courses[v].astype(np.float32), maps, 1)


def _written(folder: Path, z: np.ndarray, box: int, volume) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "volumes.mrc"
    with mrcfile.new_mmap(path, (len(z) * box, box, box), mrc_mode=2, overwrite=True) as mrc:
        for v in range(len(z)):
            mrc.data[v * box : (v + 1) * box] = volume(v)
        mrc.voxel_size = PIXEL_A
    (folder / "z.pkl").write_bytes(pickle.dumps(z.astype(np.float32)))
    return path


def _sphere_points(n: int) -> np.ndarray:
    """n directions (n, 3), evenly spread (Fibonacci)."""
    height = 1 - 2 * (np.arange(n) + 0.5) / n
    turn = np.pi * (1 + 5**0.5) * np.arange(n)
    return np.column_stack([*(np.sqrt(1 - height**2) * (np.cos(turn), np.sin(turn))), height])


def _ball_atoms(radius_A: float, rng: np.random.Generator) -> np.ndarray:
    atoms = int((radius_A / ATOM_SPACING_A) ** 3 * 4.2)
    directions = rng.normal(size=(atoms, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    return directions * radius_A * rng.uniform(size=(atoms, 1)) ** (1 / 3)


def _density(xyz_A: np.ndarray, box: int) -> np.ndarray:
    centred = xyz_A + box // 2 * PIXEL_A
    return molmap(centred, np.full(len(xyz_A), 7.0), RESOLUTION_A, box, PIXEL_A, mode="integrated")


def _ball(centre_A: np.ndarray, radius_A: float, box: int, rng: np.random.Generator) -> np.ndarray:
    return _density(_ball_atoms(radius_A, rng) + centre_A, box)
