"""Particles that share their images: the copies of a symmetry-expanded file.

Programs expand the symmetry of particles (`relion_particle_symmetry_expand`) by writing every row once for
each rotation of the point group, with other angles. The same images then count as several particles, each
with its own pose. Such copies are not independent particles. `copy_of` in the table of particles is the
number of the first particle with the same images, and its own number for that first particle. Without the
column there are no copies.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.particles.table import ParticleSet
from tomohet.physics.point_groups import SAME_DEG, PointGroup, angle_deg, point_group

COPY_OF = "copy_of"
OPTION = "--symmetry-expanded"
# Rotations between two copies are the same in all tilt images, up to the rounding of angles.
SAME_IN_ALL_TILTS_DEG = 2.0


def sources(particles: pd.DataFrame) -> np.ndarray:
    """Return int64 (n,): the number of the particle whose images each particle has.

    Without copies it is the particle's own number.
    """
    if COPY_OF in particles:
        return particles[COPY_OF].to_numpy(np.int64)
    return np.arange(len(particles))


def numbered_sources(particles: pd.DataFrame, chosen: np.ndarray) -> np.ndarray | None:
    """Return int64 (n,): `sources` of some particles (ordinals), counted from 0; None without copies."""
    if COPY_OF not in particles:
        return None
    return np.unique(sources(particles)[chosen], return_inverse=True)[1]


def distinct_images(store, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Identify the particle and the distinct image of each image row (m,) of a store.

    Returns (m,) the particle of each row, which for a copy is its source, and (m,) the number of the distinct
    image, from 0, ordered by particle and tilt.
    """
    particle = store.images["particle"].to_numpy()[rows]
    if COPY_OF not in store.particles:
        return particle, np.arange(len(rows))
    particle = sources(store.particles)[particle]
    # Copies have the same images, in the same order.
    tilt = store.images["tilt"].to_numpy(np.int64)[rows]
    return particle, np.unique(particle * (tilt.max(initial=0) + 1) + tilt, return_inverse=True)[1]


def copies_apart(half: pd.Series, source: np.ndarray) -> bool:
    """Tell whether half sets (n,) put copies of one particle, of one source (n,), into different halves."""
    return bool((half.groupby(source).nunique() > 1).any())


def copy_names(names: pd.Series, copy: np.ndarray) -> pd.Series:
    """Name particles by the number (n,), from 0, of each copy: `a`, `a/copy2`, `a/copy3`."""
    numbers = pd.Series(copy + 1, index=names.index).astype(str)
    return names.where(copy == 0, names + "/copy" + numbers)


def numbered_copies(names: pd.Series) -> pd.Series:
    """Apply `copy_names` to names that are repeated for each copy, in this order."""
    names = names.reset_index(drop=True)
    return copy_names(names, names.groupby(names).cumcount().to_numpy())


def original_names(names: pd.Series) -> pd.Series:
    """Remove from names what `copy_names` has added."""
    return names.str.replace(r"/copy\d+$", "", regex=True)


