"""Tilt images as weighted observations of Fourier slices, streamed in chunks of particles.

All reconstructions and the linear model need two numbers per half-plane point: the numerator q = g y and the
weight w = g h, with the data y and their transfer function h. g = h for raw images, and g = 1 for images that
were multiplied by their transfer function during extraction (`physics.imaging.physical_transfer`). Then sum
S^H q is the data term and sum S^H w S the normal operator, whatever the preprocessing was. For an image with
f times the noise of its tomogram, g is divided by f.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tomohet.device import sent
from tomohet.particles.ahead import images_on
from tomohet.particles.copies import sources
from tomohet.particles.noise_levels import noise_gain
from tomohet.particles.store import Store
from tomohet.physics.imaging import ImageParameters, physical_transfer
from tomohet.physics.lattice import HalfPlane
from tomohet.physics.shells import nearest_shell
from tomohet.physics.slicing import corners
from tomohet.processes import ALONE, Processes

# Fourier coefficients of a disordered density that fills the box are independent at this distance.
APART_PX = 1.0
DOSE_STEP_E_A2, DOSE_BINS = 3.0, 50
# Fourier points per chunk; each takes about 700 bytes with ten basis maps.
ROWS_PER_CHUNK = {"cpu": 400_000, "cuda": 4_000_000}


@dataclass(frozen=True)
class Chunk:
    """Tilt images of consecutive particles.

    part : positions of the particles among the process's own particles
    counts : number of images of each particle, on the host
    owner : (m,) position of each image's particle within the chunk
    tomogram : (m,) number of the image's tomogram in `Observations.tomograms`
    dose_bin : (m,) number of the image's dose bin (`dose_bins`)
    data : (m, n) complex
    transfer : (m, n)
    numerator : (m, n) complex q
    weight : (m, n) w
    noise_gain : (m, n) noise variance in `data` relative to an untreated image without a window; 0 at points
        without data
    rotation : (m, 3, 3) volume -> image
    index, corner_weight : (m, n, 8) voxels and weights of the interpolation
    """

    part: slice
    counts: np.ndarray
    owner: Tensor
    tomogram: Tensor
    dose_bin: Tensor
    data: Tensor
    transfer: Tensor
    numerator: Tensor
    weight: Tensor
    noise_gain: Tensor
    rotation: Tensor
    index: Tensor
    corner_weight: Tensor

    @property
    def n_particles(self) -> int:
        """Number of particles in the chunk."""
        return len(self.counts)


class Observations:
    """Images of particles of a store up to a maximum spatial frequency.

    store : prepared store
    particles : ordinals in the store, ascending
    max_frequency : cycles per pixel
    box : box in which slices are cut, at least twice the highest lattice radius; default: the store's box
    processes : processes that share the particles. Length, chunks and the attribute `particles` refer to the
        process's own part; `everyone` contains all particles
    apart_from : parts of the store with other images of the particles; Fourier points within APART_PX of
        their slices have weight 0
    """

    def __init__(
        self,
        store: Store,
        particles: np.ndarray,
        *,
        max_frequency: float = 0.5,
        box: int | None = None,
        device: torch.device | str = "cpu",
        processes: Processes = ALONE,
        apart_from: tuple[Store, ...] = (),
    ) -> None:
        self.store, self.device, self.processes = store, torch.device(device), processes
        self.apart_from = apart_from
        self.everyone = np.asarray(particles)
        self.particles = self.everyone[processes.part(len(self.everyone))]
        self.max_frequency = max_frequency
        self.box = box or store.box
        on_host = store.half_plane
        self.n_rows = on_host.prefix(min(max_frequency * store.box, self.box / 2))
        self.n_shells = int(on_host.shell[self.n_rows - 1]) + 1
        self.half_plane = on_host.to(self.device).first(self.n_rows)
        # Shells of the noise of images, and of the spectra of maps.
        self.shell = self.half_plane.shell
        self.spectral_shell = nearest_shell(self.half_plane.radius)
        self.tomograms, self._tomogram = tomograms_of(store)
        self._dose_bin = dose_bins(store.images)
        counts = np.diff(store.offsets)[self.particles]
        per_chunk = max(1, ROWS_PER_CHUNK[self.device.type] // max(1, self.n_rows))
        parts = np.split(
            np.arange(len(self.particles)),
            np.flatnonzero(np.diff(np.cumsum(counts) // per_chunk)) + 1,
        )
        self._parts = [part for part in parts if len(part)]

    def __len__(self) -> int:
        return len(self.particles)

    @property
    def copies(self) -> float:
        """Mean number of copies of a particle among all particles (`particles.copies`)."""
        return len(self.everyone) / len(np.unique(sources(self.store.particles)[self.everyone]))

    def joined(self, *tables: Tensor) -> tuple[Tensor, ...]:
        """Return tables (N, ...) of all particles from each process's own rows (n, ...)."""
        return tuple(self.processes.joined_parts(table, len(self.everyone)) for table in tables)

    def first(self, n: int) -> "Observations":
        """Return observations of the first n of all particles, the same in all processes."""
        return Observations(
            self.store, self.everyone[:n], max_frequency=self.max_frequency, box=self.box, device=self.device
        )

    def alike(self, particles: np.ndarray, box: int | None = None) -> "Observations":
        """Return observations of other particles of the store, shared by the same processes.

        box : default: the store's box
        """
        return Observations(
            self.store, particles, max_frequency=self.max_frequency, box=box, device=self.device,
            processes=self.processes, apart_from=self.apart_from,
        )  # fmt: skip

    def chunks(self) -> Iterator[Chunk]:
        """Yield all images, whole particles at a time, without waiting for a GPU."""
        counts = np.diff(self.store.offsets)
        parts = [self.particles[part] for part in self._parts]
        images = images_on(self.device, self.store, map(self.store.images_of, parts))
        for part, chosen, (rows, whole, params) in zip(self._parts, parts, images, strict=True):
            data = whole[:, : self.n_rows]
            own_gain = self._on_device(self.store.gain[rows])
            transfer, gain = stored_transfer(params, self.half_plane, own_gain, dose=True, tilt=True)
            factor = self._on_device(self.store.noise_factor[rows])[:, None]
            index, corner_weight = corners(self.half_plane.k, params.rotation, self.box)
            if self.apart_from:
                gain = gain * self._far(chosen, counts[chosen], params.rotation)
            yield Chunk(
                part=slice(int(part[0]), int(part[-1]) + 1),
                counts=counts[chosen],
                owner=self._on_device(np.repeat(np.arange(len(part)), counts[chosen])),
                tomogram=self._on_device(np.repeat(self._tomogram[chosen], counts[chosen])),
                dose_bin=self._on_device(self._dose_bin[rows]),
                data=data,
                transfer=transfer,
                numerator=gain / factor * data,
                weight=gain / factor * transfer,
                noise_gain=self.store.window_power * factor * noise_gain(transfer, gain),
                rotation=params.rotation,
                index=index,
                corner_weight=corner_weight,
            )

    def _far(self, particles: np.ndarray, counts: np.ndarray, rotation: Tensor) -> Tensor:
        """Tell (m, n) whether points of images are far from all slices of the images in `apart_from`.

        counts : number of images of each particle
        """
        normals = np.concatenate([_normals(store, particles) for store in self.apart_from], axis=1)
        of_images = self._on_device(np.repeat(normals, counts, axis=0))
        far = torch.ones(len(rotation), self.n_rows, dtype=torch.bool, device=self.device)
        plane = self.half_plane.k.to(rotation)
        for normal in of_images.unbind(1):
            # In the frame of the volume k is x e_1 + y e_2, with the first two rows e_1 and e_2 of the
            # rotation.
            along = torch.einsum("mil,ml->mi", rotation[:, :2], normal)
            far &= ~((along @ plane.T).abs() <= APART_PX)
        return far

    def _on_device(self, values: np.ndarray) -> Tensor:
        return sent(values, self.device)


