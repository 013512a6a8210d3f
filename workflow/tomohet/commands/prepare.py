"""Prepare a data set: read all tilt images once, transform them, and store them for all later stages."""

import logging

from tomohet.errors import InputError
from tomohet.options import PrepareOptions
from tomohet.particles.dialects import read_particles
from tomohet.particles.filtering import filter_particles
from tomohet.particles.source import preparation_options, selection_of
from tomohet.particles.store import Store
from tomohet.particles.store_writing import write_store
from tomohet.running.work import command

log = logging.getLogger(__name__)


@command
def run(options: PrepareOptions) -> Store:
    """Read the input, select, prepare; return the store."""
    if options.invert_data and options.uninvert_data:
        raise InputError("--invert-data and --uninvert-data exclude each other")
    particle_set = read_particles(
        options.particles, options.datadir, options.source_software, options.symmetry_expanded
    )
    for remark in particle_set.remarks:
        log.warning("%s", remark)
    n_input_images = particle_set.n_input["images"]
    keep = selection_of(options).keep(particle_set.particles, particle_set.images, n_input_images)
    preparation = preparation_options(options) | {"dtype": options.dtype}
    if options.invert_data:
        preparation["invert"] = True
    store = write_store(options.outdir, filter_particles(particle_set, keep), **preparation)
    log.info(
        "%s: %d particles, %d images of %d px at %g Å, contrast %s",
        options.outdir,
        len(store.particles),
        len(store.images),
        store.box,
        store.pixel_size_A,
        " and ".join("inverted" if inverted else "kept" for inverted in store.description["inverted"]),
    )
    return store