def with_copies_told(particle_set: ParticleSet, rows_of: Callable[[np.ndarray], str]) -> ParticleSet:
    """Add `copy_of` and a sentence `expansion` to a set in which images occur more than once.

    rows_of : describes the rows of the file that share an image, given two or more rows of `images`

    Returns the set unchanged where no image occurs twice. Raises InputError for particles that share images
    but are not the copies of a symmetry-expanded file.
    """
    images = particle_set.images
    if not images.duplicated(["stack", "section"]).any():
        return particle_set
    image = images.groupby(["stack", "section"], sort=False, observed=True).ngroup().to_numpy()
    shared = pd.Series(image).duplicated(keep=False).to_numpy()
    particle = images["particle"].to_numpy()
    first = pd.Series(np.arange(len(image))).groupby(image).transform("first").to_numpy()
    source = np.arange(len(particle_set.particles))
    source[particle] = particle[first]  # from one image; the check below covers all images

    def refuse(rows: np.ndarray, why: str = "") -> NoReturn:
        again = np.flatnonzero(image == image[rows[shared[rows]][0]])
        raise InputError(
            f"{rows_of(again)}{why} ({int(shared.sum())} rows share their image with another); remove the "
            "duplicate particles"
        )

    counts = np.bincount(particle, minlength=len(source))
    whole = (particle[first] == source[particle]) & (counts[source[particle]] == counts[particle])
    within = pd.Series(image).groupby(particle).transform("nunique").to_numpy() == counts[particle]
    if not (whole & within).all():
        refuse(np.flatnonzero(np.isin(image, image[shared & ~(whole & within)]) & shared))
    rotation = particle_set.rotations()
    relative = np.einsum("mji,mjk->mik", rotation[first], rotation)
    copied = np.flatnonzero(particle != source[particle])
    lowest = copied[~pd.Series(particle[copied]).duplicated().to_numpy()]  # an image of each copy
    if (same := _same_pose(relative[lowest], particle[lowest], source)).any():
        refuse(lowest[same])
    number = np.searchsorted(particle[lowest], particle[copied])
    wandering = angle_deg(relative[copied], relative[lowest[number]]) > SAME_IN_ALL_TILTS_DEG
    if wandering.any():
        refuse(copied[wandering], " with different angles, which differ otherwise in each tilt image")
    group = point_group(relative[lowest])
    if group is None:
        refuse(lowest, " with different angles, which no point group relates as in a symmetry-expanded file")
    text = _in_words(np.bincount(source[counts > 0], minlength=len(source)), group)
    particles = particle_set.particles.assign(**{COPY_OF: source})
    return replace(particle_set, particles=particles, expansion=text)


def _same_pose(relative: np.ndarray, particle: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Return bool (c,): whether copies have the pose of their source, or of another copy.

    relative : (c, 3, 3) rotations from the source's pose to each copy's
    particle : (c,) numbers of the copies
    """
    same = angle_deg(relative, np.eye(3)) < SAME_DEG
    order = np.argsort(source[particle], kind="stable")
    of = source[particle][order]
    for step in range(1, int(np.bincount(source).max(initial=1)) - 1):
        one, other = order[:-step], order[step:]
        alike = (of[:-step] == of[step:]) & (angle_deg(relative[one], relative[other]) < SAME_DEG)
        same[other[alike]] = True
    return same


def _in_words(counts: np.ndarray, group: PointGroup) -> str:
    """Describe the expansion in words.

    counts : (n,) number of copies of each particle, itself included; 0 where the particle is a copy
    """
    counts = counts[counts > 0]
    numbers, how_many = np.unique(counts, return_counts=True)
    usual = numbers[how_many.argmax()]
    times = "once" if usual == 1 else f"{usual} times"
    if len(numbers) == 1:
        occur = f"each of {len(counts):,} particles occurs {times}"
    else:
        occur = f"{how_many.max():,} of {len(counts):,} particles occur {times}, none more than {numbers[-1]}"
    return f"{occur}, with {group.relation}: a symmetry-expanded file ({group.name})"


def ask(particle_set: ParticleSet, expanded: bool) -> None:
    """Raise InputError where a file is symmetry-expanded but is not declared so, or the other way round."""
    if particle_set.expansion and not expanded:
        raise InputError(
            f"{particle_set.source}: {particle_set.expansion}; if that is intended, give {OPTION} (in the "
            "configuration `prepare: {symmetry_expanded: true}`): each copy then counts as a particle, and "
            "copies of one particle stay together in half sets and tests; otherwise give the file from "
            "before the expansion"
        )
    if expanded and not particle_set.expansion:
        raise InputError(
            f"{particle_set.source}: {OPTION} (`prepare: {{symmetry_expanded: true}}`), but no image occurs "
            "twice; leave it out"
        )


def one_of_each(particle_set: ParticleSet) -> ParticleSet:
    """Keep only the images of one copy of each particle, for statistics; particles keep their numbers."""
    if COPY_OF not in particle_set.particles:
        return particle_set
    first = sources(particle_set.particles) == np.arange(len(particle_set.particles))
    images = particle_set.images
    images = images[first[images["particle"].to_numpy()]].reset_index(drop=True)
    return replace(particle_set, images=images.assign(image=np.arange(len(images))))
