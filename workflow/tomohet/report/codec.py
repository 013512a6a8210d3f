"""Volumes as a mean and components inside a mask, in small integers, from which the page makes any mean.

A set of volumes is coded as mean + sum_j c_j U_j. The components U_j of a linear model are its basis maps and
the coefficients are the particles' latents, so that the mean volume of any selection is the model's own. The
components of a network's decoded volumes are their principal components. The particles' coefficients are then
interpolated from the decoded volumes' by their latents (radial basis functions, scipy).
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import RBFInterpolator

from tomohet.physics.fourier_grids import crop_fourier
from tomohet.report.blobs import Blobs

MOST_COMPONENTS = 12
KEPT_VARIANCE = 0.995
LEAST_WEIGHT = 0.1  # of a volume that stands for few particles, as a share of the average weight
SMALLEST_GRID = 24
BORDER = 2  # voxels beside the mask, so that surfaces are closed
LEAST_SPREAD = 1e-6  # of latents along a direction, of the largest
FOLDS = 5
COARSE_VALUES = 200_000  # more coefficients than these are coded in 8 bits


@dataclass(frozen=True)
class Grid:
    """Voxels that the page holds: those of a mask, in a cube around it, on the same or on fewer voxels.

    mask : (e, e, e) booleans; z, y, x
    corner : the cube's first voxel in the box of `box` voxels
    box, pixel_size_A : of the grid in the page
    original_box : of the files
    """

    mask: np.ndarray
    corner: tuple[int, int, int]
    box: int
    original_box: int
    pixel_size_A: float

    def take(self, volume: np.ndarray) -> np.ndarray:
        """Return the values (m,) of a volume (D, D, D) inside the mask; a larger grid is Fourier-cropped."""
        if len(volume) > self.box:
            volume = crop_fourier(torch.from_numpy(np.ascontiguousarray(volume)), self.box).numpy()
        z, y, x = self.corner
        edge = len(self.mask)
        return volume[z : z + edge, y : y + edge, x : x + edge][self.mask].astype(np.float32)

    def payload(self, blobs: Blobs) -> dict:
        """Put the mask into the page; return the grid as its script reads it."""
        return {
            "mask": blobs.add(self.mask.astype(np.uint8)),
            "edge": len(self.mask),
            "corner": list(self.corner),
            "box": self.box,
            "original_box": self.original_box,
            "pixel_size_A": round(self.pixel_size_A, 5),
        }


@dataclass(frozen=True)
class Space:
    """Volumes mean + sum_j c_j U_j on a grid.

    mean : (m,)
    components : (K, m)
    coefficients : (N, K) of the particles, in the order of the particle table
    """

    mean: np.ndarray
    components: np.ndarray
    coefficients: np.ndarray


@dataclass(frozen=True)
class Fit:
    """How well coded volumes agree with their originals: correlations of volumes, and of differences."""

    worst: float
    median: float
    worst_difference: float
    median_difference: float


def grid_in(mask: np.ndarray, pixel_size_A: float, most_voxels: float) -> Grid:
    """Return the finest grid on which the mask holds at most `most_voxels` voxels.

    mask : (D, D, D); voxels above 0 are inside
    """
    original = len(mask)
    inside = int((mask > 0).sum())
    finest = original * min(1.0, (most_voxels / max(inside, 1)) ** (1 / 3))
    box = min(original, max(SMALLEST_GRID, int(finest) // 2 * 2))
    coarse = mask > 0
    if box < original:
        coarse = crop_fourier(torch.from_numpy(coarse.astype(np.float32)), box).numpy() > 0.5
    places = np.argwhere(coarse)
    low, high = (places.min(0), places.max(0)) if len(places) else (np.zeros(3, int), np.full(3, box - 1))
    edge = min(box, int((high - low).max()) + 1 + 2 * BORDER)
    corner = np.clip((low + high + 1 - edge) // 2, 0, box - edge)
    z, y, x = (int(c) for c in corner)
    return Grid(
        coarse[z : z + edge, y : y + edge, x : x + edge],
        (z, y, x),
        box,
        original,
        pixel_size_A * original / box,
    )


def principal(volumes: np.ndarray, weights: np.ndarray | None = None) -> Space:
    """Code volumes (n, m) by their weighted mean and leading principal components.

    At most `MOST_COMPONENTS` components are kept, and no more than hold `KEPT_VARIANCE` of the variance. The
    coefficients (n, K) are the volumes' own.

    weights : (n,) particles that each volume stands for; at least `LEAST_WEIGHT` of their average
    """
    weights = np.ones(len(volumes)) if weights is None else np.maximum(weights, LEAST_WEIGHT * weights.mean())
    mean = np.average(volumes, axis=0, weights=weights).astype(np.float32)
    rest = volumes - mean
    root = np.sqrt(weights / weights.sum())[:, None]
    # The Gram matrix (n, n) is much smaller than the covariance of the voxels (m, m).
    values, vectors = np.linalg.eigh((root * (rest @ rest.T) * root.T).astype(np.float64))
    values, vectors = values[::-1].clip(0), vectors[:, ::-1]
    total = values.sum()
    enough = int(np.searchsorted(np.cumsum(values), KEPT_VARIANCE * total)) + 1 if total > 0 else 0
    k = min(enough, MOST_COMPONENTS, int((values > 1e-9 * total).sum()))
    directions = (vectors[:, :k] * root).T @ rest
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return Space(mean, directions.astype(np.float32), (rest @ directions.T).astype(np.float32))


def interpolated(
    coefficients: np.ndarray, latents: np.ndarray, wanted: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, float]:
    """Interpolate coefficients (n, K) of volumes decoded at latents (n, d) to other latents (N, d).

    A sum of a linear function and of radial basis functions |z - z_i| passes through every decoded volume.

    Returns
    -------
    tuple
        Coefficients (N, K), and the share of the coefficients' variance that the interpolation predicts for
        volumes that it was not given (`FOLDS`-fold cross-validation).

    """

    def interpolate(rows: np.ndarray, places: np.ndarray) -> np.ndarray:
        # Volumes of one latent count once. Latents count along the directions in which the volumes' differ.
        known, first = np.unique(latents[rows], axis=0, return_index=True)
        middle = known.mean(0)
        _, size, directions = np.linalg.svd(known - middle, full_matrices=False)
        directions = directions[size > LEAST_SPREAD * max(size[0], 1e-30)]
        if not len(directions):
            return np.broadcast_to(coefficients[rows].mean(0), (len(places), coefficients.shape[1]))
        known, places = (known - middle) @ directions.T, (places - middle) @ directions.T
        return RBFInterpolator(known, coefficients[rows][first], kernel="linear", degree=1)(places)

    order = np.random.default_rng(seed).permutation(len(latents))
    predicted = np.empty_like(coefficients)
    for fold in range(FOLDS):
        left_out = order[fold::FOLDS]
        predicted[left_out] = interpolate(np.setdiff1d(order, left_out), latents[left_out])
    error = np.square(predicted - coefficients).sum()
    spread = np.square(coefficients - coefficients.mean(0)).sum()
    return interpolate(order, wanted).astype(np.float32), 1 - float(error / max(spread, 1e-30))


def rebuilt(space: Space, coefficients: np.ndarray) -> np.ndarray:
    """Return volumes (n, m) of coefficients (n, K) as the page makes them: from the small integers."""
    mean, scale = in_integers(space.mean, 2**15 - 1)
    coded = (in_integers(u, 127) for u in space.components)
    components = [integers * one_scale for integers, one_scale in coded]
    return mean * scale + coefficients @ np.reshape(components, space.components.shape)


def agreement(space: Space, coefficients: np.ndarray, originals: np.ndarray) -> Fit:
    """Correlate volumes made from small integers with their originals (n, m), and both less the mean."""
    made = rebuilt(space, coefficients)
    whole = _correlations(made, originals)
    parts = _correlations(made - space.mean, originals - space.mean)
    return Fit(float(whole.min()), float(np.median(whole)), float(parts.min()), float(np.median(parts)))


def in_integers(values: np.ndarray, largest: int) -> tuple[np.ndarray, float]:
    """Return integers up to +-`largest` and their scale: values are about integers * scale."""
    scale = float(np.abs(values).max(initial=0.0)) / largest or 1.0
    return np.rint(values / scale), scale


def add_rows(blobs: Blobs, rows: np.ndarray, fine: bool) -> dict:
    """Put rows of numbers into the page, each with its own scale; in 8 bits with 128 as 0 unless `fine`."""
    largest, zero, kind = (2**15 - 1, 0, np.int16) if fine else (127, 128, np.uint8)
    coded = [in_integers(row, largest) for row in rows]
    integers = np.array([row + zero for row, _ in coded]).reshape(rows.shape)
    return {"blob": blobs.add(integers.astype(kind)), "scales": [scale for _, scale in coded], "zero": zero}


def space_payload(blobs: Blobs, space: Space) -> dict:
    """Put a space into the page: mean, components, the particles' coefficients and their deviations."""
    return {
        "mean": add_rows(blobs, space.mean[None], fine=True),
        "components": add_rows(blobs, space.components, fine=False),
        "particles": add_rows(blobs, space.coefficients.T, fine=space.coefficients.size <= COARSE_VALUES),
        "n": len(space.coefficients),
        "average": _rounded(space.coefficients.mean(0)),
        "deviations": _rounded(space.coefficients.std(0)),
    }


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{v:.6g}") for v in values]


def _correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(1) / np.where(norms > 0, norms, 1)
