"""Structured background: a random density around each particle, like that of ice and cytosol."""

from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tomohet.physics.fourier import inverse3, transform3
from tomohet.physics.shells import radius_grid
from tomohet.simulation.projection import CANVAS, Camera, MapSlices, middle
from tomohet.simulation.tilt_series import Tomogram

# Diameter of the ball of background around a particle, in boxes: it covers the box's circle at every tilt.
BALL_BOXES = 1.5


def background_field(seed: int, particle: int, box: int) -> np.ndarray:
    """Generate the density (E, E, E) float32 around one particle, E = 1.5 boxes, [z, y, x] in tomogram axes.

    It is a Gaussian field whose power falls as 1/k up to Nyquist, without k = 0, within a ball of diameter E,
    not scaled. The same seed and particle give the same field.
    """
    edge = 2 * round(BALL_BOXES * box / 2)
    rng = np.random.default_rng(np.random.SeedSequence([seed, particle, 0x6963652B]))
    white = torch.from_numpy(rng.standard_normal((edge,) * 3, dtype=np.float32))
    field = inverse3(transform3(white) * _amplitude(edge), edge)
    return (field * _ball(edge)).numpy()


@lru_cache(maxsize=2)
def _amplitude(edge: int) -> Tensor:
    radius = radius_grid(edge)
    inside = (radius > 0) & (radius <= edge / 2)
    return torch.where(inside, radius.clamp(min=1) ** -0.5, 0.0)


@lru_cache(maxsize=2)
def _ball(edge: int) -> Tensor:
    axis = torch.arange(edge) - edge // 2
    return (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 <= (edge / 2) ** 2).float()


def background_images(seed: int, images: pd.DataFrame, tomogram: Tomogram, camera: Camera) -> Tensor:
    """Image the background, not scaled, for the rows of an image table of whole particles: clean (m, D, D).

    Fields rotate with the tilts, pass the CTF and fade with the dose as the particle does, which is in the
    middle of its field. `camera` sees `CANVAS` boxes.
    """
    hp = camera.slices.half_plane
    rotation = torch.as_tensor(tomogram.rotation, dtype=torch.float32, device=camera.device)
    found = []
    # Fields are made one by one: for large boxes, a field is as large as all images of its particle.
    for particle, rows in images.groupby("particle", sort=False):
        field = torch.from_numpy(background_field(seed, particle, hp.box // CANVAS)).to(camera.device)
        slices = MapSlices(field[None]).at(hp.frequency, rotation[rows.tilt.to_numpy(copy=True)])
        mass = field.sum().expand(len(rows), 1)
        found.append(middle(camera.develop(slices.transpose(1, 2), mass, rows)[:, 0]))
    return torch.cat(found)
