"""Resampling of images to a coarser pixel size in Fourier space: exact sums, no interpolation.

A pixel value is the density averaged over a pixel, so grey values do not change with the pixel size. The
transform, a sum over pixels, scales with the number of pixels per area: (p/p')^2.
"""

import math
from functools import lru_cache

import torch

from tomohet.physics.lattice import half_plane

Tensor = torch.Tensor


def resample_to_half_planes(images: Tensor, pixel_size_A: float, box: int, target_A: float) -> Tensor:
    """Return half planes (m, n) complex64, for a box of `box` px of `target_A` Å, of images (m, D, D).

    Evaluates F(k) = (p/p')^2 sum_x f(x) exp(-2 pi i (x - D//2).k p/(B p')) at the points k of the new box's
    half plane, first along x, then along y. Images larger than the new field of view must be windowed or
    cropped (`field_mask`) before, because content outside would be folded in.
    """
    step = pixel_size_A / (box * target_A)
    along_x, along_y = _waves(images.shape[-1], box, step)
    rows = torch.complex(images @ along_x.real, images @ along_x.imag)
    transform = along_y @ rows
    kx, ky = half_plane(box).k.long().unbind(-1)
    values = transform[..., ky + box // 2, kx]
    return values * (pixel_size_A / target_A) ** 2


@lru_cache(maxsize=8)
def _waves(source_box: int, box: int, step: float) -> tuple[Tensor, Tensor]:
    """Return exp(-2 pi i k x step): (D, B/2 + 1) for kx >= 0 and (B + 1, D) for ky from -B/2, complex64."""
    position = torch.arange(source_box, dtype=torch.float64) - source_box // 2
    k = torch.arange(-(box // 2), box // 2 + 1, dtype=torch.float64)
    phase = -2 * math.pi * step * k[:, None] * position
    waves = torch.polar(torch.ones_like(phase), phase).to(torch.complex64)
    return waves[box // 2 :].T.contiguous(), waves


def field_mask(source_box: int, fraction: float) -> Tensor:
    """Return (D, D) float32: 1 in the central square of `fraction` of the field of view, -B/2 to B/2 - 1."""
    position = torch.arange(source_box, dtype=torch.float64) - source_box // 2
    half = fraction * source_box / 2
    inside = ((position >= -half - 1e-6) & (position < half - 1e-6)).float()
    return inside[:, None] * inside


def crop_spectrum(images: Tensor, box: int) -> Tensor:
    """Resample images (..., D, D) to a smaller even box by cropping their transforms; grey values are kept.

    Both ends of the new Nyquist lines enter with equal weight, so that the result is real and does not depend
    on the sign of k.

    Raises ValueError unless 4 <= box <= D, even.
    """
    full, half = images.shape[-1], box // 2
    if box % 2 or not 4 <= box <= full:
        raise ValueError(f"cannot crop images of {full} px to {box} px; give an even box up to {full}")
    if box == full:
        return images
    # In raw images the mean is large compared with the signal; without it no digits are lost.
    mean = images.double().mean(dim=(-2, -1), keepdim=True)
    centred = torch.fft.ifftshift((images - mean).float(), dim=(-2, -1))
    spectrum = torch.fft.rfft2(centred)[..., : half + 1]
    nyquist = (spectrum[..., half : half + 1, :] + spectrum[..., full - half : full - half + 1, :]) / 2
    spectrum = torch.cat([spectrum[..., :half, :], nyquist, spectrum[..., full - half + 1 :, :]], dim=-2)
    small = torch.fft.fftshift(torch.fft.irfft2(spectrum, s=(box, box)), dim=(-2, -1))
    return (small * (box / full) ** 2 + mean).float()
