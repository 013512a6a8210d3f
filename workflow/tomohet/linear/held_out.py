"""Cross-validation of the linear model on held-out tilts: the number of reproducible latent directions.

The basis maps, more than needed, are fitted without every third tilt image of each particle. The training
images give the latents z. The held-out images contribute the gradient of their log-likelihood at these
latents, g = b' - A' z (A' and b' as in `likelihood`). Structure is common to all tilts of a particle, so g
and z correlate along structural directions. Noise that was fitted in the training images does not recur in
the held-out images. The test statistic is the largest eigenvalue of the moment

    M = sum_p (g_p z_p^T + z_p g_p^T) / 2.

Random signs of the particles' gradients give its null distribution.

Directions are tested sequentially: the prediction along the previous directions is subtracted first. The
directions are not the basis maps themselves. Basis maps are ordered by power, and there fitted noise mixes
with a component that only few particles have. The final fit starts from the particles' latents along the
reproducible directions, which leaves fitted noise behind.

A reproducible direction does not imply that single particles can be assigned. The two halves of the held-out
images are independent of each other and of the training images. Their covariance gives the fraction of a
latent's variance that is structure (`reliability.shared_variance`).

The maps of the search are many and have not converged, so they contain much noise. The statements about
single particles therefore use a second model: as many basis maps as are reproducible, fitted to the same
training images until EM has converged (`HeldOut.measured_by`).
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from scipy.stats import gumbel_r
from torch import Tensor

from tomohet.linear.explained import Explained, explained_directions, followed
from tomohet.linear.likelihood import likelihood
from tomohet.linear.prediction import SplitLikelihood, source_tensor
from tomohet.linear.reliability import auc_of_halves, by_all_images, shared_variance
from tomohet.linear.significance import DIRECTION_P, FOUND_P
from tomohet.particles.copies import distinct_images
from tomohet.particles.store import Store
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.observations import Observations

EVERY = 3
DRAWS = 100
# Maximum number of searches; p-values are Bonferroni-corrected by it.
SEARCHES = 2
# AUC above which two equally populated classes count as resolved in single particles (at most 0.02 below a
# perfect classifier).
CLEAR_AUC = 0.98


@dataclass(frozen=True)
class HeldOut:
    """Result of the cross-validation along sequentially tested latent directions.

    moment : (K,) test statistic of each direction (largest eigenvalue of M), in nats
    null : (draws, K) the same statistic with random signs
    likelihood : likelihood of training and held-out images along these directions or, after `measured_by`,
        along the directions of the converged maps
    reliability : fraction of the latents' variance (estimated from all images) that is structure; NaN if
        there are too few tilts
    least_reliability : reliability minus one standard error
    directions : (k, K) these directions in the space of k latents
    explained : further directions that imaging conditions explain and that are not counted
        (`linear.explained`)
    nuisance : likelihood along the explained directions; they are integrated out of `likelihood`
    """

    moment: np.ndarray
    null: np.ndarray
    likelihood: SplitLikelihood
    reliability: np.ndarray
    least_reliability: np.ndarray
    directions: Tensor | None = None
    explained: tuple[Explained, ...] = ()
    nuisance: SplitLikelihood | None = None

    def latents(self, k: int) -> Tensor:
        """Return (N, k + J) latents along the first directions and the nuisance directions, from all images.

        The latents are uncorrelated and have unit variance.
        """
        return self._start(k, "latents")

    def used_latents(self, k: int) -> Tensor:
        """Return the same latents, estimated from the training images only."""
        return self._start(k, "used")

    def _start(self, k: int, by: str) -> Tensor:
        z = getattr(self.likelihood, by)[:, :k]
        if z.shape[1] < k:  # nuisance directions leave too few: start at random latents
            draw = torch.Generator().manual_seed(0)
            z = torch.cat([z, torch.randn(len(z), k - z.shape[1], generator=draw).to(z)], dim=1)
        return _uncorrelated(
            z if self.nuisance is None else torch.cat([z, getattr(self.nuisance, by)], dim=1)
        )

    def measured_by(self, splits: "Splits", seed: int) -> "HeldOut":
        """Measure latents and reliability with other maps of the same images; keep this search's tests."""
        if self.nuisance is None:
            return replace(common_directions(*splits, seed), moment=self.moment, null=self.null)
        nuisance = followed(splits[0].used, self.nuisance.used)
        settled = common_directions(*(split.without(nuisance) for split in splits), seed)
        return replace(
            settled,
            moment=self.moment,
            null=self.null,
            explained=self.explained,
            nuisance=splits[0].along(nuisance),
        )

    @property
    def p_values(self) -> np.ndarray:
        """(K,) probability of such a moment by chance; 1 if no images were held out."""
        p_values, varying = np.ones(len(self.moment)), self.null.std(0) > 0
        p_values[varying] = gumbel(self.null[:, varying]).sf(self.moment[varying])
        return p_values

    @property
    def possible(self) -> bool:
        """Whether any tilt images were held out; a particle needs three tilt images for that."""
        return bool(self.explained) or bool(self.likelihood.new_a.any())

    @property
    def p_value(self) -> float:
        """Probability that any of the searches yields such a first direction by chance (Bonferroni)."""
        return float(min(1.0, SEARCHES * self.p_values[:1].min(initial=1.0)))

    @property
    def found(self) -> bool:
        """Whether heterogeneity is significant."""
        return self.p_value < FOUND_P

    @property
    def n_components(self) -> int:
        """Number of consecutive significant directions, starting from the first."""
        chance = ~(self.p_values < DIRECTION_P)
        return int(np.argmax(np.append(chance, True)))

    @property
    def confirmed(self) -> SplitLikelihood:
        """Likelihood along the reproducible directions; of zero directions if no heterogeneity is found."""
        return self.likelihood.leading(self.n_components if self.found else 0)

    @property
    def n_clear(self) -> int:
        """Number of reproducible directions along which single particles can be assigned."""
        return int((auc_of_halves(self.least_reliability)[: self.n_components] >= CLEAR_AUC).sum())


