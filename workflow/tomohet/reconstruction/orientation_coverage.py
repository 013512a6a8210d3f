"""Orientation coverage of a map: how evenly its images sample Fourier space, and the FSC in each direction.

Sampling: a slice contains the directions at right angles to its beam. For uniformly distributed beams, the
fraction sin(w) of the slices lies within the angle w of a direction. The sampling of a direction is the
fraction of the slices that do, over sin(w) (after Baldwin & Lyumkis 2020, Prog. Biophys. Mol. Biol. 150:160).

3-D FSC: the FSC of the half maps inside a cone about each direction (Tan et al. 2017, Nat. Methods 14:793).
"""

from dataclasses import dataclass

import numpy as np
import torch

from tomohet.physics.fourier import transform3
from tomohet.physics.fsc import resolution_at, shell_frequencies
from tomohet.physics.shells import shell_grid, shell_sums

DIRECTIONS = 100
WITHIN_DEG = 10.0
CONE_DEG = 20.0
SIGNIFICANT = 0.143


@dataclass(frozen=True)
class Coverage:
    """Coverage in n directions of half a sphere.

    directions : (n, 3) unit vectors x, y, z in the volume's frame
    sampling : (n,) fraction of slices near each direction relative to uniform orientations
    fsc : (n, D//2+1) FSC in a cone about each direction
    resolution_A : (n,) where it falls below 0.143
    """

    directions: np.ndarray
    sampling: np.ndarray
    fsc: np.ndarray
    resolution_A: np.ndarray

    def numbers(self) -> dict[str, float]:
        """Return the extremes and the medians over directions."""
        return {
            "sampling_least": float(self.sampling.min()),
            "sampling_median": float(np.median(self.sampling)),
            "resolution_best_A": float(self.resolution_A.min()),
            "resolution_median_A": float(np.median(self.resolution_A)),
            "resolution_worst_A": float(self.resolution_A.max()),
        }


def coverage(
    beams: np.ndarray, half1: np.ndarray, half2: np.ndarray, mask: np.ndarray, pixel_size_A: float
) -> Coverage:
    """Measure the coverage of a map.

    beams : (m, 3) direction of the beam in the volume's frame for each image, the third row of its rotation
    half1, half2, mask : (D, D, D)
    """
    directions = hemisphere(DIRECTIONS)
    fsc = directional_fsc(half1 * mask, half2 * mask, directions)
    frequency = shell_frequencies(len(half1), pixel_size_A)
    resolution_A = np.array([resolution_at(curve, frequency, SIGNIFICANT) for curve in fsc])
    return Coverage(directions, sampling(beams, directions), fsc, resolution_A)


def hemisphere(n: int) -> np.ndarray:
    """Return (n, 3) directions evenly spread over half a sphere: the Fibonacci lattice."""
    number = np.arange(n) + 0.5
    z, azimuth = 1 - number / n, np.pi * (1 + np.sqrt(5)) * number
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), z], axis=1)


def sampling(beams: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Return the sampling (n,) of directions (n, 3) by slices with the beams (m, 3); 1 if uniform."""
    width = np.sin(np.radians(WITHIN_DEG))
    beams = np.asarray(beams, np.float32)
    near = [(np.abs(beams @ direction) <= width).mean() for direction in directions.astype(np.float32)]
    return np.array(near) / width


def directional_fsc(map1: np.ndarray, map2: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Return the FSC (n, D//2+1) of two maps inside cones of half angle CONE_DEG about directions (n, 3).

    A cone contains both k and -k. Shells without points in a cone have the value of the next shell.
    """
    box = len(map1)
    one, two = (transform3(torch.as_tensor(m).float()) for m in (map1, map2))
    shells, n_shells = shell_grid(box), box // 2 + 1
    used = (shells > 0) & (shells < n_shells)
    full, half = torch.fft.fftfreq(box, 1 / box), torch.arange(box // 2 + 1, dtype=torch.float32)
    kz, ky, kx = torch.meshgrid(full, full, half, indexing="ij")
    k = torch.stack([kx, ky, kz], dim=-1)[used]
    k = k / k.norm(dim=-1, keepdim=True)
    # Points of the planes kx = 0 and kx = D/2 stand for themselves, others for their Friedel mates as well.
    times = torch.where((kx == 0) | (kx == box // 2), 1.0, 2.0)[used].double()
    one, two, shells = one[used], two[used], shells[used]
    terms = torch.stack([(one * two.conj()).real, one.abs().square(), two.abs().square()]).double() * times
    curves = []
    for direction in torch.as_tensor(directions, dtype=torch.float32):
        inside = (k @ direction).abs() >= np.cos(np.radians(CONE_DEG))
        cross, *powers = shell_sums(terms[:, inside], shells[inside], n_shells).numpy()
        power = np.sqrt(powers[0] * powers[1])
        curve = np.where(power > 0, cross / np.maximum(power, 1e-300), np.nan)
        known = np.flatnonzero(np.isfinite(curve))
        curves.append(np.interp(np.arange(n_shells), known, curve[known]))
    return np.stack(curves)
