"""Back-projection: insertion of slices into a padded Fourier grid, and Wiener-regularised division.

The grid is that of `physics.slicing`, restricted to kx >= 0. Insertion is the adjoint of cutting a slice.
Geometry as in RELION (Scheres 2012, J. Struct. Biol. 180:519); gridding correction after Jackson et al. 1991,
IEEE Trans. Med. Imaging.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from tomohet.physics.fourier import inverse3
from tomohet.physics.insertion import add_slices
from tomohet.physics.lattice import HalfPlane
from tomohet.physics.shells import at_points, full_shell_sums, shell_grid
from tomohet.physics.slicing import PADDING, inner_box, kernel_transform

Tensor = torch.Tensor


def _corners(points: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the 8 grid neighbours of points (p, 3), one at a time.

    Each neighbour is an index (p,) in the half grid and a weight (p,).
    """
    half = size // 2
    low = torch.floor(points)
    upper = (points - low).unbind(-1)
    lower = [1 - fraction for fraction in upper]
    x0, y0, z0 = low.long().unbind(-1)
    # Beyond the last plane kx = size/2 all points have weight 0; ky and kz are periodic.
    xs = (x0.clamp(max=half), (x0 + 1).clamp(max=half))
    ys = ((y0 % size) * (half + 1), ((y0 + 1) % size) * (half + 1))
    zs = ((z0 % size) * (size * (half + 1)), ((z0 + 1) % size) * (size * (half + 1)))
    for z, weight_z in zip(zs, (lower[2], upper[2]), strict=True):
        for y, weight_y in zip(ys, (lower[1], upper[1]), strict=True):
            row, row_weight = z + y, weight_z * weight_y
            for x, weight_x in zip(xs, (lower[0], upper[0]), strict=True):
                yield row + x, row_weight * weight_x


@dataclass(frozen=True)
class Accumulator:
    """Sums over slices on the padded half grid, with all values of a voxel adjacent in memory.

    sums : (2D, 2D, D+1, 4) float32: real and imaginary part of the numerator, the denominator, and an unused
        value that aligns the numerator as a complex number
    """

    box: int
    sums: Tensor

    @classmethod
    def zeros(cls, box: int, device: torch.device | str = "cpu") -> "Accumulator":
        """Create an empty accumulator for maps of box D."""
        shape = (PADDING * box, PADDING * box, PADDING * box // 2 + 1, 4)
        return cls(box, torch.zeros(shape, device=device))

    @property
    def numerator(self) -> Tensor:
        """(2D, 2D, D+1) complex64 view of the summed values."""
        return torch.view_as_complex(self.sums[..., :2])

    @property
    def denominator(self) -> Tensor:
        """(2D, 2D, D+1) float32 view of the summed weights."""
        return self.sums[..., 2]

    def __add__(self, other: "Accumulator") -> "Accumulator":
        return Accumulator(self.box, self.sums + other.sums)


def insert_slices(
    values: Tensor, weights: Tensor, rotation: Tensor, hp: HalfPlane, accumulator: Accumulator
) -> None:
    """Add slices to an accumulator in place; for the values, this is the exact adjoint of cutting slices.

    values : (m, n) complex, the weighted data g F
    weights : (m, n) g h, by which the sums are divided later
    """
    points = PADDING * (hp.k.to(rotation.dtype) @ rotation[:, :2, :]).reshape(-1, 3)
    values, weights = values.flatten(), weights.flatten()
    if points.is_cuda:
        _insert(values, weights, points, accumulator)
    else:
        parts = torch.view_as_real(values.resolve_conj())
        add_slices(accumulator.sums.numpy(), points.numpy(), parts.numpy(), weights.float().numpy())


def _insert(values: Tensor, weights: Tensor, points: Tensor, accumulator: Accumulator) -> None:
    """Add values and weights (p,) at points (p, 3) of the padded grid, with tensor operations."""
    mirrored = points[:, 0] < 0
    points = torch.where(mirrored[:, None], -points, points)
    values = torch.where(mirrored, values.conj(), values)
    voxels = accumulator.sums.view(-1, 4)
    numerator, denominator = torch.view_as_complex(voxels[:, :2]), voxels[:, 2]
    for index, weight in _corners(points, PADDING * accumulator.box):
        numerator.index_add_(0, index, values * weight)
        denominator.index_add_(0, index, weights * weight)


def _with_mates(grid: Tensor) -> Tensor:
    """Add the Friedel mates within the planes kx = 0 and kx = D, which hold both points of each pair."""
    planes = grid[..., [0, -1]]
    mates = planes.flip(0, 1).roll((1, 1), (0, 1)).conj()
    grid = grid.clone()
    grid[..., [0, -1]] = planes + mates
    return grid


def _shell_mean(grid: Tensor, shells: Tensor) -> Tensor:
    """Return means over shells of the full grid, at the points of the half grid."""
    n_shells = int(shells.max()) + 1
    sums, count = (full_shell_sums(values, shells, n_shells) for values in (grid, torch.ones_like(grid)))
    return at_points((sums / count.clamp(min=1)).float(), shells)


def wiener_map(accumulator: Accumulator, fraction: float = 1e-3, ssnr: Tensor | None = None) -> Tensor:
    """Divide numerator by (denominator + regulariser): map (D, D, D) float32 with mean 0.

    The map is corrected for gridding.

    fraction : regulariser as a fraction of the denominator's mean over the shell
    ssnr : (D//2+1,) spectral signal-to-noise ratio of the result per shell; the regulariser is then the
        shell's mean divided by it (Wiener filter), and at least `fraction` of the mean
    """
    box = accumulator.box
    numerator, denominator = _with_mates(accumulator.numerator), _with_mates(accumulator.denominator)
    shells = shell_grid(box, denominator.device, finer=PADDING)
    mean = _shell_mean(denominator, shells)
    strength = torch.full_like(mean, fraction)
    if ssnr is not None:
        noise_to_signal = 1 / ssnr.to(mean).clamp(min=1e-6)
        strength = torch.maximum(strength, at_points(noise_to_signal, shells))
    # Shells without any slice have mean 0; the lower limit turns 0 / 0 into 0.
    regulariser = (strength * mean).clamp(min=torch.finfo(torch.float32).tiny)
    spectrum = numerator / (denominator + regulariser)
    spectrum[0, 0, 0] = 0
    inner = inner_box(box)
    volume = inverse3(spectrum, PADDING * box)[inner, inner, inner] / kernel_transform(box, box, mean.device)
    return volume - volume.mean()
