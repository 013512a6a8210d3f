"""Fourier points of a batch of tilt images, packed one after another.

A row is one half-plane point of one image: its coordinate on the central section through the volume, the
measured value, the transfer function and the weight. Particles differ in their number of tilts, and images in
the reach of their dose mask. The half plane is sorted by |k|, so that the rows of an image are a prefix and
need no padding. The host knows the number of rows before anything is computed, so it never has to wait for a
GPU.
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
    offsets : (particles + 1,) on the host: the rows of particle p are offsets[p] to offsets[p + 1] - 1
    full_count : number of rows over which the loss is a mean: those of the batch before any random selection,
        including the rows of other processes
    """

    k: Tensor
    value: Tensor
    transfer: Tensor
    weight: Tensor
    particle: Tensor
    offsets: np.ndarray
    full_count: int

    def __len__(self) -> int:
        return len(self.particle)

    @property
    def particles(self) -> int:
        """Number of particles in the batch."""
        return len(self.offsets) - 1

    def members(self, start: int, end: int) -> slice:
        """Return the particles that the rows `start` to `end` - 1 belong to."""
        first, last = np.searchsorted(self.offsets, [start, end - 1], side="right") - 1
        return slice(int(first), int(last) + 1)


def pack_rows(
    fourier: Tensor,
    rotation: Tensor,
    transfer: Tensor,
    weight: Tensor,
    prefix: np.ndarray,
    tilts: np.ndarray,
    frequency: Tensor,
    *,
    hermitian: bool = True,
    fraction: float = 1.0,
    generator: torch.Generator | None = None,
    full_count: int | None = None,
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

    """
    device = fourier.device
    prefix, tilts = np.asarray(prefix), np.asarray(tilts)
    drawn = prefix if fraction >= 1 else np.ceil(prefix * fraction).astype(np.int64)
    image, number = ragged_arange(drawn, device)
    end = sent(prefix, device)[image]
    if fraction >= 1:
        point, drawn_weight = number, 1.0
    else:
        jitter = torch.rand(len(number), generator=generator, device=device)
        point = ((number + jitter) / fraction).long()
        # The last stratum may reach past the image's rows: points drawn there get weight 0.
        drawn_weight = (point < end) / fraction
        point = torch.minimum(point, end - 1)
    flat = image * fourier.shape[1] + point
    xy = frequency[point]
    k = xy[:, :1] * rotation[image, 0] + xy[:, 1:] * rotation[image, 1]
    value = torch.view_as_real(fourier).reshape(-1, 2)[flat]
    if hermitian:
        sign = half_space_sign(k)
        k *= sign[:, None]
        value[:, 1] *= sign
    particle_of_image, _ = ragged_arange(tilts, device)
    first_image = np.concatenate([[0], np.cumsum(tilts)])
    return PackedRows(
        k=k,
        value=value,
        transfer=transfer.reshape(-1)[flat],
        weight=weight.reshape(-1)[flat] * drawn_weight,
        particle=particle_of_image[image],
        offsets=np.concatenate([[0], np.cumsum(drawn)])[first_image],
        full_count=int(prefix.sum()) if full_count is None else full_count,
    )


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
