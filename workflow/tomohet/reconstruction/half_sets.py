"""Division of particles, or of each particle's tilts, into two independent halves."""

from typing import Literal

import numpy as np

from tomohet.errors import InputError
from tomohet.particles.copies import copies_apart, distinct_images, sources
from tomohet.particles.store import Store

HalfBy = Literal["particle", "tilt"]


def half_of_images(
    store: Store, particles: np.ndarray, by: HalfBy, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, str]:
    """Return image rows (n,) int64 of the particles, their half (n,) 0 or 1, and the rule in words.

    by "particle" : the upstream half sets if all particles have one, because only these were aligned
    independently; otherwise half of the particles at random
    by "tilt" : half of each particle's tilts at random

    Copies of one particle (`particles.copies`) share their images, and therefore their half.
    Raises InputError if a half would be empty.
    """
    rows = store.images_of(particles)
    counts = np.diff(store.offsets)[particles]
    source = sources(store.particles)[particles]
    if by == "tilt":
        half, how = _random_tilts(store, rows, rng), "each particle's tilts at random"
    else:
        upstream = store.particles["half"].iloc[particles]
        together = not copies_apart(upstream, source)
        if upstream.notna().all() and upstream.nunique() == 2 and together:
            half_of_particle, how = upstream.to_numpy(np.int64) - 1, "the half sets of the input"
        else:
            names, number = np.unique(source, return_inverse=True)
            half_of_particle = rng.permutation(np.arange(len(names)) % 2)[number]
            how = "particles at random" if together else "particles at random, copies together"
        half = np.repeat(half_of_particle, counts)
    if len(np.unique(half)) < 2:
        raise InputError(
            f"{store.folder}: {len(particles)} particles with {len(rows)} images cannot be divided into two "
            "halves; half maps need at least two particles, or two tilts with --half-by tilt"
        )
    return rows, half, how


def _random_tilts(store: Store, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Assign halves (m,) that alternate over each particle's images in random order."""
    particle, image = distinct_images(store, rows)
    first = np.unique(image, return_index=True)[1]
    of_first = np.unique(particle[first], return_inverse=True)[1]
    order = np.lexsort((rng.random(len(first)), of_first))
    counts = np.bincount(of_first)
    rank = np.empty(len(first), np.int64)
    rank[order] = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
    # If the number of tilts is odd, chance decides which half receives one more.
    return ((rank + rng.integers(0, 2, len(counts))[of_first]) % 2)[image]
