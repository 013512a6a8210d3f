"""Tilt images of the chosen particles in batches of whole particles, resident on the device or read ahead."""

import logging
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tomohet.particles.store import Store
from tomohet.physics.dose import optimal_dose_prefix
from tomohet.physics.fourier import HalfPlane
from tomohet.physics.imaging import ImageParameters, image_parameters
from tomohet.training.processes import ALONE, Processes

log = logging.getLogger(__name__)

# The rest of the memory belongs to the network, its workspace and other programs.
SHARE_OF_MEMORY = 0.5


class Whole(NamedTuple):
    """What a process knows of the whole batch of which its own may be a part.

    particles, rows : numbers of particles and of half-plane rows that enter the loss
    points : the largest number of full-plane points of a particle: the published normaliser of KL
    first : place of this part's first particle
    """

    particles: int
    rows: int
    points: int
    first: int


class Batch(NamedTuple):
    """Images of P particles, one particle after another.

    fourier : (m, n) complex64 half planes
    params : the forward model's parameters of the m images
    gain : (m,) by which an image's values are larger than those of the common scale
    prefix : (m,) int64 on the host, how many half-plane points of each image enter the loss
    tilts : (P,) int64 on the host, images per particle
    dose_weighted : whether any image of the data set carries dose weights
    whole : the batch of all processes
    start : (P, 2, K) posteriors of the linear model that teaches, or None
    """

    fourier: Tensor
    params: ImageParameters
    gain: Tensor
    prefix: np.ndarray
    tilts: np.ndarray
    dose_weighted: bool
    whole: Whole
    start: Tensor | None = None


@dataclass(frozen=True)
class LossRows:
    """Which half-plane points of an image enter the loss.

    dose_mask : leave out what lies beyond an image's optimal dose
    max_frequency : highest spatial frequency, cycles/px
    """

    dose_mask: bool = False
    max_frequency: float = 0.5

    def prefix(self, params: ImageParameters, hp: HalfPlane) -> Tensor:
        """(m,) int64 leading points of each image."""
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
    resident : keep all images on the device; None decides by free memory
    workers, ahead : reading threads and batches read ahead, when not resident
    processes : of which each takes its part of every batch
    """

    def __init__(
        self,
        store: Store,
        particles: np.ndarray,
        device: torch.device,
        *,
        loss_rows: LossRows = LossRows(),
        keep: np.ndarray | None = None,
        resident: bool | None = None,
        workers: int = 1,
        ahead: int = 2,
        processes: Processes = ALONE,
    ) -> None:
        self._store, self.device, self.processes = store, device, processes
        self._workers, self._ahead = max(workers, 1), max(ahead, 1)
        tilts = np.diff(store.offsets)[particles]
        rows = store.images_of(particles)
        if keep is not None:
            tilts = np.add.reduceat(keep.astype(np.int64), np.cumsum(tilts) - tilts)
            rows = rows[keep]
        self._rows, self.tilts = rows, tilts
        # Shuffled from here, so that the order of rows in the input file changes nothing.
        self.by_name = np.argsort(store.particles["source_id"].to_numpy(str)[particles], kind="stable")
        self.start: Tensor | None = None  # (particles, 2, K), set by whoever teaches
        self._starts = np.cumsum(tilts) - tilts
        images = store.images.iloc[rows]
        self.half_plane = store.half_plane.to(device)
        self.params = image_parameters(images, device)
        self._gain = torch.as_tensor(store.gain[rows], device=device)
        self._dose_weighted = bool(self.params.dose_weighted.any())
        # Known on the host, so that no step has to wait for the device to count.
        self.prefix = loss_rows.prefix(self.params, self.half_plane).cpu().numpy()
        before = np.concatenate([[0], np.cumsum(self.prefix)])
        self._loss_rows = before[self._starts + tilts] - before[self._starts]
        n_bytes = rows.size * self.half_plane.n * 8
        if resident is None:
            resident = n_bytes < SHARE_OF_MEMORY * free_memory(device)
        log.info(
            "%d particles, %d images, %.3g GB: %s",
            len(particles),
            len(rows),
            n_bytes / 1e9,
            f"resident on {device}" if resident else "read from the store during training",
        )
        self._resident = store.half_planes(rows, device) if resident else None

    def __len__(self) -> int:
        return len(self.tilts)

    def batch(self, group: np.ndarray) -> Batch:
        """The images of the particles at the positions `group`, or this process's part of them."""
        part = self.processes.part(len(group))
        rows = self._loss_rows[group]
        whole = Whole(len(group), int(rows.sum()), 2 * int(rows.max()), part.start)
        positions = group[part]
        tilts = self.tilts[positions]
        before = np.cumsum(tilts) - tilts
        local = np.repeat(self._starts[positions] - before, tilts) + np.arange(tilts.sum())
        index = torch.from_numpy(local).to(self.device)
        if self._resident is None:
            fourier = self._store.half_planes(self._rows[local], self.device)
        else:
            fourier = self._resident[index]
        return Batch(
            fourier,
            self.params.take(index),
            self._gain[index],
            self.prefix[local],
            tilts,
            self._dose_weighted,
            whole,
            None if self.start is None else self.start[torch.from_numpy(positions).to(self.device)],
        )

    def batches(self, groups: list[np.ndarray]) -> Iterator[Batch]:
        """The batch of each group of positions, in order; the next ones are read while one is in use."""
        if self._resident is not None:
            yield from map(self.batch, groups)
            return
        with ThreadPoolExecutor(self._workers) as pool:
            waiting: deque = deque()
            for group in groups:
                waiting.append(pool.submit(self.batch, group))
                if len(waiting) > self._ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def free_memory(device: torch.device) -> int:
    """Free memory of the device, or of the machine, in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def in_groups(positions: np.ndarray, size: int) -> list[np.ndarray]:
    """Consecutive groups of `size` positions; the last may be smaller."""
    return [positions[start : start + size] for start in range(0, len(positions), size)]


def split_tilts(tilts: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Divide each particle's tilts at random: bool per image, True for the training side.

    Each particle keeps the rounded `fraction` of its `tilts` (P,), at least one on each side; a particle
    with a single tilt keeps it for training.
    """
    starts = np.cumsum(tilts) - tilts
    particle = np.repeat(np.arange(len(tilts)), tilts)
    order = np.lexsort((rng.random(len(particle)), particle))
    rank = np.empty(len(particle), np.int64)
    rank[order] = np.arange(len(particle)) - starts[particle]
    wanted = np.clip(np.rint(fraction * tilts), 1, np.maximum(tilts - 1, 1))
    return rank < wanted[particle]
