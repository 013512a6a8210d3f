"""Fourier shells: the shell of a point, sums and means over shells, and values of shells at points.

Radii |k| are in Fourier pixels of a map's own box D, with the shells 0..D/2. There are two rules.

- `shell_of`, s - 1 < |k| <= s: for FSC curves (the rule of tomoDRGN, in which the frequency of a shell is its
    outer edge), for Wiener filters that follow from them, and for the noise of images.
- `nearest_shell`, s - 1/2 < |k| <= s + 1/2: for power, precision and variance of maps under a spectral prior.
    The innermost shell then has three times as many points, over which the precision of the data varies less,
    and the solver needs fewer steps: after 20 steps the mean map of 60 simulated particles has an error of
    0.09 % instead of 0.13 %.

A quantity that was measured with one rule is used with the same rule.
"""

import numpy as np
import torch
from torch import Tensor


def shell_of(radius: Tensor) -> Tensor:
    """Return the shell (...) int64 of points of radius (...): 0 for k = 0, s for s - 1 < |k| <= s."""
    # The margin prevents rounding from moving a point on the edge of a shell into the next shell.
    return torch.ceil(radius - 1e-4).long()


def nearest_shell(radius: Tensor) -> Tensor:
    """Return the nearest shell (...) int64 of points of radius (...): s for s - 1/2 < |k| <= s + 1/2."""
    return shell_of(radius - 0.5)


def radius_grid(box: int, device: torch.device | str = "cpu") -> Tensor:
    """Return |k| in Fourier pixels in the layout of rfftn: (D, D, D//2+1) float32."""
    full = torch.fft.fftfreq(box, 1 / box, device=device)
    half = torch.arange(box // 2 + 1, device=device, dtype=torch.float32)
    return torch.sqrt(full[:, None, None] ** 2 + full[:, None] ** 2 + half**2)


def shell_grid(box: int, device: torch.device | str = "cpu", finer: int = 1) -> Tensor:
    """Return the shell of each point in the layout of rfftn: (n, n, n//2+1) int64.

    Corners lie beyond shell D/2.

    finer : the lattice has n = finer * D points along each axis, in steps of 1 / finer, and the shells of box
        D
    """
    return shell_of(radius_grid(finer * box, device) / finer)


def nearest_grid(box: int, device: torch.device | str = "cpu", finer: int = 1) -> Tensor:
    """Return the nearest shell of each point; arguments as in `shell_grid`."""
    return nearest_shell(radius_grid(finer * box, device) / finer)


def shell_sums(values: Tensor, shells: Tensor, n_shells: int) -> Tensor:
    """Compute sums (..., n_shells) of values (..., *grid) over the points (*grid) of each shell.

    Points in shells from n_shells on are ignored.
    """
    inside = shells < n_shells
    sums = values.new_zeros(*values.shape[: values.dim() - shells.dim()], n_shells)
    return sums.index_add_(-1, shells[inside], values[..., inside])


def shell_points(shells: Tensor, n_shells: int) -> Tensor:
    """Count (n_shells,) int64 of the points of each shell."""
    return torch.bincount(shells.flatten(), minlength=n_shells)[:n_shells]


def shell_means(values: Tensor, shells: Tensor, n_shells: int) -> Tensor:
    """Compute means (..., n_shells) of values (..., *grid) over the points (*grid) of each shell."""
    return shell_sums(values, shells, n_shells) / shell_points(shells, n_shells)


def at_points(curve: Tensor, shells: Tensor, beyond: float | None = None) -> Tensor:
    """Return values (..., *grid) of a curve (..., n_shells) at points (*grid) of shells.

    beyond : value of points outside the last shell; None uses the value of the last shell
    """
    n_shells = curve.shape[-1]
    values = curve[..., shells.clamp(max=n_shells - 1)]
    return values if beyond is None else torch.where(shells < n_shells, values, beyond)


def full_shell_sums(values: Tensor, shells: Tensor, n_shells: int) -> Tensor:
    """Compute sums (..., n_shells) float64 over shells of the full transform, from its half.

    Points inside the half count twice, for themselves and for their Friedel mates.

    values : (..., D, D, D//2+1)
    """
    multiplicity = torch.full(values.shape[-1:], 2.0, device=values.device, dtype=torch.float64)
    multiplicity[0] = multiplicity[-1] = 1.0
    return shell_sums(values.double() * multiplicity, shells, n_shells)


def shell_power(volumes: Tensor, n_shells: int | None = None) -> Tensor:
    """Compute the mean |F|^2 of volumes (..., D, D, D) in nearest shells: (..., n_shells or D//2 + 1)."""
    box = volumes.shape[-1]
    power = torch.fft.rfftn(volumes, dim=(-3, -2, -1)).abs().square()
    return shell_means(power, nearest_grid(box, volumes.device), n_shells or box // 2 + 1)


def between_shells(curve: np.ndarray, radius: Tensor) -> Tensor:
    """Interpolate a curve (n_shells,) linearly between the middles of shells, at points of radius (...).

    The middle of shell s is |k| = s - 1/2. Points beyond the last shell have the value 0. Returns float32.
    """
    middle = np.arange(len(curve)) - 0.5
    middle[0] = 0
    values = np.interp(radius.numpy(), middle, curve)
    return torch.where(shell_of(radius) < len(curve), torch.as_tensor(values), 0.0).float()
