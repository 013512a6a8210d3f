"""The prepared store: all tilt images of a dataset as memory-mapped Fourier half-planes, with their tables.

A folder with `particles.parquet`, `images.parquet`, `images.npy` and, written last, `store.yaml`. Subsets of
particles are lists of indices into the one store; nothing is copied.
"""

import hashlib
import logging
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow
import torch

from tomohet import __version__
from tomohet.errors import InputError
from tomohet.files.atomic import atomic_path, write_parquet, write_yaml
from tomohet.files.digests import forget, sealed
from tomohet.files.rows import RowFile, row_checksums
from tomohet.particles.noise_levels import relative_noise
from tomohet.particles.normalisation import divisors, grey_scales, tomogram_of
from tomohet.particles.preparation import (
    Normalisation,
    Preparation,
    noise_deviation,
    read_half_planes,
)
from tomohet.particles.rescaling import Grids, common_grid, rescaled
from tomohet.particles.store_files import (
    CHECKSUM,
    DATA,
    DESCRIPTION,
    IMAGES,
    PARTICLES,
    read_data,
    read_description,
    read_images,
    read_particles,
)
from tomohet.particles.table import ROTATION_COLUMNS, ParticleSet, rotation_frame
from tomohet.physics.fourier import HalfPlane, cosine_window, half_plane, shift_half_planes
from tomohet.progress import track

