"""Evidence of half-set maps and projections for the data's sign, its CTF and its defocus gradient.

Every test gives a score per image, summed within particles. z is the mean over its standard error over
particles, so it needs no model of the noise. An image is compared only with the map of the other half set.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from tomohet.particles.scores import normal_deviate, z_over_particles
from tomohet.physics.backprojection import Accumulator, insert_slices, wiener_map
from tomohet.physics.fsc import fsc, shell_frequencies
from tomohet.physics.imaging import ctf_of, dose_attenuation, tilt_attenuation
from tomohet.physics.masks import sphere_mask
from tomohet.physics.slicing import corners, gather, transform
from tomohet.preflight.sample import Sample

IMAGES_AT_ONCE = 400
MAP_FRACTION = 0.1  # regulariser of the maps
BLOB_RADII = (0.2, 0.3, 0.4)  # fractions of the box
LEAST_CTF2 = 0.05  # floor of CTF^2 where premultiplied data are divided by their CTF
# Weight g of the data y in sum(g y) / sum(C^2), for data y = p C V with p in {1, sign C, C, |C|}.
DATA_WEIGHTS = {
    "raw": lambda c: c,
    "phase-flipped": lambda c: c.abs(),
    "premultiplied": torch.ones_like,
    "weighted by |CTF|": torch.sign,
}


@dataclass(frozen=True)
class HalfPair:
    """Two half maps (2, d, d, d) of a sample and their FSC (d//2+1,) at frequencies in 1/Å."""

    maps: np.ndarray
    frequency_1_A: np.ndarray
    fsc: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        return self.maps.mean(0)


def back_project(sample: Sample, weight_of, depth: float = 1.0) -> HalfPair:
    """Reconstruct half maps under a hypothesis about the data.

    weight_of : C -> g, as in `DATA_WEIGHTS`
    depth : factor on every image's depth, 1 for the depths of the table
    """
    sums = [Accumulator.zeros(sample.box) for _ in range(2)]
    for part in chunks(sample):
        ctf, fade = ctf_at_depth(sample, part, depth), _fading(sample, part)
        values, weights = weight_of(ctf) * fade * sample.data[part], (ctf * fade).square()
        for number in (0, 1):
            member = torch.as_tensor(np.flatnonzero(sample.half[part] == number))
            rotation = sample.params.rotation[part][member]
            insert_slices(values[member], weights[member], rotation, sample.half_plane, sums[number])
    mask = sphere_mask(sample.box, edge_px=max(3.0, sample.box / 10))
    maps = np.stack([wiener_map(one, MAP_FRACTION).numpy() * mask for one in sums])
    return HalfPair(maps, shell_frequencies(sample.box, sample.pixel_size_A), fsc(maps[0], maps[1]))


def contrast_score(sample: Sample, weight_of) -> float:
    """Compute z of "the particle is light" for y = p C V: the centre of every image against its surroundings.

    The score of an image is its agreement with a centred ball of positive density, whatever its orientation.
    The most significant of three radii counts. Its probability is corrected for three tests (Sidak) as if
    they were independent, which is at worst too cautious.
    """
    k = sample.half_plane.radius.double() / sample.box
    scores = []
    for radius in BLOB_RADII:
        x = 2 * torch.pi * k * radius * sample.box
        ball = (3 * (torch.sin(x) - x * torch.cos(x)) / x**3).float()
        total = [
            (weight_of(ctf_of(sample.params.take(part), sample.half_plane)) * sample.data[part].real * ball)
            .sum(1)
            .double()
            .numpy()
            for part in chunks(sample)
        ]
        scores.append(z_over_particles(np.concatenate(total), sample.particle))
    best = max(scores, key=abs)
    return normal_deviate(-np.expm1(len(scores) * np.log1p(-2 * norm.sf(abs(best)))) / 2, best)


def skewness(pair: HalfPair) -> float:
    """Compute the skewness of the density common to both half maps, within the sphere.

    It is above 0 for compact protein.
    """
    one, two = (m[sphere_mask(len(m)) > 0] for m in pair.maps)
    one, two = one - one.mean(), two - two.mean()
    power = max(float((one * two).mean()), 0.05 * float(np.sqrt((one**2).mean() * (two**2).mean())))
    return float((one * two * (one + two)).mean() / 2 / power**1.5)


def depth_score(sample: Sample, premultiplied: bool) -> float:
    """Compute z of "defocus grows with depth as in the table" over the opposite.

    The score of an image is the log-likelihood with its stated depth minus that with the reversed depth,
    given the map of the other half set. The map is made with all depths 0 so that neither sign is favoured: d
    = 2 Re conj(y') (C+ - C-) S - (C+^2 - C-^2) |S|^2 over the noise. y' is the image, divided by its stated
    CTF (floored) if premultiplied.
    """
    pair = back_project(sample, DATA_WEIGHTS["premultiplied" if premultiplied else "raw"], 0.0)
    # Wiener filter of one half map: the signal's fraction of its power is the FSC itself.
    share = np.clip(np.nan_to_num(pair.fsc), 0, 1)
    share = torch.as_tensor(share, dtype=torch.float32)[sample.half_plane.shell]
    tables = [transform(torch.as_tensor(one)[None].float()) for one in pair.maps]
    score = np.zeros(len(sample.particle))
    for part in chunks(sample):
        index, weight = corners(sample.half_plane.k, sample.params.rotation[part], sample.box)
        both = [gather(table, index, weight)[..., 0] for table in tables]
        other = torch.as_tensor(sample.half[part] == 0)[:, None]
        slices = torch.where(other, both[1], both[0]) * share * _fading(sample, part)
        stated, reversed_ = (ctf_at_depth(sample, part, depth) for depth in (1.0, -1.0))
        data, noise_weight = sample.data[part], torch.ones(1)
        if premultiplied:
            noise_weight = stated.square() / (stated.square() + LEAST_CTF2)
            data = data * stated / (stated.square() + LEAST_CTF2) / noise_weight.clamp(min=1e-6)
        linear = 2 * (data.conj() * slices).real * (stated - reversed_)
        quadratic = (stated.square() - reversed_.square()) * slices.abs().square()
        score[part] = ((linear - quadratic) * noise_weight).sum(1).double().numpy()
    return z_over_particles(score, sample.particle)


def ctf_at_depth(sample: Sample, part: slice, depth: float) -> Tensor:
    """Compute the CTF (m, k) of some images with every depth multiplied by a factor."""
    params = sample.params.take(part)
    if depth != 1.0:
        change = torch.as_tensor((depth - 1.0) * sample.depth_A[part], dtype=torch.float32)
        params = params._replace(
            defocus_u_A=params.defocus_u_A + change, defocus_v_A=params.defocus_v_A + change
        )
    return ctf_of(params, sample.half_plane)


def _fading(sample: Sample, part: slice) -> Tensor:
    """Compute the amplitude (m, k) that dose and thickness leave."""
    params = sample.params.take(part)
    return dose_attenuation(params, sample.half_plane) * tilt_attenuation(params)


def chunks(sample: Sample) -> list[slice]:
    """Divide the images of a sample into parts of bounded size."""
    m = len(sample.particle)
    return [slice(start, min(start + IMAGES_AT_ONCE, m)) for start in range(0, m, IMAGES_AT_ONCE)]
