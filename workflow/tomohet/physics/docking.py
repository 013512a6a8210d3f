"""Rigid-body search of an atomic model in a map: exhaustive at low resolution, then local refinement.

Model and map are compared after spectral whitening: every Fourier shell of the map is brought to the same
power, and the model is filtered alike. The rough shape, which any compact model shares with any map,
then weighs no more than the details that only the right placement has. With w = 1 / (root mean square
of the map's shell) and g = exp(-(k R)^2), the correlation of atoms of weight a_i at voxels p_i is

    sum_i a_i V(p_i) / (|g w M| |g w T|),   V = inverse transform of g^2 w^2 T,

with M and T the transforms of model and map. V is computed once; any placement costs one interpolation of V.
The map counts within the largest sphere of its box: a region that does not move with the model.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import map_coordinates, spline_filter
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from tomohet.physics.fourier import crop_fourier, inverse3, radius_grid, transform3
from tomohet.physics.fsc import shell_numbers, shell_sums
from tomohet.physics.masks import sphere_mask

FINE_BOX, COARSE_BOX = 96, 48
RESOLUTION_PX = 2.5
SPHERE_EDGE_PX = 3.0
ROTATIONS = 4608  # about 15 degrees apart
DECOYS = 12
CANDIDATES = 12  # of each hand, refined after the search
APART_DEG = 20.0
BATCH = 32
MIRROR = np.diag([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Placement:
    """Moves atoms x (Å) to rotation @ x + shift_A; determinant -1 where the hand changes."""

    rotation: np.ndarray
    shift_A: np.ndarray

    def move(self, xyz_A: np.ndarray) -> np.ndarray:
        """Atoms (a, 3) in their new place."""
        return xyz_A @ self.rotation.T + self.shift_A

    @property
    def mirrored(self) -> bool:
        """Whether the placement changes the hand."""
        return bool(np.linalg.det(self.rotation) < 0)


@dataclass(frozen=True, eq=False)
class Target:
    """A whitened map on a cubic grid of n voxels; voxel (i, j, k) at origin_A + pixel_size_A * (i, j, k).

    weight: (n, n, n//2+1) filter g w of map and model. whitened: transform of the map times weight, of unit
    norm. field, slopes: spline coefficients of V / |g w T| and of its derivatives along x, y, z.
    """

    pixel_size_A: float
    origin_A: np.ndarray
    weight: torch.Tensor
    whitened: torch.Tensor
    field: np.ndarray
    slopes: tuple[np.ndarray, ...]

    @property
    def box(self) -> int:
        """Edge in voxels."""
        return len(self.field)

    def voxels(self, xyz_A: np.ndarray) -> np.ndarray:
        """Positions x, y, z in Å (a, 3) as voxels."""
        return (xyz_A - self.origin_A) / self.pixel_size_A


def whitened_target(volume: np.ndarray, pixel_size_A: float, origin_A, box: int = FINE_BOX) -> Target | None:
    """Prepare a map (D, D, D) [z, y, x], Fourier-cropped to at most `box` voxels; None for a constant map.

    Shells beyond Nyquist and the mean are left out.
    """
    volume = torch.as_tensor(np.ascontiguousarray(volume)).float()
    volume = (volume - volume.median()) * torch.as_tensor(sphere_mask(len(volume), edge_px=SPHERE_EDGE_PX))
    if len(volume) % 2:
        volume = torch.nn.functional.pad(volume, (0, 1) * 3)
    full, box = len(volume), min(box, len(volume))
    step_A = pixel_size_A * full / box
    corner_A = np.asarray(origin_A, float) + pixel_size_A * (full // 2) - step_A * (box // 2)
    transform = transform3(crop_fourier(volume, box))
    counts = shell_sums(torch.ones(transform.shape), box)
    rms = torch.sqrt(shell_sums(transform.abs().square(), box) / counts)
    floor = 1e-6 * rms.max()
    if not floor > 0:
        return None
    shells = shell_numbers(box).clamp(max=box // 2)
    frequency = radius_grid(box) / box
    weight = torch.exp(-((frequency * RESOLUTION_PX) ** 2)) / torch.maximum(rms, floor)[shells].float()
    weight = weight * (frequency < 0.5) * (frequency > 0)
    whitened = transform * weight
    whitened = whitened / _norm(whitened, box)
    along = torch.fft.fftfreq(box)
    waves = (torch.arange(box // 2 + 1) / box, along[:, None], along[:, None, None])
    field = whitened * weight
    return Target(
        pixel_size_A=step_A,
        origin_A=corner_A,
        weight=weight,
        whitened=whitened,
        field=_spline(inverse3(field, box)),
        slopes=tuple(_spline(inverse3(field * (2j * np.pi * wave), box)) for wave in waves),
    )


def _spline(volume: torch.Tensor) -> np.ndarray:
    return spline_filter(volume.double().numpy(), order=3, mode="mirror")


def _norm(transform: torch.Tensor, box: int) -> torch.Tensor:
    """Root of the sum of squares of the maps whose transforms (..., n, n, n//2+1) these are."""
    power = transform.abs().square()
    twice = 2 * power.sum(dim=(-3, -2, -1)) - power[..., 0].sum(dim=(-2, -1)) - power[..., -1].sum((-2, -1))
    return torch.sqrt(twice / box**3)


@dataclass(frozen=True, eq=False)
class Body:
    """A model as points: voxels (a, 3) from its centre, weights that make a full overlap 1, centre in Å."""

    offsets: np.ndarray
    weights: np.ndarray
    centre_A: np.ndarray


def body_of(xyz_A: np.ndarray, weights: np.ndarray, target: Target, binned: bool = False) -> Body:
    """The model for comparison with `target`; `binned`: one point per occupied voxel, for speed.

    Its norm is that of the model inside the box, centred: what leaves the box later lowers the correlation.
    """
    xyz_A, weights = np.asarray(xyz_A, float), np.asarray(weights, float)
    centre_A = np.average(xyz_A, axis=0, weights=weights)
    offsets = (xyz_A - centre_A) / target.pixel_size_A
    if binned:
        _, cell = np.unique(np.floor(offsets).astype(np.int64), axis=0, return_inverse=True)
        mass = np.bincount(cell, weights)
        sums = [np.bincount(cell, weights * offsets[:, axis]) for axis in range(3)]
        heavy = mass > 0
        offsets, weights = np.stack(sums, axis=1)[heavy] / mass[heavy, None], mass[heavy]
    density = _splat(offsets[None] + target.box // 2, weights, target.box)
    norm = _norm(transform3(density) * target.weight / _trilinear(target.box), target.box)
    weights = weights / max(float(norm), np.finfo(np.float32).tiny)
    return Body(offsets, weights, centre_A)


def _splat(voxels: np.ndarray | torch.Tensor, weights, box: int) -> torch.Tensor:
    """Points (b, a, 3) as x, y, z spread trilinearly over periodic volumes (b, n, n, n), float32."""
    voxels = torch.as_tensor(voxels).float()
    weights = torch.as_tensor(weights, device=voxels.device).float()
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


def _trilinear(box: int) -> torch.Tensor:
    """Transform of the kernel of `_splat`, in the layout of rfftn."""
    full, half = torch.sinc(torch.fft.fftfreq(box)) ** 2, torch.sinc(torch.arange(box // 2 + 1) / box) ** 2
    return full[:, None, None] * full[:, None] * half


def correlation(body: Body, target: Target, placement: Placement | None = None) -> float:
    """Whitened correlation of a placed model with a map; as it stands without a placement."""
    offsets, centre_A = body.offsets, body.centre_A
    if placement is not None:
        offsets, centre_A = offsets @ placement.rotation.T, placement.move(centre_A[None])[0]
    return float(body.weights @ _sample(target.field, offsets + target.voxels(centre_A)))


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
    body: Body, target: Target, rotations: np.ndarray, device: torch.device | str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Best place of the model's centre for each rotation (r, 3, 3): voxels (r, 3) and correlation (r,).

    All shifts by whole voxels are compared by FFT. The box is periodic: a model beyond one face
    counts at the opposite one, which the refinement sets right.
    """
    box = target.box
    fixed = (target.whitened * target.weight / _trilinear(box)).to(device)
    offsets = torch.as_tensor(body.offsets, dtype=torch.float32, device=device)
    weights = torch.as_tensor(body.weights, dtype=torch.float32, device=device)
    places, peaks = [], []
    for start in range(0, len(rotations), BATCH):
        turned = torch.as_tensor(rotations[start : start + BATCH], dtype=torch.float32, device=device)
        density = _splat(offsets @ turned.mT + box // 2, weights, box)
        scores = inverse3(transform3(density).conj() * fixed, box).flatten(1)
        peak, where = scores.max(dim=1)
        places.append(np.stack(np.unravel_index(where.cpu().numpy(), (box,) * 3), axis=1)[:, ::-1])
        peaks.append(peak.cpu().numpy())
    return np.concatenate(places).astype(float), np.concatenate(peaks)


def refine(
    body: Body, target: Target, rotation: np.ndarray, centre_A: np.ndarray, turn: bool = True
) -> tuple[Placement, float]:
    """Maximise the correlation near a rotation and a place of the model's centre, by L-BFGS.

    turn: False keeps the rotation. Returns the placement and its correlation.
    """
    start = body.offsets @ rotation.T
    place = target.voxels(np.asarray(centre_A, float))
    radius = max(np.sqrt(np.average((start**2).sum(axis=1), weights=body.weights)), 1.0)

    def cost(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        turned = start @ Rotation.from_rotvec(parameters[3:] / radius).as_matrix().T
        voxels = turned + place + parameters[:3]
        value = body.weights @ _sample(target.field, voxels)
        force = body.weights[:, None] * np.stack([_sample(s, voxels) for s in target.slopes], axis=1)
        gradient = np.zeros(6)
        gradient[:3] = force.sum(axis=0)
        if turn:
            torque = np.cross(turned, force).sum(axis=0)
            gradient[3:] = _left_jacobian(parameters[3:] / radius).T @ torque / radius
        return -value, -gradient

    found = minimize(cost, np.zeros(6), jac=True, method="L-BFGS-B", options={"ftol": 1e-7, "maxiter": 60})
    rotation = Rotation.from_rotvec(found.x[3:] / radius).as_matrix() @ rotation
    centre_A = np.asarray(centre_A) + found.x[:3] * target.pixel_size_A
    return Placement(rotation, centre_A - rotation @ body.centre_A), -float(found.fun)


def _left_jacobian(rotvec: np.ndarray) -> np.ndarray:
    """Change of a rotation (as a small turn applied last) by a change of its rotation vector."""
    angle = np.linalg.norm(rotvec)
    cross = np.cross(np.eye(3), rotvec).T
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

    All rotations and shifts at low resolution; the best few of each hand, at least 20° apart, are refined
    there and at full resolution (at most 96 voxels across the box).

    Returns placements with their correlation, best first; none for a constant map.
    """
    fine = whitened_target(volume, pixel_size_A, origin_A)
    if fine is None:
        return []
    coarse = whitened_target(volume, pixel_size_A, origin_A, COARSE_BOX)
    rough = body_of(xyz_A, weights, coarse, binned=True)
    detailed = body_of(xyz_A, weights, fine, binned=True)
    turns = spread_rotations(rotations)
    found = []
    for hand in (np.eye(3), MIRROR):
        tried = turns @ hand
        places, peaks = best_shifts(rough, coarse, tried, device)
        for index in _distinct(turns, peaks):
            centre_A = coarse.origin_A + coarse.pixel_size_A * places[index]
            near, _ = refine(rough, coarse, tried[index], centre_A)
            found.append(refine(detailed, fine, near.rotation, near.move(rough.centre_A[None])[0]))
    return sorted(found, key=lambda fit: -fit[1])


def _distinct(rotations: np.ndarray, scores: np.ndarray) -> list[int]:
    """The best candidates that are APART_DEG from every better one."""
    chosen: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        cosines = np.einsum("nij,ij->n", rotations[chosen], rotations[index]) / 2 - 0.5
        if not len(chosen) or cosines.max() < np.cos(np.radians(APART_DEG)):
            chosen.append(int(index))
        if len(chosen) == CANDIDATES:
            break
    return chosen


def chance_level(body: Body, target: Target) -> float:
    """Correlation that wrong orientations reach at their best shift: the median over a few, spread evenly."""
    return float(np.median(best_shifts(body, target, spread_rotations(DECOYS))[1]))
