"""A small store made in memory: a core with two blobs that come and go, seen in noisy tilt images."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch

from tomohet.particles.noise_levels import relative_noise
from tomohet.particles.table import ROTATION_COLUMNS, rotation_frame
from tomohet.physics import slicing
from tomohet.physics.geometry import random_rotations
from tomohet.physics.imaging import image_parameters, physical_transfer
from tomohet.physics.lattice import HalfPlane, half_plane, shift_half_planes


@dataclass
class BlobStore:
    """What the linear model asks of a store, and the truth: `presence` (n, 2), `maps` (3, D, D, D)."""

    images: pd.DataFrame
    offsets: np.ndarray
    values: torch.Tensor
    presence: np.ndarray
    maps: torch.Tensor
    box: int
    tomogram: np.ndarray
    pixel_size_A: float = 10.0
    scale: float = 1.0
    window_power: float = 1.0
    copy_of: np.ndarray | None = None

    def __post_init__(self) -> None:
        # Kept as numbers, because tensors without values have none.
        self._stored = torch.view_as_real(self.values.to(torch.complex64)).numpy()

    @property
    def half_plane(self) -> HalfPlane:
        return half_plane(self.box)

    @property
    def gain(self) -> np.ndarray:
        return np.ones(len(self.images), np.float32)

    @property
    def particles(self) -> pd.DataFrame:
        table = pd.DataFrame({"tomogram": self.tomogram})
        return table if self.copy_of is None else table.assign(copy_of=self.copy_of)

    @property
    def own_noise(self) -> np.ndarray:
        return np.zeros(len(self.images), bool)

    @cached_property
    def noise_factor(self) -> np.ndarray:
        return relative_noise(self)

    def images_of(self, particles: np.ndarray) -> np.ndarray:
        return np.concatenate([np.arange(self.offsets[p], self.offsets[p + 1]) for p in particles])

    def restricted(self, keep: np.ndarray) -> "BlobStore":
        before = np.concatenate([[0], np.cumsum(keep)])
        images = self.images[keep].reset_index(drop=True)
        return replace(self, images=images, offsets=before[self.offsets], values=self.values[keep])

    poses_corrected = False

    def rotations(self) -> np.ndarray:
        return self.images[list(ROTATION_COLUMNS)].to_numpy(np.float64).reshape(-1, 3, 3)

    def with_poses(self, rotations: np.ndarray, shifts_px: np.ndarray) -> "BlobStore":
        images = self.images.assign(**rotation_frame(rotations))
        shifts = torch.as_tensor(shifts_px, dtype=torch.float32)
        return replace(self, images=images, values=shift_half_planes(self.values, shifts, self.half_plane))

    def read(self, rows: np.ndarray) -> np.ndarray:
        return self._stored[rows]

    def half_planes(self, rows: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
        return self.values[torch.as_tensor(rows)].to(device)


def blob_store(
    n_particles: int,
    snr: float,
    box: int = 16,
    n_tilts: int = 9,
    seed: int = 0,
    blocks: bool = True,
    frequencies: tuple[float, float] = (0.5, 0.3),
    host: bool = False,
    graded: bool = False,
    noise: tuple[float, ...] = (1.0,),
    surroundings: float = 0.0,
    symmetric: bool = False,
) -> BlobStore:
    """Simulate; the second tilt of odd particles is missing, so that tilt counts differ.

    snr: mean power of the clean half-planes over that of the noise, whose real and imaginary parts have
    variance 1. blocks: whether the blobs come and go, with these frequencies; else all particles have the
    first. host: whether the second is there with the first alone. graded: each in any proportion, instead of
    present or absent. noise: that variance in each of the tomograms, which take turns in the particles, two
    by two. surroundings: variance, over that of the noise, of a random density around every particle.
    symmetric: all maps are C2 about z.
    """
    rng = np.random.default_rng(seed)
    axis = np.arange(box) - box // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")

    def blob(place: list[float], width: float) -> np.ndarray:
        return np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2 + (z - place[2]) ** 2) / (2 * width**2))

    core = 2 * blob([0, 0, 0], 2.0) + blob([2, -1, 1], 1.3)
    maps = torch.tensor(np.stack([core, blob([4, 1, 0], 1.2), blob([-1, -4, 2], 1.2)]), dtype=torch.float32)
    if symmetric:
        maps = (maps + maps.flip(-1, -2).roll((1, 1), (-1, -2))) / 2
    presence = rng.random((n_particles, 2)) < frequencies
    presence = presence if blocks else np.broadcast_to([True, False], presence.shape)
    if host:
        presence[:, 1] &= presence[:, 0]
    if graded:
        presence = rng.random((n_particles, 2))
    tilt_deg = np.linspace(-60, 60, n_tilts)
    about_y = np.radians(tilt_deg)
    tilt = np.zeros((n_tilts, 3, 3))
    tilt[:, 0, 0] = tilt[:, 2, 2] = np.cos(about_y)
    tilt[:, 0, 2], tilt[:, 2, 0], tilt[:, 1, 1] = np.sin(about_y), -np.sin(about_y), 1
    pose = random_rotations(n_particles, rng)
    particle, number = (a.ravel() for a in np.mgrid[:n_particles, :n_tilts])
    kept = ~((particle % 2 == 1) & (number == 1))
    particle, number = particle[kept], number[kept]
    rotation = np.einsum("mij,mjk->mik", tilt[number], np.asarray(pose)[particle])
    images = pd.DataFrame({f"r{i}{j}": rotation[:, i, j] for i in range(3) for j in range(3)})
    defocus = rng.uniform(15_000, 30_000, len(images))
    images = images.assign(
        particle=particle,
        tilt=number,
        pixel_size_A=10.0,
        defocus_u_A=defocus,
        defocus_v_A=defocus - 400,
        defocus_angle_deg=rng.uniform(0, 180, len(images)),
        voltage_kV=300.0,
        cs_mm=2.7,
        amplitude_contrast=0.07,
        phase_shift_deg=0.0,
        dose_e_A2=3.0 * np.abs(number - n_tilts // 2),
        tilt_deg=tilt_deg[number],
        ctf_premultiplied=False,
        dose_weighted=False,
        scale_factor=1.0,
        dose_b_factor_A2=0.0,
        noise_scale=1.0,
    )
    params, hp = image_parameters(images), half_plane(box)
    index, weight = slicing.corners(hp.k, params.rotation, box)
    slices = slicing.gather(slicing.transform(maps), index, weight)
    parts = torch.tensor(np.column_stack([np.ones(n_particles), presence]), dtype=torch.complex64)[particle]
    transfer, _ = physical_transfer(params, hp, dose=True, tilt=True)
    clean = transfer * (slices * parts[:, None, :]).sum(-1)
    factor = torch.sqrt(2 * snr / clean.abs().square().mean())
    drawn = torch.as_tensor(rng.standard_normal((*clean.shape, 2)), dtype=torch.float32)
    # Two by two, since odd particles have one tilt less.
    tomogram = np.arange(n_particles) // 2 % len(noise)
    drawn *= torch.tensor(noise, dtype=torch.float32).sqrt()[tomogram[particle], None, None]
    offsets = np.searchsorted(particle, np.arange(n_particles + 1))
    values = clean * factor + torch.view_as_complex(drawn)
    if surroundings:
        around = transfer * random_densities(n_particles, box, index, weight, particle, rng)
        values = values + around * torch.sqrt(2 * surroundings / around.abs().square().mean())
    return BlobStore(images, offsets, values, presence, maps * factor, box, tomogram)


def random_densities(
    n: int,
    box: int,
    index: torch.Tensor,
    weight: torch.Tensor,
    particle: np.ndarray,
    rng: np.random.Generator,
) -> torch.Tensor:
    """Slices (m, n) of white noise in the box of each particle."""
    fields = torch.as_tensor(rng.standard_normal((n, box, box, box)), dtype=torch.float32)
    slices = []
    for number, field in enumerate(fields):
        own = particle == number
        slices.append(slicing.gather(slicing.transform(field[None]), index[own], weight[own])[..., 0])
    return torch.cat(slices)


def expanded_by_c2(store: BlobStore) -> BlobStore:
    """Every particle and its copy, turned by 180 degrees about z, in turns; `copy_of` says so."""
    n = len(store.offsets) - 1
    particle = np.repeat(np.arange(n), 2)
    rows = store.images_of(particle)
    counts = np.diff(store.offsets)[particle]
    images = store.images.iloc[rows].reset_index(drop=True)
    turned = np.repeat(np.arange(2 * n) % 2 == 1, counts)[:, None, None]
    rotations = images[list(ROTATION_COLUMNS)].to_numpy(np.float64).reshape(-1, 3, 3)
    rotations = np.where(turned, rotations @ np.diag([-1.0, -1.0, 1.0]), rotations)
    images = images.assign(particle=np.repeat(np.arange(2 * n), counts), **rotation_frame(rotations))
    return replace(
        store,
        images=images,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        values=store.values[torch.as_tensor(rows)],
        presence=store.presence[particle],
        tomogram=store.tomogram[particle],
        copy_of=2 * particle,
    )
