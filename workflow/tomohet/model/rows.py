"""Fourier rows of a batch of tilt images, packed one after another.

A row is one half-plane point of one image: where its central section meets the volume, the measured value,
the transfer function and the weight. Particles differ in their number of tilts, and images in how far their
dose mask reaches; the half plane is sorted by |k|, so that an image's rows are a prefix without padding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tomohet.model.decoder import half_space_sign


@dataclass(frozen=True)
class PackedRows:
    """Rows ordered by particle, then image.

    k : (rows, 3) volume coordinates, cycles/px, in the half space
    value : (rows, 2) measured real and imaginary part there
    transfer, weight : (rows,)
    particle : (rows,) position of the particle in the batch, ascending
    particles : number of particles in the batch
    full_count : rows over which the loss is a mean: the batch's before any random selection, those of other
        processes included
    """

    k: Tensor
    value: Tensor
    transfer: Tensor
    weight: Tensor
    particle: Tensor
    particles: int
    full_count: int

    def __len__(self) -> int:
        return len(self.particle)


def pack_rows(
    fourier: Tensor,
    rotation: Tensor,
    transfer: Tensor,
    weight: Tensor,
    prefix: Tensor,
    tilts: Tensor,
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
    prefix : (m,) how many of the n points each image contributes
    tilts : (P,) images per particle; they are consecutive
    frequency : (n, 2) half-plane points (kx, ky), cycles/px
    hermitian : fold every coordinate into the half space, conjugating the value
    fraction : share of each image's rows to draw, stratified over |k|; every row is as likely as any other
        and counts 1 / fraction, so that loss and gradient keep their expectation
    full_count : rows over which the loss is a mean; None counts these
    """
    device = fourier.device
    drawn = prefix if fraction >= 1 else torch.ceil(prefix * fraction).long()
    image, number = ragged_arange(drawn)
    if fraction >= 1:
        point = number
    else:
        jitter = torch.rand(len(number), generator=generator, device=device)
        point = ((number + jitter) / fraction).long()
        inside = point < prefix[image]
        image, point = image[inside], point[inside]
    flat = image * fourier.shape[1] + point
    xy = frequency[point]
    k = xy[:, :1] * rotation[image, 0] + xy[:, 1:] * rotation[image, 1]
    value = torch.view_as_real(fourier).reshape(-1, 2)[flat]
    if hermitian:
        sign = half_space_sign(k)
        k *= sign[:, None]
        value[:, 1] *= sign
    particle_of_image = torch.repeat_interleave(torch.arange(len(tilts), device=device), tilts)
    row_weight = weight.reshape(-1)[flat]
    return PackedRows(
        k=k,
        value=value,
        transfer=transfer.reshape(-1)[flat],
        weight=row_weight if fraction >= 1 else row_weight / fraction,
        particle=particle_of_image[image],
        particles=len(tilts),
        full_count=int(prefix.sum()) if full_count is None else full_count,
    )


def ragged_arange(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For groups of the given sizes: the group of every member, and its number within the group.

    >>> ragged_arange(torch.tensor([2, 0, 3]))
    (tensor([0, 0, 2, 2, 2]), tensor([0, 1, 0, 1, 2]))
    """
    group = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    start = torch.cumsum(counts, 0) - counts
    return group, torch.arange(len(group), device=counts.device) - start[group]
