"""Fourier shells: which shell a point lies in, sums and means over shells, values of shells at points.

Radii |k| are in Fourier pixels of a map's own box D, whose shells are 0..D/2.
"""

import torch
from torch import Tensor


def shell_of(radius: Tensor) -> Tensor:
    """Shell (...) int64 of points of radius (...): 0 for k = 0, s for s - 1 < |k| <= s."""
    # The margin keeps rounding from lifting a point on a shell's rim into the next shell.
    return torch.ceil(radius - 1e-4).long()


def nearest_shell(radius: Tensor) -> Tensor:
    """Shell (...) int64 of points of radius (...), rounded: s for s - 1/2 <= |k| < s + 1/2."""
    return radius.round().long()


def radius_grid(box: int, device: torch.device | str = "cpu") -> Tensor:
    """|k| in Fourier pixels in the layout of rfftn: (D, D, D//2+1) float32."""
    full = torch.fft.fftfreq(box, 1 / box, device=device)
    half = torch.arange(box // 2 + 1, device=device, dtype=torch.float32)
    return torch.sqrt(full[:, None, None] ** 2 + full[:, None] ** 2 + half**2)


def shell_grid(box: int, device: torch.device | str = "cpu") -> Tensor:
    """Shell of every point in the layout of rfftn: (D, D, D//2+1) int64. Corners lie beyond shell D/2."""
    return shell_of(radius_grid(box, device))


def nearest_grid(box: int, device: torch.device | str = "cpu") -> Tensor:
    """Rounded |k| of every point of an rfftn layout, (D, D, D//2+1) int64."""
    return nearest_shell(radius_grid(box, device))


def shell_sums(values: Tensor, shells: Tensor, n_shells: int) -> Tensor:
    """Sums (..., n_shells) of values (..., *grid) over the points (*grid) of each shell.

    Points of shells from n_shells on are left out.
    """
    inside = shells < n_shells
    sums = values.new_zeros(*values.shape[: values.dim() - shells.dim()], n_shells)
    return sums.index_add_(-1, shells[inside], values[..., inside])


def shell_points(shells: Tensor, n_shells: int) -> Tensor:
    """Number (n_shells,) int64 of the points of each shell."""
    return torch.bincount(shells.flatten(), minlength=n_shells)[:n_shells]


def shell_means(values: Tensor, shells: Tensor, n_shells: int) -> Tensor:
    """Means (..., n_shells) of values (..., *grid) over the points (*grid) of each shell."""
    return shell_sums(values, shells, n_shells) / shell_points(shells, n_shells)


def at_points(curve: Tensor, shells: Tensor, beyond: float | None = None) -> Tensor:
    """Values (..., *grid) of a curve (..., n_shells) at points (*grid) of shells.

    beyond: the value of points outside the last shell; None is that of the last shell.
    """
    n_shells = curve.shape[-1]
    values = curve[..., shells.clamp(max=n_shells - 1)]
    return values if beyond is None else torch.where(shells < n_shells, values, beyond)


def full_shell_sums(values: Tensor, shells: Tensor, n_shells: int) -> Tensor:
    """Sums (..., n_shells) float64 over shells of the full transform; values (..., D, D, D//2+1) of its half.

    Points inside the half count twice, for themselves and their Friedel mates.
    """
    multiplicity = torch.full(values.shape[-1:], 2.0, device=values.device, dtype=torch.float64)
    multiplicity[0] = multiplicity[-1] = 1.0
    return shell_sums(values.double() * multiplicity, shells, n_shells)


def shell_power(volumes: Tensor, n_shells: int | None = None) -> Tensor:
    """Mean |F|^2 in shells of volumes (..., D, D, D): (..., n_shells), default D//2 + 1 shells."""
    box = volumes.shape[-1]
    power = torch.fft.rfftn(volumes, dim=(-3, -2, -1)).abs().square()
    return shell_means(power, nearest_grid(box, volumes.device), n_shells or box // 2 + 1)
