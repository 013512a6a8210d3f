"""Rigid-body search of an atomic model in a map: exhaustive at low resolution, then local refinement.

The whitened correlation of `model_match` is maximised.
"""

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from tomohet.physics.fourier import inverse3, transform3
from tomohet.physics.model_match import Comparison, Placement, compare, sample, splat, spline_kernel

COARSE_BOX = 48
ROTATIONS = 4608  # about 15 degrees apart
DECOYS = 12
CANDIDATES = 12  # placements of each hand that are refined at low resolution after the search
FINALISTS = 3  # placements of these that are refined at full resolution
APART_DEG, SAME_DEG = 20.0, 3.0
BATCH = 32
MIRROR = np.diag([-1.0, 1.0, 1.0])


def spread_rotations(count: int) -> np.ndarray:
    """Return `count` rotations (n, 3, 3) spread evenly over all orientations.

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
    """Find the best position of the model's centre for each rotation (r, 3, 3).

    Returns positions in Å (r, 3) and correlations (r,). All shifts by whole voxels are compared by FFT. The
    box is periodic, so a model beyond one face appears at the opposite face; the refinement corrects this.
    """
    box = pair.box
    fixed = (pair.spectrum / spline_kernel(box, 1)).to(device)
    offsets = torch.tensor(pair.offsets, dtype=torch.float32, device=device)
    weights = torch.tensor(pair.weights, dtype=torch.float32, device=device)
    places, peaks = [], []
    for start in range(0, len(rotations), BATCH):
        turned = torch.tensor(rotations[start : start + BATCH], dtype=torch.float32, device=device)
        density = splat(offsets @ turned.mT + box // 2, weights, box)
        scores = inverse3(transform3(density).conj() * fixed, box).flatten(1)
        peak, where = scores.max(dim=1)
        places.append(np.stack(np.unravel_index(where.cpu().numpy(), (box,) * 3), axis=1)[:, ::-1])
        peaks.append(peak.cpu().numpy())
    return pair.place_A(np.concatenate(places)), np.concatenate(peaks)


def refine(
    pair: Comparison, rotation: np.ndarray, centre_A: np.ndarray, turn: bool = True
) -> tuple[Placement, float]:
    """Maximise the correlation near a rotation and a position of the model's centre, by L-BFGS.

    turn : False keeps the rotation

    Returns the placement and its correlation.
    """
    start = pair.offsets @ rotation.T
    place = pair.voxels(np.asarray(centre_A, float))
    radius = max(np.sqrt(np.average((start**2).sum(axis=1), weights=pair.weights)), 1.0)

    def cost(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Return minus the correlation, and its gradient, for a shift (voxels) and a rotation vector (6,)."""
        turned = start @ Rotation.from_rotvec(parameters[3:] / radius).as_matrix().T
        voxels = turned + place + parameters[:3]
        value = float(pair.weights @ sample(pair.field, voxels))
        force = pair.weights[:, None] * np.stack([sample(s, voxels) for s in pair.slopes], axis=1)
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
    """Return the change of a rotation, as a small rotation applied last, by that of its rotation vector."""
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
    """Fit a model into a map globally, in both hands.

    All rotations and shifts are compared at low resolution. The best of each hand, at least 20° apart, are
    refined there, and the best few of these at full resolution (at most 96 voxels across the box).

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
    """Choose at most `count` of rotations (n, 3, 3), best score first, at least `apart_deg` apart."""
    chosen: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        cosines = np.einsum("nij,ij->n", rotations[chosen], rotations[index]) / 2 - 0.5
        if not chosen or cosines.max() < np.cos(np.radians(apart_deg)):
            chosen.append(int(index))
        if len(chosen) == count:
            break
    return chosen


def chance_level(pair: Comparison) -> float:
    """Return the correlation that wrong orientations reach at their best shift: the median over a few.

    The orientations are spread evenly.
    """
    return float(np.median(best_shifts(pair, spread_rotations(DECOYS))[1]))