FORMAT = 2  # 2: images.parquet has scale_factor and dose_b_factor_A2
CORRECTIONS = ("more_shift_x_px", "more_shift_y_px")
HEAD_BYTES = 4096  # of each stack, for its digest
BYTES_PER_CHECK = 64 * 2**20

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Store:
    """An opened store.

    `particles`, `images`: the tables of `ParticleSet`; the images of one particle are contiguous, and
    `images` has besides `noise_scale`, by which the image was divided, and `grey_scale`, the one that is
    usual in its tomogram. `data`: memory-mapped (n, n_half, 2), real and imaginary parts of the windowed,
    shifted, sign-corrected, normalised transforms at the points of `half_plane`; `data_rows[i]` is the row
    of image i in it, `checksums` are those of its rows (None: not known). `scale`: real units = stored
    values * scale.
    `digest` changes with the inputs and with every option of preparation.
    """

    folder: Path
    description: dict
    particles: pd.DataFrame
    images: pd.DataFrame
    data: np.ndarray
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
        """float32 (n_images,): how much larger an image's signal is than is usual in its tomogram.

        Images divided by their own noise have the same noise, but signals of different size: the forward
        model multiplies its transfer functions by this. Tomograms count alike (`particles.normalisation`).
        """
        # Stores of earlier versions have one grey scale for all.
        usual = self.images.get("grey_scale", self.scale)
        return (usual / self.images["noise_scale"]).to_numpy(np.float32)

    @property
    def own_noise(self) -> np.ndarray:
        """bool (n_images,): whether the image has been divided by its own noise."""
        if self.description["preparation"]["normalise"] != "noise":
            return np.zeros(len(self.images), bool)
        return ~self.images["ctf_premultiplied"].to_numpy(bool)

    @cached_property
    def window_power(self) -> float:
        """Mean square of the images' window (1 without one): they hold so much of the noise variance that
        images have where the particle is."""
        radii = self.description["preparation"]["window"]
        return cosine_window(self.box, *radii).square().mean().item() if radii else 1.0

    @cached_property
    def noise_factor(self) -> np.ndarray:
        """float32 (n_images,): noise variance of each image beside its tomogram's (`noise_levels`)."""
        return relative_noise(self)

    def rotations(self) -> np.ndarray:
        """Rotations volume -> image of all images, float64 (n, 3, 3)."""
        return self.images[list(ROTATION_COLUMNS)].to_numpy(np.float64).reshape(-1, 3, 3)

    def images_of(self, particles: np.ndarray) -> np.ndarray:
        """Image rows (int64) of the given particles, particle after particle."""
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
        """Half-planes (m, n_half, 2) of the given image rows as they are stored, into `out` if given, shifted
        by the corrections of their poses (`with_poses`).

        Read with as few calls as their places allow; fastest when `data_rows` ascend. Raises InputError when
        the file has been cut off, or an image is not what was written.
        """
        image_rows = np.asarray(image_rows, np.int64)
        stored = self._file.read(self.data_rows[image_rows], out)
        if self.poses_corrected and len(stored):
            shifts = torch.from_numpy(self._corrections[image_rows])
            moved = shift_half_planes(complex_half_planes(torch.from_numpy(stored)), shifts, self.half_plane)
            stored[...] = torch.view_as_real(moved).numpy()
        return stored

    def half_planes(self, image_rows: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
        """Half-planes (m, n_half) complex64 of the given image rows, on `device`."""
        return complex_half_planes(torch.from_numpy(self.read(image_rows)).to(device))

    @property
    def poses_corrected(self) -> bool:
        """Whether poses differ from those that the input states."""
        return CORRECTIONS[0] in self.images.columns

    def with_poses(self, rotations: np.ndarray, shifts_px: np.ndarray) -> "Store":
        """The same store with other rotations (n_images, 3, 3), volume -> image.

        shifts_px: (n_images, 2) x, y, further shifts, which are applied as images are read.
        """
        images = self.images.assign(**rotation_frame(rotations))
        for column, more in zip(CORRECTIONS, shifts_px.T, strict=True):
            images[column] = images.get(column, 0.0) + more
        return replace(self, images=images)

    def restricted(self, keep: np.ndarray) -> "Store":
        """The same store with only the images where `keep` (bool per image); particles keep their numbers."""
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
    """(m, n_half) complex64 of half-planes (m, n_half, 2) as they are stored, on their device."""
    if not len(stored):  # PyTorch gives an empty tensor strides that no complex view may have.
        return torch.zeros(stored.shape[:-1], dtype=torch.complex64, device=stored.device)
    return torch.view_as_complex(stored.float())


def open_store(folder: str | Path) -> Store:
    """Open a prepared store; raises InputError when the folder holds none, or an incomplete or damaged one.

    The tables are held against their digests here, each image against its checksum when it is read.
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
    images, checksums = read_images(folder, len(particles))
    pyarrow.default_memory_pool().release_unused()  # the reader's buffers: more than the table itself
    data = read_data(folder, description, len(images))
    if data.shape != (len(images), half_plane(description["box"]).n, 2):
        raise InputError(f"{folder}: tables and images do not match; run `tomohet prepare` again")
    return Store(folder, description, particles, images, data, np.arange(len(images)), checksums)


def _ready(folder: Path, digest: str) -> Store | None:
    """The store in `folder` if it has this digest and is whole, every image of it; else None."""
    try:
        description = read_description(folder)
        if description is None or description["digest"] != digest or description["format"] != FORMAT:
            return None
        store = open_store(folder)
        step = max(1, BYTES_PER_CHECK // store.data.strides[0])
        for start in range(0, len(store.images), step):
            store.read(np.arange(start, min(start + step, len(store.images))))
        return store
    except InputError as damage:
        log.warning("prepared again: %s", damage)
        return None


def write_store(
    folder: str | Path,
    particle_set: ParticleSet,
    *,
    window: bool = True,
    window_r: float = 0.8,
    window_r_outer: float = 0.9,
    invert: bool | None = None,
    normalise: Normalisation = "noise",
    dtype: Literal["float32", "float16"] = "float32",
    rescale: float | None = None,
    box: int | None = None,
) -> Store:
    """Prepare all images of `particle_set` into `folder` and open the store; options as in `Preparation`.

    Images are read, freed of their background, windowed, transformed, given their sign, normalised and
    shifted, in this order.
    A store of the same inputs and options is reused as it stands; any other is rebuilt. Sections are
    streamed, so memory does not grow with the number of images. `store.yaml` is written last.
    With `rescale`, images of whatever pixel size and box are brought to one of each on the way. Raises
    InputError for pixels that are not finite, constant images, values beyond float16, and, without
    `rescale`, mixed pixel sizes.
    """
    folder = Path(folder)
    preparation = Preparation(window, window_r, window_r_outer, invert, normalise, dtype, rescale, box)
    images = particle_set.images
    if images.empty:
        raise InputError(f"{particle_set.source}: no image to prepare")
    grids = common_grid(particle_set, rescale, box)
    digest = _digest(particle_set, preparation)
    if (ready := _ready(folder, digest)) is not None:
        log.info("%s is up to date: %d images", folder, len(images))
        return ready

    folder.mkdir(parents=True, exist_ok=True)
    forget(folder / DESCRIPTION)
    (folder / DESCRIPTION).unlink(missing_ok=True)
    if grids.resampled:
        particle_set = rescaled(particle_set, grids)
        images = particle_set.images
    hp = half_plane(grids.box)
    shift, divisor = divisors(particle_set, preparation, hp, grids)
    with atomic_path(folder / DATA) as temporary:
        of_each = _write_half_planes(temporary, particle_set, preparation, hp, grids, shift, divisor)
    write_parquet(folder / PARTICLES, particle_set.particles)
    grey_scale = grey_scales(of_each["noise_scale"], images, tomogram_of(particle_set))
    write_parquet(folder / IMAGES, images.assign(**of_each, grey_scale=grey_scale))
    description = {
        "format": FORMAT,
        "tomohet": __version__,
        "source": str(particle_set.source),
        "dialect": particle_set.dialect,
        "box": particle_set.box,
        "pixel_size_A": particle_set.pixel_size_A,
        "scale": float(np.median(of_each["noise_scale"])),
        "preparation": preparation.described(),
        "inverted": sorted({bool(sign < 0) for sign in preparation.signs(images)}),
        "counts": {
            "particles": len(particle_set.particles),
            "images": len(images),
            "tomograms": int(particle_set.particles["tomogram"].nunique()),
            "in_input": dict(particle_set.n_input),
        },
        "inputs": {str(path): _sha256(path.read_bytes()) for path in particle_set.inputs},
        "digest": digest,
    }
    with sealed(folder / DESCRIPTION):
        write_yaml(folder / DESCRIPTION, description)
    return open_store(folder)


def _write_half_planes(
    path: Path,
    particle_set: ParticleSet,
    preparation: Preparation,
    hp: HalfPlane,
    grids: Grids,
    shift: float,
    divisor: np.ndarray,
) -> dict[str, np.ndarray]:
    """Stream all images into the .npy file `path`; divisor: of `normalisation.divisors`.

    Returns, as columns of the image table, each image's divisor `noise_scale`, float32 (n,), and the checksum
    of its row of the file, uint32 (n,).
    """
    images = particle_set.images
    shape = (len(images), hp.n, 2)
    data = np.lib.format.open_memmap(path, mode="w+", dtype=preparation.dtype, shape=shape)
    signs = torch.from_numpy(preparation.signs(images))
    shifts = torch.tensor(images[["shift_x_px", "shift_y_px"]].to_numpy(np.float32))
    noise_scale = divisor.copy()
    checksums = np.zeros(len(images), np.uint32)
    with track(total=len(images), unit="images", description="preparing") as progress:
        for rows, transforms in read_half_planes(images, np.arange(len(images)), grids, preparation):
            # Scaled as pairs of real numbers, for the same reason as in `shift_half_planes`.
            parts = torch.view_as_real(transforms) * signs[rows, None, None]
            parts[..., 0] -= shift
            own = np.isnan(divisor[rows])
            if own.any():
                noise = noise_deviation(torch.view_as_complex(parts), hp).numpy()
                noise_scale[rows] = np.where(own, noise, divisor[rows])
            parts /= torch.from_numpy(noise_scale[rows])[:, None, None]
            shifted = shift_half_planes(torch.view_as_complex(parts), shifts[rows], hp)
            contiguous = rows[-1] - rows[0] + 1 == len(rows)
            here = slice(rows[0], rows[-1] + 1) if contiguous else rows
            stored = _as_stored(torch.view_as_real(shifted).numpy(), data.dtype)
            data[here], checksums[here] = stored, row_checksums(stored)
            progress.update(len(rows))
    data.flush()
    return {"noise_scale": noise_scale, CHECKSUM: checksums}


def _as_stored(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype == np.float16 and np.abs(values).max() > np.finfo(np.float16).max:
        raise InputError("an image has values beyond the range of float16; prepare with --dtype float32")
    return values.astype(dtype)


def _digest(particle_set: ParticleSet, preparation: Preparation) -> str:
    """Digest of all that decides the store's content: tables, stacks and options.

    Stacks enter with name, size, time of change and first bytes: reading them all would take as long as
    preparing them. Where they lie does not matter.
    """
    parts = [repr((FORMAT, __version__, particle_set.box, sorted(preparation.described().items())))]
    for table in (particle_set.particles, particle_set.images.drop(columns="stack")):
        parts.append(_sha256(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes()))
    codes, stacks = pd.factorize(particle_set.images["stack"])
    parts.append(_sha256(codes.tobytes()))
    for stack in stacks:
        status = Path(stack).stat()
        with open(stack, "rb") as file:
            head = _sha256(file.read(HEAD_BYTES))
        parts.append(f"{Path(stack).name} {status.st_size} {status.st_mtime_ns} {head}")
    return _sha256("\n".join(parts).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
