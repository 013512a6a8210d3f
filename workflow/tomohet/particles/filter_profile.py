"""The filter that was multiplied into premultiplied images, read off their noise where no known one fits.

The recorded noise has one colour in all tilts. The power of noise of later tilts over that of the first ones,
in one shell, is thus the square of the filter there, up to what it leaves of the first tilts, which blurs the
map and no more. What was done beforehand to all images alike drops out with the colour.

The window in which images end spreads the power of a shell over others. Where a filter leaves a thousandth,
that matters: `window_leak` says how much comes from where, and the profile is the one whose spread power is
the measured one (Chahine's relaxation).
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import isotonic_regression
from torch import Tensor

from tomohet.particles.noise_levels import shrunk
from tomohet.physics.imaging import MEASURED, ImageParameters

GROUPS = 12  # of images of similar dose
ROUNDS = 30
LEAST = 1e-4  # of a weight


@dataclass(frozen=True)
class Profile:
    """dose_e_A2 (G,): mean of each group, ascending; weight (G, `MEASURED`): the filter's amplitude."""

    dose_e_A2: np.ndarray
    weight: np.ndarray

    def at(self, dose_e_A2: np.ndarray) -> np.ndarray:
        """float32 (n, `MEASURED`) of images of these doses (n,); the logarithm is linear between groups."""
        last = len(self.dose_e_A2) - 1
        place = np.interp(dose_e_A2, self.dose_e_A2, np.arange(last + 1.0))
        below = np.minimum(place.astype(int), max(last - 1, 0))
        share = (place - below)[:, None]
        logs = np.log(self.weight)
        values = (1 - share) * logs[below] + share * logs[np.minimum(below + 1, last)]
        return np.exp(values).astype(np.float32)

    def of(self, params: ImageParameters) -> ImageParameters:
        """Parameters of images with this filter."""
        weight = torch.as_tensor(self.at(params.dose_e_A2.numpy()))
        return params._replace(measured_weight=weight, dose_weighted=torch.ones_like(params.dose_weighted))


def window_leak(window: Tensor) -> Tensor:
    """Compute how much of each shell's power a window brings from the other shells: (D/2 + 1, D/2 + 1).

    Entry (i, j) is the power in shell i of white noise that fills shell j alone and is then windowed, over
    the power of white noise in all shells. Rows add up to 1. Power beyond Nyquist counts to the last shell.
    Means of power convolve with the power of the window's transform.

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

    power (m, s): of the images, on one grey scale; expected (m, s): of white noise without the filter; stated
    (m, s): the filter's amplitude as the file states it, which stays where too few images say otherwise.
    leak: `window_leak` of these shells. cpp: of the shells, cycles per pixel; those from lowest_cpp on are
    noise.
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
    # The colour of the recorded noise and what is left of the first tilts divide out.
    deviation = torch.log((left / left[0] / (stated / stated[0])).clamp_min(LEAST**2))
    count = images * points / (1 + images[0] / images[0].clamp_min(1))
    log_power = torch.log(stated / stated[0]) + shrunk(deviation, count)
    k = cpp.double().numpy()
    return Profile(dose, np.stack([_weight_of(row, k, lowest_cpp) for row in log_power.numpy() / 2]))


def dose_groups(dose_e_A2: Tensor) -> tuple[Tensor, np.ndarray]:
    """Group (m,) of each image, of at most `GROUPS` of similar dose, and their mean doses, ascending."""
    doses, rank = np.unique(dose_e_A2.double().numpy(), return_inverse=True)
    group = np.unique(rank * min(GROUPS, len(doses)) // len(doses), return_inverse=True)[1]
    mean = np.bincount(group, doses[rank]) / np.bincount(group)
    return torch.as_tensor(group), mean


def _weight_of(log_amplitude: np.ndarray, k: np.ndarray, lowest_cpp: float) -> np.ndarray:
    """Amplitude (`MEASURED`,) of a filter from its logarithm (s,) at frequencies k (s,); it never rises.

    Below lowest_cpp there is signal, which fades with the dose as well: the filter leaves no less than
    what is measured there, nor than the Gaussian that ends where the shells of noise begin.
    """
    noise = k >= lowest_cpp
    falling = isotonic_regression(log_amplitude[noise], increasing=False).x.clip(np.log(LEAST), 0)
    node = np.arange(1, len(MEASURED) + 1) / (2 * len(MEASURED))
    values, first = np.interp(node, k[noise], falling), k[noise][0]
    law = falling[0] * (node / first) ** 2
    least = np.interp(node, k, log_amplitude, left=-np.inf)
    values = np.where(node < first, np.maximum(law, least).clip(max=0), values)
    return np.exp(isotonic_regression(values, increasing=False).x).clip(LEAST, 1.0)
