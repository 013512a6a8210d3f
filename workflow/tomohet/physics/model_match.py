"""Similarity of an atomic model and a map after spectral whitening, at any placement.

Every Fourier shell of model and map is scaled to the same power. Their correlation is then their Fourier
shell correlation, averaged with weights g^2 = exp(-2 (k R)^2) over all points of the transform. The rough
shape, which any compact model shares with any map, thus counts no more than the details, which only the right
placement reproduces. With atoms of weight a_i at voxels p_i, transforms M and T of model and map, and their
root mean squares m and t per shell, the correlation is

    sum_i a_i V(p_i) / (|g M / m| |g T / t|),   V = inverse transform of g^2 T / (m t).

V is computed once; any placement costs one interpolation of V. Only the largest sphere of the map's box is
used, because it does not move with the model.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import map_coordinates

from tomohet.physics.fourier import inverse3, transform3
from tomohet.physics.fourier_grids import crop_fourier
from tomohet.physics.masks import sphere_mask
from tomohet.physics.shells import at_points, full_shell_sums, radius_grid, shell_grid

FINE_BOX = 96
RESOLUTION_PX = 2.5
SPHERE_EDGE_PX = 3.0
EMPTY_SHELL = (
    1e-3  # relative to the strongest shell: weaker shells, left by a low-pass filter, are not whitened
)


@dataclass(frozen=True)
class Placement:
    """A rigid movement of atoms x (Å) to rotation @ x + shift_A; determinant -1 where the hand changes."""

    rotation: np.ndarray
    shift_A: np.ndarray

    def move(self, xyz_A: np.ndarray) -> np.ndarray:
        """Move atoms (..., 3) to the placement."""
        return xyz_A @ self.rotation.T + self.shift_A

    @property
    def mirrored(self) -> bool:
        """Whether the placement changes the hand."""
        return bool(np.linalg.det(self.rotation) < 0)


@dataclass(frozen=True, eq=False)
class Comparison:
    """A model, as points, and a map of n voxels; voxel (i, j, k) lies at origin_A + pixel_size_A (i, j, k).

    offsets : (a, 3) points, x, y, z in voxels from the model's centre
    weights : (a,), scaled so that a perfect match has the correlation 1
    centre_A : (3,) as given
    spectrum : (n, n, n//2+1), transform of V
    field, slopes : coefficients of the cubic B-splines that give V and its derivatives along x, y, z, correct
        on average over positions within a voxel
    """

    offsets: np.ndarray
    weights: np.ndarray
    centre_A: np.ndarray
    pixel_size_A: float
    origin_A: np.ndarray
    spectrum: torch.Tensor
    field: np.ndarray
    slopes: tuple[np.ndarray, ...]

    @property
    def box(self) -> int:
        """Edge in voxels."""
        return len(self.field)

    def voxels(self, xyz_A: np.ndarray) -> np.ndarray:
        """Convert positions x, y, z in Å (..., 3) to voxels."""
        return (xyz_A - self.origin_A) / self.pixel_size_A

    def place_A(self, voxels: np.ndarray) -> np.ndarray:
        """Convert voxels (..., 3) to positions x, y, z in Å."""
        return self.origin_A + self.pixel_size_A * voxels


def compare(
    xyz_A: np.ndarray,
    weights: np.ndarray,
    volume: np.ndarray,
    pixel_size_A: float,
    origin_A,
    box: int = FINE_BOX,
    binned: bool = False,
) -> Comparison | None:
    """Prepare a model, atoms (a, 3) and weights (a,), and a map (D, D, D) [z, y, x] for comparison.

    box : number of voxels to which the map is Fourier-cropped, if it has more
    binned : one point per occupied voxel, for speed

    Shells that a low-pass filter has emptied, those beyond Nyquist, and the mean are left out. The model's
    power is that of the part inside the box, so atoms that leave the box lower the correlation.

    Returns None for a constant map.
    """
    density = torch.as_tensor(np.array(volume, dtype=np.float32))
    density = (density - density.median()) * torch.as_tensor(
        sphere_mask(len(density), edge_px=SPHERE_EDGE_PX)
    )
    if len(density) % 2:
        density = torch.nn.functional.pad(density, (0, 1) * 3)
    full, box = len(density), min(box, len(density))
    step_A = pixel_size_A * full / box
    corner_A = np.asarray(origin_A, float) + pixel_size_A * (full // 2) - step_A * (box // 2)
    frequency = radius_grid(box) / box
    taper = torch.exp(-((frequency * RESOLUTION_PX) ** 2)) * (frequency < 0.5) * (frequency > 0)
    mapped = transform3(crop_fourier(density, box))
    rms = _shell_rms(mapped, box)
    taper = taper * (rms > EMPTY_SHELL * rms.max())
    mapped = mapped * _equalising(taper, rms)
    if not mapped.any():
        return None

    xyz_A, weights = np.array(xyz_A, float), np.array(weights, float)
    centre_A = np.average(xyz_A, axis=0, weights=weights)
    offsets = (xyz_A - centre_A) / step_A
    if binned:
        offsets, weights = _binned(offsets, weights)
    # The grid is twice as fine as the map's, on which a few points would gain power from aliasing.
    points = crop_fourier(splat(2 * offsets[None] + box, weights, 2 * box), box)[0] * 8
    model = transform3(points) / spline_kernel(box, 1, finer=2)
    equalising = _equalising(taper, _shell_rms(model, box))
    spectrum = mapped * equalising / _norm(mapped, box)
    field = spectrum / spline_kernel(box, 3)
    along = torch.fft.fftfreq(box)
    waves = (torch.arange(box // 2 + 1) / box, along[:, None], along[:, None, None])
    return Comparison(
        offsets=offsets,
        weights=weights / max(float(_norm(model * equalising, box)), np.finfo(np.float32).tiny),
        centre_A=centre_A,
        pixel_size_A=step_A,
        origin_A=corner_A,
        spectrum=spectrum,
        field=inverse3(field, box).double().numpy(),
        slopes=tuple(inverse3(field * (2j * np.pi * wave), box).double().numpy() for wave in waves),
    )


def _binned(offsets: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the centroid and weight of every voxel that holds points."""
    _, cell = np.unique(np.floor(offsets).astype(np.int64), axis=0, return_inverse=True)
    mass = np.bincount(cell, weights)
    sums = [np.bincount(cell, weights * offsets[:, axis]) for axis in range(3)]
    heavy = mass > 0
    return np.stack(sums, axis=1)[heavy] / mass[heavy, None], mass[heavy]


def _shell_rms(transform: torch.Tensor, box: int) -> torch.Tensor:
    """Return the root mean square of the shell of every point: (n, n, n//2+1) float64.

    Corners have that of the last shell.
    """
    shells, n_shells = shell_grid(box), box // 2 + 1
    power, counts = (
        full_shell_sums(values, shells, n_shells)
        for values in (transform.abs().square(), torch.ones(transform.shape))
    )
    return at_points(torch.sqrt(power / counts), shells)


def _equalising(taper: torch.Tensor, rms: torch.Tensor) -> torch.Tensor:
    """Return the filter that scales shells of root mean squares `rms` to 1, times `taper`."""
    return torch.where(rms > 0, taper / rms, 0.0).float()


def _norm(transform: torch.Tensor, box: int) -> torch.Tensor:
    """Return the root of the sum of squares of the map with transform (n, n, n//2+1)."""
    power = transform.abs().square()
    return torch.sqrt((2 * power.sum() - power[..., 0].sum() - power[..., -1].sum()) / box**3)


def splat(voxels: np.ndarray | torch.Tensor, weights, box: int) -> torch.Tensor:
    """Spread points (b, a, 3) as x, y, z trilinearly over periodic volumes (b, n, n, n), float32."""
    voxels = torch.as_tensor(voxels).float()
    weights = torch.as_tensor(weights, dtype=torch.float32, device=voxels.device)
    lower = torch.floor(voxels)
    upper_share = voxels - lower
    lower = lower.long()
    batch = len(voxels)
    volume = torch.zeros(batch * box**3, device=voxels.device)
    start = torch.arange(batch, device=voxels.device)[:, None] * box**3
    for corner in np.ndindex(2, 2, 2):
        x, y, z = ((lower[..., axis] + corner[axis]) % box for axis in range(3))
        share = weights
        for axis in range(3):
            share = share * (upper_share[..., axis] if corner[axis] else 1 - upper_share[..., axis])
        volume.index_add_(0, (start + (z * box + y) * box + x).flatten(), share.flatten())
    return volume.view(batch, box, box, box)


def spline_kernel(box: int, degree: int, finer: int = 1) -> torch.Tensor:
    """Return the transform of the B-spline that spreads or reads points, on a grid `finer` than the map's."""
    full = torch.sinc(torch.fft.fftfreq(box) / finer) ** (degree + 1)
    half = torch.sinc(torch.arange(box // 2 + 1) / (box * finer)) ** (degree + 1)
    return full[:, None, None] * full[:, None] * half


def correlation(pair: Comparison, placement: Placement | None = None) -> float:
    """Compute the whitened correlation of a placed model with the map; without a placement, as given."""
    offsets, centre_A = pair.offsets, pair.centre_A
    if placement is not None:
        offsets, centre_A = offsets @ placement.rotation.T, placement.move(centre_A)
    return float(pair.weights @ sample(pair.field, offsets + pair.voxels(centre_A)))


def sample(coefficients: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """Evaluate a cubic B-spline with these coefficients at voxels (a, 3) as x, y, z: (a,); 0 outside."""
    return map_coordinates(coefficients, voxels.T[::-1], order=3, mode="constant", prefilter=False)
