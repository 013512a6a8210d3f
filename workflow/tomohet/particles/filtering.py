"""Selection of particles and tilt images, with the names and meanings of tomoDRGN's options."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.particles.table import ParticleSet, number_images


@dataclass(frozen=True)
class Selection:
    """Rules of a selection, applied in this order; -1 keeps all.

    images : images by their number in the input file, including hidden tilts of optimisation sets
    particles : particles by their number in the input file
    sort : order of each particle's images: file order, ascending dose, or random (`seed`)
    first_tilts : number of images to keep of each particle in this order; particles with fewer are dropped
    first_particles : number of particles to keep
    """

    particles: np.ndarray | None = None
    images: np.ndarray | None = None
    sort: Literal["unsorted", "dose_ascending", "random"] = "unsorted"
    first_tilts: int = -1
    first_particles: int = -1
    seed: int = 0

    def keep(self, particles: pd.DataFrame, images: pd.DataFrame, n_input_images: int) -> np.ndarray:
        """Return whether each row of `images` is kept (bool).

        "File order" is the order in the tilt series, so shuffled rows select the same images. Raises
        InputError if indices are out of range or repeated, or if nothing is left.
        """
        keep = np.ones(len(images), dtype=bool)
        particle = images["particle"].to_numpy()
        if self.images is not None:
            wanted = checked_indices(self.images, n_input_images, "--ind-imgs", "images")
            keep &= np.isin(images["row"].to_numpy(), wanted)
        if self.particles is not None:
            wanted = checked_indices(self.particles, len(particles), "--ind-ptcls", "particles")
            keep &= np.isin(particle, wanted)
        if self.first_tilts >= 0:
            keep &= self._among_first_tilts(images, keep)
        if self.first_particles >= 0:
            keep &= np.isin(particle, np.unique(particle[keep])[: self.first_particles])
        if not keep.any():
            raise InputError(
                f"the selection is empty: none of {len(particles)} particles is left; check --ind-ptcls, "
                "--ind-imgs, --use-first-ntilts (drops particles with fewer) and --use-first-nptcls"
            )
        return keep

    def _among_first_tilts(self, images: pd.DataFrame, keep: np.ndarray) -> np.ndarray:
        kept = images[keep]
        if self.sort == "random":
            order = pd.Series(np.random.default_rng(self.seed).random(len(kept)), index=kept.index)
        else:
            order = kept["dose_e_A2" if self.sort == "dose_ascending" else "tilt"]
        rank = order.groupby(kept["particle"]).rank(method="first")
        enough = kept.groupby("particle")["tilt"].transform("size") >= self.first_tilts
        among = np.zeros(len(images), dtype=bool)
        among[keep] = ((rank <= self.first_tilts) & enough).to_numpy()
        return among


def checked_indices(indices: np.ndarray, n: int, option: str, what: str) -> np.ndarray:
    """Return indices as sorted int64; raise InputError unless they are distinct and within 0..n-1."""
    indices = np.sort(np.asarray(indices).ravel())
    if not np.issubdtype(indices.dtype, np.integer):
        raise InputError(f"{option}: contains values of type {indices.dtype}, expected whole numbers")
    if not len(indices):
        raise InputError(f"{option}: contains no indices")
    if indices[0] < 0 or indices[-1] >= n:
        wrong = indices[0] if indices[0] < 0 else indices[-1]
        raise InputError(f"{option}: index {wrong} is out of range, the file has {what} 0 to {n - 1}")
    if (twice := indices[1:][np.diff(indices) == 0]).size:
        raise InputError(f"{option}: index {twice[0]} appears more than once")
    return indices.astype(np.int64)


def filter_particles(particle_set: ParticleSet, keep: np.ndarray) -> ParticleSet:
    """Return the set with only the images in `keep`.

    All particles keep their numbers, even particles without images.
    """
    images = particle_set.images if keep.all() else particle_set.images[keep]
    images = number_images(images)
    counts = np.bincount(images["particle"], minlength=len(particle_set.particles))
    return replace(particle_set, images=images, particles=particle_set.particles.assign(n_tilts=counts))
