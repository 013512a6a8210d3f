"""Residuals of tilt images from the mean map, whitened by the noise, in chunks."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tomohet.physics.slicing import corners, gather, transform
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.observations import Chunk, Observations


@dataclass(frozen=True)
class Residual:
    """A whitened chunk: numerator q and weight w are divided by the noise of each image.

    residual : (m, n) q - w S mu
    mean : (m, n) S mu, slices of the mean map
    slices : (m, n, K) slices of further maps
    """

    chunk: Chunk
    residual: Tensor
    mean: Tensor
    slices: Tensor


def residuals(observations: Observations, mean: MeanMap, maps: Tensor | None = None) -> Iterator[Residual]:
    """Yield residuals of all images from the mean map, and slices of further maps (K, D, D, D) in its box.

    Slices are cut in the mean map's box, whatever the observations' box. Near the Nyquist frequency of a
    small box, slices deviate from the images by an amount that depends on direction. Particles in different
    orientations would then appear to differ.
    """
    volumes = mean.volume[None] if maps is None else torch.cat([mean.volume[None], maps])
    table, box = transform(volumes), len(mean.volume)
    for chunk in mean.noise.whitened(observations):
        points = chunk.index, chunk.corner_weight
        if box != observations.box:
            points = corners(observations.half_plane.k, chunk.rotation, box)
        of_mean, slices = gather(table, *points).split([1, len(volumes) - 1], dim=2)
        of_mean = of_mean[..., 0]
        yield Residual(chunk, chunk.numerator - chunk.weight * of_mean, of_mean, slices)
