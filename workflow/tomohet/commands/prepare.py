"""Prepare a data set: read all tilt images once, transform them, and store them for all later stages."""

import logging

import numpy as np

from tomohet.errors import InputError
from tomohet.files.atomic import write_json
from tomohet.options import PrepareOptions
from tomohet.particles.dialects import read_particles
from tomohet.particles.filtering import filter_particles
from tomohet.particles.returned_poses import with_returned_poses
from tomohet.particles.same_input import file_digests
from tomohet.particles.source import preparation_options, selection_of
from tomohet.particles.store import Store
from tomohet.particles.store_writing import write_store
from tomohet.particles.table import ParticleSet
from tomohet.rounds.layout import POSES_FROM
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
    if options.poses_from is not None:
        particle_set = _with_poses_from(options, particle_set, keep)
    preparation = preparation_options(options) | {"dtype": options.dtype}
    if options.invert_data:
        preparation["invert"] = True
    particle_set = filter_particles(particle_set, keep)  # the images left out are no longer held
    store = write_store(options.outdir, particle_set, **preparation)
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


def _with_poses_from(options: PrepareOptions, particle_set: ParticleSet, keep: np.ndarray) -> ParticleSet:
    """Return the set with the poses of the file `poses_from`, which is recorded beside the store."""
    returned = read_particles(options.poses_from, options.datadir, options.source_software, None)
    posed, changes = with_returned_poses(particle_set, returned, keep)
    log.info(
        "%s: poses of %d particles, %d of them changed: rotations by %.2f degrees (median; at most %.2f), "
        "images by %.2f Å (median; at most %.2f)",
        options.poses_from,
        *changes.values(),
    )
    record = {"file": str(options.poses_from), "digests": file_digests(returned.inputs), **changes}
    write_json(options.outdir / POSES_FROM, record)
    return posed
