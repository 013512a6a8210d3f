"""Dividing particles, or the tilts of each particle, into two independent halves."""

from typing import Literal

import numpy as np

from tomohet.errors import InputError
from tomohet.particles.store import Store

HalfBy = Literal["particle", "tilt"]


def half_of_images(
    store: Store, particles: np.ndarray, by: HalfBy, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, str]:
    """Image rows (n,) int64 of the particles, their half (n,) 0 or 1, and in words how they were divided.

    by "particle": the upstream half sets where every particle has one, for only these are independent of each
    other's alignment; else half of the particles at random. by "tilt": half of each particle's tilts at
    random. Raises InputError when a half would be empty.
    """
    rows = store.images_of(particles)
    counts = np.diff(store.offsets)[particles]
    if by == "tilt":
        half, how = _random_tilts(counts, rng), "each particle's tilts at random"
    else:
        upstream = store.particles["half"].iloc[particles]
        if upstream.notna().all() and upstream.nunique() == 2:
            half_of_particle, how = upstream.to_numpy(np.int64) - 1, "the half sets of the input"
        else:
            half_of_particle, how = rng.permutation(np.arange(len(particles)) % 2), "particles at random"
        half = np.repeat(half_of_particle, counts)
    if len(np.unique(half)) < 2:
        raise InputError(
            f"{store.folder}: {len(particles)} particles with {len(rows)} images cannot be divided into two "
            "halves; half maps need at least two particles, or two tilts with --half-by tilt"
        )
    return rows, half, how


def _random_tilts(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Halves (sum of counts,) that alternate over each particle's images in random order."""
    particle = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((rng.random(len(particle)), particle))
    rank = np.empty(len(particle), np.int64)
    rank[order] = np.arange(len(particle)) - np.repeat(np.cumsum(counts) - counts, counts)
    # The odd tilt out goes to either half by chance, so that neither collects more images.
    return (rank + np.repeat(rng.integers(0, 2, len(counts)), counts)) % 2
