"""A pseudo-atomic assembly: an irregular core with compact blocks on its surface, one of which may swing."""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from tomohet.simulation.config import CORE, Block
from tomohet.simulation.packing import fill

log = logging.getLogger(__name__)

# Heavy atoms of proteins: carbon, nitrogen, oxygen.
ELEMENTS, ELEMENT_FRACTIONS = np.array([6, 7, 8]), np.array([0.63, 0.17, 0.20])
LOBES_OF_CORE, LOBES_OF_BLOCK = 9, 4
# Lengths while building are in units of (volume per atom)^(1/3).
CONTACT = 1.1
SLIDE_STEP = 0.05
DOCKING_POSES = 40
HOST_ANGLE_DEG = 75.0
HINGE_AXES = 16


@dataclass(frozen=True)
class Hinge:
    """Rotation of one block: `unit` rotates about the axis (3,) through the point (3,) by up to `limit_deg`.

    The point is in Å in the coordinates of the model; both are x, y, z.
    """

    unit: str
    point_A: np.ndarray
    axis: np.ndarray
    limit_deg: float

    def rotations(self, angle_deg: np.ndarray) -> np.ndarray:
        """Return rotation matrices (m, 3, 3) of angles (m,): an atom at x moves to M (x - point) + point."""
        return Rotation.from_rotvec(np.deg2rad(angle_deg)[:, None] * self.axis).as_matrix()

    def turned(self, xyz_A: np.ndarray, angle_deg: float) -> np.ndarray:
        """Return atom positions (a, 3) after rotation by one angle."""
        return (xyz_A - self.point_A) @ self.rotations(np.array([angle_deg]))[0].T + self.point_A


@dataclass(frozen=True)
class Assembly:
    """Atoms (unit, x_A, y_A, z_A, Z; centred on the origin) and the hinge of the moving unit, if any."""

    atoms: pd.DataFrame
    hinge: Hinge | None

    @property
    def units(self) -> list[str]:
        """Unit names in order of appearance."""
        return list(self.atoms.unit.unique())

    def xyz_A(self, unit: str) -> np.ndarray:
        """Return the positions (a, 3) of one unit."""
        return self.atoms.loc[self.atoms.unit == unit, ["x_A", "y_A", "z_A"]].to_numpy()


def build_assembly(
    blocks: tuple[Block, ...], n_atoms: int, diameter_A: float, rng: np.random.Generator
) -> Assembly:
    """Generate an assembly of about `n_atoms` atoms, `diameter_A` wide in all positions of the moving block.

    Each block gets its fraction of the atoms, touches the core (a nested block touches its host), and touches
    nothing else. Later blocks also keep clear of the path of the moving block.
    """
    counts = {block.name: max(5, round(block.mass * n_atoms)) for block in blocks}
    placed = {CORE: _unit_shape(n_atoms - sum(counts.values()), LOBES_OF_CORE, 0.75, rng)}
    directions = _spread_directions(sum(block.host is None for block in blocks), rng)
    outward: dict[str, np.ndarray] = {}
    hinge = None
    obstacles = [placed[CORE]]
    # The moving block needs room to swing, so it is placed first.
    for block in sorted(blocks, key=lambda b: (b.host is not None, -b.hinge_deg)):
        moves = block.hinge_deg > 0
        xyz = _unit_shape(counts[block.name], LOBES_OF_BLOCK, 0.9 if moves else 0.5, rng, straight=moves)
        if block.host is None:
            outward[block.name] = directions.pop()
            start = placed[CORE].mean(axis=0)
        else:
            outward[block.name] = _tilted(outward[block.host], HOST_ANGLE_DEG, rng)
            start = placed[block.host].mean(axis=0)
        if moves:
            poses = [_long_axis_along(xyz, outward[block.name])]
        else:
            poses = [turn.apply(xyz) for turn in Rotation.random(DOCKING_POSES, rng=rng)]
        xyz = _dock(poses, start, outward[block.name], np.concatenate(obstacles))
        if moves:
            hinge = hinge_between(block, xyz, outward[block.name], np.concatenate(obstacles))
            obstacles += [hinge.turned(xyz, a) for a in np.linspace(-block.hinge_deg, block.hinge_deg, 7)]
        obstacles.append(xyz)
        placed[block.name] = xyz
    units = [CORE, *(block.name for block in blocks)]
    return _scaled({unit: placed[unit] for unit in units}, hinge, np.concatenate(obstacles), diameter_A, rng)


