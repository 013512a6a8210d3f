"""How noisy images are beside each other, as far as preparing them has left a difference.

Noise power that differs between images says who made them and when, not what is in them; unless the forward
model knows it, latents follow it.
"""

import numpy as np
import torch
from torch import Tensor

from tomohet.particles.preparation import NOISE_SHELLS
from tomohet.physics.imaging import image_parameters, physical_transfer

IMAGES_AT_ONCE = 1000


def shrunk(deviation: Tensor, count: Tensor) -> Tensor:
    """Deviations of logarithms of variances, less what is chance in them; both of any one shape.

    deviation: from 0, each with an error of variance 1 / count. Empirical Bayes: their true spread t^2 is
    what their squares have beyond chance (method of moments), and each keeps t^2 / (t^2 + 1 / count) of
    itself. Without a true spread all become 0, and so does what nothing is known of (count 0).
    """
    known = (count > 0).sum()
    beyond = (count * deviation.square()).sum() - known
    spread = (beyond / count.sum().clamp_min(1)).clamp_min(0)
    return deviation * spread * count / (spread * count + 1)


def relative_noise(store) -> np.ndarray:
    """float32 (n_images,): noise variance of each image relative to the mean of its tomogram's images.

    From the power at |k| >= 0.75 Nyquist, where a single image is noise, beside what the extraction made of
    white noise. 1 for the images that have been divided by their own noise (`store.own_noise`): nothing is
    left to correct; and for those that hold nothing there: empty ones (rlnCtfScalefactor 0), and those that
    have been cut off at a lower frequency. Differences that the few points of small images
    show by chance are taken back (`shrunk`).
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
    """(m,) power of images at high |k|, that of unit noise after what was multiplied into them, and number of
    points where they hold any."""
    half_plane = store.half_plane
    outer = slice(half_plane.prefix(NOISE_SHELLS * store.box / 2), None)
    data = store.half_planes(rows)[:, outer]
    params = image_parameters(store.images.iloc[rows])
    transfer, gain = (x[:, outer] for x in physical_transfer(params, half_plane, dose=True, tilt=True))
    own_gain = torch.as_tensor(store.gain[rows])[:, None]
    noise = noise_gain(transfer, gain) * torch.where(params.ctf_premultiplied[:, None], own_gain**2, 1.0)
    held = (gain != 0) & (params.scale_factor[:, None] != 0)
    sums = (data.abs().square() * held, noise * held, held)
    return tuple(values.sum(1).double() for values in sums)


def noise_gain(transfer: Tensor, gain: Tensor) -> Tensor:
    """Variance of an image's noise relative to an untreated image's, from h and g of `physical_transfer`.

    0 where the gain is: such values hold neither signal nor noise.
    """
    return torch.where(gain != 0, transfer / gain, torch.zeros_like(gain))
