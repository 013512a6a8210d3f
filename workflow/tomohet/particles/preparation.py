"""Reading and normalisation of tilt images on their way into the store."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch

from tomohet.errors import InputError
from tomohet.files.mrc import read_sections
from tomohet.particles.rescaling import Grids
from tomohet.physics.background import take_off_background
from tomohet.physics.fourier import cosine_window
from tomohet.physics.lattice import HalfPlane, images_to_half_planes
from tomohet.physics.resampling import field_mask, resample_to_half_planes

PIXELS_PER_CHUNK = 2**22  # bounds memory: about 16 MiB of images and four times that in transforms
SAME_FIELD = 1e-4  # relative; a smaller difference of two fields of view is rounding of pixel sizes
ROUNDING = 1e-6  # relative rounding error of float32 pixels
NOISE_SHELLS = 0.75  # fraction of Nyquist beyond which a single tilt image is noise

Normalisation = Literal["noise", "global"] | tuple[float, float]


@dataclass(frozen=True)
class Preparation:
    """Options for preparing images.

    window : whether to apply a real-space window
    window_r, window_r_outer : its radii as fractions of half the box
    invert : change the sign of all images (or of none); None: the default of `image_signs`
    normalise : "noise": each raw image by its own noise at high |k|, and premultiplied images, whose noise
        the CTF colours, by one number for each tomogram; "global": all by the standard deviation of their
        Hartley transforms (the rule of tomoDRGN); or (shift, scale)
    dtype : "float32" or "float16"
    rescale : pixel size in Å to which all images are resampled
    box : their box then, in px (default: the field of view is kept)

    Only "noise" subtracts the images' background. The other rules are the published ones, for networks that
    were trained on images with their background.
    """

    window: bool = True
    window_r: float = 0.8
    window_r_outer: float = 0.9
    invert: bool | None = None
    normalise: Normalisation = "noise"
    dtype: Literal["float32", "float16"] = "float32"
    rescale: float | None = None
    box: int | None = None

    def __post_init__(self) -> None:
        if self.window and not 0 <= self.window_r < self.window_r_outer:
            raise InputError(
                f"--window-r {self.window_r:g} and --window-r-outer {self.window_r_outer:g}: expected "
                "0 <= inner < outer"
            )
        if isinstance(self.normalise, tuple) and self.normalise[1] == 0:
            raise InputError("--norm: the scale is 0, expected another number")
        if self.box is not None and self.rescale is None:
            raise InputError("--box is the box after resampling; give --rescale PIXEL_SIZE as well")

    @property
    def flat(self) -> bool:
        """Whether the grey level around the particle is subtracted before windowing (see `background`)."""
        return self.normalise == "noise"

    def window_of(self, box: int, field: float = 1.0) -> torch.Tensor | None:
        """Return the window (box, box), or None. `field`: the new field of view over that of the images."""
        if self.window:
            return cosine_window(box, self.window_r * field, self.window_r_outer * field)
        return field_mask(box, field) if field < 1 else None

    def apply(self, images: torch.Tensor, field: float = 1.0) -> torch.Tensor:
        """Subtract the background of images (m, D, D) float32 and window them, in place.

        Mark blank ones (m,).

        A blank image has one grey value, or a plane of them, up to rounding, in its middle. Everything that
        reads pixels goes through this function. `field` as in `window_of`.
        """
        level = torch.zeros(len(images))
        if self.flat:
            planes = take_off_background(images, min(field, 1.0))
            level = planes.abs().mul_(torch.tensor([1, *2 * [images.shape[-1] / 2]])[:, None]).sum(0)
        quarter = int(images.shape[-1] * (1 - min(field, 1.0) / 2) / 2)
        middle = images[:, quarter : -quarter or None, quarter : -quarter or None].flatten(1)
        blank = middle.amax(1) - middle.amin(1) <= ROUNDING * level
        window = self.window_of(images.shape[-1], field)
        if window is not None:
            images *= window
        return blank

    def signs(self, images: pd.DataFrame) -> np.ndarray:
        """Return the factor +1 or -1 of each image, float32 (n,)."""
        return image_signs(images["ctf_premultiplied"].to_numpy(bool), self.invert)

    def described(self) -> dict:
        """Return the options as plain values for `store.yaml`."""
        normalise = self.normalise if isinstance(self.normalise, str) else list(map(float, self.normalise))
        return {
            "window": [self.window_r, self.window_r_outer] if self.window else None,
            "invert": self.invert,
            "normalise": normalise,
            "dtype": self.dtype,
            "background": "plane" if self.flat else None,
            # Written only if it is given, so that existing stores without it stay valid.
            **({} if self.rescale is None else {"rescale": float(self.rescale), "box": self.box}),
        }


def image_signs(premultiplied: np.ndarray, invert: bool | None) -> np.ndarray:
    """Return the factor +1 or -1 (n,), float32, with which images give maps of light protein.

    invert : change the sign of all images or of none; None: of images that are not CTF-premultiplied

    RELION (subtomo.cpp, without --no_ic), WarpTools, Warp and M leave protein light in their stacks. The CTF
    is negative at low frequency for underfocus. Raw images of light protein are -C V and must be inverted.
    Images multiplied by the CTF in the programs' sign, -C, are C^2 V and must not be inverted.
    """
    inverted = ~premultiplied if invert is None else np.full(len(premultiplied), invert)
    return np.where(inverted, -1, 1).astype(np.float32)


def noise_band(hp: HalfPlane, end_cpp: float | None = None) -> slice:
    """Return the points at |k| >= 0.75 Nyquist, or the last quarter below the frequency where images end."""
    if end_cpp is None:
        return slice(hp.prefix(NOISE_SHELLS * hp.box / 2), None)
    end_px = end_cpp * hp.box
    return slice(hp.prefix(NOISE_SHELLS * end_px), max(1, hp.prefix(end_px - 1)))


def noise_deviation(transforms: torch.Tensor, hp: HalfPlane, end_cpp: float | None = None) -> torch.Tensor:
    """Compute the noise deviation (m,) of real and imaginary parts of half planes (m, n) in `noise_band`."""
    high = transforms[:, noise_band(hp, end_cpp)]
    return torch.view_as_real(high.contiguous()).square().mean(dim=(1, 2)).sqrt()


def read_images(
    images: pd.DataFrame, rows: np.ndarray, box: int
) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """Yield (rows, images (m, box, box) float32) chunk by chunk, for ascending rows of an image table.

    Raises InputError naming stack and section when a pixel is not a finite number.
    """
    codes, stacks = pd.factorize(images["stack"])
    sections = images["section"].to_numpy() - 1
    # Chunks have equal size: a single left-over image would be transformed by another algorithm, with other
    # rounding.
    n_chunks = min(len(rows), -(-len(rows) * box**2 // PIXELS_PER_CHUNK))
    for chunk in np.array_split(rows, n_chunks):
        pixels = np.empty((len(chunk), box, box), dtype=np.float32)
        for code in np.unique(codes[chunk]):
            here = np.flatnonzero(codes[chunk] == code)
            read = read_sections(str(stacks[code]), sections[chunk[here]])
            if read.shape[1:] != (box, box):
                raise InputError(
                    f"{stacks[code]}: images of {read.shape[2]} x {read.shape[1]} px, expected {box} px; "
                    "resample all images to one box with --rescale PIXEL_SIZE, or extract them with one box"
                )
            pixels[here] = read
        finite = np.isfinite(pixels).all(axis=(1, 2))
        if not finite.all():
            image = images.iloc[chunk[np.argmin(finite)]]
            raise InputError(
                f"{image['stack']}: section {image['section']} has pixels that are not finite numbers (NaN "
                "or infinite); extract this stack again"
            )
        yield chunk, torch.from_numpy(pixels)


def read_half_planes(
    images: pd.DataFrame, rows: np.ndarray, grids: Grids, preparation: Preparation
) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """Yield (rows, windowed half-planes (m, n) complex64 on the common grid) chunk by chunk.

    Raises InputError naming stack and section of an image that is blank, and as `read_images` does.
    """
    for box, pixel_size_A, here in grids.groups(rows):
        field = grids.box * grids.pixel_size_A / (box * pixel_size_A)
        field = 1.0 if abs(field - 1) < SAME_FIELD else field
        as_they_are = box == grids.box and pixel_size_A == grids.pixel_size_A
        for chunk, pixels in read_images(images, here, box):
            _refuse_blank(preparation.apply(pixels, field), images, chunk)
            if as_they_are:
                yield chunk, images_to_half_planes(pixels)
            else:
                yield chunk, resample_to_half_planes(pixels, pixel_size_A, grids.box, grids.pixel_size_A)


def _refuse_blank(blank: torch.Tensor, images: pd.DataFrame, rows: np.ndarray) -> None:
    if blank.any():
        image = images.iloc[rows[int(blank.int().argmax())]]
        raise InputError(
            f"{image['stack']}: section {image['section']} is constant in the window; leave this image out"
        )
