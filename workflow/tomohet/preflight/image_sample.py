"""A sample of tilt images as they are on disk, and the checks that need pixels but no CTF."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from tomohet.files.mrc import read_sections
from tomohet.particles.normalisation import tomogram_of
from tomohet.particles.preparation import Preparation, noise_deviation
from tomohet.particles.table import ParticleSet
from tomohet.physics.background import take_off_background
from tomohet.physics.lattice import half_plane, images_to_half_planes
from tomohet.preflight.check import Check

N_SAMPLE = 512
PIXELS = 2**25  # of all sampled images together: 128 MiB
EXTREME = 12.0  # robust standard deviations beyond which a pixel is gold, a hot pixel or an edge
NOISE_RANGE = 4.0  # tolerated ratio of 95th to 5th percentile within tomograms
GREY_RANGE = 1.5  # ratio between tomograms' grey scales above which it is reported
SLOPE_WORTH_A_WORD = 0.5
FAR_FROM_0 = 10.0  # standard deviations of an image: beyond, the extraction has not normalised the images


@dataclass(frozen=True)
class ImageSample:
    """m images (m, D, D) float32 as on disk, evenly spaced in the table, their rows and statistics.

    statistics : one row per image: mean, deviation, extreme (largest |pixel - median| over robust deviation),
        level and slope of the background (at the centre, and from there to the edge; both over the deviation
        of the pixels without the background), noise (deviation of the prepared image's transform at high
        frequency), tomogram, finite, constant
    """

    images: pd.DataFrame
    pixels: np.ndarray
    statistics: pd.DataFrame


def sample_images(s: ParticleSet) -> ImageSample | None:
    """Read the sample; return None when the stacks' boxes differ from the table's, as before resampling."""
    n = min(N_SAMPLE, len(s.images), max(8, PIXELS // s.box**2))
    rows = np.unique(np.linspace(0, len(s.images) - 1, n).round().astype(int))
    images = s.images.iloc[rows].reset_index(drop=True)
    pixels = np.empty((len(rows), s.box, s.box), np.float32)
    for stack, here in images.groupby("stack", sort=False, observed=True).indices.items():
        read = read_sections(stack, images["section"].to_numpy()[here] - 1)
        if read.shape[1:] != pixels.shape[1:]:
            return None
        pixels[here] = read
    return ImageSample(images, pixels, _statistics(pixels).assign(tomogram=tomogram_of(s)[rows]))


def check_images(sample: ImageSample) -> list[Check]:
    """Check constant and non-finite images, extreme pixels, background, and the spread of the noise level."""
    usable = sample.statistics[sample.statistics["noise"] > 0]
    checks = [_check_values(sample), _check_extremes(sample)]
    return [*checks, _check_background(usable), _check_noise(usable)]


def _statistics(pixels: np.ndarray) -> pd.DataFrame:
    finite = np.isfinite(pixels).all(axis=(1, 2))
    clean = np.where(finite[:, None, None], pixels, 0).astype(np.float32)
    mean, deviation = clean.mean((1, 2), dtype=float), clean.std((1, 2), dtype=float)
    # Gold beads widen the deviation: it is taken from the middle two thirds of the pixels instead.
    low, middle, high = np.percentile(clean, (16, 50, 84), axis=(1, 2))
    spread = np.maximum((high - low) / 2, 0.05 * deviation + 1e-30)
    extreme = np.abs(clean - middle[:, None, None]).max((1, 2)) / spread
    flat = torch.from_numpy(clean.copy())
    planes = take_off_background(flat)
    own = flat.std((1, 2)).numpy() + 1e-30
    slope = planes[1:].norm(dim=0).numpy() * pixels.shape[-1] / 2
    constant = finite & (deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-30))
    return pd.DataFrame(
        {
            "mean": mean,
            "deviation": deviation,
            "extreme": np.where(constant, 0.0, extreme),
            "level": np.where(constant, 0.0, planes[0].numpy() / own),
            "slope": np.where(constant, 0.0, slope / own),
            "noise": np.where(constant, 0.0, _noise(torch.from_numpy(clean))),
            "finite": finite,
            "constant": constant,
        }
    )


def _noise(pixels: torch.Tensor) -> np.ndarray:
    """Compute the noise deviation (m,) of images (m, D, D), which are prepared in place."""
    hp = half_plane(pixels.shape[-1])
    Preparation().apply(pixels)
    return torch.cat([noise_deviation(images_to_half_planes(part), hp) for part in pixels.split(64)]).numpy()


def _check_values(sample: ImageSample) -> Check:
    statistics = sample.statistics
    n = len(statistics)
    for wrong, what, remedy in (
        (~statistics["finite"], "have pixels that are not finite numbers", "extract these stacks again"),
        (statistics["constant"], "are constant", "leave these images out (--ind-imgs), or extract again"),
    ):
        if wrong.any():
            first = sample.images[wrong.to_numpy()].iloc[0]
            text = (
                f"{int(wrong.sum())} of {n} sampled images {what}, first {first['section']}@{first['stack']}"
            )
            return Check("image values", "stop", text, remedy)
    return Check("image values", "pass", f"{n} sampled images are finite and none is constant")


def _check_extremes(sample: ImageSample) -> Check:
    extreme = sample.statistics["extreme"].to_numpy()
    n = int((extreme > EXTREME).sum())
    if n:
        first = sample.images.iloc[int(extreme.argmax())]
        text = (
            f"{n} of {len(extreme)} sampled images have pixels beyond {EXTREME:g} standard deviations (up to "
            f"{extreme.max():.3g}, {first['section']}@{first['stack']})"
        )
        return Check(
            "extreme pixels", "look", text, "gold beads, hot pixels or edges? remove these particles"
        )
    return Check(
        "extreme pixels", "pass", f"no pixel beyond {extreme.max():.2g} standard deviations of its image"
    )


def _check_background(statistics: pd.DataFrame) -> Check:
    """Check the grey level around the particles, in deviations of the images' pixels."""
    if statistics.empty:
        return Check("grey level", "look", "the images have no noise", "are they simulated?")
    low, middle, high = np.percentile(statistics["level"], (5, 50, 95))
    steep = float(np.percentile(statistics["slope"], 95))
    text = (
        f"the background of images lies {middle:.2g} deviations from 0 (5th to 95th percentile {low:.2g} to "
    )
    text += f"{high:.2g})"
    text += f", with slopes up to {steep:.2g} from centre to edge" if steep > SLOPE_WORTH_A_WORD else ""
    text += "; it is subtracted"
    if max(-low, high, steep) > FAR_FROM_0:
        remedy = "were the images extracted without normalisation? other programs may not subtract it"
        return Check("grey level", "look", text, remedy)
    return Check("grey level", "pass", text)


def _check_noise(statistics: pd.DataFrame) -> Check:
    """Check the noise within tomograms, where it decides the weight of an image.

    Between tomograms it does not affect the weights.
    """
    if statistics.empty:
        return Check("noise level", "look", "the images have no noise", "are they simulated?")
    usual = statistics.groupby("tomogram")["noise"].transform("median")
    low, high = np.percentile(statistics["noise"] / usual, (5, 95))
    grey = usual.max() / usual.min()
    text = f"noise of single images differs by a factor of {high / low:.2g} within tomograms (5th to 95th "
    text += f"percentile of {len(statistics)})"
    if grey > GREY_RANGE:
        text += f"; tomograms differ by {grey:.2g}: all count equally, each on its own grey scale"
    if high > NOISE_RANGE * low:
        remedy = "were stacks of one tomogram normalised differently? the brighter images would count less"
        return Check("noise level", "look", text, remedy)
    return Check("noise level", "pass", text)
