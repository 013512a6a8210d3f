"""Fourier transforms of images and volumes, and of images on half-planes.

The origin is pixel D//2 of a box of even size D; F(k) = sum_x f(x) exp(-2 pi i k.x/D), without a normalising
factor.
"""

import math

import torch

Tensor = torch.Tensor


def transform2(images: Tensor) -> Tensor:
    """Compute rfft2 of images (..., D, D) with the origin at pixel D//2: (..., D, D//2+1).

    Rows are in FFT order.
    """
    return torch.fft.rfft2(torch.fft.ifftshift(images, dim=(-2, -1)))


def inverse2(transform: Tensor, box: int) -> Tensor:
    """Invert `transform2`: images (..., D, D)."""
    return torch.fft.fftshift(torch.fft.irfft2(transform, s=(box, box)), dim=(-2, -1))


def transform3(volumes: Tensor) -> Tensor:
    """Compute rfftn of volumes (..., D, D, D) with the origin at voxel D//2: (..., D, D, D//2+1).

    kz and ky are in FFT order.
    """
    return torch.fft.rfftn(torch.fft.ifftshift(volumes, dim=(-3, -2, -1)), dim=(-3, -2, -1))


def inverse3(transform: Tensor, box: int) -> Tensor:
    """Invert `transform3`: volumes (..., D, D, D)."""
    real = torch.fft.irfftn(transform, s=(box, box, box), dim=(-3, -2, -1))
    return torch.fft.fftshift(real, dim=(-3, -2, -1))


def cosine_window(box: int, r_in: float, r_out: float, device: torch.device | str = "cpu") -> Tensor:
    """Return a round window (D, D) float32: 1 within `r_in`, 0 from `r_out` on, a raised cosine in between.

    Radii are fractions of D/2. Raises ValueError unless 0 <= r_in < r_out.
    """
    if not 0 <= r_in < r_out:
        raise ValueError(f"the window needs 0 <= inner radius < outer radius, found {r_in} and {r_out}")
    axis = (torch.arange(box, dtype=torch.float64, device=device) - box // 2) / (box / 2)
    radius = torch.hypot(axis[:, None], axis[None, :])
    fall = ((radius - r_in) / (r_out - r_in)).clamp(0, 1)
    return (0.5 * (1 + torch.cos(math.pi * fall))).float()
