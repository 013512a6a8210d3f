"""Noise levels of images relative to each other, as far as preparation has left differences.

Differences in noise power between images reflect how and when the images were recorded, not their content.
Latents follow these differences unless the forward model knows them.
"""

import numpy as np
import torch
from torch import Tensor

from tomohet.particles.preparation import NOISE_SHELLS
from tomohet.physics.imaging import image_parameters, physical_transfer

IMAGES_AT_ONCE = 1000


def shrunk(deviation: Tensor, count: Tensor) -> Tensor:
    """Shrink deviations of log variances towards 0 by empirical Bayes; both arguments have one shape.

    deviation : from 0, each with an error of variance 1 / count

    The true spread t^2 is the mean square in excess of chance (method of moments), and each deviation is
    multiplied by t^2 / (t^2 + 1 / count). Without a true spread all become 0, and so do deviations with count
    0.
    """
    known = (count > 0).sum()
    beyond = (count * deviation.square()).sum() - known
    spread = (beyond / count.sum().clamp_min(1)).clamp_min(0)
    return deviation * spread * count / (spread * count + 1)


def relative_noise(store) -> np.ndarray:
    """Return float32 (n_images,): noise variance of each image relative to the mean of its tomogram's images.

    The noise is the power at |k| >= 0.75 Nyquist, where a single image holds only noise, divided by the power
    that extraction made of white noise. The result is 1 for images that have been divided by their own noise
    (`store.own_noise`), because nothing is left to correct. It is also 1 for images without power in that
    range: empty ones (rlnCtfScalefactor 0), and images cut off at a lower frequency. Differences expected by
    chance from the few points of small images are removed (`shrunk`).
    """
    rows = np.flatnonzero(~store.own_noise)
    factor = np.ones(len(store.images), np.float32)
    if not len(rows):
        return factor
    parts = np.array_split(rows, -(-len(rows) // IMAGES_AT_ONCE))
    columns = zip(*(_outer(store, part) for part in parts), strict=True)
    power, expected, count = (torch.cat(column) for column in columns)
    _, tomogram = np.unique(store.particles["tomogram"].to_numpy(), return_inverse=True)
    tomogram = torch.as_tensor(tomogram[store.images["particle"].to_numpy()[rows]])
    sums = torch.zeros(2, int(tomogram.max()) + 1, dtype=torch.float64)
    sums.index_add_(1, tomogram, torch.stack([power, expected]))
    level = (sums[0] / sums[1].clamp_min(1e-30))[tomogram]
    empty = expected == 0
    deviation = torch.log((power / torch.where(empty, power, expected * level)).nan_to_num(1).clamp_min(1e-6))
    factor[rows] = torch.exp(shrunk(deviation, count)).numpy()
    return factor


def _outer(store, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Measure images at high |k|.

    Returns (m,) power of the images, (m,) power that the extraction made of unit noise, and (m,) number of
    points that hold any power.
    """
    half_plane = store.half_plane
    outer = slice(half_plane.prefix(NOISE_SHELLS * store.box / 2), None)
    data = store.half_planes(rows)[:, outer]
    params = image_parameters(store.images.iloc[rows])
    transfer, gain = (x[:, outer] for x in physical_transfer(params, half_plane, dose=True, tilt=True))
    own_gain = torch.as_tensor(store.gain[rows])[:, None]
    noise = noise_gain(transfer, gain) * torch.where(params.ctf_premultiplied[:, None], own_gain**2, 1.0)
    held = (gain != 0) & (params.scale_factor[:, None] != 0)
    power = data.abs().square() * held
    return power.sum(1).double(), (noise * held).sum(1).double(), held.sum(1).double()


def noise_gain(transfer: Tensor, gain: Tensor) -> Tensor:
    """Return the variance of an image's noise relative to that of an untreated image.

    transfer, gain : h and g of `physical_transfer`

    It is 0 where the gain is 0: such values hold neither signal nor noise.
    """
    return torch.where(gain != 0, transfer / gain, torch.zeros_like(gain))