def stored_transfer(
    params: ImageParameters, hp: HalfPlane, own_gain: Tensor, *, dose: bool, tilt: bool
) -> tuple[Tensor, Tensor]:
    """Return h and g (m, n) of images as stored: `physical_transfer` and the store's `gain` (m,).

    Raw images were divided by their own noise, so their noise is equal and their signal amplitudes differ.
    Premultiplied images were divided by a number that scales signal and noise alike, so their information
    about the map is unchanged.
    """
    h, g = physical_transfer(params, hp, dose=dose, tilt=tilt)
    own_gain = own_gain[:, None]
    return h * own_gain, g * torch.where(params.ctf_premultiplied[:, None], 1 / own_gain, own_gain)


def _normals(store: Store, particles: np.ndarray) -> np.ndarray:
    """Return the normals of the particles' slices, float32 (P, maximum number of images, 3).

    Missing images have NaN.
    """
    first, last = store.offsets[particles], store.offsets[particles + 1]
    number = np.arange(int((last - first).max(initial=0)))
    there = number < (last - first)[:, None]
    normals = np.full((*there.shape, 3), np.nan, np.float32)
    rows = (first[:, None] + number)[there]
    normals[there] = store.images[["r20", "r21", "r22"]].to_numpy(np.float32)[rows]
    return normals


def dose_bins(images: pd.DataFrame) -> np.ndarray:
    """Return the number (n,) of each image's dose bin; there are `DOSE_BINS` bins of `DOSE_STEP_E_A2`.

    The bins are the same in every store, even if tilts have been removed.
    """
    bins = images["dose_e_A2"].to_numpy(float) / DOSE_STEP_E_A2 + 0.5
    return bins.astype(np.int64).clip(0, DOSE_BINS - 1)


def tomograms_of(store: Store) -> tuple[list[str], np.ndarray]:
    """Return the names of a store's tomograms, and the number of each particle's tomogram."""
    names, number = np.unique(store.particles["tomogram"].astype(str), return_inverse=True)
    return names.tolist(), number
