"""The prepared store: all tilt images of a dataset as memory-mapped Fourier half planes, with their tables.

A store is a folder with `particles.parquet`, `images.parquet`, `images.npy` and, written last, `store.yaml`.
Subsets of particles are lists of indices into the one store; nothing is copied.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import torch

from tomohet.errors import InputError
from tomohet.files.rows import RowFile
from tomohet.particles.filtering import checked_indices
from tomohet.particles.noise_levels import relative_noise
from tomohet.particles.store_files import (
    DESCRIPTION,
    read_data,
    read_description,
    read_images,
    read_particles,
)
from tomohet.particles.table import ROTATION_COLUMNS, rotation_frame
from tomohet.physics.fourier import cosine_window
from tomohet.physics.lattice import HalfPlane, half_plane, shift_half_planes

FORMAT = 2  # 2: images.parquet has scale_factor, dose_b_factor_A2, grey_scale and checksum
# Columns of the shifts that corrected poses add to the shifts already applied to the images.
CORRECTIONS = ("more_shift_x_px", "more_shift_y_px")


@dataclass(frozen=True, eq=False)
class Store:
    """An opened store.

    particles, images : the tables of `ParticleSet`; the images of one particle are contiguous. `images` also
        has `noise_scale`, the divisor of the image, and `grey_scale`, the usual divisor in its tomogram.
    data : memory-mapped (n, n_half, 2), real and imaginary parts of the windowed, shifted, sign-corrected,
        normalised transforms at the points of `half_plane`
    data_rows : data_rows[i] is the row of image i in `data`
    checksums : checksums of the rows (None: not known)
    scale : real units = stored values * scale
    digest : changes with the inputs and with every option of preparation
    """

    folder: Path
    description: dict
    particles: pd.DataFrame
    images: pd.DataFrame
    data: np.memmap
    data_rows: np.ndarray
    checksums: np.ndarray | None = None

    @property
    def box(self) -> int:
        return self.description["box"]

    @property
    def pixel_size_A(self) -> float:
        return self.description["pixel_size_A"]

    @property
    def scale(self) -> float:
        return self.description["scale"]

    @property
    def digest(self) -> str:
        return self.description["digest"]

    @property
    def half_plane(self) -> HalfPlane:
        return half_plane(self.box)

    @cached_property
    def offsets(self) -> np.ndarray:
        """int64 (n_particles + 1,): the images of particle p are rows offsets[p] to offsets[p + 1] - 1."""
        particle = self.images["particle"].to_numpy()
        return np.searchsorted(particle, np.arange(len(self.particles) + 1)).astype(np.int64)

    @cached_property
    def gain(self) -> np.ndarray:
        """float32 (n_images,): the size of an image's signal relative to the usual size in its tomogram.

        Images divided by their own noise have the same noise, but signals of different size. The forward
        model multiplies its transfer functions by this number. Tomograms count equally
        (`particles.normalisation`).
        """
        # Stores of earlier versions have one grey scale for all.
        usual = self.images.get("grey_scale", self.scale)
        return (usual / self.images["noise_scale"]).to_numpy(np.float32)

    @property
    def own_noise(self) -> np.ndarray:
        """Mask (n_images,) bool: whether the image has been divided by its own noise."""
        if self.description["preparation"]["normalise"] != "noise":
            return np.zeros(len(self.images), bool)
        return ~self.images["ctf_premultiplied"].to_numpy(bool)

    @cached_property
    def window_power(self) -> float:
        """Mean square of the images' window (1 without one).

        It is the fraction of the noise variance, as present at the particle, that windowed images hold.
        """
        radii = self.description["preparation"]["window"]
        return cosine_window(self.box, *radii).square().mean().item() if radii else 1.0

    @cached_property
    def noise_factor(self) -> np.ndarray:
        """float32 (n_images,): noise variance of each image relative to its tomogram's (`noise_levels`).

        It is 1 where all images end below Nyquist (`particles.measured_filter`), because nothing beyond is
        noise.
        """
        if (self.description.get("extraction") or {}).get("end_A") is not None:
            return np.ones(len(self.images), np.float32)
        return relative_noise(self)

    def rotations(self) -> np.ndarray:
        """Rotations volume -> image of all images, float64 (n, 3, 3)."""
        return self.images[list(ROTATION_COLUMNS)].to_numpy(np.float64).reshape(-1, 3, 3)

    def images_of(self, particles: np.ndarray) -> np.ndarray:
        """Return the image rows (int64) of the given particles, particle after particle."""
        particles = np.asarray(particles, dtype=np.int64)
        starts, counts = self.offsets[particles], np.diff(self.offsets)[particles]
        before = np.cumsum(counts) - counts
        return np.repeat(starts - before, counts) + np.arange(counts.sum())

    @cached_property
    def _file(self) -> RowFile:
        return RowFile(self.data, self.checksums)

    @cached_property
    def _corrections(self) -> np.ndarray:
        return self.images[list(CORRECTIONS)].to_numpy(np.float32)

    def read(self, image_rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Read half planes (m, n_half, 2) of image rows as stored, shifted by the corrections of their poses.

        They are read into `out` if given; the corrections are those of `with_poses`. The number of read calls
        is the smallest that their positions allow; reading is fastest when `data_rows` ascend.

        Raises InputError when the file has been cut off, or an image is not what was written.
        """
        image_rows = np.asarray(image_rows, np.int64)
        stored = self._file.read(self.data_rows[image_rows], out)
        if self.poses_corrected and len(stored):
            shifts = torch.from_numpy(self._corrections[image_rows])
            moved = shift_half_planes(complex_half_planes(torch.from_numpy(stored)), shifts, self.half_plane)
            stored[...] = torch.view_as_real(moved).numpy()
        return stored

    def half_planes(self, image_rows: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
        """Return half planes (m, n_half) complex64 of the given image rows, on `device`."""
        return complex_half_planes(torch.from_numpy(self.read(image_rows)).to(device))

    @property
    def corrections(self) -> np.ndarray:
        """(n_images, 2) x, y: shifts in px that the poses of `with_poses` add to those of the images."""
        if not self.poses_corrected:
            return np.zeros((len(self.images), 2))
        return self.images[list(CORRECTIONS)].to_numpy(np.float64)

    @property
    def poses_corrected(self) -> bool:
        """Whether poses differ from those that the input states."""
        return CORRECTIONS[0] in self.images.columns

    def with_poses(self, rotations: np.ndarray, shifts_px: np.ndarray) -> "Store":
        """Return the same store with other rotations (n_images, 3, 3), volume -> image.

        shifts_px : (n_images, 2) x, y, further shifts, which are applied as images are read
        """
        images = self.images.assign(**rotation_frame(rotations))
        for column, more in zip(CORRECTIONS, shifts_px.T, strict=True):
            images[column] = images.get(column, 0.0) + more
        return replace(self, images=images)

    def restricted(self, keep: np.ndarray) -> "Store":
        """Return the store with only the images where `keep` (bool per image).

        Particles keep their numbers.
        """
        if keep.all():
            return self
        images = self.images[keep].reset_index(drop=True)
        images["image"] = np.arange(len(images))
        counts = np.bincount(images["particle"], minlength=len(self.particles))
        return replace(
            self,
            images=images,
            particles=self.particles.assign(n_tilts=counts),
            data_rows=self.data_rows[keep],
        )


def complex_half_planes(stored: torch.Tensor) -> torch.Tensor:
    """Convert half planes (m, n_half, 2) as stored to (m, n_half) complex64, on their device."""
    if not len(stored):  # PyTorch gives an empty tensor strides that no complex view may have.
        return torch.zeros(stored.shape[:-1], dtype=torch.complex64, device=stored.device)
    return torch.view_as_complex(stored.float())


def open_store(folder: str | Path, of_particles: np.ndarray | None = None) -> Store:
    """Open a prepared store; raise InputError when the folder holds none, or an incomplete or damaged one.

    of_particles : only the images of these particles take part (None: all). Memory then grows with their
        number, and hardly with that of the store.

    The tables are compared with their digests here, and each image with its checksum when it is read.
    """
    folder = Path(folder)
    description = read_description(folder)
    if description is None:
        raise InputError(f"{folder}: no prepared store (no {DESCRIPTION}); make one with `tomohet prepare`")
    if description["format"] != FORMAT:
        raise InputError(
            f"{folder}: store of format {description['format']}, expected {FORMAT}; prepare it again"
        )
    particles = read_particles(folder)
    if of_particles is not None:
        of_particles = checked_indices(of_particles, len(particles), "--ind-ptcls", "particles")
    images = read_images(folder, len(particles), of_particles)
    pyarrow.default_memory_pool().release_unused()  # the reader's buffers: more than the table itself
    data = read_data(folder, description, images.n_stored)
    if data.shape != (images.n_stored, half_plane(description["box"]).n, 2):
        raise InputError(f"{folder}: tables and images do not match; run `tomohet prepare` again")
    if of_particles is not None:
        particles["n_tilts"] = np.bincount(images.table["particle"], minlength=len(particles))
    return Store(folder, description, particles, images.table, data, images.rows, images.checksums)
