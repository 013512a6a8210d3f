"""Number of independent volumes that an ensemble is worth when its latents lie close together.

Neighbours in latent space have nearly the same states. Two unrelated pieces therefore agree by chance far
more often than in V independent volumes. The effect depends on the smoothness of states over the graph of
nearest neighbours. Smoothness is measured by the graph's harmonics, the eigenvectors of its Laplacian from
smooth to rough, in bands of d, 2 d, 4 d ... harmonics for d latents: the smoothest functions, which run along
the latents, are d in number. A state over the volumes is called a profile here. Assume that rotations of a
profile within each band are equally likely (they keep its smoothness). Then two unrelated profiles with
fractions a_o and b_o of their variance in band o, which has m_o harmonics, have a correlation of variance
sum_o a_o b_o / m_o. This is the variance for n independent volumes, where n is its inverse.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from tomohet.errors import InputError
from tomohet.files.digests import is_there
from tomohet.files.pickles import load_latents
from tomohet.files.tables import read_table
from tomohet.files.volume_list import LIST, refuse_other_latents

NEIGHBOURS = 10
MOST_VOLUMES = 3000  # in the graph; from more volumes, this number is drawn
MOST_COPIES = 4  # copies of a volume of average weight, at most
ROUNDING = 0.05  # accepted sum of the errors of the weights when they are rounded to copies


@dataclass(frozen=True)
class Sampling:
    """The number of particles and of independent volumes that the V volumes of an ensemble stand for.

    weights : (V,), fraction of the particles that each volume stands for
    copies : (V,) int64, the weights as whole numbers of at least one, for counting
    rows : (G,) volumes in the latent graph
    bands : orthonormal harmonics (G, m) of each band; empty without latents, and volumes then count as
        independent
    """

    weights: np.ndarray
    copies: np.ndarray
    rows: np.ndarray
    bands: tuple[np.ndarray, ...] = ()

    @property
    def kish(self) -> float:
        """Number of equally weighted volumes with the same variance of a mean: (sum w)^2 / sum w^2."""
        return float(self.weights.sum() ** 2 / (self.weights**2).sum())

    def effective(self, courses: np.ndarray) -> float:
        """Return the number of independent volumes that unrelated profiles like these are worth.

        courses : (N, V) profiles; the mean of their spectra is used

        The result lies between 1 and the effective number of weighted volumes (`kish`).
        """
        if not self.bands:
            return self.kish
        spectrum = self.spectra(courses).mean(axis=0)
        sizes = np.array([band.shape[1] for band in self.bands])
        independent = 1 / (spectrum**2 / sizes).sum()
        return float(np.clip(independent * self.kish / (len(self.rows) - 1), 1, self.kish))

    def spectra(self, courses: np.ndarray) -> np.ndarray:
        """Compute the fraction of every profile's variance in each band, (N, bands).

        courses : (N, V) profiles; constant ones are left out
        """
        seen = courses[:, self.rows].astype(np.float32)
        seen -= seen.mean(axis=1, keepdims=True)
        power = np.stack([((seen @ band) ** 2).sum(axis=1) for band in self.bands], axis=1)
        varying = power.sum(axis=1) > 0
        return power[varying] / power[varying].sum(axis=1, keepdims=True)

    def randomised(self, courses: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw profiles (N, G) as smooth over the latents as the given ones, unrelated between groups.

        courses : (N, V) profiles
        groups : (N,) group of each profile

        Moran spectral randomisation: every harmonic's coefficient keeps its size and gets a random sign, the
        same for all profiles of a group. G are the volumes of the graph.
        """
        harmonics = np.concatenate(self.bands, axis=1)
        seen = courses[:, self.rows].astype(np.float32)
        mean = seen.mean(axis=1, keepdims=True)
        signs = rng.choice(np.array([-1, 1], np.float32), (groups.max() + 1, harmonics.shape[1]))
        return mean + (((seen - mean) @ harmonics) * signs[groups]) @ harmonics.T


def equal_sampling(volumes: int) -> Sampling:
    """Make a sampling in which every volume counts once and is independent of the others."""
    return sampling_of(None, None, volumes, 0)


