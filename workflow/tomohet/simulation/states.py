"""The blocks of each particle, and the angle of its moving block."""

from dataclasses import dataclass

import numpy as np

from tomohet.simulation.specimen import Specimen


@dataclass(frozen=True)
class States:
    """States of n particles: presence (n, b) bool of blocks, angle_deg (n,) of the moving one (0 without)."""

    presence: np.ndarray
    angle_deg: np.ndarray


def draw_states(specimen: Specimen, n: int, rng: np.random.Generator) -> States:
    """Draw states independently of everything else.

    Every block is present with its own frequency; a nested block is drawn only where its host is present.
    Whole maps exclude one another. Angles are uniform within the hinge's limit.
    """
    frequencies = np.array([block.frequency for block in specimen.settings])
    if specimen.exclusive:
        choice = rng.choice(len(frequencies), n, p=frequencies)
        presence = choice[:, None] == np.arange(len(frequencies))
    else:
        presence = rng.random((n, len(frequencies))) < frequencies
        for i, block in enumerate(specimen.settings):
            # A host precedes its nested blocks, so its own column is final here.
            if block.host is not None:
                presence[:, i] &= presence[:, specimen.names.index(block.host)]
    limit = 0.0 if specimen.hinge is None else specimen.hinge.limit_deg
    return States(presence, rng.uniform(-limit, limit, n))


def state_table(presence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distinct combinations of blocks (s, b), most frequent first, and each particle's state (n,)."""
    combinations, index, counts = np.unique(presence, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return combinations[order], rank[index.reshape(-1)]
