"""Fourier rows of a batch of tilt images, packed one after another.

A row is one half-plane point of one image: where its central section meets the volume, the measured value,
the transfer function and the weight. Particles differ in their number of tilts, and images in how far their
dose mask reaches; the half plane is sorted by |k|, so that an image's rows are a prefix without padding.
How many rows there are is known on the host before anything is computed: a GPU is never waited for.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tomohet.device import sent
from tomohet.model.decoder import half_space_sign


@dataclass(frozen=True)
class PackedRows:
    """Rows ordered by particle, then image.

    k : (rows, 3) volume coordinates, cycles/px, in the half space
    value : (rows, 2) measured real and imaginary part there
    transfer, weight : (rows,)
    particle : (rows,) position of the particle in the batch, ascending
    offsets : (particles + 1,) on the host: the rows of particle p are offsets[p] to offsets[p + 1] - 1
    full_count : rows over which the loss is a mean: the batch's before any random selection, those of other
        processes included
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
        """The particles that the rows `start` to `end` - 1 belong to."""
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
    prefix : (m,) on the host, how many of the n points each image contributes
    tilts : (P,) on the host, images per particle; they are consecutive
    frequency : (n, 2) half-plane points (kx, ky), cycles/px
    hermitian : fold every coordinate into the half space, conjugating the value
    fraction : share of each image's rows to draw, stratified over |k|; every row is as likely as any other
        and counts 1 / fraction, so that loss and gradient keep their expectation
    full_count : rows over which the loss is a mean; None counts these
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
        # The last stratum may reach past the image's rows: what falls there counts nothing.
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
    """For groups of the given sizes: the group of every member, and its number within the group.

    >>> ragged_arange(np.array([2, 0, 3]), torch.device("cpu"))
    (tensor([0, 0, 2, 2, 2]), tensor([0, 1, 0, 1, 2]))
    """
    total = int(counts.sum())
    sizes = sent(counts, device)
    groups = torch.arange(len(counts), device=device)
    group = torch.repeat_interleave(groups, sizes, output_size=total)
    start = torch.cumsum(sizes, 0) - sizes
    return group, torch.arange(total, device=device) - start[group]
