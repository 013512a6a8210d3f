"""Particles that share their images: the copies of a symmetry-expanded file.

Programs expand the symmetry of particles (`relion_particle_symmetry_expand`) by writing every row once for
each rotation of the point group, with other angles: the same images count as several particles, each with a
pose of its own. Such copies are no independent particles. `copy_of` in the table of particles is the number
of the first particle that has the same images, its own where it is the first; without the column there are
no copies.
"""

from collections.abc import Callable
from dataclasses import replace

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
    """int64 (n,): the number of the particle whose images each particle has; its own without copies."""
    if COPY_OF in particles:
        return particles[COPY_OF].to_numpy(np.int64)
    return np.arange(len(particles))


def numbered_sources(particles: pd.DataFrame, chosen: np.ndarray) -> np.ndarray | None:
    """int64 (n,): `sources` of some of the particles (ordinals), counted from 0; None without copies."""
    if COPY_OF not in particles:
        return None
    return np.unique(sources(particles)[chosen], return_inverse=True)[1]


def distinct_images(store, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of image rows (m,) of a store: the particle (m,) that each belongs to, the source where that is a
    copy, and which of the distinct images (m,) it is, from 0, ordered by particle and tilt."""
    particle = store.images["particle"].to_numpy()[rows]
    if COPY_OF not in store.particles:
        return particle, np.arange(len(rows))
    particle = sources(store.particles)[particle]
    # Copies have the same images, in the same order.
    tilt = store.images["tilt"].to_numpy(np.int64)[rows]
    return particle, np.unique(particle * (tilt.max(initial=0) + 1) + tilt, return_inverse=True)[1]


def copies_apart(half: pd.Series, source: np.ndarray) -> bool:
    """Whether half sets (n,) put copies of one particle, of one source (n,), into different halves."""
    return bool((half.groupby(source).nunique() > 1).any())


def copy_names(names: pd.Series, copy: np.ndarray) -> pd.Series:
    """Names of particles of which each is the copy (n,) numbered so, from 0: `a`, `a/copy2`, `a/copy3`."""
    numbers = pd.Series(copy + 1, index=names.index).astype(str)
    return names.where(copy == 0, names + "/copy" + numbers)


def numbered_copies(names: pd.Series) -> pd.Series:
    """`copy_names` of names that stand again for each copy, in this order."""
    names = names.reset_index(drop=True)
    return copy_names(names, names.groupby(names).cumcount().to_numpy())


def original_names(names: pd.Series) -> pd.Series:
    """Names without what `copy_names` added."""
    return names.str.replace(r"/copy\d+$", "", regex=True)


def with_copies_told(particle_set: ParticleSet, rows_of: Callable[[np.ndarray], str]) -> ParticleSet:
    """The set as it is where no image occurs twice; else with `copy_of`, and `expansion` in words.

    rows_of: says in words which rows of the file share an image, of two or more rows of `images`. Raises
    InputError for particles that share images but are not the copies of a symmetry-expanded file.
    """
    images = particle_set.images
    if not images.duplicated(["stack", "section"]).any():
        return particle_set
    image = images.groupby(["stack", "section"], sort=False).ngroup().to_numpy()
    shared = pd.Series(image).duplicated(keep=False).to_numpy()
    particle = images["particle"].to_numpy()
    first = pd.Series(np.arange(len(image))).groupby(image).transform("first").to_numpy()
    source = np.arange(len(particle_set.particles))
    source[particle] = particle[first]  # of one image; checked of all

    def refuse(rows: np.ndarray, why: str = "") -> None:
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
    """bool (c,): copies in the pose of their source, or of another copy; relative (c, 3, 3): from the
    source's pose to each; particle (c,): which particles they are."""
    same = angle_deg(relative, np.eye(3)) < SAME_DEG
    order = np.argsort(source[particle], kind="stable")
    of = source[particle][order]
    for step in range(1, int(np.bincount(source).max(initial=1)) - 1):
        one, other = order[:-step], order[step:]
        alike = (of[:-step] == of[step:]) & (angle_deg(relative[one], relative[other]) < SAME_DEG)
        same[other[alike]] = True
    return same


def _in_words(counts: np.ndarray, group: PointGroup) -> str:
    """What was found; counts (n,): of the copies of each particle, itself included, 0 where it is a copy."""
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
    """Raise InputError where a file is symmetry-expanded and nobody has said so, or the other way round."""
    if particle_set.expansion and not expanded:
        raise InputError(
            f"{particle_set.source}: {particle_set.expansion}; if that is meant, say so by {OPTION} (in the "
            "configuration `prepare: {symmetry_expanded: true}`): each copy then counts as a particle, and "
            "copies of one particle stay together in half sets and tests; else give the file from before the "
            "expansion"
        )
    if expanded and not particle_set.expansion:
        raise InputError(
            f"{particle_set.source}: {OPTION} (`prepare: {{symmetry_expanded: true}}`), but no image occurs "
            "twice; leave it out"
        )


def one_of_each(particle_set: ParticleSet) -> ParticleSet:
    """The set with the images of one copy of each particle alone, for statistics; particles keep their
    numbers."""
    if COPY_OF not in particle_set.particles:
        return particle_set
    first = sources(particle_set.particles) == np.arange(len(particle_set.particles))
    images = particle_set.images
    images = images[first[images["particle"].to_numpy()]].reset_index(drop=True)
    return replace(particle_set, images=images.assign(image=np.arange(len(images))))