def gumbel(draws: np.ndarray):
    """Return the Gumbel distribution with the mean and variance of draws (n, ...) of leading eigenvalues."""
    scale = draws.std(0, ddof=1) * np.sqrt(6) / np.pi
    return gumbel_r(draws.mean(0) - np.euler_gamma * scale, scale)


def _uncorrelated(latents: Tensor) -> Tensor:
    return torch.linalg.qr(latents - latents.mean(0)).Q * np.sqrt(len(latents))


def split_tilts(store: Store) -> tuple[Store, Store, Store]:
    """Split a store into training images and two halves of the held-out third of each particle's images."""
    number = tilt_number(store)
    held_out, second = number % EVERY == EVERY - 1, number // EVERY % 2 == 1
    return tuple(store.restricted(part) for part in (~held_out, held_out & ~second, held_out & second))


Tables = tuple[Tensor, Tensor]
# Training images with all held-out images, with the first half of them, and with the second half.
Splits = tuple[SplitLikelihood, SplitLikelihood, SplitLikelihood]


def split_likelihoods(
    parts: tuple[Observations, Observations, Observations], mean: MeanMap, basis: Tensor, variance: Tensor
) -> Splits:
    """Compute the likelihood of training and held-out images for the latents of all processes' particles.

    parts : observations of the parts of `split_tilts`
    mean : mean map, fitted to the training images on a grid of its own
    basis : (K, d, d, d) basis maps of the same fit
    variance : (K, shells) posterior variance of the basis maps' Fourier coefficients
    """
    used, first, second = (
        likelihood(part.alike(part.everyone, len(mean.volume)), mean, basis, variance) for part in parts
    )
    own = parts[0]
    source = source_tensor(own.store, own.everyone, own.device)
    looks = ((first, second), (first,), (second,))
    return tuple(SplitLikelihood(*own.joined(*_given_used(used, look, mean)), source) for look in looks)


