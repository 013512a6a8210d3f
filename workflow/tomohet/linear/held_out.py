"""How many basis maps? As many directions of the latents as tilt images confirm that were not used.

The model is fitted, with more basis maps than needed, without every third tilt image of each particle. Its
latents z follow from the images used; those held out have the gradient g = b' - A' z of their likelihood (as
of `em.posterior`). What distinguishes particles is in all their tilts alike, so that along such a direction g
and z go together: the moment sum_p (g z' + z g') / 2 has an eigenvalue for it. Noise that was fitted goes
together with nothing. How large eigenvalues are by chance, random signs of the particles' gradients tell.

Directions are tested one after the other, each after the prediction from those before it has been taken off.
They are not the basis maps themselves: those are ordered by power, in which fitted noise and a block that
few particles have or lack come close to each other, and mix.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tomohet.linear.detection import SIGNIFICANCE, gumbel
from tomohet.linear.em import likelihood
from tomohet.particles.store import Store
from tomohet.processes import ALONE, Processes
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.observations import Observations

EVERY = 3
DRAWS = 100
# A map too many costs little, a map too few a block.
SIGNIFICANCE_OF_ONE = 0.05


@dataclass(frozen=True)
class HeldOut:
    """moment (K,): how much latents and held-out images have in common along each direction, log likelihood
    in nats; null (draws, K): the same by chance."""

    moment: np.ndarray
    null: np.ndarray

    @property
    def p_values(self) -> np.ndarray:
        """(K,) probability of such a moment by chance."""
        return gumbel(self.null).sf(self.moment)

    @property
    def found(self) -> bool:
        """Whether there is anything to find."""
        return bool(self.p_values[0] < SIGNIFICANCE)

    @property
    def n_components(self) -> int:
        """Number of directions before the first that may be chance."""
        chance = ~(self.p_values < SIGNIFICANCE_OF_ONE)
        return int(np.argmax(np.append(chance, True)))


def held_out_components(
    store: Store,
    particles: np.ndarray,
    fit: Callable[[Store], tuple[MeanMap, Tensor]],
    *,
    max_frequency: float,
    seed: int,
    device: torch.device | str,
    processes: Processes = ALONE,
) -> HeldOut:
    """Test the basis maps of `fit(store)`: mean and basis (K, D, D, D) found without the tilts held out.

    max_frequency: in cycles per pixel; seed: of the draws.
    """
    held_out = tilt_number(store) % EVERY == EVERY - 1
    used, unseen = store.restricted(~held_out), store.restricted(held_out)
    mean, basis = fit(used)
    where = {"max_frequency": max_frequency, "device": device, "processes": processes}
    (a, b), (new_a, new_b) = (
        (processes.joined_parts(own, len(particles)) for own in tables)
        for tables in (
            likelihood(Observations(part, particles, **where), mean, basis) for part in (used, unseen)
        )
    )
    identity = torch.eye(len(basis), device=a.device)
    z = torch.linalg.solve(a + identity, b[..., None])[..., 0]
    return common_moments(z, new_a, new_b, seed)


def tilt_number(store: Store) -> np.ndarray:
    """(n_images,) number of each image within its particle, from 0."""
    counts = np.diff(store.offsets)
    return np.arange(counts.sum()) - np.repeat(store.offsets[:-1], counts)


def common_moments(z: Tensor, new_a: Tensor, new_b: Tensor, seed: int) -> HeldOut:
    """Moments of latents z (N, K) and held-out images, of likelihood new_a (N, K, K) and new_b (N, K).

    What all particles have in common belongs to the mean map: z counts from its mean.
    """
    z = z - z.mean(0)
    draw = torch.Generator().manual_seed(seed)
    # Byte by byte: there are a hundred for every particle.
    drawn = [torch.randint(2, (len(z),), generator=draw).to(torch.int8) for _ in range(DRAWS)]
    signs = (2 * torch.stack([torch.ones_like(drawn[0]), *drawn]) - 1).to(z.device)
    tested, moments = z.new_zeros(z.shape[1], 0), []
    for number in range(z.shape[1]):
        rest = torch.linalg.qr(tested, mode="complete").Q[:, number:]
        gradient = new_b - (new_a @ (z @ tested @ tested.T)[..., None])[..., 0]
        gradient, latents = gradient @ rest, z @ rest
        signed = ((gradient.T * one) @ latents for one in signs)
        common = torch.stack(list(signed)).double()
        values, vectors = torch.linalg.eigh((common + common.mT) / 2)
        moments.append(values[:, -1])
        tested = torch.cat([tested, rest @ vectors[0, :, -1:].to(z)], dim=1)
    found = torch.stack(moments, dim=1).cpu().numpy()
    return HeldOut(found[0], found[1:])
