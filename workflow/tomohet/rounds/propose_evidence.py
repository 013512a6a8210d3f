"""Evidence for a division of particles into two: the maps differ beyond noise, and the labels are stable.

Difference: `reconstruction.support`, with p-values against random parts of equal size and against held-out
tilts, multiplied by the number of candidates that are tested together (Bonferroni).

Stability: a particle's latents z are estimated twice, from its training tilts and from its held-out tilts,
in closed form. The direction w that tells the two parts apart is the regression of the labels on latents from
all tilts. Along it, each estimate divides the particles into parts of the same sizes as the labels do. The
least of Cohen's kappas counts, between these two divisions and between each and the labels. It is about 0 for
labels that noise has made, or that have nothing to do with the latents, and 1 for labels that all tilts
confirm. (Cohen, Educational and Psychological Measurement 20, 37, 1960.)

Valley: states and clusters divide a continuum, too, at an arbitrary place. Let t be the score along w, 0 and
1 at the means of the parts. The density of t in the middle over that at 0 and 1 is 1 for a uniform continuum,
more for a Gaussian, and 0 for two states that are told apart. Units and blocks are known to be bimodal.
"""

import logging
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tomohet.errors import InputError
from tomohet.files.tables import read_table
from tomohet.linear.poses import PoseEstimates
from tomohet.linear.prediction import SplitLikelihood
from tomohet.linear.saved_model import SavedModel
from tomohet.linear.subset_evidence import held_out_tilts
from tomohet.particles.store import Store, open_store
from tomohet.reconstruction.mean_map import MeanMap, mean_map
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.support import Difference, differences_of
from tomohet.rounds import layout
from tomohet.rounds.propose_candidates import Candidate

MOST_P = 0.01  # after correction for the number of candidates
LEAST_KAPPA = 0.3
HALF_WIDTH = 0.15  # of the places at which densities are compared

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoundData:
    """A finished round, N particles in the order of its table.

    table : particle table
    store, poses, mean : images with the poses as stated, errors of the poses, and the linear model's mean map
    split : likelihood of training and held-out tilts along the directions that held-out tilts confirm
    points : (N, K) latents in the metric of maps, so that distances are those of maps
    heterogeneous : whether the linear model finds that particles differ
    max_frequency : highest frequency that the linear model used, cycles per pixel
    """

    table: pd.DataFrame
    store: Store
    poses: PoseEstimates
    mean: MeanMap
    split: SplitLikelihood
    points: np.ndarray
    max_frequency: float
    device: torch.device | str = "cpu"

    @property
    def particles(self) -> np.ndarray:
        """(N,) ordinals in the store."""
        return self.table["particle"].to_numpy(np.int64)

    @classmethod
    def read(cls, round_dir: Path, store_dir: Path, device: torch.device | str) -> "RoundData":
        """Read a round's results. Raises InputError when a part is missing or belongs to another round."""
        file = round_dir / layout.TABLE
        if not file.is_file():
            raise InputError(f"{file}: no such table; run the round first")
        table = read_table(file, {"particle": "whole numbers"}).sort_values("particle", ignore_index=True)
        store = open_store(store_dir)
        particles = table["particle"].to_numpy(np.int64)
        if len(particles) < 2 or particles[-1] >= len(store.particles):
            raise InputError(
                f"{file}: {len(table)} particles, not two or more of the {len(store.particles)} particles of "
                f"{store_dir}"
            )
        model = SavedModel.read(round_dir / layout.LINEAR.folder, store.box)
        maps = model.maps.for_store(store, device)
        split = model.held_out(store, particles, device)
        return cls(
            table=table,
            store=store,
            poses=model.poses(store, particles),
            mean=maps.mean,
            split=split,
            points=map_coordinates(table, maps.basis.cpu()),
            max_frequency=maps.max_frequency,
            device=device,
        )

    @property
    def heterogeneous(self) -> bool:
        """Whether held-out tilts confirm that particles differ."""
        return self.split.b.shape[1] > 0


def map_coordinates(table: pd.DataFrame, basis: torch.Tensor) -> np.ndarray:
    """Return points (N, K) whose distances are those of the particles' maps.

    table : with columns linear_z1 ... linear_zK
    basis : (K, D, D, D)
    """
    flat = basis.flatten(1).double()
    values, vectors = torch.linalg.eigh(flat @ flat.T)
    root = (vectors * values.clamp_min(0).sqrt()).numpy()
    names = [f"linear_z{number}" for number in range(1, len(basis) + 1)]
    missing = [name for name in names if name not in table]
    if missing:
        raise InputError(f"the particle table has no column '{missing[0]}'; run `particle_table` again")
    return table[names].to_numpy(np.float64) @ root


