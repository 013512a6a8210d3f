"""Prepare a dataset: read all tilt images once, transform them, and store them for every later stage."""

import argparse
import logging
from pathlib import Path

from tomohet.cli import command, options

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("particles", type=Path, help="STAR file: image series or optimisation set")
    parser.add_argument("-o", "--outdir", type=Path, required=True, help="folder of the store")
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "float16"),
        help="precision on disk; float16 halves the size (float32)",
    )
    parser.add_argument(
        "--invert-data", action="store_true", help="change the sign of all images, CTF-premultiplied ones too"
    )
    parser.add_argument(
        "--rescale",
        type=float,
        metavar="PIXEL_SIZE",
        help="bring all images to this pixel size, Å, not finer than any of theirs (default: as they are)",
    )
    parser.add_argument(
        "--box", type=int, metavar="PX", help="box after --rescale, px (default: keeps the field of view)"
    )
    options.add_particle_options(parser)
    options.add_seed(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Read, select, prepare."""
    from tomohet.errors import InputError
    from tomohet.particles.dialects import read_particles
    from tomohet.particles.filtering import filter_particles
    from tomohet.particles.source import preparation_options, selection_of
    from tomohet.particles.store_writing import write_store

    if args.invert_data and args.uninvert_data:
        raise InputError("--invert-data and --uninvert-data exclude each other")
    particle_set = read_particles(args.particles, args.datadir, args.source_software, args.symmetry_expanded)
    for remark in particle_set.remarks:
        log.warning("%s", remark)
    n_input_images = particle_set.n_input["images"]
    keep = selection_of(args).keep(particle_set.particles, particle_set.images, n_input_images)
    preparation = preparation_options(args) | {"dtype": args.dtype}
    if args.invert_data:
        preparation["invert"] = True
    store = write_store(args.outdir, filter_particles(particle_set, keep), **preparation)
    log.info(
        "%s: %d particles, %d images of %d px at %g Å, contrast %s",
        args.outdir,
        len(store.particles),
        len(store.images),
        store.box,
        store.pixel_size_A,
        " and ".join("inverted" if inverted else "kept" for inverted in store.description["inverted"]),
    )


if __name__ == "__main__":
    command(build_parser(), run)