def structural_directions(splits: Splits, conditions: pd.DataFrame, names: list[str], seed: int) -> HeldOut:
    """Find directions that held-out images confirm, without directions that imaging conditions explain.

    Explained directions are integrated out, and the remaining directions are tested again.

    conditions : table of `imaging_conditions` for all particles
    names : conditions to test
    """
    found = common_directions(*splits, seed)
    count = found.n_components if found.found else 0
    if not count or not names:
        return found
    latents = found.likelihood.latents[:, :count].double().cpu().numpy()
    directions, explained = explained_directions(latents, found.reliability[:count], conditions, names)
    if not explained:
        return found
    nuisance = found.directions[:, :count] @ torch.as_tensor(directions).to(found.directions)
    rest = common_directions(*(split.without(nuisance) for split in splits), seed)
    return replace(rest, explained=explained, nuisance=splits[0].along(nuisance))


def _given_used(used: Tables, looks: tuple[Tables, ...], mean: MeanMap) -> tuple[Tensor, ...]:
    """Return A, b of the training images and A', b' of held-out images, without nuisance variables.

    All images of a particle share its nuisance variables and pose errors. They are therefore integrated out
    once for the training images and once for all images; A' and b' are the difference.
    """
    both = tuple(sum(tables) for tables in zip(used, *looks, strict=True))
    used, both = mean.marginal(*used), mean.marginal(*both)
    return *used, *(all_images - own for all_images, own in zip(both, used, strict=True))


def tilt_number(store: Store) -> np.ndarray:
    """Return (n_images,) number of each image within its particle, from 0; copies of an image share it."""
    particle, image = distinct_images(store, np.arange(len(store.images)))
    owner = np.zeros(image.max(initial=-1) + 1, np.int64)
    owner[image] = particle
    return image - np.searchsorted(owner, particle)


def common_directions(
    split: SplitLikelihood, first: SplitLikelihood, second: SplitLikelihood, seed: int
) -> HeldOut:
    """Find and test latent directions sequentially.

    Latents are centred, because the mean over the particles belongs to the mean map. Copies of one particle
    receive the same random sign, because they share their noise.

    split : likelihood of training images and all held-out images
    first, second : likelihood of training images and each half of the held-out images
    """
    z = split.used
    z = z - z.mean(0)
    draw = torch.Generator().manual_seed(seed)
    # One byte per sign, because there are a hundred for each particle.
    count = len(z) if split.source is None else int(split.source.max()) + 1
    drawn = [torch.randint(2, (count,), generator=draw).to(torch.int8) for _ in range(DRAWS)]
    signs = (2 * torch.stack([torch.ones_like(drawn[0]), *drawn]) - 1).to(z.device)
    if split.source is not None:
        signs = signs[:, split.source]
    tested, moments = z.new_zeros(z.shape[1], 0), []
    for number in range(z.shape[1]):
        rest = torch.linalg.qr(tested, mode="complete").Q[:, number:]
        gradient = split.new_b - (split.new_a @ (z @ tested @ tested.T)[..., None])[..., 0]
        gradient, latents = gradient @ rest, z @ rest
        signed = ((gradient.T * one) @ latents for one in signs)
        common = torch.stack(list(signed)).double()
        values, vectors = torch.linalg.eigh((common + common.mT) / 2)
        moments.append(values[:, -1])
        tested = torch.cat([tested, rest @ vectors[0, :, -1:].to(z)], dim=1)
    found = torch.stack(moments, dim=1).cpu().numpy() if moments else np.zeros((1 + DRAWS, 0))
    shared, error = shared_variance(first.along(tested), second.along(tested))
    reliability = by_all_images(shared, EVERY), by_all_images(shared - error, EVERY)
    return HeldOut(found[0], found[1:], split.along(tested), *reliability, tested)
