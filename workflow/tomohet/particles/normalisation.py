"""Normalisation: the divisor of every image, and the grey scale of its tomogram.

Programs, sessions and detectors write images on different grey scales, and pixels alone cannot tell another
scale from more noise. A tomogram's scale is therefore defined by its noise. Tomograms thus count equally, and
differences of signal-to-noise between tomograms are lost. Within a tomogram there is one grey scale, and a
noisier image has a lower signal-to-noise ratio.
"""

import numpy as np
import pandas as pd
import torch

from tomohet.particles.noise_levels import noise_gain
from tomohet.particles.preparation import (
    Preparation,
    noise_band,
    noise_deviation,
    read_half_planes,
    read_images,
)
from tomohet.particles.rescaling import Grids
from tomohet.particles.table import ParticleSet
from tomohet.physics.hartley import hartley2, hartley_values, symmetrise
from tomohet.physics.imaging import image_parameters, physical_transfer
from tomohet.physics.lattice import HalfPlane

SAMPLE_FOR_SCALE = 10_000  # number of images from which scales are estimated; all if there are fewer
SAMPLE_FOR_LEVELS = 2_000  # number of random images from which the tomograms' noise levels are estimated
FEWEST_PER_TOMOGRAM = 20  # smallest number of these images per tomogram, if it has that many


def divisors(
    particle_set: ParticleSet,
    preparation: Preparation,
    hp: HalfPlane,
    grids: Grids,
    end_cpp: float | None = None,
) -> tuple[float, np.ndarray]:
    """Return the shift common to all images, and each image's divisor, float32 (n,).

    A divisor of NaN stands for the image's own noise, which is not known yet.

    end_cpp : frequency where the premultiplied images end, cycles per pixel

    Raises InputError as `read_half_planes` does.
    """
    images = particle_set.images
    n = len(images)
    if isinstance(preparation.normalise, tuple):
        shift, scale = map(float, preparation.normalise)
        return shift, np.full(n, scale, np.float32)
    if preparation.normalise == "global":
        return 0.0, np.full(n, _hartley_deviation(particle_set, preparation, grids), np.float32)
    divisor = np.full(n, np.nan, np.float32)
    premultiplied = np.flatnonzero(images["ctf_premultiplied"])
    if len(premultiplied):
        tomogram = tomogram_of(particle_set)
        rows = premultiplied[_spread(tomogram[premultiplied])]
        power, expected = np.zeros(n), np.zeros(n)
        for here, values in read_half_planes(images, rows, grids, preparation):
            power[here] = noise_deviation(values, hp, end_cpp).double().square().numpy()
            expected[here] = expected_noise(images.iloc[here], hp, end_cpp)
        level = grey_levels(power[rows], expected[rows], tomogram[rows])
        common = np.sqrt((power[rows] / level[tomogram[rows]].to_numpy() ** 2).mean())
        divisor[premultiplied] = common * level[tomogram[premultiplied]].to_numpy()
    return 0.0, divisor


def tomogram_of(particle_set: ParticleSet) -> np.ndarray:
    """Return the name (n,) of every image's tomogram."""
    names = particle_set.particles["tomogram"].astype(str).to_numpy()
    return names[particle_set.images["particle"].to_numpy()]


def expected_noise(images: pd.DataFrame, hp: HalfPlane, end_cpp: float | None = None) -> np.ndarray:
    """Return the noise power (m,) in the `noise_band` that extraction made of white noise of power 1."""
    outer = noise_band(hp, end_cpp)
    beyond = HalfPlane(hp.box, hp.k[outer], hp.radius[outer], hp.frequency[outer])
    transfer, gain = physical_transfer(image_parameters(images), beyond, dose=True, tilt=True)
    return noise_gain(transfer, gain).mean(1).double().numpy()


def grey_levels(power: np.ndarray, expected: np.ndarray, tomogram: np.ndarray) -> pd.Series:
    """Estimate the noise deviation of each tomogram before its images were multiplied by anything, by name.

    power, expected : (m,) of images, as `noise_deviation` squared and `expected_noise`
    tomogram : (m,) names
    """
    sums = pd.DataFrame({"power": power, "expected": expected}).groupby(tomogram).sum()
    variance = sums["power"] / sums["expected"].clip(lower=1e-12)
    return pd.Series(np.sqrt(variance.to_numpy()), index=variance.index)


def grey_scales(noise_scale: np.ndarray, images: pd.DataFrame, tomogram: np.ndarray) -> np.ndarray:
    """Return the grey scale of each image's tomogram, float32 (n,).

    It is the median divisor of the tomogram's images of the same kind.
    """
    kind = [tomogram, images["ctf_premultiplied"].to_numpy(bool)]
    return pd.Series(noise_scale).groupby(kind).transform("median").to_numpy(np.float32)


def _spread(tomogram: np.ndarray) -> np.ndarray:
    """Draw positions (ascending) of random images, equally many per tomogram, `SAMPLE_FOR_LEVELS` in all."""
    order = np.random.default_rng(0).permutation(len(tomogram))
    shuffled = pd.Series(tomogram[order])
    limit = max(FEWEST_PER_TOMOGRAM, SAMPLE_FOR_LEVELS // shuffled.nunique())
    return np.sort(order[(shuffled.groupby(shuffled).cumcount() < limit).to_numpy()])


def _hartley_deviation(particle_set: ParticleSet, preparation: Preparation, grids: Grids) -> float:
    """Compute the standard deviation of all Hartley coefficients, from evenly spaced images."""
    images = particle_set.images
    n = min(len(images), SAMPLE_FOR_SCALE)
    rows = np.unique(np.linspace(0, len(images) - 1, n).round().astype(int))
    total = total_square = 0.0
    count = 0
    for hartley in _hartley(images, rows, grids, preparation):
        total, total_square = total + float(hartley.sum()), total_square + float(hartley.square().sum())
        count += hartley.numel()
    return float(np.sqrt(total_square / count - (total / count) ** 2))


def _hartley(images: pd.DataFrame, rows: np.ndarray, grids: Grids, preparation: Preparation):
    """Yield Hartley coefficients, float64, chunk by chunk; of images as they are the whole square."""
    if grids.resampled:
        for _, values in read_half_planes(images, rows, grids, preparation):
            yield torch.stack(hartley_values(values)).double()
        return
    for _, pixels in read_images(images, rows, grids.box):
        preparation.apply(pixels)
        yield symmetrise(hartley2(pixels.double()))
