"""How many basis maps? As many as help to predict tilt images that were not used.

The model is fitted without every third tilt image of each particle; latents follow from the images used, and
what they say of the others is compared with what the mean map says. Noise that was fitted does not help.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tomohet.linear.em import likelihood
from tomohet.particles.store import Store
from tomohet.processes import ALONE, Processes
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.observations import Observations

EVERY = 3
SIGNIFICANT = 3.0  # standard errors


@dataclass(frozen=True)
class HeldOut:
    """gain (N, K): how much better than by the mean map each particle's held-out images are predicted by the
    first 1 ... K basis maps, log likelihood in nats."""

    gain: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """(K,) gain of all particles."""
        return self.gain.sum(0)

    @property
    def found(self) -> bool:
        """Whether basis maps predict better than the mean map alone, beyond chance."""
        gain = self.gain[:, self.total.argmax()]
        return bool(gain.sum() > SIGNIFICANT * gain.std(ddof=1) * np.sqrt(len(gain)))

    @property
    def n_components(self) -> int:
        """The smallest number of basis maps that is not clearly worse than the best; 0 is the mean map alone.

        Clearly: by more than the standard error of the difference over particles.
        """
        gain = np.pad(self.gain, ((0, 0), (1, 0)))
        best = gain.sum(0).argmax()
        loss = gain[:, [best]] - gain
        error = loss.std(0, ddof=1) * np.sqrt(len(gain))
        return int(np.flatnonzero(loss.sum(0) <= error)[0])


def held_out_gain(
    store: Store,
    particles: np.ndarray,
    fit: Callable[[Store], tuple[MeanMap, Tensor]],
    max_frequency,
    device,
    processes: Processes = ALONE,
) -> HeldOut:
    """Gain for 1 ... K basis maps, of which `fit(store)` finds mean and basis (K, D, D, D) without the tilts
    held out; max_frequency in cycles/px.
    """
    held_out = tilt_number(store) % EVERY == EVERY - 1
    used, unseen = store.restricted(~held_out), store.restricted(held_out)
    mean, basis = fit(used)
    seen, new = (
        likelihood(
            Observations(part, particles, max_frequency=max_frequency, device=device, processes=processes),
            mean,
            basis,
        )
        for part in (used, unseen)
    )
    columns = [
        predictive_gain(*(x[(slice(None),) + (slice(k),) * (x.ndim - 1)] for x in (*seen, *new)))
        for k in range(1, len(basis) + 1)
    ]
    gain = processes.joined_parts(torch.stack(columns, dim=1).double(), len(particles))
    return HeldOut(gain.cpu().numpy())


def tilt_number(store: Store) -> np.ndarray:
    """(n_images,) number of each image within its particle, from 0."""
    counts = np.diff(store.offsets)
    return np.arange(counts.sum()) - np.repeat(store.offsets[:-1], counts)


def predictive_gain(a: Tensor, b: Tensor, new_a: Tensor, new_b: Tensor) -> Tensor:
    """(N,) log p(new images | images) - log p(new images | z = 0), z integrated over its posterior.

    a, new_a (N, K, K) and b, new_b (N, K) as of `likelihood`. With P = a + 1 the posterior's precision:
    (log |P| - log |P + a'| + (b + b') (P + a')^-1 (b + b') - b P^-1 b) / 2.
    """
    precision = (a + torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)).double()
    both, sum_b = precision + new_a, (b + new_b).double()
    quadratic = _quadratic(both, sum_b) - _quadratic(precision, b.double())
    return (torch.logdet(precision) - torch.logdet(both) + quadratic) / 2


def _quadratic(matrix: Tensor, vector: Tensor) -> Tensor:
    return (vector * torch.linalg.solve(matrix, vector[..., None])[..., 0]).sum(-1)
