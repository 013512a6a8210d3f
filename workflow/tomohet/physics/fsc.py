"""Fourier shell correlation (FSC) of maps, its correction for the mask, and resolution estimates."""

import numpy as np
import pandas as pd
import torch

from tomohet.physics.fourier import inverse3, transform3
from tomohet.physics.shells import full_shell_sums, shell_grid

Tensor = torch.Tensor
Map = np.ndarray | Tensor

RANDOMISATIONS = 3  # draws of random phases that are averaged


def fsc(map1: Map, map2: Map, mask: Map | None = None) -> np.ndarray:
    """Compute the Fourier shell correlation (..., D//2+1) of maps (..., D, D, D), after masking if given.

    Shell s contains s - 1 < |k| <= s. Shell 0 is k = 0, and shell D/2 ends at Nyquist. The frequency of a
    shell is s / (D pixels). Leading axes broadcast. Shells without signal give 0.
    """
    first, second = (torch.as_tensor(m).float() for m in (map1, map2))
    if mask is not None:
        mask = torch.as_tensor(mask, device=first.device).float()
        first, second = first * mask, second * mask
    box = first.shape[-1]
    one, two = transform3(first), transform3(second)
    shells, n_shells = shell_grid(box, first.device), box // 2 + 1
    cross = full_shell_sums((one * two.conj()).real, shells, n_shells)
    power1, power2 = (full_shell_sums(f.abs().square(), shells, n_shells) for f in (one, two))
    power = power1 * power2
    return torch.where(power > 0, cross / torch.sqrt(power), 0.0).cpu().numpy()


def correlation(map1: Map, map2: Map, mask: Map | None = None) -> float:
    """Compute the Pearson correlation of two maps over all voxels, after masking if `mask` is given."""
    first, second = (torch.as_tensor(m).double() for m in (map1, map2))
    if mask is not None:
        mask = torch.as_tensor(mask, device=first.device).double()
        first, second = first * mask, second * mask
    first, second = first - first.mean(), second - second.mean()
    norm = torch.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / norm) if norm > 0 else 0.0


def resolution_at(curve: np.ndarray, frequency_1_A: np.ndarray, threshold: float) -> float:
    """Return the resolution in Å at which a curve over shells first falls below `threshold`.

    Values are interpolated linearly between shells. A curve that never falls below has the resolution of its
    last shell. k = 0 is ignored.
    """
    curve, frequency = np.asarray(curve)[1:], np.asarray(frequency_1_A)[1:]
    below = np.flatnonzero(~(curve >= threshold))
    if below.size == 0:
        return float(1 / frequency[-1])
    crossing = below[0]
    if crossing == 0:
        return float(1 / frequency[0])
    high, low = curve[crossing - 1], curve[crossing]
    fraction = (high - threshold) / (high - low) if np.isfinite(low) else 0.0
    return float(1 / (frequency[crossing - 1] + fraction * (frequency[crossing] - frequency[crossing - 1])))


def shell_frequencies(box: int, pixel_size_A: float) -> np.ndarray:
    """Return the frequencies in 1/Å of shells 0..D/2."""
    return np.arange(box // 2 + 1) / (box * pixel_size_A)


def phase_randomise(volume: Map, first_shell: int, rng: np.random.Generator) -> np.ndarray:
    """Return a real map (D, D, D) with the amplitudes of `volume` and random phases from `first_shell` on."""
    volume = torch.as_tensor(volume).float()
    box = volume.shape[-1]
    # The phases of real white noise have Hermitian symmetry.
    noise = transform3(
        torch.as_tensor(rng.standard_normal((box,) * 3), dtype=torch.float32).to(volume.device)
    )
    spectrum = transform3(volume)
    randomised = spectrum.abs() * noise / noise.abs().clamp(min=1e-20)
    outer = shell_grid(box, volume.device) >= first_shell
    return inverse3(torch.where(outer, randomised, spectrum), box).cpu().numpy()


def corrected_fsc(
    half1: np.ndarray, half2: np.ndarray, mask: np.ndarray, rng: np.random.Generator, pixel_size_A: float
) -> pd.DataFrame:
    """Compute the FSC of two half maps, corrected for the correlation that the mask introduces.

    Phases are randomised from the first shell where the unmasked FSC is below 0.8. `randomised` is the mean
    of several draws, and at least 0. From two shells further on, corrected = (masked - randomised) / (1 -
    randomised); below that, corrected = masked (Chen et al. 2013, Ultramicroscopy 135:24). Shell 0 is 1 by
    convention, because images have no mean.

    The columns are shell, frequency_1_A, resolution_A, unmasked, masked, randomised, corrected.
    """
    box = len(half1)
    unmasked, masked = fsc(half1, half2), fsc(half1, half2, mask)
    low = np.flatnonzero(unmasked[1:] < 0.8)
    first_shell = int(low[0]) + 1 if low.size else box // 2
    draws = [
        fsc(phase_randomise(half1, first_shell, rng), phase_randomise(half2, first_shell, rng), mask)
        for _ in range(RANDOMISATIONS)
    ]
    shell = np.arange(box // 2 + 1)
    randomised = np.where(shell >= first_shell, np.maximum(np.mean(draws, axis=0), 0), masked)
    mask_free = (masked - randomised) / np.maximum(1 - randomised, 1e-6)
    corrected = np.where(shell >= first_shell + 2, mask_free, masked)
    for curve in (unmasked, masked, randomised, corrected):
        curve[0] = 1.0
    frequency = shell_frequencies(box, pixel_size_A)
    with np.errstate(divide="ignore"):
        resolution = 1 / frequency
    return pd.DataFrame(
        {
            "shell": shell,
            "frequency_1_A": frequency,
            "resolution_A": resolution,
            "unmasked": unmasked,
            "masked": masked,
            "randomised": randomised,
            "corrected": corrected,
        }
    )
