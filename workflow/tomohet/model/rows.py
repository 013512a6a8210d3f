"""Fourier points of a batch of tilt images, packed one after another.

A row is one half-plane point of one image: its coordinate on the central section through the volume, the
measured value, the transfer function and the weight. Particles differ in their number of tilts, and images in
the reach of their dose mask. The half plane is sorted by |k|, so that the rows of an image are a prefix and
need no padding. The host knows the number of rows before anything is computed, so it never has to wait for a
GPU. A step that is replayed as one CUDA graph has a fixed number of rows, the last ones with weight 0.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tomohet.device import sent
from tomohet.model.decoder import half_space_sign


@dataclass(frozen=True)
class PackedRows:
    """Rows ordered by particle, then by image.

    k : (rows, 3) volume coordinates, cycles/px, in the half space
    value : (rows, 2) measured real and imaginary part
    transfer, weight : (rows,)
    particle : (rows,) position of the particle in the batch, ascending
    offsets : (particles + 1,) on the host: the rows of particle p are offsets[p] to offsets[p + 1] - 1; None
        where only the device knows them
    full_count : number of rows over which the loss is a mean: those of the batch before any random selection,
        including the rows of other processes; a scalar on the device where only the device knows it
    known_particles : number of particles where there are no offsets
    """

    k: Tensor
    value: Tensor
    transfer: Tensor
    weight: Tensor
    particle: Tensor
    offsets: np.ndarray | None
    full_count: int | Tensor
    known_particles: int = 0

    def __len__(self) -> int:
        return len(self.particle)

    @property
    def particles(self) -> int:
        """Number of particles in the batch."""
        return self.known_particles if self.offsets is None else len(self.offsets) - 1

    def members(self, start: int, end: int) -> slice:
        """Return the particles that the rows `start` to `end` - 1 belong to, or all without offsets."""
        if self.offsets is None:
            return slice(0, self.particles)
        first, last = np.searchsorted(self.offsets, [start, end - 1], side="right") - 1
        return slice(int(first), int(last) + 1)


def pack_rows(
    fourier: Tensor,
    rotation: Tensor,
    transfer: Tensor,
    weight: Tensor,
    prefix: np.ndarray | Tensor,
    tilts: np.ndarray | Tensor,
    frequency: Tensor,
    *,
    hermitian: bool = True,
    fraction: float = 1.0,
    generator: torch.Generator | None = None,
    full_count: int | Tensor | None = None,
    length: int | None = None,
) -> PackedRows:
    """Pack the rows of m images of P particles.

    Parameters
    ----------
    fourier : (m, n) complex half planes, sorted by |k|
    rotation : (m, 3, 3), volume to image
    transfer, weight : (m, n), as in the loss w |h V - F|^2
    prefix : (m,) on the host, number of leading points of each image to pack, of its n points
    tilts : (P,) on the host, images per particle; the images of a particle are consecutive
    frequency : (n, 2) half-plane points (kx, ky), cycles/px
    hermitian : fold every coordinate into the half space, conjugating the value
    fraction : fraction of each image's rows to draw, stratified over |k|; every row is equally likely and
        counts 1 / fraction, so that loss and gradient keep their expectation
    full_count : number of rows over which the loss is a mean; None means the rows of these images
    length : fixed number of rows, at least those drawn; the rest get weight 0. `prefix` and `tilts` are then
        tensors on the device, and `full_count` is given. None: no row is added

    """
    device = fourier.device
    if length is None:
        prefix, tilts = np.asarray(prefix), np.asarray(tilts)
        drawn = np.asarray(rows_drawn(prefix, fraction))
        image, number = ragged_arange(drawn, device)
        particle_of_image, _ = ragged_arange(tilts, device)
        offsets = np.concatenate([[0], np.cumsum(drawn)])[np.concatenate([[0], np.cumsum(tilts)])]
        end, last = sent(prefix, device)[image], None
    else:
        prefix, tilts = torch.as_tensor(prefix), torch.as_tensor(tilts)
        offsets = None
        image, number, inside = _fixed_arange(torch.as_tensor(rows_drawn(prefix, fraction)), length)
        particle_of_image, _, _ = _fixed_arange(tilts, len(prefix))
        end = prefix[image]
        last = (end - 1).clamp_min(0)
    drawn_weight = 1.0 if last is None else inside
    if fraction >= 1:
        point = number
    else:
        jitter = torch.rand(len(number), generator=generator, device=device)
        point = ((number + jitter) / fraction).long()
        # The last stratum may reach past the image's rows: points drawn there get weight 0.
        drawn_weight = drawn_weight * (point < end) / fraction
        last = end - 1 if last is None else last
    if last is not None:
        point = torch.minimum(point, last)
    flat = image * fourier.shape[1] + point
    xy = frequency[point]
    k = xy[:, :1] * rotation[image, 0] + xy[:, 1:] * rotation[image, 1]
    value = torch.view_as_real(fourier).reshape(-1, 2)[flat]
    if hermitian:
        sign = half_space_sign(k)
        k *= sign[:, None]
        value[:, 1] *= sign
    return PackedRows(
        k=k,
        value=value,
        transfer=transfer.reshape(-1)[flat],
        weight=weight.reshape(-1)[flat] * drawn_weight,
        particle=particle_of_image[image],
        offsets=offsets,
        full_count=int(prefix.sum()) if full_count is None else full_count,
        known_particles=len(tilts),
    )


def rows_drawn(prefix, fraction: float):
    """Return how many rows are drawn from images with `prefix` rows, an array on the host or a tensor."""
    if fraction >= 1:
        return prefix
    if isinstance(prefix, Tensor):
        return (prefix.double() * fraction).ceil().long()
    return np.ceil(prefix * fraction).astype(np.int64)


def _fixed_arange(counts: Tensor, total: int) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `ragged_arange` without the host, extended to `total` members.

    Also returns which members exist. The others are counted as further members of the last group.
    """
    ends = counts.cumsum(0)
    member = torch.arange(total, device=counts.device)
    group = torch.searchsorted(ends, member, right=True).clamp_max(len(counts) - 1)
    return group, member - (ends - counts)[group], member < ends[-1]


def ragged_arange(counts: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return, for groups of the given sizes, the group of every member and its number within the group.

    >>> ragged_arange(np.array([2, 0, 3]), torch.device("cpu"))
    (tensor([0, 0, 2, 2, 2]), tensor([0, 1, 0, 1, 2]))
    """
    total = int(counts.sum())
    sizes = sent(counts, device)
    groups = torch.arange(len(counts), device=device)
    group = torch.repeat_interleave(groups, sizes, output_size=total)
    start = torch.cumsum(sizes, 0) - sizes
    return group, torch.arange(total, device=device) - start[group]