def sampling_of(z: np.ndarray | None, population: np.ndarray | None, volumes: int, seed: int) -> Sampling:
    """Make the sampling of an ensemble from its volumes' latents (V, zdim) and numbers of particles (V,).

    Either may be None if it is unknown.
    """
    weights = np.ones(volumes) if population is None else np.asarray(population, float)
    weights = weights / weights.sum()
    copies = _copies(weights)
    rows = np.arange(volumes)
    if z is None or volumes <= NEIGHBOURS + 1 or not np.ptp(z, axis=0).any():
        return Sampling(weights, copies, rows)
    if volumes > MOST_VOLUMES:
        rows = np.sort(np.random.default_rng(seed).choice(volumes, MOST_VOLUMES, replace=False))
    return Sampling(weights, copies, rows, _bands(z[rows]))


def _copies(weights: np.ndarray) -> np.ndarray:
    """Find the smallest whole numbers (V,) in proportion to weights, up to a small rounding error."""
    for scale in range(1, MOST_COPIES + 1):
        copies = np.maximum(1, np.rint(scale * weights / weights.mean())).astype(np.int64)
        if np.abs(copies / copies.sum() - weights).sum() < ROUNDING:
            break
    return copies


def _bands(z: np.ndarray) -> tuple[np.ndarray, ...]:
    """Compute the Laplacian's eigenvectors of the graph of z (G, d), in bands from smooth to rough.

    The constant eigenvector is left out.
    """
    count = len(z)
    neighbours = cKDTree(z).query(z, k=NEIGHBOURS + 1)[1]
    adjacent = np.zeros((count, count))
    adjacent[np.arange(count)[:, None], neighbours] = 1
    adjacent = np.maximum(adjacent, adjacent.T)
    np.fill_diagonal(adjacent, 0)
    # Adding 2 to every entry makes the constant the last eigenvector; otherwise it mixes with others if the
    # graph is disconnected.
    laplacian = np.diag(adjacent.sum(axis=1)) - adjacent
    harmonics = np.linalg.eigh(laplacian + 2.0)[1][:, :-1].astype(np.float32)
    edges = z.shape[1] * (2 ** np.arange(int(np.log2(count)) + 2) - 1)
    parts = (harmonics[:, low:high] for low, high in pairwise(edges))
    return tuple(part for part in parts if part.shape[1])


def latents_beside(volumes: Path, numbers: np.ndarray) -> np.ndarray | None:
    """Read latents (V, zdim) of the volumes `numbers` from z.pkl beside them.

    None if there is no such file.
    """
    folder = volumes if volumes.is_dir() else volumes.parent
    path = folder / "z.pkl"
    if not is_there(path):
        return None
    z, _ = load_latents(path)
    if numbers.max() >= len(z):
        raise InputError(
            f"{path}: {len(z)} latents, but there is a volume number {numbers.max()}; remove z.pkl if it "
            "belongs to other volumes"
        )
    refuse_other_latents(folder, z, path)
    return z[numbers]


def population_beside(volumes: Path, numbers: np.ndarray) -> np.ndarray | None:
    """Count the particles (V,) of each volume from assignment.parquet beside the volumes, or return None.

    Raises InputError when the file belongs to other volumes, or is missing beside z.pkl, with which
    choose_volumes writes it.
    """
    folder = volumes if volumes.is_dir() else volumes.parent
    path = folder / "assignment.parquet"
    if not is_there(path):
        if (folder / "z.pkl").is_file():
            raise InputError(
                f"{path}: no such file, though z.pkl is in the same folder; run choose_volumes again, or "
                "count every volume once (--weights equal)"
            )
        return None
    count = read_table(path, {"volume": "whole numbers"})["volume"].value_counts()
    if (folder / LIST).is_file() and set(count.index) != set(numbers.tolist()):
        raise InputError(
            f"{path}: it assigns particles to {len(count)} volumes, which are not the {len(numbers)} given "
            "ones; run choose_volumes and eval_vol again"
        )
    return count.reindex(numbers, fill_value=0).to_numpy()
