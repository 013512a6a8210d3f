"""Tilt images of the chosen particles in batches of whole particles, with their imaging parameters."""

import copy
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tomohet.device import free_memory, sent
from tomohet.particles.store import Store, complex_half_planes
from tomohet.physics.dose import optimal_dose_prefix
from tomohet.physics.imaging import ImageParameters, image_parameters
from tomohet.physics.lattice import HalfPlane
from tomohet.processes import ALONE, Processes
from tomohet.training.order import Blocks, groups_per_window, in_groups, lanes, shuffled
from tomohet.training.reading import SHARE_OF_MEMORY, USUAL, Loading, Place, StoredImages

log = logging.getLogger(__name__)

IMAGES_AT_ONCE = 100_000  # table rows from which imaging parameters are taken in one piece


class Whole(NamedTuple):
    """The whole batch, as a process needs to know it when its own batch may be a part of it.

    particles, rows : numbers of particles and of half-plane points that enter the loss. For a step from fixed
        buffers, `rows` and `points` are scalars on the device
    points : the largest number of full-plane points of a particle: the published normaliser of the KL term
    first : position of this part's first particle in the whole batch
    """

    particles: int
    rows: int | Tensor
    points: int | Tensor
    first: int


class Fetched(NamedTuple):
    """Part of a batch that this process computes, before the parameters of its images are gathered.

    index, stored : (m,) numbers of its images and (m, n, 2) their half planes as stored, on the device
    numbers, positions : the same image numbers (m,), and (P,) the positions of its particles, on the host
    prefix, tilts, whole : as in `Batch`
    """

    index: Tensor
    stored: Tensor
    numbers: np.ndarray
    positions: np.ndarray
    prefix: np.ndarray
    tilts: np.ndarray
    whole: Whole


class Batch(NamedTuple):
    """Images of P particles, one particle after another.

    fourier : (m, n) complex64 half planes
    params : the forward model's parameters of the m images
    gain : (m,) factor by which an image's values are larger than those of the common scale
    prefix : (m,) int64 on the host, number of leading half-plane points of each image that enter the loss
    tilts : (P,) int64 on the host, images per particle. For a step from fixed buffers, `prefix` and `tilts`
        are on the device
    dose_weighted : whether any image of the data set carries dose weights
    whole : sizes of the batch of all processes
    start : (P, 2, K) posteriors of the linear model from which the network starts, or None
    maps : (P, voxels) back-projected differences from the mean map, for an encoder that reads maps, or None
    noise : (m,) noise variance of the images relative to the common spectrum, or None
    length : fixed number of Fourier points, the last ones with weight 0 (`rows.pack_rows`), or None
    """

    fourier: Tensor
    params: ImageParameters
    gain: Tensor
    prefix: np.ndarray | Tensor
    tilts: np.ndarray | Tensor
    dose_weighted: bool
    whole: Whole
    start: Tensor | None = None
    maps: Tensor | None = None
    noise: Tensor | None = None
    length: int | None = None


@dataclass(frozen=True)
class LossRows:
    """Which half-plane points of an image enter the loss.

    dose_mask : leave out the points beyond an image's optimal dose
    max_frequency : highest spatial frequency, cycles/px
    """

    dose_mask: bool = False
    max_frequency: float = 0.5

    def prefix(self, params: ImageParameters, hp: HalfPlane) -> Tensor:
        """Return (m,) int64: the number of leading points of each image that enter the loss."""
        prefix = torch.full_like(params.dose_e_A2, hp.prefix(self.max_frequency * hp.box), dtype=torch.int64)
        if self.dose_mask:
            useful = optimal_dose_prefix(hp, params.pixel_size_A, params.dose_e_A2, params.voltage_kV)
            prefix = torch.minimum(prefix, useful)
        return prefix


