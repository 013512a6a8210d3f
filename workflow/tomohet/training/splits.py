"""Split of each particle's tilt images into training, held-out (judging) and test images."""

import logging
from dataclasses import dataclass

import numpy as np

from tomohet.errors import InputError
from tomohet.particles.copies import distinct_images
from tomohet.particles.store import Store
from tomohet.training.batches import split_tilts

log = logging.getLogger(__name__)

SHARE_TRAINED = 0.9  # of the images, where a linear model starts the network; the others are held out


@dataclass(frozen=True)
class TiltSplit:
    """Masks over the images of a training's particles, in their order."""

    trained: np.ndarray
    judging: np.ndarray
    test: np.ndarray

    @classmethod
    def of_store(
        cls, store: Store, particles: np.ndarray, fraction_train: float, taught: bool, seed: int
    ) -> "TiltSplit":
        """Split the images of particles (store ordinals) with `of`.

        All copies of one image are on the same side.
        """
        particle, image = distinct_images(store, store.images_of(particles))
        first = np.unique(image, return_index=True)[1]
        if len(first) == len(image):
            return cls.of(np.diff(store.offsets)[particles], fraction_train, taught, seed)
        tilts = np.unique(particle[first], return_counts=True)[1]
        split = cls.of(tilts, fraction_train, taught, seed)
        return cls(split.trained[image], split.judging[image], split.test[image])

    @classmethod
    def of(cls, tilts: np.ndarray, fraction_train: float, taught: bool, seed: int) -> "TiltSplit":
        """Split the images of particles with `tilts` (P,) images.

        The test images of --fraction-train are drawn first. For a network that is `taught` (starts from a
        linear model), held-out images that judge it are drawn from the rest. Single images are trained on.

        Raises InputError when no image is left to judge a taught network.
        """
        everything = np.ones(tilts.sum(), bool)
        train, judging = everything, ~everything
        if fraction_train < 1:
            train = split_tilts(tilts, fraction_train, np.random.default_rng([seed, 1]))
            alone = int((tilts == 1).sum())
            if alone:
                log.warning(
                    "%d particles have a single tilt: it is trained on, and their test latents are NaN", alone
                )
        test = ~train
        if taught:
            particle = np.repeat(np.arange(len(tilts)), tilts)
            kept = np.bincount(particle[train], minlength=len(tilts))
            judging = judging.copy()
            judging[train] = ~split_tilts(kept, SHARE_TRAINED, np.random.default_rng([seed, 3]))
            if not judging.any():
                raise InputError(
                    "--init: every particle has a single tilt image to train on, so no held-out image is "
                    "left to compare the network with the linear model; use more tilts per particle"
                )
        return cls(train & ~judging, judging, test)


def with_images(store: Store, particles: np.ndarray, mask: np.ndarray) -> Store:
    """Restrict the store to the images of `particles` (ordinals) where `mask` over them is true.

    Returns the store itself when the mask is true everywhere.
    """
    if mask.all():
        return store
    keep = np.zeros(len(store.images), bool)
    keep[store.images_of(particles)[mask]] = True
    return store.restricted(keep)
