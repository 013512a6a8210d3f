"""Latent directions that imaging conditions explain (regression with adjusted R^2).

Where the forward model is incomplete (interpolation upstream, a wrong defocus, a wrong dose), particles
differ by the way they were imaged. All tilts of a particle share such a difference, so held-out tilts confirm
it. It can be recognised because it follows the imaging condition.

Let z be latents that are scaled so that their structural variance is 1, and P z their regression on functions
of a condition (orientation, defocus, tomogram, ...). The covariance of P z, minus the part that chance
explains (adjusted R^2), has one eigenvector for each latent direction that the condition explains. The
eigenvalue is the explained fraction of the structural variance.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.linalg import orth
from scipy.stats import f as f_distribution
from scipy.stats import rankdata
from torch import Tensor

from tomohet.linear.significance import EXPLAINED_P
from tomohet.particles.table import ROTATION_COLUMNS

CONDITIONS = {
    "view": "the orientation",
    "defocus": "the defocus",
    "tomogram": "the tomogram",
    "tilts": "the tilt scheme",
    "noise": "the noise of the images",
}
NUMBERS = {
    "defocus": ("defocus_A", "astigmatism_A"),
    "tilts": ("n_tilts", "mean_dose_e_A2"),
    "noise": ("noise_scale",),
}
# A direction is a nuisance if a condition explains at least this fraction of its structural variance.
EXPLAINED = 0.5
# Maximum number of regression functions, as a fraction of the number of particles.
FUNCTIONS_PER_PARTICLE = 0.2
LEAST_RELIABILITY = 0.05
MOST_PARTICLES = 20_000


@dataclass(frozen=True)
class Explained:
    """The imaging condition that explains a latent direction, and the explained fraction of its variance."""

    condition: str
    share: float


def explained_directions(
    latents: np.ndarray, reliability: np.ndarray, conditions: pd.DataFrame, names: Iterable[str]
) -> tuple[np.ndarray, tuple[Explained, ...]]:
    """Return orthonormal directions (K, J) of latents (N, K) that conditions explain, and their explanations.

    The most explained direction comes first. Only the first copy of a symmetry-expanded particle counts. Very
    large sets are thinned to `MOST_PARTICLES`.

    reliability : (K,) fraction of the latents' variance that is structure; an unknown value (NaN) counts as 1
    conditions : table of `imaging_conditions`, a row per particle
    names : conditions to test, from CONDITIONS
    """
    if "source" in conditions:
        first = ~conditions["source"].duplicated().to_numpy()
        latents, conditions = latents[first], conditions[first]
    some = slice(None, None, -(-len(latents) // MOST_PARTICLES))
    latents, conditions = latents[some], conditions[some].reset_index(drop=True)
    share = np.nan_to_num(reliability, nan=1.0).clip(LEAST_RELIABILITY, 1.0)
    z = latents - latents.mean(0)
    z = z / z.std(0).clip(1e-12) / np.sqrt(share)
    designs = {name: orthonormal_functions(name, conditions) for name in names}
    rest, found, about = np.eye(z.shape[1]), [], []
    while rest.shape[1]:
        tried = [(*_most_explained(z @ rest, q), name) for name, q in designs.items() if q.shape[1]]
        explained, p_value, direction, name = max(tried, key=lambda one: one[0], default=(0.0, 1.0, None, ""))
        if explained < EXPLAINED or p_value * len(tried) * z.shape[1] > EXPLAINED_P:
            break
        found.append(rest @ direction)
        about.append(Explained(name, float(min(explained, 1.0))))
        rest = rest @ complement(torch.as_tensor(direction[:, None])).numpy()
    return np.stack(found, axis=1) if found else np.zeros((z.shape[1], 0)), tuple(about)


def _most_explained(z: np.ndarray, functions: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Return the explained fraction, its p-value (F test), and the direction that functions explain most.

    z : (N, k) latents
    functions : (N, p) orthonormal functions of the condition
    """
    n, p = functions.shape
    freedom = n - p - 1
    fitted = functions @ (functions.T @ z)
    total, explained = z.T @ z / n, fitted.T @ fitted / n
    adjusted = explained - p / freedom * (total - explained)
    values, vectors = np.linalg.eigh(adjusted)
    direction = vectors[:, -1]
    own, all_of_it = direction @ explained @ direction, direction @ total @ direction
    ratio = own / p / max((all_of_it - own) / freedom, 1e-12 * all_of_it)
    return float(values[-1]), float(f_distribution.sf(ratio, p, freedom)), direction


def orthonormal_functions(name: str, conditions: pd.DataFrame) -> np.ndarray:
    """Return (N, p) functions of a condition, centred and orthonormal over the particles.

    p is 0 if the condition is the same for all particles, or if there are too few particles.

    Orientation: the elements of the rotation of the lowest tilt and their pairwise products, starting with
    the elements of the beam direction. Tomogram: indicator functions. Numbers: ranks and their squares.
    """
    n = len(conditions)
    if name == "view":
        elements = conditions[list(ROTATION_COLUMNS)].to_numpy(np.float64)
        columns = np.concatenate([_with_products(elements[:, 6:]), _with_products(elements)], axis=1)
    elif name == "tomogram":
        number = np.unique(conditions["tomogram"], return_inverse=True)[1]
        columns = np.eye(number.max() + 1)[number]
    else:
        ranks = [rankdata(conditions[column]) for column in NUMBERS[name]]
        ranks = np.stack(ranks, axis=1) / n
        columns = np.concatenate([ranks, ranks**2], axis=1)
    columns = columns - columns.mean(0)
    columns = columns[:, np.linalg.norm(columns, axis=0) > 1e-6 * np.sqrt(n)]
    most = int(FUNCTIONS_PER_PARTICLE * n)
    return orth(columns[:, :most], rcond=1e-6) if columns.size and most else np.zeros((n, 0))


def _with_products(columns: np.ndarray) -> np.ndarray:
    first, second = np.triu_indices(columns.shape[1])
    return np.concatenate([columns, columns[:, first] * columns[:, second]], axis=1)


def complement(directions: Tensor) -> Tensor:
    """Return (K, K - J) orthonormal directions that are orthogonal to the directions (K, J)."""
    return torch.linalg.qr(directions, mode="complete").Q[:, directions.shape[1] :]


def followed(latents: Tensor, nuisance: Tensor) -> Tensor:
    """Return (K, J) orthonormal directions of latents (N, K) that follow nuisance latents (N, J).

    The nuisance latents are regressed on the latents by least squares.
    """
    z, target = (values - values.mean(0) for values in (latents.double(), nuisance.double()))
    return torch.linalg.qr(torch.linalg.lstsq(z, target).solution).Q.to(latents)


def sentence(explained: tuple[Explained, ...]) -> str:
    """Say which components are not counted, and why; empty if there are none."""
    if not explained:
        return ""
    names = [one.condition for one in explained]
    counts = [(names.count(name), meaning) for name, meaning in CONDITIONS.items() if name in names]
    if len(names) == 1:
        return f"1 further component is not counted, because {counts[0][1]} explains it"
    why = " and ".join(f"{meaning} explains {count}" for count, meaning in counts)
    return f"{len(names)} further components are not counted, because {why} of them"