class ParticleImages:
    """The images of some particles of a store, addressed by the particles' positions 0 ... P-1.

    Parameters
    ----------
    particles : (P,) particle numbers in the store
    keep : bool per image of these particles (in order), or None for all: one side of a split of the tilts
    loading, place : how images are read, and where they are held (None: where they fit); see `reading`
    batch_size : number of particles in a batch of `shuffled`
    processes : the processes that share every batch. Each has its own particles (`mine`): those of some lanes
        (`order`), the same in every epoch. It reads and holds the images of these alone

    """

    def __init__(
        self,
        store: Store,
        particles: np.ndarray,
        device: torch.device,
        *,
        loss_rows: LossRows = LossRows(),
        keep: np.ndarray | None = None,
        loading: Loading = USUAL,
        place: Place | None = None,
        batch_size: int = 1,
        processes: Processes = ALONE,
    ) -> None:
        self.device, self.processes, self.batch_size = device, processes, batch_size
        tilts = np.diff(store.offsets)[particles]
        rows = store.images_of(particles)
        if keep is not None:
            tilts = np.add.reduceat(keep.astype(np.int64), np.cumsum(tilts) - tilts)
            rows = rows[keep]
        self.tilts = tilts
        self._bytes_per_particle = store.data.strides[0] * tilts.sum() / max(len(tilts), 1)
        by_name = np.argsort(store.particles["source_id"].to_numpy(str)[particles], kind="stable")
        self._blocks = Blocks.of(by_name, self._bytes_per_particle, batch_size)
        self._lane = lanes(self._blocks, batch_size)
        own = processes.part(batch_size)
        self.mine = (own.start <= self._lane) & (self._lane < own.stop)
        self.start: Tensor | None = None
        self.maps: Tensor | None = None
        self.noise: Tensor | None = None
        self._starts = np.cumsum(tilts) - tilts
        self.half_plane = store.half_plane.to(device)
        self.params = _parameters(store, rows, device)
        self._gain = torch.as_tensor(store.gain[rows], device=device)
        self._dose_weighted = bool(self.params.dose_weighted.any())
        # Kept on the host, so that no step has to wait for the device to count points.
        self.prefix = loss_rows.prefix(self.params, self.half_plane).cpu().numpy()
        self._most_rows = self.half_plane.n
        log.info("%d particles", len(particles))
        needed = None if self.mine.all() else np.flatnonzero(np.repeat(self.mine, tilts))
        self._images = StoredImages(store, rows, device, loading, place, needed)

    def __len__(self) -> int:
        return len(self.tilts)

    @property
    def place(self) -> Place:
        """Where the images are held."""
        return self._images.place

    @property
    def bytes_held(self) -> int:
        """Bytes of the images that this process holds on the device or in memory."""
        return self._images.bytes_held

    def limited(self, max_frequency: float) -> "ParticleImages":
        """Return the same images; no batch's `prefix` has points beyond `max_frequency` (cycles/px)."""
        images = copy.copy(self)
        images._most_rows = self.half_plane.prefix(max_frequency * self.half_plane.box)
        return images

    def knowing(
        self, *, start: Tensor | None = None, maps: Tensor | None = None, noise: Tensor | None = None
    ) -> "ParticleImages":
        """Return the same images with what a linear model knows of them, for every batch; None: as before.

        start : (P, 2, K) posteriors of all particles
        maps : (P, voxels) back-projected differences from the mean map
        noise : (m,) noise variance of all images relative to the common spectrum
        """
        images = copy.copy(self)
        images.start = self.start if start is None else start
        images.maps = self.maps if maps is None else maps
        images.noise = self.noise if noise is None else noise
        return images

    def shuffled(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Return an epoch's batches in the order of `order.shuffled`, each as its particles' positions."""
        return in_groups(shuffled(self._blocks, self._lane, rng), self.batch_size)

    def own_groups(self, positions: np.ndarray, size: int) -> list[np.ndarray]:
        """Return this process's own particles among ascending `positions`, in groups of `size`."""
        return in_groups(positions[self.mine[positions]], size)

    def batches(self, groups: list[np.ndarray], first: int = 0) -> Iterator[Batch]:
        """Yield the batch of each group of positions, or this process's part of it.

        first : number of the group to begin with

        The groups should either be those of `shuffled` from the start of the epoch, or ascend (`own_groups`).
        In both cases the file is read in large pieces.
        """
        yield from map(self.gathered, self.fetched(groups, first))

    def fetched(self, groups: list[np.ndarray], first: int = 0) -> Iterator[Fetched]:
        """Yield the same batches as `batches`, before the parameters of their images are gathered."""
        stored = self._images.batches(self._windows(groups, first))
        for group, (index, values) in zip(groups[first:], stored, strict=True):
            yield self._fetched(group, index, values)

    def batch(self, group: np.ndarray) -> Batch:
        """Return the images of the particles at the positions `group`, or this process's part of them."""
        (batch,) = self.batches([group])
        return batch

    def _windows(self, groups: list[np.ndarray], first: int) -> Iterator[list[np.ndarray]]:
        """Yield the image numbers of this process's part of each group, in lists of groups to read at once.

        A list ends where a window of the order ends. It is shorter where two windows would take too much
        memory.
        """
        size_of_group = self._bytes_per_particle * len(groups[0]) if groups else 0
        per_window = per_list = groups_per_window(len(groups), size_of_group)
        if self.place == "file":
            spare = SHARE_OF_MEMORY * free_memory(torch.device("cpu")) / 2
            own_size = self._bytes_per_particle * self.mine[groups[0]].sum() if groups else 0
            per_list = max(1, min(per_window, int(spare / max(own_size, 1))))
        for window in range(0, len(groups), max(per_window, 1)):
            end = min(window + per_window, len(groups))
            for start in range(window, end, per_list):
                chosen = groups[max(start, first) : min(start + per_list, end)]
                if chosen:
                    yield [self._image_numbers(group[self.mine[group]]) for group in chosen]

    def _image_numbers(self, positions: np.ndarray) -> np.ndarray:
        tilts = self.tilts[positions]
        before = np.cumsum(tilts) - tilts
        return np.repeat(self._starts[positions] - before, tilts) + np.arange(tilts.sum())

    def gathered(self, fetched: Fetched) -> Batch:
        """Return a batch with the parameters of its images."""
        needed = self.start is not None or self.maps is not None
        positions = sent(fetched.positions, self.device) if needed else None
        return self.batch_of(
            fetched.index, fetched.stored, positions, fetched.prefix, fetched.tilts, fetched.whole
        )

    def batch_of(
        self,
        index: Tensor,
        stored: Tensor,
        positions: Tensor | None,
        prefix: np.ndarray | Tensor,
        tilts: np.ndarray | Tensor,
        whole: Whole,
        length: int | None = None,
    ) -> Batch:
        """Gather all that is known of the images `index` of the particles `positions`, on the device."""
        start, maps = (None if known is None else known[positions] for known in (self.start, self.maps))
        noise = None if self.noise is None else self.noise[index]
        return Batch(
            complex_half_planes(stored),
            self.params.take(index),
            self._gain[index],
            prefix,
            tilts,
            self._dose_weighted,
            whole,
            start,
            maps,
            noise,
            length,
        )

    def _fetched(self, group: np.ndarray, index: Tensor, stored: Tensor) -> Fetched:
        mine = self.mine[group]
        numbers = self._image_numbers(group)
        prefix = self.prefix[numbers].clip(max=self._most_rows)
        first_image = np.concatenate([[0], np.cumsum(self.tilts[group])])
        rows = np.diff(np.concatenate([[0], np.cumsum(prefix)])[first_image])
        # Lanes stand in their order in a batch, so that those of a process are neighbours.
        whole = Whole(len(group), int(rows.sum()), 2 * int(rows.max()), int(mine.argmax()))
        own, positions = np.repeat(mine, self.tilts[group]), group[mine]
        return Fetched(index, stored, numbers[own], positions, prefix[own], self.tilts[positions], whole)


def _parameters(store: Store, rows: np.ndarray, device: torch.device) -> ImageParameters:
    """Read the parameters of image rows piece by piece.

    A copy of the whole table would be larger than the parameters.
    """
    parts = [
        image_parameters(store.images.iloc[rows[start : start + IMAGES_AT_ONCE]], device)
        for start in range(0, max(len(rows), 1), IMAGES_AT_ONCE)
    ]
    return ImageParameters(*(torch.cat(fields) for fields in zip(*parts, strict=True)))


def split_tilts(tilts: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Divide each particle's tilts at random: return bool per image, True for the training side.

    Each particle keeps the rounded `fraction` of its `tilts` (P,), with at least one tilt on each side. A
    particle with a single tilt keeps it for training.
    """
    starts = np.cumsum(tilts) - tilts
    particle = np.repeat(np.arange(len(tilts)), tilts)
    order = np.lexsort((rng.random(len(particle)), particle))
    rank = np.empty(len(particle), np.int64)
    rank[order] = np.arange(len(particle)) - starts[particle]
    wanted = np.clip(np.rint(fraction * tilts), 1, np.maximum(tilts - 1, 1))
    return rank < wanted[particle]
