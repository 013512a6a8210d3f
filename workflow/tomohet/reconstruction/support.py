"""Whether a subset of particles differs from the others, or whether chance or noise explains the difference.

Two controls are applied.

1. Random subsets of equal size that were imaged alike: with the subset's distribution of views, tilts
   and doses (`matching`). The power of the difference that independent halves of the particles reproduce
   (`reproducible_difference`) must exceed that of random subsets. If the view decides the membership,
   no such random subset exists, and nothing supports the subset.
2. Held-out tilts, if the subset was selected by its images. Particles that are selected because their noise
   looks alike do reproduce a difference in their own images. Their held-out tilts do not, provided that the
   latents were estimated without these tilts. Let z_p be latents from the training tilts along directions
   that held-out tilts confirm, and g_p the gradient of the held-out log-likelihood (`linear.held_out`). The
   subset's labels are replaced by their regression on the latents, w z_p, and the evidence is

       T = sum_p (w z_p) (w g_p) = w M w.

   It must exceed that of random subsets, and that of the same subset with random signs of the gradients. The
   former asks whether the subset follows the confirmed directions, the latter whether held-out tilts confirm
   the direction along which it does. Without a confirmed direction nothing supports the subset.

The largest of the p-values counts.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from tomohet.errors import InputError
from tomohet.particles.copies import sources
from tomohet.particles.store import Store
from tomohet.reconstruction.controls import DRAWS, control_labels, p_value
from tomohet.reconstruction.matching import (
    exchangeable_share,
    matched_conditions,
    mean_of_stratum,
    strata_of,
)
from tomohet.reconstruction.mean_map import MeanMap, mean_map
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.reproducible_difference import reproducible_power

Verdict = Literal["supported", "weak", "not supported"]
SUPPORTED_P, WEAK_P = 0.01, 0.05
LEAST_EXCHANGEABLE = 0.2  # of the membership's variance, for random subsets that were imaged alike
MAX_FREQUENCY = 0.25  # cycles per pixel, as in the linear model


@dataclass(frozen=True)
class HeldOutTilts:
    """What held-out tilts say along the K latent directions that they confirm.

    latents : (N, K) from the training tilts alone
    gradient : (N, K) gradient of the log-likelihood of the held-out tilts at the mean map
    """

    latents: np.ndarray
    gradient: np.ndarray

    def of(self, rows: np.ndarray) -> "HeldOutTilts":
        """Return the rows of some particles."""
        return HeldOutTilts(self.latents[rows], self.gradient[rows])


@dataclass(frozen=True)
class Difference:
    """Result of the comparison of a subset with the other particles.

    n_members, n_others : numbers of particles
    p_random : probability that a random subset of equal size, imaged alike, reproduces a difference of such
        power; 1 if there is no such random subset
    p_held_out : probability that held-out tilts support a random subset as much, or this one if they hold
        noise alone; None if the subset was not selected by its images
    ratio : reproducible power of the difference over the root mean square of that of random subsets
    power : (1 + draws,) reproducible power of the subset and of the random subsets
    exchangeable : fraction of the membership's variance that view, tilts and dose leave to chance
    """

    n_members: int
    n_others: int
    p_random: float
    p_held_out: float | None
    ratio: float
    power: np.ndarray
    exchangeable: float

    @property
    def matched(self) -> bool:
        """Whether random subsets can have the subset's distribution of views, tilts and doses."""
        return self.exchangeable >= LEAST_EXCHANGEABLE

    @property
    def p_value(self) -> float:
        """The larger of both p-values, which counts."""
        return max(self.p_random, 0.0 if self.p_held_out is None else self.p_held_out)

    @property
    def verdict(self) -> Verdict:
        """Supported up to p = SUPPORTED_P, weak up to WEAK_P."""
        if self.p_value <= SUPPORTED_P:
            return "supported"
        return "weak" if self.p_value <= WEAK_P else "not supported"