@dataclass(frozen=True)
class Evidence:
    """What was found for a candidate among some particles.

    n : particles of the two parts
    p_value : corrected for the number of candidates
    difference : uncorrected
    agreement, kappa : least of the labels, those from training tilts and those from held-out tilts
    valley : density of the particles between the parts over that at the parts' means
    first : (N,) bool, members of the first part
    """

    candidate: Candidate
    n: tuple[int, int]
    p_value: float
    difference: Difference
    agreement: float
    kappa: float
    valley: float
    first: np.ndarray

    @property
    def supported(self) -> bool:
        """Whether the two maps differ beyond noise."""
        return self.p_value <= MOST_P

    @property
    def stable(self) -> bool:
        """Whether separate tilts give the same labels, and particles do not crowd between the parts."""
        return self.kappa >= LEAST_KAPPA and self.valley <= self.candidate.most_valley

    @property
    def sentence(self) -> str:
        """Describe the evidence in one sentence."""
        differ = "the two maps differ" if self.supported else "the two maps do not differ beyond noise"
        return (
            f"{self.candidate.subject}: {self.n[0]} and {self.n[1]} particles; {differ} "
            f"(p = {self.p_value:.1g}), and separate tilts put {100 * self.agreement:.0f} % on the same side "
            f"(kappa {self.kappa:.2f}, valley {self.valley:.2f})"
        )


def evidence_of(
    data: RoundData, members: np.ndarray, candidates: list[Candidate], seed: int
) -> list[Evidence]:
    """Test candidates on some particles of a round, in one pass over their images.

    members : (N,) bool
    """
    if not candidates:
        return []
    firsts = np.stack([one.first(data.table) & members for one in candidates])
    particles, rows = data.particles[members], np.flatnonzero(members)
    poses = data.poses.of_rows(rows)
    store, mean = poses.applied(data.store, particles, _mean_of(data, members, poses))
    differences = differences_of(
        store,
        particles,
        firsts[:, members],
        held_out=held_out_tilts(data.split).of(rows),
        mean=mean,
        max_frequency=data.max_frequency,
        seed=seed,
        device=data.device,
    )
    found = []
    for candidate, first, difference in zip(candidates, firsts, differences, strict=True):
        agreement, kappa, valley = stability(data.split, members, first[members])
        n = int(first.sum()), int(members.sum() - first.sum())
        p_value = min(1.0, difference.p_value * len(candidates))
        found.append(Evidence(candidate, n, p_value, difference, agreement, kappa, valley, first))
        log.info("%s", found[-1].sentence)
    return found


def stability(split: SplitLikelihood, members: np.ndarray, first: np.ndarray) -> tuple[float, float, float]:
    """Return the least agreement and kappa of labels and of separate tilts, and the valley between the parts.

    members : (N,) bool
    first : (M,) bool labels of the members

    Without confirmed directions or with one label, agreement is that of chance, kappa 0, and the valley 1.
    """
    share = first.mean()
    by_chance = float(share**2 + (1 - share) ** 2)
    if not split.b.shape[1] or not 0 < share < 1:
        return by_chance, 0.0, 1.0
    of_new = replace(split, a=split.new_a, b=split.new_b)
    latents, *separate = (
        _centred(one[torch.as_tensor(members)]) for one in (split.latents, split.used, of_new.used)
    )
    weights = np.linalg.lstsq(latents, first - share, rcond=None)[0]
    labels = [first, *(_largest(one @ weights, int(first.sum())) for one in separate)]
    agreement = min(float((one == other).mean()) for one, other in combinations(labels, 2))
    kappa = (agreement - by_chance) / (1 - by_chance)
    return agreement, kappa, valley_between(latents @ weights, first)


def valley_between(score: np.ndarray, first: np.ndarray) -> float:
    """Return the density of scores (M,) midway between the means of two parts, over that at these means."""
    low, high = score[~first].mean(), score[first].mean()
    if not high > low:
        return 1.0
    place = (score - low) / (high - low)
    at = [int((np.abs(place - centre) < HALF_WIDTH).sum()) for centre in (0.0, 0.5, 1.0)]
    return 2 * at[1] / max(at[0] + at[2], 1)


def _centred(latents: torch.Tensor) -> np.ndarray:
    values = latents.double().cpu().numpy()
    return values - values.mean(0)


def _largest(score: np.ndarray, n: int) -> np.ndarray:
    """Mark the n largest scores."""
    marked = np.zeros(len(score), bool)
    marked[np.argsort(-score, kind="stable")[:n]] = True
    return marked


def _mean_of(data: RoundData, members: np.ndarray, poses: PoseEstimates) -> MeanMap:
    """Return the mean map of the members: the linear model's of all particles, else one of their images."""
    if members.all():
        return data.mean
    store = poses.corrected(data.store, data.particles[members])
    observations = Observations(
        store, data.particles[members], max_frequency=data.max_frequency, device=data.device
    )
    return mean_map(observations, mask=data.mean.mask)
