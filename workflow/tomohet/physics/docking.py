"""Rigid-body search of an atomic model in a map: exhaustive at low resolution, then local refinement.

Model and map are compared after spectral whitening: every Fourier shell of either is brought to the same
power. Their correlation is then their Fourier shell correlation, averaged with weights g^2 = exp(-2 (k R)^2)
over all points of the transform. The rough shape, which any compact model shares with any map, counts no
more than the details that only the right placement has. With atoms of weight a_i at voxels p_i, transforms M
and T of model and map, and their root mean squares m and t per shell, it is

    sum_i a_i V(p_i) / (|g M / m| |g T / t|),   V = inverse transform of g^2 T / (m t).

V is computed once; any placement costs one interpolation of V. The map counts within the largest sphere of
its box: a region that does not move with the model.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import map_coordinates
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from tomohet.physics.fourier import crop_fourier, inverse3, radius_grid, transform3
from tomohet.physics.fsc import shell_numbers, shell_sums
from tomohet.physics.masks import sphere_mask

FINE_BOX, COARSE_BOX = 96, 48
RESOLUTION_PX = 2.5
SPHERE_EDGE_PX = 3.0
EMPTY_SHELL = 1e-3  # of the strongest shell: what a low-pass filter leaves is not raised to full power
ROTATIONS = 4608  # about 15 degrees apart
DECOYS = 12
CANDIDATES = 12  # of each hand, refined at low resolution after the search
FINALISTS = 3  # of these, refined at full resolution
APART_DEG, SAME_DEG = 20.0, 3.0
BATCH = 32
MIRROR = np.diag([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Placement:
    """Moves atoms x (Å) to rotation @ x + shift_A; determinant -1 where the hand changes."""

    rotation: np.ndarray
    shift_A: np.ndarray

    def move(self, xyz_A: np.ndarray) -> np.ndarray:
        """Atoms (..., 3) in their new place."""
        return xyz_A @ self.rotation.T + self.shift_A

    @property
    def mirrored(self) -> bool:
        """Whether the placement changes the hand."""
        return bool(np.linalg.det(self.rotation) < 0)


@dataclass(frozen=True, eq=False)
class Comparison:
    """A model, as points, and a map of n voxels; voxel (i, j, k) lies at origin_A + pixel_size_A (i, j, k).

    offsets: (a, 3) points, x, y, z in voxels from the model's centre. weights: (a,), scaled so that a perfect
    match has the correlation 1. centre_A: (3,) as given. spectrum: (n, n, n//2+1), transform of V. field,
    slopes: coefficients of the cubic B-splines that give, on average over where in a voxel one asks,
    V and its derivatives along x, y, z.
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
        """Positions x, y, z in Å (..., 3) as voxels."""
        return (xyz_A - self.origin_A) / self.pixel_size_A

    def place_A(self, voxels: np.ndarray) -> np.ndarray:
        """Voxels (..., 3) as positions x, y, z in Å."""
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
    """Prepare a model, atoms (a, 3) and their weights (a,), and a map (D, D, D) [z, y, x] for comparison.

    box: the map is Fourier-cropped to so many voxels, if it has more. binned: one point per occupied voxel,
    for speed. Shells that a low-pass filter has emptied, those beyond Nyquist, and the mean are left out. The
    model's power is that of the model inside the box: what leaves the box lowers the correlation.

    Returns None for a constant map.
    """
    volume = torch.as_tensor(np.array(volume, dtype=np.float32))
    volume = (volume - volume.median()) * torch.as_tensor(sphere_mask(len(volume), edge_px=SPHERE_EDGE_PX))
    if len(volume) % 2:
        volume = torch.nn.functional.pad(volume, (0, 1) * 3)
    full, box = len(volume), min(box, len(volume))
    step_A = pixel_size_A * full / box
    corner_A = np.asarray(origin_A, float) + pixel_size_A * (full // 2) - step_A * (box // 2)
    frequency = radius_grid(box) / box
    taper = torch.exp(-((frequency * RESOLUTION_PX) ** 2)) * (frequency < 0.5) * (frequency > 0)
    mapped = transform3(crop_fourier(volume, box))
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
    # Twice as fine: few points spread on the map's own grid would gain power from aliasing.
    density = crop_fourier(_splat(2 * offsets[None] + box, weights, 2 * box), box)[0] * 8
    model = transform3(density) / _spline_kernel(box, 1, finer=2)
    equalising = _equalising(taper, _shell_rms(model, box))
    spectrum = mapped * equalising / _norm(mapped, box)
    field = spectrum / _spline_kernel(box, 3)
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
    """The centroid and weight of every voxel that holds points."""
    _, cell = np.unique(np.floor(offsets).astype(np.int64), axis=0, return_inverse=True)
    mass = np.bincount(cell, weights)
    sums = [np.bincount(cell, weights * offsets[:, axis]) for axis in range(3)]
    heavy = mass > 0
    return np.stack(sums, axis=1)[heavy] / mass[heavy, None], mass[heavy]


def _shell_rms(transform: torch.Tensor, box: int) -> torch.Tensor:
    """Root mean square of the shell of every point: (n, n, n//2+1) float64; corners as the last shell."""
    counts = shell_sums(torch.ones(transform.shape), box)
    rms = torch.sqrt(shell_sums(transform.abs().square(), box) / counts)
    return rms[shell_numbers(box).clamp(max=box // 2)]


def _equalising(taper: torch.Tensor, rms: torch.Tensor) -> torch.Tensor:
    """Filter that brings shells of root mean squares `rms` to 1, times `taper`."""
    return torch.where(rms > 0, taper / rms, 0.0).float()


def _norm(transform: torch.Tensor, box: int) -> torch.Tensor:
    """Root of the sum of squares of the map whose transform (n, n, n//2+1) this is."""
    power = transform.abs().square()
    return torch.sqrt((2 * power.sum() - power[..., 0].sum() - power[..., -1].sum()) / box**3)


def _splat(voxels: np.ndarray | torch.Tensor, weights, box: int) -> torch.Tensor:
    """Points (b, a, 3) as x, y, z spread trilinearly over periodic volumes (b, n, n, n), float32."""
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


def _spline_kernel(box: int, degree: int, finer: int = 1) -> torch.Tensor:
    """Transform of the B-spline that spreads or reads points, on a grid `finer` than the map's."""
    full = torch.sinc(torch.fft.fftfreq(box) / finer) ** (degree + 1)
    half = torch.sinc(torch.arange(box // 2 + 1) / (box * finer)) ** (degree + 1)
    return full[:, None, None] * full[:, None] * half


def correlation(pair: Comparison, placement: Placement | None = None) -> float:
    """Whitened correlation of a placed model with the map; as it stands without a placement."""
    offsets, centre_A = pair.offsets, pair.centre_A
    if placement is not None:
        offsets, centre_A = offsets @ placement.rotation.T, placement.move(centre_A)
    return float(pair.weights @ _sample(pair.field, offsets + pair.voxels(centre_A)))


def _sample(coefficients: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    return map_coordinates(coefficients, voxels.T[::-1], order=3, mode="constant", prefilter=False)


def spread_rotations(count: int) -> np.ndarray:
    """`count` rotations (n, 3, 3) spread evenly over all orientations.

    Super-Fibonacci spirals (Alexa 2022, CVPR), deterministic for any count.
    """
    golden, plastic = np.sqrt(2.0), 1.533751168755204288118041
    step = np.arange(count) + 0.5
    inner, outer = np.sqrt(step / count), np.sqrt(1 - step / count)
    one, two = 2 * np.pi * step / golden, 2 * np.pi * step / plastic
    quaternions = np.stack(
        [inner * np.sin(one), inner * np.cos(one), outer * np.sin(two), outer * np.cos(two)], axis=1
    )
    return Rotation.from_quat(quaternions).as_matrix()


def best_shifts(
    pair: Comparison, rotations: np.ndarray, device: torch.device | str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Best place of the model's centre for each rotation (r, 3, 3): Å (r, 3), and its correlation (r,).

    All shifts by whole voxels are compared by FFT. The box is periodic: a model beyond one face
    counts at the opposite one, which the refinement sets right.
    """
    box = pair.box
    fixed = (pair.spectrum / _spline_kernel(box, 1)).to(device)
    offsets = torch.tensor(pair.offsets, dtype=torch.float32, device=device)
    weights = torch.tensor(pair.weights, dtype=torch.float32, device=device)
    places, peaks = [], []
    for start in range(0, len(rotations), BATCH):
        turned = torch.tensor(rotations[start : start + BATCH], dtype=torch.float32, device=device)
        density = _splat(offsets @ turned.mT + box // 2, weights, box)
        scores = inverse3(transform3(density).conj() * fixed, box).flatten(1)
        peak, where = scores.max(dim=1)
        places.append(np.stack(np.unravel_index(where.cpu().numpy(), (box,) * 3), axis=1)[:, ::-1])
        peaks.append(peak.cpu().numpy())
    return pair.place_A(np.concatenate(places)), np.concatenate(peaks)


def refine(
    pair: Comparison, rotation: np.ndarray, centre_A: np.ndarray, turn: bool = True
) -> tuple[Placement, float]:
    """Maximise the correlation near a rotation and a place of the model's centre, by L-BFGS.

    turn: False keeps the rotation. Returns the placement and its correlation.
    """
    start = pair.offsets @ rotation.T
    place = pair.voxels(np.asarray(centre_A, float))
    radius = max(np.sqrt(np.average((start**2).sum(axis=1), weights=pair.weights)), 1.0)

    def cost(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        turned = start @ Rotation.from_rotvec(parameters[3:] / radius).as_matrix().T
        voxels = turned + place + parameters[:3]
        value = pair.weights @ _sample(pair.field, voxels)
        force = pair.weights[:, None] * np.stack([_sample(s, voxels) for s in pair.slopes], axis=1)
        gradient = np.zeros(6)
        gradient[:3] = force.sum(axis=0)
        if turn:
            torque = np.cross(turned, force).sum(axis=0)
            gradient[3:] = left_jacobian(parameters[3:] / radius).T @ torque / radius
        return -value, -gradient

    found = minimize(cost, np.zeros(6), jac=True, method="L-BFGS-B", options={"ftol": 1e-7, "maxiter": 60})
    rotation = Rotation.from_rotvec(found.x[3:] / radius).as_matrix() @ rotation if turn else rotation
    centre_A = pair.place_A(place + found.x[:3])
    return Placement(rotation, centre_A - rotation @ pair.centre_A), -float(found.fun)


def left_jacobian(rotvec: np.ndarray) -> np.ndarray:
    """Change of a rotation (as a small turn applied last) by a change of its rotation vector."""
    angle = np.linalg.norm(rotvec)
    cross = np.cross(np.eye(3), rotvec)
    if angle < 1e-6:
        return np.eye(3) + 0.5 * cross
    return (
        np.eye(3)
        + (1 - np.cos(angle)) / angle**2 * cross
        + (angle - np.sin(angle)) / angle**3 * cross @ cross
    )


def search(
    xyz_A: np.ndarray,
    weights: np.ndarray,
    volume: np.ndarray,
    pixel_size_A: float,
    origin_A,
    rotations: int = ROTATIONS,
    device: torch.device | str = "cpu",
) -> list[tuple[Placement, float]]:
    """Fit a model into a map from anywhere, in both hands.

    All rotations and shifts at low resolution; the best of each hand, at least 20° apart, are refined there,
    and the best few of these at full resolution (at most 96 voxels across the box).

    Returns placements with their correlation, best first; none for a constant map.
    """
    fine = compare(xyz_A, weights, volume, pixel_size_A, origin_A, binned=True)
    coarse = compare(xyz_A, weights, volume, pixel_size_A, origin_A, COARSE_BOX, binned=True)
    if fine is None or coarse is None:
        return []
    turns = spread_rotations(rotations)
    found = []
    for hand in (np.eye(3), MIRROR):
        places_A, peaks = best_shifts(coarse, turns @ hand, device)
        near = [
            refine(coarse, turns[index] @ hand, places_A[index])
            for index in _distinct(turns, peaks, CANDIDATES, APART_DEG)
        ]
        refined = np.stack([placement.rotation @ hand for placement, _ in near])
        scores = np.array([score for _, score in near])
        for index in _distinct(refined, scores, FINALISTS, SAME_DEG):
            start = near[index][0]
            found.append(refine(fine, start.rotation, start.move(coarse.centre_A)))
    return sorted(found, key=lambda fit: -fit[1])


def _distinct(rotations: np.ndarray, scores: np.ndarray, count: int, apart_deg: float) -> list[int]:
    """At most `count` of rotations (n, 3, 3), best score first, each `apart_deg` from every better one."""
    chosen: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        cosines = np.einsum("nij,ij->n", rotations[chosen], rotations[index]) / 2 - 0.5
        if not chosen or cosines.max() < np.cos(np.radians(apart_deg)):
            chosen.append(int(index))
        if len(chosen) == count:
            break
    return chosen


def chance_level(pair: Comparison) -> float:
    """Correlation that wrong orientations reach at their best shift: the median over a few, spread evenly."""
    return float(np.median(best_shifts(pair, spread_rotations(DECOYS))[1]))
