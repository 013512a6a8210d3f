"""Preparation of images and backprojection: our way and the textbook's."""

import numpy as np
from bench_network import Amount, Place
from textbook_images import Particles, prepared
from textbook_maps import backproject as backproject_plainly
from workloads import STAR, STORE

from tomohet.particles.dialects import read_particles
from tomohet.particles.store import open_store
from tomohet.particles.store_files import DESCRIPTION
from tomohet.particles.store_writing import write_store
from tomohet.reconstruction.half_maps import accumulate


def prepare(place: Place) -> Amount:
    """All images from their stacks into a store, as `prepare` does."""
    particle_set = read_particles(place.folder / STAR)

    def work() -> None:
        (place.scratch / DESCRIPTION).unlink(missing_ok=True)  # else what is up to date is left as it is
        write_store(place.scratch, particle_set)

    place.watch.repeat(work)
    return _images(place)


def prepare_textbook(place: Place) -> Amount:
    """The same the plain way."""
    images, path = read_particles(place.folder / STAR).images, place.scratch / "images.npy"
    place.watch.repeat(lambda: np.save(path, prepared(images, place.load.box)))
    return _images(place)


def backproject(place: Place) -> Amount:
    """All images of a store into the sums of two half maps, as `backproject_voxel` does."""
    store = open_store(place.folder / STORE)
    rows = store.images_of(np.arange(place.load.particles))
    part = np.repeat(_halves(place), place.load.tilts)
    weights = {"recon_dose_weight": True, "recon_tilt_weight": True}
    place.watch.repeat(lambda: accumulate(store, rows, part, **weights, device=place.device))
    return _images(place)


def backproject_textbook(place: Place) -> Amount:
    """The same the plain way."""
    particles = Particles(read_particles(place.folder / STAR).images, place.load.box)
    work = (particles, place.load.box, _halves(place), place.device)
    place.watch.repeat(lambda: backproject_plainly(*work))
    return _images(place)


def _halves(place: Place) -> np.ndarray:
    """Half (particles,) 0 or 1 of each particle."""
    return np.arange(place.load.particles) % 2


def _images(place: Place) -> Amount:
    n = place.load.particles * place.load.tilts
    return Amount(n, n)
