"""Where to start, and how many basis maps? Directions of the latents that tilt images confirm which were
not used.

The model is fitted, with more basis maps than needed, without every third tilt image of each particle. Its
latents z follow from the images used; those held out have the gradient g = b' - A' z of their likelihood (as
of `likelihood`). What distinguishes particles is in all their tilts alike, so that along such a direction g
and z go together: the moment sum_p (g z' + z g') / 2 has an eigenvalue for it. Noise that was fitted goes
together with nothing. How large eigenvalues are by chance, random signs of the particles' gradients tell.

Directions are tested one after the other, each after the prediction from those before it has been taken off.
They are not the basis maps themselves: those are ordered by power, in which fitted noise and a block that
few particles have or lack come close to each other, and mix. The particles' latents along the best directions
are where the fit to all images starts: noise that went into the maps is left behind.

That a direction is there does not say that single particles can be told apart by it. The images held out are
two looks at a particle, independent of each other and of the images used: how much all three have in common
says how much of a latent is structure (`shared_variance`).

The maps of a search hold much noise: they are many, and EM has not settled. What is said of single particles
is measured with as many maps as are confirmed, fitted to the same images until they have (`measured_by`).
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tomohet.linear.detection import gumbel
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
# At most so many searches are made for directions; each has its share of errors.
SEARCHES = 2
# Of two equal halves of the particles: who tells them apart so well misses at most 2 % of what is possible.
CLEAR_AUC = 0.98


@dataclass(frozen=True)
class HeldOut:
    """moment (K,): how much latents and held-out images have in common along each direction, log likelihood
    in nats, and null (draws, K) the same by chance, of the directions one after the other; likelihood: along
    them, or (`measured_by`) along those of other maps, of the images used and of those held out; reliability:
    share of these latents' variance, by all images, that is structure, NaN if there are too few tilts to
    tell, and that less one standard error (least_reliability). directions (k, K): these directions, of k
    latents. explained: of further directions that count for nothing (`linear.explained`), and nuisance: the
    likelihood along them; the other latents' has them integrated out.
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
        """(N, k + J) latents along the first directions and along the nuisances by all images, uncorrelated
        and of unit variance."""
        return self._start(k, "latents")

    def used_latents(self, k: int) -> Tensor:
        """The same by the images that were not held out."""
        return self._start(k, "used")

    def _start(self, k: int, by: str) -> Tensor:
        z = getattr(self.likelihood, by)[:, :k]
        if z.shape[1] < k:  # nuisances take all directions: from anywhere
            draw = torch.Generator().manual_seed(0)
            z = torch.cat([z, torch.randn(len(z), k - z.shape[1], generator=draw).to(z)], dim=1)
        return _uncorrelated(
            z if self.nuisance is None else torch.cat([z, getattr(self.nuisance, by)], dim=1)
        )

    def measured_by(self, splits: "Splits", seed: int) -> "HeldOut":
        """What this search confirms, measured with other maps of the same images: latents and reliability."""
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
        """(K,) probability of such a moment by chance; 1 where nothing was held out."""
        p_values, varying = np.ones(len(self.moment)), self.null.std(0) > 0
        p_values[varying] = gumbel(self.null[:, varying]).sf(self.moment[varying])
        return p_values

    @property
    def possible(self) -> bool:
        """Whether any tilt images were held out."""
        return bool(self.explained) or bool(self.likelihood.new_a.any())

    @property
    def p_value(self) -> float:
        """Probability that any of the searches finds so much by chance (Bonferroni)."""
        return float(min(1.0, SEARCHES * self.p_values[:1].min(initial=1.0)))

    @property
    def found(self) -> bool:
        """Whether there is anything to find."""
        return self.p_value < FOUND_P

    @property
    def n_components(self) -> int:
        """Number of directions before the first that may be chance."""
        chance = ~(self.p_values < DIRECTION_P)
        return int(np.argmax(np.append(chance, True)))

    @property
    def confirmed(self) -> SplitLikelihood:
        """What the images say along the directions that are confirmed; of none, where nothing is found."""
        return self.likelihood.leading(self.n_components if self.found else 0)

    @property
    def n_clear(self) -> int:
        """Number of confirmed directions along which single particles can be told apart."""
        return int((auc_of_halves(self.least_reliability)[: self.n_components] >= CLEAR_AUC).sum())


def _uncorrelated(latents: Tensor) -> Tensor:
    return torch.linalg.qr(latents - latents.mean(0)).Q * np.sqrt(len(latents))


def split_tilts(store: Store) -> tuple[Store, Store, Store]:
    """Parts of a store: tilt images to be used, and two halves of those held out, a third of a particle's."""
    number = tilt_number(store)
    held_out, second = number % EVERY == EVERY - 1, number // EVERY % 2 == 1
    return tuple(store.restricted(part) for part in (~held_out, held_out & ~second, held_out & second))


Tables = tuple[Tensor, Tensor]
# Of the images used and of those held out; the same with one half and with the other half of the latter.
Splits = tuple[SplitLikelihood, SplitLikelihood, SplitLikelihood]


def split_likelihoods(
    parts: tuple[Observations, Observations, Observations], mean: MeanMap, basis: Tensor, variance: Tensor
) -> Splits:
    """What the images used and those held out say of latents, of all processes' particles.

    parts: the particles in `split_tilts`; mean, basis (K, d, d, d) and variance (K, shells) of the latter's
    coefficients, fitted to the first of them on a grid of its own.
    """
    used, first, second = (
        likelihood(part.alike(part.everyone, len(mean.volume)), mean, basis, variance) for part in parts
    )
    splits = []
    for looks in ((first, second), (first,), (second,)):
        own = _given_used(used, looks, mean)
        joined = (parts[0].processes.joined_parts(table, len(parts[0].everyone)) for table in own)
        source = source_tensor(parts[0].store, parts[0].everyone, parts[0].device)
        splits.append(SplitLikelihood(*joined, source))
    return tuple(splits)


def structural_directions(splits: Splits, conditions: pd.DataFrame, names: list[str], seed: int) -> HeldOut:
    """Directions that held-out images confirm, without those that conditions (`names`) explain.

    conditions: of all particles, as of `imaging_conditions`. Directions that are explained are integrated
    out, and the others tested anew.
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
    """A, b of the latents by the images used, and A', b' that other images add, nuisance and pose errors
    integrated out.

    All images of a particle share these: others are asked after the images used have told of them.
    """
    both = tuple(sum(tables) for tables in zip(used, *looks, strict=True))
    used, both = mean.marginal(*used), mean.marginal(*both)
    return *used, *(all_images - own for all_images, own in zip(both, used, strict=True))


def tilt_number(store: Store) -> np.ndarray:
    """(n_images,) number of each image within its particle, from 0; the same for all copies of an image."""
    particle, image = distinct_images(store, np.arange(len(store.images)))
    owner = np.zeros(image.max(initial=-1) + 1, np.int64)
    owner[image] = particle
    return image - np.searchsorted(owner, particle)


def common_directions(
    split: SplitLikelihood, first: SplitLikelihood, second: SplitLikelihood, seed: int
) -> HeldOut:
    """Find and test directions of the latents, one after the other.

    split: of the images used and of those held out; first, second: of one half and the other of the latter.
    What all particles have in common belongs to the mean map: latents count from their mean. Copies of one
    particle have the same noise, and so get the same sign.
    """
    z = split.used
    z = z - z.mean(0)
    draw = torch.Generator().manual_seed(seed)
    # Byte by byte: there are a hundred for every particle.
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