def differences_of(
    store: Store,
    particles: np.ndarray,
    subsets: np.ndarray,
    *,
    held_out: HeldOutTilts | None,
    mean: MeanMap | None = None,
    max_frequency: float = MAX_FREQUENCY,
    draws: int = DRAWS,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> list[Difference]:
    """Compare each of several subsets with the other particles, in one pass over the images.

    store : with the poses to be used
    particles : (N,) ordinals in the store, ascending
    subsets : (S, N) bool, members of each subset
    held_out : of these particles, in this order; None if the subsets were not selected by their images
    mean : mean map of the particles, in the units of the store; default: made from their images

    Raises InputError if a subset or the rest has fewer than two particles.
    """
    particles, subsets = np.asarray(particles), np.asarray(subsets, bool)
    _refuse_too_few(subsets)
    source = sources(store.particles)[particles]
    conditions = matched_conditions(store, particles)
    strata = [strata_of(conditions, one, source, seed) for one in subsets]
    pairs = list(zip(subsets, strata, strict=True))
    labels = np.stack([control_labels(one, source, draws, seed, own) for one, own in pairs])
    exchangeable = [exchangeable_share(*pair) for pair in pairs]
    observations = Observations(store, particles, max_frequency=max_frequency, device=device)
    mean = mean_map(observations) if mean is None else mean
    shares = np.stack([mean_of_stratum(*pair) for pair in pairs])
    power = reproducible_power(observations, mean, labels, shares)
    confirmed = [None if held_out is None else p_of_held_out(held_out, own, source, seed) for own in labels]
    return [_difference(*one) for one in zip(labels, power, confirmed, exchangeable, strict=True)]


def difference_of(store: Store, members: np.ndarray, others: np.ndarray, **options) -> Difference:
    """Compare a subset with other particles (ordinals in the store); options as in `differences_of`.

    held_out : required; rows in the ascending order of members and others together
    """
    particles = np.union1d(members, others)
    if len(particles) < len(members) + len(others):
        raise InputError("a particle is in the subset and among the others, or named twice")
    return differences_of(store, particles, np.isin(particles, members)[None], **options)[0]


def p_of_held_out(held_out: HeldOutTilts, labels: np.ndarray, source: np.ndarray, seed: int) -> float:
    """Return the p-value of T among random subsets or among random signs, the larger of both.

    It is 1 without a confirmed direction.

    labels : (1 + draws, N) bool, of the subset and of random subsets
    source : (N,) number of the particle whose images each particle has; copies have a common sign
    """
    z, gradient = (np.asarray(table, np.float64) for table in (held_out.latents, held_out.gradient))
    if not z.shape[1]:
        return 1.0
    z = z - z.mean(0)
    weights = (labels - labels.mean(1, keepdims=True)) @ np.linalg.pinv(z).T
    of_draws = np.einsum("si,ij,sj->s", weights, gradient.T @ z, weights)
    number = np.unique(source, return_inverse=True)[1]
    of_source = np.bincount(number, weights=(z @ weights[0]) * (gradient @ weights[0]))
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (len(labels) - 1, len(of_source)))
    of_signs = np.concatenate([of_draws[:1], signs @ of_source])
    return max(p_value(of_draws), p_value(of_signs))


def _difference(
    labels: np.ndarray, power: np.ndarray, p_held_out: float | None, exchangeable: float
) -> Difference:
    spread, n_members = np.sqrt(np.square(power[1:]).mean()), int(labels[0].sum())
    return Difference(
        n_members=n_members,
        n_others=labels.shape[1] - n_members,
        p_random=p_value(power) if exchangeable >= LEAST_EXCHANGEABLE else 1.0,
        p_held_out=p_held_out,
        ratio=float(power[0] / spread) if spread > 0 else 0.0,
        power=power,
        exchangeable=exchangeable,
    )


def _refuse_too_few(subsets: np.ndarray) -> None:
    for members in subsets:
        inside, outside = int(members.sum()), int((~members).sum())
        if min(inside, outside) < 2:
            raise InputError(
                f"a subset of {inside} of {inside + outside} particles cannot be compared with the others; "
                "both need at least 2 particles"
            )
