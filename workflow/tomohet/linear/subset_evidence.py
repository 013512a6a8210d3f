"""What a linear model knows about a subset of its particles: held-out tilts, and imaging conditions."""

from collections.abc import Iterable

import numpy as np

from tomohet.linear.explained import CONDITIONS, Explained, explained_directions
from tomohet.linear.prediction import SplitLikelihood
from tomohet.particles.conditions import imaging_conditions
from tomohet.particles.store import Store
from tomohet.reconstruction.support import HeldOutTilts


def held_out_tilts(split: SplitLikelihood) -> HeldOutTilts:
    """Return latents from the training tilts, and gradients from the held-out tilts, as arrays on the host.

    split : likelihoods along the directions that held-out tilts confirm
    """
    return HeldOutTilts(split.used.cpu().numpy(), split.new_b.cpu().numpy())


def followed_conditions(
    store: Store, particles: np.ndarray, subsets: np.ndarray, names: Iterable[str] = tuple(CONDITIONS)
) -> list[Explained | None]:
    """Return the imaging condition that explains the membership in each subset by half or more, or None.

    The membership is regressed on functions of the conditions, as latents are (`explained`).

    particles : (N,) ordinals in the store
    subsets : (S, N) bool
    """
    conditions = imaging_conditions(store, particles)
    known = np.ones(1)  # the membership has no noise
    found = [explained_directions(one[:, None].astype(float), known, conditions, names)[1] for one in subsets]
    return [one[0] if one else None for one in found]
