"""Tilt images of a set of particles as weighted observations of Fourier slices, streamed in chunks of
particles.

Every reconstruction and the linear latent model need the same two numbers per half-plane row: the numerator
q = g y and the weight w = g h, where y is the data, h its transfer and g = h for raw images, 1 for images
that the extraction has multiplied by their transfer already (DESIGN: `physics.imaging.physical_transfer`).
Then sum S^H q is the data term and sum S^H w S the normal operator, whatever was done to the images
before.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tomohet.particles.store import Store
from tomohet.physics.imaging import image_parameters, physical_transfer
from tomohet.physics.slicing import corners

ROWS_PER_CHUNK = 400_000


@dataclass(frozen=True)
class Chunk:
    """Tilt images of consecutive particles.

    owner (m,) position of each image's particle in the round's list; data (m, n) complex; transfer (m, n);
    numerator q (m, n) complex; weight w (m, n); noise_gain (m, n) variance of the noise in `data` relative to
    that of an untreated image; index and corner_weight (m, n, 8) of the slice points.
    """

    owner: Tensor
    data: Tensor
    transfer: Tensor
    numerator: Tensor
    weight: Tensor
    noise_gain: Tensor
    index: Tensor
    corner_weight: Tensor


class Observations:
    """Particles of a store up to a highest spatial frequency.

    store: prepared store; particles: ordinals in the store, ascending; max_frequency: cycles per pixel;
    box: box in which slices are cut, at least twice the highest lattice radius (default: the store's).
    """

    def __init__(
        self,
        store: Store,
        particles: np.ndarray,
        *,
        max_frequency: float = 0.5,
        box: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.store, self.particles, self.device = store, np.asarray(particles), torch.device(device)
        self.half_plane = store.half_plane.to(self.device)
        self.box = box or store.box
        radius = min(max_frequency * store.box, self.box / 2)
        self.n_rows = self.half_plane.prefix(radius)
        self.shell = self.half_plane.shell[: self.n_rows]
        counts = np.diff(store.offsets)[self.particles]
        per_chunk = max(1, ROWS_PER_CHUNK // max(1, self.n_rows))
        self._parts = np.split(
            np.arange(len(self.particles)),
            np.flatnonzero(np.diff(np.cumsum(counts) // per_chunk)) + 1,
        )

    def __len__(self) -> int:
        return len(self.particles)

    def chunks(self) -> Iterator[Chunk]:
        """Stream all images, whole particles at a time."""
        counts = np.diff(self.store.offsets)
        for part in self._parts:
            chosen = self.particles[part]
            rows = self.store.images_of(chosen)
            params = image_parameters(self.store.images.iloc[rows], self.device)
            data = self.store.half_planes(rows, self.device)[:, : self.n_rows]
            transfer, gain = (
                t[:, : self.n_rows] for t in physical_transfer(params, self.half_plane, dose=True, tilt=True)
            )
            own_gain = torch.as_tensor(self.store.gain[rows], device=self.device)[:, None]
            transfer = transfer * own_gain
            premultiplied = params.ctf_premultiplied[:, None]
            gain = gain * torch.where(premultiplied, 1 / own_gain, own_gain)
            index, corner_weight = corners(self.half_plane.k[: self.n_rows], params.rotation, self.box)
            yield Chunk(
                owner=torch.as_tensor(np.repeat(part, counts[chosen]), device=self.device),
                data=data,
                transfer=transfer,
                numerator=gain * data,
                weight=gain * transfer,
                noise_gain=torch.where(gain.abs() > 1e-6, transfer / gain, torch.ones_like(gain)),
                index=index,
                corner_weight=corner_weight,
            )