def _unit_shape(
    n: int, lobes: int, reach: float, rng: np.random.Generator, straight: bool = False
) -> np.ndarray:
    """Place `n` atoms in a union of lobes, one unit of volume per atom, centred.

    `reach` spreads the lobes.
    """
    if straight:
        centres = np.stack([np.linspace(-reach, reach, lobes), *rng.normal(0, 0.15, (2, lobes))], axis=1)
    else:
        centres = rng.normal(0, reach, (lobes, 3))
    radii = rng.uniform(0.6, 1.0, lobes)

    def inside(points: np.ndarray) -> np.ndarray:
        squared = ((points[:, None, :] - centres) ** 2).sum(axis=2)
        return np.exp(-squared / radii**2).sum(axis=1) > np.exp(-1)

    margin = 2 * radii.max()
    xyz, volume = fill(inside, centres.min(axis=0) - margin, centres.max(axis=0) + margin, n, rng)
    return (xyz - xyz.mean(axis=0)) * (n / volume) ** (1 / 3)


def _spread_directions(n: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return `n` unit vectors spread evenly over the sphere (Fibonacci lattice), rotated at random."""
    i = np.arange(n) + 0.5
    height, azimuth = 1 - 2 * i / max(n, 1), np.pi * (1 + 5**0.5) * i
    radius = np.sqrt(1 - height**2)
    vectors = np.stack([np.cos(azimuth) * radius, np.sin(azimuth) * radius, height], axis=1)
    return list(Rotation.random(rng=rng).apply(vectors))


def _tilted(direction: np.ndarray, angle_deg: float, rng: np.random.Generator) -> np.ndarray:
    """Return a unit vector at `angle_deg` from `direction`, on a random side."""
    axis = np.cross(direction, rng.normal(size=3))
    return Rotation.from_rotvec(np.deg2rad(angle_deg) * axis / np.linalg.norm(axis)).apply(direction)


def _long_axis_along(xyz: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Rotate a centred unit so that its longest principal axis points along `direction`."""
    long_axis = np.linalg.svd(xyz, full_matrices=False)[2][0]
    rotation, _ = Rotation.align_vectors(direction[None], long_axis[None])
    return rotation.apply(xyz)


def _dock(
    poses: list[np.ndarray], start: np.ndarray, direction: np.ndarray, obstacles: np.ndarray
) -> np.ndarray:
    """Move a centred unit in along the line start + t direction until it touches the obstacles.

    The one of its `poses` that comes closest is used.
    """
    tree = cKDTree(obstacles)
    closest, docked = np.inf, None
    for xyz in poses:
        distance = np.ptp(obstacles, axis=0).max() + np.linalg.norm(xyz, axis=1).max()
        while distance > 0:
            gap = tree.query(xyz + start + distance * direction)[0].min()
            if gap < CONTACT + SLIDE_STEP:
                break
            # There can be no contact before the unit has moved by the gap.
            distance -= gap - CONTACT
        if distance < closest:
            closest, docked = distance, xyz + start + distance * direction
    return docked


def hinge_between(block: Block, xyz: np.ndarray, direction: np.ndarray, obstacles: np.ndarray) -> Hinge:
    """Return a hinge at the contact of block and core, with the perpendicular axis that gives most room."""
    tree = cKDTree(obstacles)
    nearest = np.argsort(tree.query(xyz)[0])[: max(3, len(xyz) // 20)]
    point = xyz[nearest].mean(axis=0)
    across = np.linalg.svd(direction[None])[2][1:]
    turns = np.linspace(0, np.pi, HINGE_AXES, endpoint=False)
    best, room = None, -np.inf
    for axis in np.cos(turns)[:, None] * across[0] + np.sin(turns)[:, None] * across[1]:
        hinge = Hinge(block.name, point, axis, block.hinge_deg)
        ends = np.concatenate([hinge.turned(xyz, sign * block.hinge_deg) for sign in (-1, 1)])
        clearance = np.percentile(tree.query(ends)[0], 5)
        if clearance > room:
            best, room = hinge, clearance
    return best


def _scaled(
    placed: dict[str, np.ndarray],
    hinge: Hinge | None,
    swept: np.ndarray,
    diameter_A: float,
    rng: np.random.Generator,
) -> Assembly:
    """Centre on the middle of all positions and scale to the diameter in Å."""
    centre = (swept.min(axis=0) + swept.max(axis=0)) / 2
    scale = diameter_A / 2 / np.linalg.norm(swept - centre, axis=1).max()
    tables = [
        pd.DataFrame((xyz - centre) * scale, columns=["x_A", "y_A", "z_A"]).assign(unit=unit)
        for unit, xyz in placed.items()
    ]
    atoms = pd.concat(tables, ignore_index=True)[["unit", "x_A", "y_A", "z_A"]]
    atoms["Z"] = rng.choice(ELEMENTS, len(atoms), p=ELEMENT_FRACTIONS)
    if hinge is not None:
        hinge = Hinge(hinge.unit, (hinge.point_A - centre) * scale, hinge.axis, hinge.limit_deg)
    log.info("assembly: %d atoms in %d units, %.1f Å per atom", len(atoms), len(placed), scale)
    return Assembly(atoms, hinge)
