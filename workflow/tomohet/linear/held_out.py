"""Where to start, and how many basis maps? Directions of the latents that tilt images confirm which were
not used.

The model is fitted, with more basis maps than needed, without every third tilt image of each particle. Its
latents z follow from the images used; those held out have the gradient g = b' - A' z of their likelihood (as
of `em.posterior`). What distinguishes particles is in all their tilts alike, so that along such a direction g
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
import torch
from scipy.stats import norm
from torch import Tensor

from tomohet.linear.detection import SIGNIFICANCE, gumbel
from tomohet.linear.em import likelihood
from tomohet.linear.prediction import SplitLikelihood, source_tensor
from tomohet.particles.copies import distinct_images
from tomohet.particles.store import Store
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.observations import Observations

EVERY = 3
DRAWS = 100
# At most so many searches are made for directions; each has its share of errors.
SEARCHES = 2
# A map too many costs little, a map too few a block.
SIGNIFICANCE_OF_ONE = 0.05
# Of two equal halves of the particles: who tells them apart so well misses at most 2 % of what is possible.
CLEAR_AUC = 0.98


@dataclass(frozen=True)
class HeldOut:
    """moment (K,): how much latents and held-out images have in common along each direction, log likelihood
    in nats, and null (draws, K) the same by chance, of the directions one after the other; likelihood: along
    them, or (`measured_by`) along those of other maps, of the images used and of those held out; reliability:
    share of these latents' variance, by all images, that is structure, NaN if there are too few tilts to
    tell, and that less one standard error (least_reliability).
    """

    moment: np.ndarray
    null: np.ndarray
    likelihood: SplitLikelihood
    reliability: np.ndarray
    least_reliability: np.ndarray

    def latents(self, k: int) -> Tensor:
        """(N, k) latents along the first directions by all images, uncorrelated and of unit variance."""
        return _uncorrelated(self.likelihood.latents[:, :k])

    def used_latents(self, k: int) -> Tensor:
        """The same by the images that were not held out."""
        return _uncorrelated(self.likelihood.used[:, :k])

    def measured_by(self, settled: "HeldOut") -> "HeldOut":
        """What this search confirms, measured with other maps of the same images: latents and reliability."""
        return replace(settled, moment=self.moment, null=self.null)

    @property
    def p_values(self) -> np.ndarray:
        """(K,) probability of such a moment by chance; 1 where nothing was held out."""
        p_values, varying = np.ones(len(self.moment)), self.null.std(0) > 0
        p_values[varying] = gumbel(self.null[:, varying]).sf(self.moment[varying])
        return p_values

    @property
    def possible(self) -> bool:
        """Whether any tilt images were held out."""
        return bool(self.likelihood.new_a.any())

    @property
    def p_value(self) -> float:
        """Probability that any of the searches finds so much by chance (Bonferroni)."""
        return float(min(1.0, SEARCHES * self.p_values[0]))

    @property
    def found(self) -> bool:
        """Whether there is anything to find."""
        return self.p_value < SIGNIFICANCE

    @property
    def n_components(self) -> int:
        """Number of directions before the first that may be chance."""
        chance = ~(self.p_values < SIGNIFICANCE_OF_ONE)
        return int(np.argmax(np.append(chance, True)))

    @property
    def confirmed(self) -> SplitLikelihood:
        """What the images say along the directions that are confirmed; of none, where nothing is found."""
        return self.likelihood.leading(self.n_components if self.found else 0)

    @property
    def n_clear(self) -> int:
        """Number of confirmed directions along which single particles can be told apart."""
        return int((auc_of_halves(self.least_reliability)[: self.n_components] >= CLEAR_AUC).sum())


def auc_of_halves(reliability: np.ndarray) -> np.ndarray:
    """With which latents of such reliability would tell two equal halves of the particles apart.

    Halves d standard deviations of the noise apart have the reliability (d/2)^2 / (1 + (d/2)^2), and the AUC
    Phi(d / sqrt 2).
    """
    return norm.cdf(np.sqrt(2 * reliability / (1 - reliability).clip(1e-9)))


def _uncorrelated(latents: Tensor) -> Tensor:
    return torch.linalg.qr(latents - latents.mean(0)).Q * np.sqrt(len(latents))


def split_tilts(store: Store) -> tuple[Store, Store, Store]:
    """Parts of a store: tilt images to be used, and two halves of those held out, a third of a particle's."""
    number = tilt_number(store)
    held_out, second = number % EVERY == EVERY - 1, number // EVERY % 2 == 1
    return tuple(store.restricted(part) for part in (~held_out, held_out & ~second, held_out & second))


def held_out_directions(
    parts: tuple[Observations, Observations, Observations],
    mean: MeanMap,
    basis: Tensor,
    variance: Tensor,
    seed: int,
) -> HeldOut:
    """Test what was found without the tilts held out.

    parts: the particles in `split_tilts`; mean, basis (K, d, d, d) and variance (K, shells) of the latter's
    coefficients, fitted to the first of them on a grid of its own; seed: of the draws.
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
    return common_directions(*splits, seed)


Tables = tuple[Tensor, Tensor]


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
    found = torch.stack(moments, dim=1).cpu().numpy()
    shared, error = shared_variance(first.along(tested), second.along(tested))
    reliability = _by_all_images(shared), _by_all_images(shared - error)
    return HeldOut(found[0], found[1:], split.along(tested), *reliability)


def _by_all_images(shared: np.ndarray) -> np.ndarray:
    """Share of structure in latents by all images, from that by the images used: noise averages out."""
    shared = shared.clip(0, 1)
    odds = shared / (1 - shared).clip(1e-9) * EVERY / (EVERY - 1)
    return odds / (1 + odds)


def shared_variance(first: SplitLikelihood, second: SplitLikelihood) -> tuple[np.ndarray, np.ndarray]:
    """(K,) squared correlation of the latents by the images used with what other images see, as estimated
    (chance may lift it above 1), and its standard error by the jackknife over particles (all copies of one
    together).

    With g_1 and g_2 what two halves of other images see along a latent z, what the other latents predict
    taken off, cov(z, g_1 + g_2)^2 / (4 var(z) cov(g_1, g_2)): noise, however much, has no part in it. NaN
    where no particle has tilt images for two halves.
    """
    if not (first.new_a.any() and second.new_a.any()):
        return (np.full(first.b.shape[1], np.nan),) * 2
    z = first.used - first.used.mean(0)
    seen = []
    for look in (first, second):
        own = look.new_a.diagonal(dim1=1, dim2=2) * z
        along = look.new_b - (look.new_a @ z[..., None])[..., 0] + own
        seen.append(along - along.mean(0))
    terms = torch.stack([z * (seen[0] + seen[1]), z.square(), seen[0] * seen[1]]).double()

    def share(sums: Tensor) -> Tensor:
        together, power, common = sums
        return torch.where(common > 0, together.clamp_min(0).square() / (4 * power * common), 0)

    by_source = first.of_sources(terms.transpose(0, 1)).transpose(0, 1)
    count = by_source.shape[1]
    without = share(by_source.sum(1, keepdim=True) - by_source)
    error = (count - 1) * (without - without.mean(0)).square().mean(0)
    return share(terms.mean(1)).cpu().numpy(), error.sqrt().cpu().numpy()
