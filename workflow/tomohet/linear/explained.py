"""Directions of the latents that are explained by how particles were imaged, and not by what they are.

Where the forward model misses something of the images, such as what interpolation upstream, a wrong defocus
or a wrong dose has done to them, particles differ by it, all tilts of a particle alike, and held-out tilts
confirm it. It follows how the particle was imaged. Let z be latents scaled so that their structure has unit
variance, and P z their regression on functions of a condition (orientation, defocus, tomogram, ...). The
covariance of P z, less what chance explains (adjusted R^2), has an eigenvector for each direction of the
latents that the condition explains, with the explained share of the structure's variance for eigenvalue.
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
# Explained share of the variance of the structure along a direction, from which it is a nuisance.
EXPLAINED = 0.5
# A regression has at most this share of the particles for functions.
FUNCTIONS_PER_PARTICLE = 0.2
LEAST_RELIABILITY = 0.05
MOST_PARTICLES = 20_000


@dataclass(frozen=True)
class Explained:
    """A direction of the latents, the condition that explains it, and the explained share of its variance."""

    condition: str
    share: float


def explained_directions(
    latents: np.ndarray, reliability: np.ndarray, conditions: pd.DataFrame, names: Iterable[str]
) -> tuple[np.ndarray, tuple[Explained, ...]]:
    """Orthonormal directions (K, J) of latents (N, K) that conditions explain, the most explained one first.

    reliability (K,): share of the latents' variance that is structure; where it is not known (NaN) all of it
    counts as structure. conditions: as of `imaging_conditions`, a row per particle; names: of CONDITIONS.
    Of copies of one particle the first counts, of very many particles `MOST_PARTICLES`.
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
    """Explained share and p (F test) along the direction of latents z (N, k) that functions explain most."""
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
    """(N, p) functions of a condition, centred and orthonormal over the particles; p is 0 where it is the
    same for all, or where there are too few particles to tell.

    Orientation: the elements of the rotation of the lowest tilt and their products in pairs, those of the
    beam's direction first. Tomogram: which one. Numbers: ranks and their squares.
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
    """(K, K - J) orthonormal directions at right angles to those in (K, J)."""
    return torch.linalg.qr(directions, mode="complete").Q[:, directions.shape[1] :]


def followed(latents: Tensor, nuisance: Tensor) -> Tensor:
    """(K, J) orthonormal directions of latents (N, K) that follow nuisance latents (N, J): least squares."""
    z, target = (values - values.mean(0) for values in (latents.double(), nuisance.double()))
    return torch.linalg.qr(torch.linalg.lstsq(z, target).solution).Q.to(latents)


def sentence(explained: tuple[Explained, ...]) -> str:
    """What is not counted, and why; empty where there is nothing."""
    if not explained:
        return ""
    names = [one.condition for one in explained]
    counts = [(names.count(name), meaning) for name, meaning in CONDITIONS.items() if name in names]
    if len(names) == 1:
        return f"1 further component is not counted, because {counts[0][1]} explains it"
    why = " and ".join(f"{meaning} explains {count}" for count, meaning in counts)
    return f"{len(names)} further components are not counted, because {why} of them"
