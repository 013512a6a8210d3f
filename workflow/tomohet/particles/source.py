"""Particles for a computing command: a prepared store as it is, or a STAR file that is prepared first."""

import logging
from pathlib import Path

import numpy as np

from tomohet.errors import InputError
from tomohet.files.pickles import load_indices
from tomohet.options import PrepareOptions
from tomohet.options.shared import ParticleOptions, PosesOptions, SeedOptions
from tomohet.particles.copies import COPY_OF, OPTION
from tomohet.particles.dialects import read_particles
from tomohet.particles.filtering import Selection, filter_particles
from tomohet.particles.refined_poses import RefinedPoses
from tomohet.particles.store import Store, open_store
from tomohet.particles.store_writing import write_store

log = logging.getLogger(__name__)


def open_particles(path: str | Path, options: ParticleOptions, folder: Path) -> tuple[Store, np.ndarray]:
    """Open the store named by a command line, and the particles in it that take part.

    Poses are as the input states them, or those of the table `options.poses`.
    `path` is a store's folder, or a STAR file; of a STAR file the selected images are prepared into
    `folder/prepared`. `options` are those of the command.

    Returns the store, restricted to the selected images, and ascending particle numbers (int64), which count
    the particles of the input file whatever is selected.
    """
    path = Path(path)
    selection = selection_of(options)
    if path.is_dir():
        store = open_store(path, selection.particles)
        _refuse_other_preparation(store, options)
        n_input_images = store.description["counts"]["in_input"]["images"]
        store = store.restricted(selection.keep(store.particles, store.images, n_input_images))
    else:
        particle_set = read_particles(
            path, options.datadir, options.source_software, options.symmetry_expanded
        )
        keep = selection.keep(particle_set.particles, particle_set.images, particle_set.n_input["images"])
        chosen = filter_particles(particle_set, keep)
        store = write_store(folder / "prepared", chosen, **preparation_options(options))
    if isinstance(options, PosesOptions) and options.poses is not None:
        store = RefinedPoses.read(options.poses, store).applied(store)
    particles = np.flatnonzero(store.particles["n_tilts"] > 0)
    log.info(
        "%d of %d particles, %d images take part", len(particles), len(store.particles), len(store.images)
    )
    return store, particles


def selection_of(options: ParticleOptions) -> Selection:
    """Return the selection that the particle options describe."""
    return Selection(
        particles=load_indices(options.ind_ptcls) if options.ind_ptcls else None,
        images=load_indices(options.ind_imgs) if options.ind_imgs else None,
        sort=options.sort_ptcl_imgs,
        first_tilts=options.use_first_ntilts,
        first_particles=options.use_first_nptcls,
        seed=options.seed if isinstance(options, SeedOptions) else 0,
    )


def preparation_options(options: ParticleOptions) -> dict:
    """Keyword arguments of `write_store` that the particle options describe."""
    grid = options if isinstance(options, PrepareOptions) else None
    return {
        "window": not options.no_window,
        "window_r": options.window_r,
        "window_r_outer": options.window_r_outer,
        "invert": False if options.uninvert_data else None,
        "normalise": tuple(options.norm) if options.norm else "noise",
        "rescale": grid.rescale if grid else None,
        "box": grid.box if grid else None,
    }


def _refuse_other_preparation(store: Store, options: ParticleOptions) -> None:
    """Refuse options of preparation, given with a ready store, that the store does not fulfil."""
    stored = store.description["preparation"]
    asked = preparation_options(options)
    window = [asked["window_r"], asked["window_r_outer"]] if asked["window"] else None
    contradicted = []
    if options.no_window and stored["window"] is not None:
        contradicted.append("--no-window")
    elif options.given("window_r", "window_r_outer") and stored["window"] != window:
        contradicted.append("--window-r, --window-r-outer")
    if options.uninvert_data and True in store.description["inverted"]:
        contradicted.append("--uninvert-data")
    if options.norm and stored["normalise"] != list(options.norm):
        contradicted.append("--norm")
    if asked["rescale"] is not None and asked["rescale"] != stored.get("rescale"):
        contradicted.append("--rescale")
    if options.symmetry_expanded and COPY_OF not in store.particles:
        contradicted.append(OPTION)
    if asked["box"] is not None and asked["box"] != store.box:
        contradicted.append("--box")
    if contradicted:
        raise InputError(
            f"{store.folder}: prepared without {', '.join(contradicted)}; give these options to "
            "`tomohet prepare`, or pass the STAR file"
        )
