"""Measured filter profile of premultiplied images, for the case that no known filter fits their noise.

The recorded noise has the same spectrum in all tilts. In one shell, the noise power of later tilts relative
to the first tilts is therefore the square of the filter, up to its effect on the first tilts, which only
blurs the map. Preprocessing that is the same for all images cancels.

The window at the edge of the images leaks the power of a shell into others. This matters where a filter
leaves a thousandth of the power. `window_leak` gives the leakage matrix, and the profile is found by
Chahine's relaxation, so that its power after leakage equals the measured power.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import isotonic_regression
from torch import Tensor

from tomohet.particles.noise_levels import shrunk
from tomohet.physics.imaging import MEASURED, ImageParameters

GROUPS = 12  # groups of images of similar dose
ROUNDS = 30
LEAST = 1e-4  # lower limit of a weight


@dataclass(frozen=True)
class Profile:
    """Measured amplitude of a filter.

    dose_e_A2 : (G,) mean dose of each group of images, ascending
    weight : (G, `MEASURED`) amplitude of the filter
    """

    dose_e_A2: np.ndarray
    weight: np.ndarray

    def at(self, dose_e_A2: np.ndarray) -> np.ndarray:
        """Interpolate the amplitude float32 (n, `MEASURED`) at doses (n,).

        The logarithm of the amplitude is linear between groups.
        """
        last = len(self.dose_e_A2) - 1
        place = np.interp(dose_e_A2, self.dose_e_A2, np.arange(last + 1.0))
        below = np.minimum(place.astype(int), max(last - 1, 0))
        share = (place - below)[:, None]
        logs = np.log(self.weight)
        values = (1 - share) * logs[below] + share * logs[np.minimum(below + 1, last)]
        return np.exp(values).astype(np.float32)

    def of(self, params: ImageParameters) -> ImageParameters:
        """Return the parameters of images with this filter."""
        weight = torch.as_tensor(self.at(params.dose_e_A2.numpy()))
        return params._replace(measured_weight=weight, dose_weighted=torch.ones_like(params.dose_weighted))


def window_leak(window: Tensor) -> Tensor:
    """Compute the leakage matrix (D/2 + 1, D/2 + 1) of a window between shells.

    Entry (i, j) is the power in shell i of white noise that fills only shell j before the window, relative to
    the power of white noise in all shells. Rows add up to 1. Power beyond Nyquist is assigned to the last
    shell. Expected power is convolved with the power spectrum of the window.

    window : (D, D), in real space
    """
    box = len(window)
    k = torch.fft.fftfreq(box, dtype=torch.float64) * box
    radius = (k[:, None].square() + k.square()).sqrt()
    shell = torch.ceil(radius - 1e-4).long().clamp_max(box // 2)
    spread = torch.fft.fft2(torch.fft.fft2(window.double()).abs().square())
    points = torch.bincount(shell.flatten())
    columns = []
    for number in range(box // 2 + 1):
        power = torch.fft.ifft2(spread * torch.fft.fft2((shell == number).double())).real
        columns.append(torch.bincount(shell.flatten(), power.flatten()) / points)
    leak = torch.stack(columns, dim=1)
    return leak / leak.sum(1, keepdim=True)


def measured_profile(
    power: Tensor,
    expected: Tensor,
    stated: Tensor,
    points: Tensor,
    leak: Tensor | None,
    dose_e_A2: Tensor,
    cpp: Tensor,
    lowest_cpp: float,
) -> Profile:
    """Measure the filter in the noise of images (m,) in shells (s,).

    power : (m, s) of the images, on one grey scale
    expected : (m, s) of white noise without the filter
    stated : (m, s) the filter's amplitude according to the file, to which groups with few images are shrunk
    leak : `window_leak` of these shells
    cpp : (s,) frequencies of the shells, cycles per pixel
    lowest_cpp : frequency from which the shells contain only noise
    """
    group, dose = dose_groups(dose_e_A2)
    power, expected, stated, images = (
        torch.zeros(len(dose), values.shape[1], dtype=torch.float64).index_add_(0, group, values.double())
        for values in (power, expected, stated.square() * expected, torch.ones_like(power))
    )
    stated = stated / expected
    left = power / expected.clamp_min(1e-30)
    if leak is not None:
        spread = leak.double().T
        for _ in range(ROUNDS):
            left = left * (power / ((expected * left / points) @ spread * points).clamp_min(1e-30))
    # The colour of the recorded noise and the filter of the first tilts cancel in the ratio.
    deviation = torch.log((left / left[0] / (stated / stated[0])).clamp_min(LEAST**2))
    count = images * points / (1 + images[0] / images[0].clamp_min(1))
    log_power = torch.log(stated / stated[0]) + shrunk(deviation, count)
    k = cpp.double().numpy()
    return Profile(dose, np.stack([_weight_of(row, k, lowest_cpp) for row in log_power.numpy() / 2]))


def dose_groups(dose_e_A2: Tensor) -> tuple[Tensor, np.ndarray]:
    """Return the group (m,) of each image and the groups' mean doses, ascending.

    There are at most `GROUPS` groups of similar dose.
    """
    doses, rank = np.unique(dose_e_A2.double().numpy(), return_inverse=True)
    group = np.unique(rank * min(GROUPS, len(doses)) // len(doses), return_inverse=True)[1]
    mean = np.bincount(group, doses[rank]) / np.bincount(group)
    return torch.as_tensor(group), mean


def _weight_of(log_amplitude: np.ndarray, k: np.ndarray, lowest_cpp: float) -> np.ndarray:
    """Return the amplitude (`MEASURED`,) of a filter from its logarithm (s,) at frequencies k (s,).

    The amplitude never rises with frequency. Below lowest_cpp there is signal, which also fades with the
    dose. There the amplitude is at least the measured one, and at least a Gaussian that joins at the first
    shell of noise.
    """
    noise = k >= lowest_cpp
    falling = isotonic_regression(log_amplitude[noise], increasing=False).x.clip(np.log(LEAST), 0)
    node = np.arange(1, len(MEASURED) + 1) / (2 * len(MEASURED))
    values, first = np.interp(node, k[noise], falling), k[noise][0]
    law = falling[0] * (node / first) ** 2
    least = np.interp(node, k, log_amplitude, left=-np.inf)
    values = np.where(node < first, np.maximum(law, least).clip(max=0), values)
    return np.exp(isotonic_regression(values, increasing=False).x).clip(LEAST, 1.0)
