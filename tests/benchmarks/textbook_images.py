"""Tilt images the plain way, to measure ours against: one at a time with numpy, on the full Fourier plane.

Images are read and transformed one by one. For training they stay Hartley transforms on the lattice of
(D + 1)^2 points, and come particle by particle through a DataLoader; translations, CTFs and dose weights are
computed anew whenever they are needed.
"""

import math
from collections.abc import Iterator

import mrcfile
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tomohet.physics.background import take_off_background

OPTICS = (
    "pixel_size_A", "defocus_u_A", "defocus_v_A", "defocus_angle_deg", "voltage_kV", "cs_mm",
    "amplitude_contrast", "phase_shift_deg",
)  # fmt: skip


def pixels_from_centre(n: int, box: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y (n, n), zero at pixel D // 2 of the box D; n is D or D + 1."""
    axis = np.arange(n) - box // 2
    return np.meshgrid(axis, axis)


def window(box: int, inner: float = 0.8, outer: float = 0.9) -> np.ndarray:
    """Round window (D, D): 1 within `inner` half boxes, 0 from `outer`, a raised cosine between."""
    x, y = pixels_from_centre(box, box)
    fall = np.clip((np.hypot(x, y) / (box / 2) - inner) / (outer - inner), 0, 1)
    return (0.5 * (1 + np.cos(np.pi * fall))).astype(np.float32)


def without_background(pixels: np.ndarray) -> np.ndarray:
    """An image (D, D) less its background: by our own function, as it is not this that is compared."""
    image = torch.from_numpy(pixels)[None]
    take_off_background(image)
    return image[0].numpy()


def spectra(images: pd.DataFrame, box: int) -> Iterator[tuple[np.ndarray, float]]:
    """Each image's transform (D + 1, D + 1), windowed, dark protein made light, over its noise; the noise.

    images : table as in `particles.table`
    """
    x, y = pixels_from_centre(box + 1, box)
    radius = np.hypot(x, y)
    noisy = (radius > 0.75 * box / 2) & (radius <= box / 2)
    round_window = window(box)
    stacks = {}
    for stack, section in zip(images["stack"], images["section"], strict=True):
        if stack not in stacks:
            stacks[stack] = mrcfile.mmap(stack, permissive=True)
        pixels = without_background(stacks[stack].data[section - 1].astype(np.float32)) * round_window
        transform = -np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(pixels)))
        # The first row and column come again after the last, so that every k has its -k.
        spectrum = np.pad(transform, ((0, 1), (0, 1)), mode="wrap")
        noise = np.sqrt((np.abs(spectrum[noisy]) ** 2).mean() / 2)
        yield spectrum / noise, noise
    for file in stacks.values():
        file.close()


def prepared(images: pd.DataFrame, box: int) -> np.ndarray:
    """Transforms (m, D + 1, D + 1) complex64 of all images, shifted into place."""
    x, y = pixels_from_centre(box + 1, box)
    out = np.empty((len(images), box + 1, box + 1), np.complex64)
    shifts = images[["shift_x_px", "shift_y_px"]].to_numpy()
    for number, (spectrum, _) in enumerate(spectra(images, box)):
        shift_x, shift_y = shifts[number]
        out[number] = spectrum * np.exp(-2j * np.pi * (x * shift_x + y * shift_y) / box)
    return out


class Particles(Dataset):
    """Per particle: Hartley images on the lattice, unshifted, and what is known of them.

    All particles have the same number of tilts.
    """

    def __init__(self, images: pd.DataFrame, box: int) -> None:
        hartley, noise = [], []
        for spectrum, deviation in spectra(images, box):
            hartley.append(spectrum.real - spectrum.imag)
            noise.append(deviation)
        self.tilts = int((images["particle"] == images["particle"].iloc[0]).sum())
        columns = [f"r{row}{column}" for row in range(3) for column in range(3)]
        self.fields = {
            "hartley": np.stack(hartley).reshape(len(images), -1),
            # Signals of images that were divided by different noise have different heights.
            "gain": np.median(noise) / np.array(noise),
            "rotation": images[columns].to_numpy().reshape(-1, 3, 3),
            "shift": images[["shift_x_px", "shift_y_px"]].to_numpy(),
            "optics": images[list(OPTICS)].to_numpy(),
            "dose": images["dose_e_A2"].to_numpy(),
            "tilt": images["tilt_deg"].to_numpy(),
        }

    def __len__(self) -> int:
        return len(self.fields["hartley"]) // self.tilts

    def __getitem__(self, particle: int) -> dict[str, Tensor]:
        images = slice(particle * self.tilts, (particle + 1) * self.tilts)
        return {
            name: torch.from_numpy(values[images].astype(np.float32)) for name, values in self.fields.items()
        }


def lattice(box: int, device: torch.device | str = "cpu") -> Tensor:
    """(points, 3) of the (D + 1)^2 lattice in cycles/px, x fastest, in the plane z = 0."""
    axis = torch.linspace(-0.5, 0.5, box + 1, device=device)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack((x, y, torch.zeros_like(x)), dim=-1).reshape(-1, 3)


def within_nyquist(k: Tensor) -> Tensor:
    """Which points (n, 3) lie within |k| <= 1/2, zero left out."""
    radius = k.norm(dim=1)
    return (radius > 1e-6) & (radius <= 0.5 + 1e-6)


def translated(hartley: Tensor, k: Tensor, shift: Tensor) -> Tensor:
    """Hartley images (..., points) moved by `shift` (..., 2) px: cos H(k) + sin H(-k)."""
    angle = 2 * math.pi * (shift @ k[:, :2].T)
    return angle.cos() * hartley + angle.sin() * hartley.flip(-1)


def contrast_transfer(k: Tensor, optics: Tensor) -> Tensor:
    """CTF (..., points) of images with `optics` (..., 8), in the order of `OPTICS`."""
    pixel, u, v, angle, kilovolt, cs, contrast, phase = (column[..., None] for column in optics.unbind(-1))
    volt = kilovolt * 1e3
    wavelength = 12.2639 / torch.sqrt(volt + 0.97845e-6 * volt**2)
    x, y = k[:, 0] / pixel, k[:, 1] / pixel
    s2 = x**2 + y**2
    azimuth = torch.atan2(y, x) - torch.deg2rad(angle)
    defocus = (u + v) / 2 + (u - v) / 2 * torch.cos(2 * azimuth)
    spherical = math.pi / 2 * cs * 1e7 * wavelength**3 * s2**2
    return torch.sin(
        -math.pi * defocus * wavelength * s2 + spherical - torch.deg2rad(phase) - torch.asin(contrast)
    )


def critical_dose(k: Tensor, optics: Tensor) -> Tensor:
    """Dose (..., points) in e-/Å^2 that leaves 1/e of the power at each frequency, at 300 kV."""
    s = k.norm(dim=1) / optics[..., :1]
    return 0.24499 * s.clamp(min=1e-6) ** -1.6649 + 2.8141
