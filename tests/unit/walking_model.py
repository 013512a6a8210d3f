"""A model without symmetry and maps of it, for the tests of docking and alignment."""

import numpy as np
import pandas as pd

from tomohet.files.grids import MapGrid
from tomohet.physics.molmap import molmap

BOX, PIXEL = 32, 6.0
GRID = MapGrid((BOX,) * 3, PIXEL, (0.0, 0.0, 0.0))
RESOLUTION_A = 14.0
MIDDLE_A = BOX // 2 * PIXEL


def walking_model():
    """Three chains of 200 atoms, each a random walk: no symmetry, extent of about 90 Å."""
    rng = np.random.default_rng(5)
    walks = []
    for start in ((-15, 0, 5), (15, 10, -5), (0, -20, 0)):
        steps = rng.normal(size=(200, 3))
        steps *= 3.8 / np.linalg.norm(steps, axis=1, keepdims=True)
        walk = np.cumsum(steps, axis=0)
        walks.append(0.9 * (walk - walk.mean(axis=0)) + start)
    xyz_A = np.concatenate(walks) + MIDDLE_A + (4.0, -3.0, 7.0)
    table = pd.DataFrame(xyz_A, columns=["x_A", "y_A", "z_A"])
    return table.assign(Z=6.0, chain=np.repeat(list("ABC"), 200))


def positions(atoms):
    return atoms[["x_A", "y_A", "z_A"]].to_numpy()


def drawn(atoms, grid=GRID, noise=0.0, seed=0):
    """Map of the atoms on a grey scale of its own; noise in standard deviations of the map."""
    clean = molmap(
        positions(atoms), atoms.Z.to_numpy(), RESOLUTION_A, grid.box, grid.pixel_size_A, grid.origin_A,
        mode="integrated",
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    return (40 * (clean + noise * clean.std() * rng.normal(size=clean.shape)) - 7).astype(np.float32)
