"""Other copies of the specimen at contact distance, as in polysomes and on membranes."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tomohet.particles.table import rotation_frame
from tomohet.physics.geometry import random_rotations
from tomohet.simulation.config import SimulationConfig
from tomohet.simulation.projection import CANVAS, Camera, middle
from tomohet.simulation.specimen import MASK_FRACTION, Specimen
from tomohet.simulation.states import States, draw_states
from tomohet.simulation.tilt_series import Tomogram

# Centres of neighbours lie between these multiples of the particle's diameter from the particle's centre.
CONTACT_DIAMETERS = (1.0, 1.25)
CANDIDATES = 100
# Angles at which the reach of the moving block is measured.
SWINGS = 7


@dataclass(frozen=True)
class Neighbours:
    """q neighbours in the order of their particles.

    particle : (q,) the particle that each neighbour touches
    offset_A : (q, 3) from the particle's centre to the neighbour's, along the axes of the tomogram
    rotation : (q, 3, 3) neighbour -> tomogram
    states : of the q neighbours
    """

    particle: np.ndarray
    offset_A: np.ndarray
    rotation: np.ndarray
    states: States


def draw_neighbours(config: SimulationConfig, specimen: Specimen, rng: np.random.Generator) -> Neighbours:
    """Draw neighbours of every particle: a Poisson number of the mean `neighbours`, in random directions.

    No neighbour overlaps the particle or another neighbour; a neighbour without room is left out.
    """
    n = config.n_particles
    wanted = rng.poisson(config.neighbours, n) if config.neighbours else np.zeros(n, int)
    offset_A, placed = _offsets(wanted, diameter_A(specimen), specimen.box * specimen.pixel_size_A, rng)
    particle, rank = np.nonzero(placed)
    return Neighbours(
        particle=particle,
        offset_A=offset_A[particle, rank],
        rotation=random_rotations(len(particle), rng) if len(particle) else np.zeros((0, 3, 3)),
        states=draw_states(specimen, len(particle), rng),
    )


def _offsets(
    wanted: np.ndarray, diameter_A: float, edge_A: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw offsets (n, k, 3) of up to k neighbours, and mark those that have room (n, k)."""
    n, most = len(wanted), int(wanted.max(initial=0))
    offset_A, placed = np.zeros((n, most, 3)), np.zeros((n, most), bool)
    lowest, highest = (factor * diameter_A for factor in CONTACT_DIAMETERS)
    # At larger distances, a neighbour's projection could miss the box.
    highest = max(lowest, min(highest, (edge_A + diameter_A) / 2))
    for rank in range(most):
        rows = np.flatnonzero(wanted > rank)
        candidates = rng.normal(size=(len(rows), CANDIDATES, 3))
        candidates *= rng.uniform(lowest, highest, (len(rows), CANDIDATES, 1)) / np.linalg.norm(
            candidates, axis=2, keepdims=True
        )
        free = np.ones((len(rows), CANDIDATES), bool)
        for earlier in range(rank):
            apart = np.linalg.norm(candidates - offset_A[rows, earlier, None], axis=2) >= diameter_A
            free &= apart | ~placed[rows, earlier, None]
        offset_A[rows, rank] = candidates[np.arange(len(rows)), free.argmax(axis=1)]
        placed[rows, rank] = free.any(axis=1)
    return offset_A, placed


def diameter_A(specimen: Specimen) -> float:
    """Return the diameter of the sphere about the box's centre that holds the specimen in all its states.

    Without atoms it holds all voxels above a fraction of the highest. It is at most the edge of the box.
    """
    if specimen.atoms is None:
        maps = np.concatenate([specimen.core[None], specimen.blocks])
        highest = maps.max(axis=(1, 2, 3), keepdims=True)
        voxels = np.argwhere((maps > MASK_FRACTION * highest.clip(min=1e-30)).any(axis=0))
        radius_A = np.linalg.norm(voxels - specimen.box // 2, axis=1).max() * specimen.pixel_size_A
    else:
        xyz_A = [specimen.atoms[["x_A", "y_A", "z_A"]].to_numpy()]
        if specimen.hinge is not None:
            limit, moving = specimen.hinge.limit_deg, xyz_A[0][specimen.atoms.unit == specimen.hinge.unit]
            xyz_A += [specimen.hinge.turned(moving, angle) for angle in np.linspace(-limit, limit, SWINGS)]
        radius_A = np.linalg.norm(np.concatenate(xyz_A), axis=1).max()
    return min(2 * float(radius_A), specimen.box * specimen.pixel_size_A)


def neighbour_images(
    neighbours: Neighbours, images: pd.DataFrame, tomogram: Tomogram, camera: Camera
) -> Tensor:
    """Image the neighbours for the rows of an image table: clean (m, D, D) to be added.

    They have the particle's CTF and dose. `camera` sees `CANVAS` boxes, so that a neighbour that leaves the
    box does not wrap around to the other side.
    """
    box = camera.slices.half_plane.box // CANVAS
    total = torch.zeros(len(images), box, box, device=camera.device)
    particle = images.particle.to_numpy()
    first, last = (np.searchsorted(neighbours.particle, particle, side=side) for side in ("left", "right"))
    for rank in range(int((last - first).max(initial=0))):
        rows = np.flatnonzero(first + rank < last)
        chosen = first[rows] + rank
        seen = _as_neighbours(neighbours, chosen, images.iloc[rows], tomogram)
        states = neighbours.states
        clean = camera.clean(seen, states.presence[chosen], states.angle_deg[chosen])
        total[torch.as_tensor(rows, device=camera.device)] += middle(clean)
    return total


def _as_neighbours(
    neighbours: Neighbours, chosen: np.ndarray, images: pd.DataFrame, tomogram: Tomogram
) -> pd.DataFrame:
    """Replace each particle in the image table by one of its neighbours: `chosen` (m,)."""
    tilted = tomogram.rotation[images.tilt.to_numpy()]
    offset_px = (
        np.einsum("mij,mj->mi", tilted[:, :2], neighbours.offset_A[chosen]) / images.pixel_size_A.iloc[0]
    )
    return images.assign(
        **rotation_frame(tilted @ neighbours.rotation[chosen]),
        # Content is displaced by minus the shift.
        shift_x_px=images.shift_x_px - offset_px[:, 0],
        shift_y_px=images.shift_y_px - offset_px[:, 1],
    )
