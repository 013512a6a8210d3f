"""Volumes on other grids and at other resolutions, by their Fourier transforms."""

import math

import numpy as np
import torch

from tomohet.physics.fourier import inverse3, transform3
from tomohet.physics.lattice import half_box
from tomohet.physics.shells import between_shells, radius_grid

Tensor = torch.Tensor


def lowpass(
    volumes: Tensor | np.ndarray, pixel_size_A: float, resolution_A: float, edge_shells: float = 2.0
) -> Tensor | np.ndarray:
    """Low-pass filter maps (..., D, D, D) at a resolution in Å; arrays give arrays, tensors give tensors.

    The raised-cosine edge of `edge_shells` Fourier pixels is centred at the resolution. An edge of 0 is a
    sharp cut-off that keeps |k| <= D pixel_size / resolution.
    """
    maps = torch.as_tensor(volumes).float()
    box = maps.shape[-1]
    beyond = radius_grid(box, maps.device) - box * pixel_size_A / resolution_A
    if edge_shells > 0:
        weight = 0.5 * (1 + torch.cos(math.pi * (beyond / edge_shells + 0.5).clamp(0, 1)))
    else:
        weight = (beyond <= 1e-4).float()
    filtered = inverse3(transform3(maps) * weight, box)
    return filtered if isinstance(volumes, Tensor) else filtered.numpy()


def multiply_shells(volume: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Multiply the transform of a map (D, D, D) by weights (D//2+1,) per shell (`shells.between_shells`)."""
    maps = torch.as_tensor(volume).float()
    box = maps.shape[-1]
    return inverse3(transform3(maps) * between_shells(weight, radius_grid(box)), box).numpy()


def mirror_z(volume: np.ndarray) -> np.ndarray:
    """Change the handedness of a map [z, y, x]: z -> -z about voxel D//2, which stays in place."""
    return np.roll(volume[::-1], 1, axis=0)


def crop_fourier(volumes: Tensor, box: int) -> Tensor:
    """Resample maps (..., D, D, D) to a smaller even box by cropping their transforms; density is unchanged.

    Both ends of the new box's Nyquist planes have equal weight. Raises ValueError unless 4 <= box <= D, even.
    """
    full = volumes.shape[-1]
    half = half_box(box)
    if box > full:
        raise ValueError(f"cannot crop a box of {full} to a larger one of {box}")
    if box == full:
        return volumes
    spectrum = transform3(volumes)[..., : half + 1]
    for axis in (-3, -2):
        low = spectrum.narrow(axis, 0, half)
        high = spectrum.narrow(axis, full - half + 1, half - 1)
        nyquist = (spectrum.narrow(axis, half, 1) + spectrum.narrow(axis, full - half, 1)) / 2
        spectrum = torch.cat([low, nyquist, high], dim=axis)
    # Along x, irfftn takes the Hermitian part of the Nyquist plane.
    return inverse3(spectrum, box) * (box / full) ** 3


def pad_fourier(volumes: Tensor, box: int) -> Tensor:
    """Resample maps (..., d, d, d) to a larger even box by padding their transforms; density is unchanged.

    Coefficients at the old Nyquist frequency are shared by both ends. Raises ValueError if the box is smaller
    or odd.
    """
    small = volumes.shape[-1]
    half_box(box)
    if box < small:
        raise ValueError(f"cannot pad a box of {small} to a smaller one of {box}")
    if box == small:
        return volumes
    half = half_box(small)
    spectrum = transform3(volumes)
    for axis in (-3, -2):
        low, nyquist, high = spectrum.split([half, 1, half - 1], dim=axis)
        between = list(spectrum.shape)
        between[axis] = box - small - 1
        spectrum = torch.cat([low, nyquist / 2, spectrum.new_zeros(between), nyquist / 2, high], dim=axis)
    spectrum[..., half] /= 2
    return inverse3(torch.nn.functional.pad(spectrum, (0, (box - small) // 2)), box) * (box / small) ** 3


def on_grid(maps: Tensor, box: int) -> Tensor:
    """Return maps (..., D, D, D) with the same Fourier coefficients on a coarser or finer grid of `box`."""
    own = maps.shape[-1]
    if box == own:
        return maps
    return (own / box) ** 3 * (crop_fourier(maps, box) if box < own else pad_fourier(maps, box))


def smooth(volume: Tensor, sigma_px: float) -> Tensor:
    """Convolve a map (D, D, D) with a Gaussian of the given standard deviation."""
    box = volume.shape[-1]
    axis = torch.exp(-2 * (torch.pi * sigma_px * torch.fft.fftfreq(box, device=volume.device)) ** 2)
    gaussian = axis[:, None, None] * axis[:, None] * axis[: box // 2 + 1]
    return torch.fft.irfftn(torch.fft.rfftn(volume) * gaussian, s=volume.shape)
