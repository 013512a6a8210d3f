"""Background of tilt images: the grey level around the particle, subtracted before images are windowed.

A window turns a constant into a disc, whose edge spreads over all low frequencies; the same holds for a
slope. Particles lie in the middle, so the level is measured beyond three quarters of half the box, the circle
that RELION's extraction uses for normalisation, and out to the corners. More pixels bring less noise of the
level into the image. The region is cut into sectors, and a plane c + a x + b y is fitted to their means by
Huber's estimate, so that a gold bead in a few sectors hardly moves it. A slope adds more noise than a level
and is rarely present, so it is shrunk by its significance (positive-part James-Stein).

Images at a tomogram's edge, or cropped to a circle, are padded with one value, often 0, whatever their grey
level. Such pixels carry no information on the level; they are set to it.
"""

from functools import lru_cache

import numpy as np
import torch

Tensor = torch.Tensor

INNER, EDGE = 0.75, 1.0  # radii as fractions of half the box
SECTORS = 16
BOUND = 2.0  # robust standard deviations to which residuals are clipped
ROUNDS = 3
CORNER = 2  # px; a square of equal pixels of this side in a corner is padding
NEIGHBOURS = 0.3  # fraction of equal neighbours of a padding pixel; integer pixels are also equal by chance
LEAST_READ = 0.1  # fraction of a sector's pixels outside of padding that the sector needs for a level
SIGMA_OF_MAD = 1.4826  # ratio of standard deviation to MAD of a normal distribution
CHANCE = 16.0  # squared length of a slope over its variance per axis; noise exceeds it in 1 of 200 images


def background_planes(images: Tensor, field: float = 1.0) -> Tensor:
    """Measure the level at the centre and slopes per pixel along x and y, (3, m), of images (m, D, D).

    field : the part of the images' field of view that is used; pixels beyond are ignored

    The images are on the CPU. Images that were padded or cropped to a circle are measured outside of the
    padding.
    """
    return _with_padding(images, field)[0]


def take_off_background(images: Tensor, field: float = 1.0) -> Tensor:
    """Subtract the background of images (m, D, D) in place; return the planes (3, m).

    Padding becomes 0.
    """
    planes, rows, padded = _with_padding(images, field)
    subtract_planes(images, planes)
    if len(rows):
        images[rows] = images[rows].masked_fill(padded, 0.0)
    return planes


def subtract_planes(images: Tensor, planes: Tensor) -> Tensor:
    """Subtract planes (3, m) from images (m, D, D), in place."""
    position = torch.arange(images.shape[-1], dtype=torch.float32) - images.shape[-1] // 2
    level, along_x, along_y = planes[:, :, None]
    images -= (level + along_y * position)[:, :, None]
    images -= (along_x * position)[:, None]
    return images


def _with_padding(images: Tensor, field: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return planes (3, m), which images have padding (k,), and where (k, D, D)."""
    planes = _planes(images, round(field, 6), corners=True)
    rows, padded = padding(images)
    if len(rows):
        planes[:, rows] = _planes(images[rows], round(field, 6), corners=False, padded=padded)
    return planes, rows, padded


def padding(images: Tensor) -> tuple[Tensor, Tensor]:
    """Find images (m, D, D) with a corner of one value (k,), and their pixels of that value (k, D, D)."""
    ends = (slice(None, CORNER), slice(-CORNER, None))
    corners = torch.stack([images[:, y, x] for y in ends for x in ends], dim=1).flatten(2)
    flat = (corners == corners[..., :1]).all(2)
    rows = torch.nonzero(flat.any(1))[:, 0]
    value = corners[rows, flat[rows].int().argmax(1), 0]
    equal = images[rows] == value[:, None, None]
    if not len(rows):
        return rows, equal
    around = torch.nn.functional.avg_pool2d(equal.float()[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
    return rows, equal & (around > NEIGHBOURS)


def _planes(images: Tensor, field: float, corners: bool, padded: Tensor | None = None) -> Tensor:
    pixels, design, inverse = _sectors(images.shape[-1], field, corners)
    values = _around(images, pixels)
    values = (values.mean(1) if padded is None else _means(values, ~_around(padded, pixels))).T
    planes = torch.stack([_median(values), *torch.zeros(2, len(images))])
    # Sums are used because a matrix product would round an image depending on its place in the batch.
    for _ in range(ROUNDS):
        residual = values - _sums(design, planes)
        bound = BOUND * SIGMA_OF_MAD * _median(residual.abs())
        bounded = torch.clamp(residual, -bound, bound)
        planes += _sums(inverse, bounded)
    variance = bounded.square().sum(0) / max(1, len(values) - 3) * inverse[1:].square().sum(1).mean()
    strength = planes[1:].square().sum(0) / variance.clamp_min(1e-30)
    planes[1:] *= 1 - CHANCE / strength.clamp_min(CHANCE)
    return planes


def _around(images: Tensor, pixels: Tensor) -> Tensor:
    """Return values (m, n, s) of images (m, D, D) at pixels (n, s)."""
    return images.flatten(1).index_select(1, pixels.flatten()).unflatten(1, pixels.shape)


def _means(values: Tensor, read: Tensor) -> Tensor:
    """Return means (m, s) of the values (m, n, s) where `read`.

    A sector with too few of them gets the mean of the whole image, and an image without any gets the mean of
    all its values.
    """
    read = torch.where(read.any(dim=(1, 2), keepdim=True), read, True)
    total, count = (values * read).sum(1), read.sum(1)
    level = total.sum(1, keepdim=True) / count.sum(1, keepdim=True)
    return torch.where(count >= LEAST_READ * values.shape[1], total / count.clamp_min(1), level)


def _sums(matrix: Tensor, values: Tensor) -> Tensor:
    """Return (a, m): the matrix product of (a, b) and (b, m); a column's place does not affect rounding."""
    return torch.stack([(row[:, None] * values).sum(0) for row in matrix])


def _median(values: Tensor) -> Tensor:
    """Return the upper median (m,) of the columns of (s, m)."""
    middle = len(values) // 2
    return torch.from_numpy(np.partition(values.T.contiguous().numpy(), middle, axis=1)[:, middle])


@lru_cache(maxsize=16)
def _sectors(box: int, field: float, corners: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Divide the pixels around the particle into s sectors.

    Returns pixels (n, s), a column per sector; 1, x, y of the sectors' means (s, 3); and the pseudo-inverse
    of the latter (3, s).
    """
    position = torch.arange(box, dtype=torch.float32) - box // 2
    y, x = (axis.flatten() for axis in torch.meshgrid(position, position, indexing="ij"))
    edge = box / 2 * field
    around = torch.hypot(x, y) >= INNER * edge
    around &= (torch.maximum(x.abs(), y.abs()) if corners else torch.hypot(x, y)) <= EDGE * edge
    found = torch.nonzero(around)[:, 0]
    found = found[torch.argsort(torch.atan2(y, x)[found], stable=True)]
    n_sectors = min(SECTORS, len(found))
    even = torch.linspace(0, len(found) - 1, len(found) // n_sectors * n_sectors).round().long()
    pixels = found[even].reshape(n_sectors, -1).T.contiguous()
    design = torch.stack([torch.ones(n_sectors), x[pixels].mean(0), y[pixels].mean(0)], dim=1)
    return pixels, design, torch.linalg.pinv(design.double()).float()
