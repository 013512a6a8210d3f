"""Write a subset of a STAR file, chosen by indices, labels or tomogram, in the dialect it came in."""

import argparse
import logging
import re
from pathlib import Path

from tomohet.cli import command

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input", type=Path, help="STAR file")
    parser.add_argument("-o", "--output", type=Path, required=True, help="STAR file, or folder, to write")
    parser.add_argument(
        "--starfile-type",
        choices=("imageseries", "volumeseries", "optimisation_set"),
        help="kind of input (default: found out from the file)",
    )
    parser.add_argument(
        "--action", choices=("keep", "drop"), default="keep", help="fate of the selection (keep)"
    )
    parser.add_argument("--ind", type=Path, metavar="PKL", help="indices of the selected (0-based)")
    parser.add_argument(
        "--ind-type",
        choices=("particle", "image"),
        default="particle",
        help="what indices and labels count: particles, or the images (rows) of an image series (particle)",
    )
    parser.add_argument(
        "--particles",
        type=Path,
        metavar="STAR",
        help="file whose particles --ind counts, when it is not the input: particles are joined by name "
        "(rlnGroupName, rlnTomoParticleName), or by row where a file has no names",
    )
    parser.add_argument(
        "--datadir",
        type=Path,
        help="folder in which the image stacks are found; names that would not lead to them from the new "
        "file become absolute",
    )
    parser.add_argument(
        "--with-refined-poses",
        type=Path,
        metavar="PARQUET",
        help="poses.parquet of train_linear: write the refined poses of the particles that it lists, if it "
        "says that poses have errors; the store must have been prepared from the input (with --particles: "
        "from that file, of the same refinement as the input)",
    )
    parser.add_argument("--labels", type=Path, metavar="PKL", help="label of each particle or image")
    parser.add_argument("--labels-sel", type=int, nargs="+", metavar="N", help="labels to select")
    parser.add_argument(
        "--tomogram", metavar="NAME", help="write one file more for this tomogram, or for each (all)"
    )
    parser.add_argument(
        "--tomo-id-col",
        default="_rlnMicrographName",
        metavar="COLUMN",
        help="column that names the tomogram (_rlnMicrographName; rlnTomoName of optimisation sets)",
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Select rows and write them."""
    import numpy as np

    from tomohet.errors import InputError
    from tomohet.files.overwriting import refuse_overwriting_inputs
    from tomohet.particles import export
    from tomohet.particles.posed_files import with_refined_poses
    from tomohet.particles.refined_poses import RefinedPoses
    from tomohet.particles.same_refinement import warn_of_another_refinement

    star_type = args.starfile_type or export.detect_type(args.input)
    is_set = star_type == "optimisation_set"
    given = (args.input, args.particles, args.ind, args.labels, args.with_refined_poses)
    inputs = [path for path in given if path]
    if is_set:
        particles, tomograms_file = export.read_optimisation_set(args.input, args.datadir)
        files = [args.input, particles.path, tomograms_file]
        inputs += files[1:]
        inputs += export.tilt_series_files(tomograms_file, args.datadir)
    else:
        particles = export.read_particle_file(args.input, star_type)
        files = [args.input]
    n_counted = particles.n_particles
    if args.particles:
        counted, files = _particles_of(args.particles)
        particles, n_counted = export.numbered_as(particles, counted), counted.n_particles
        inputs.append(counted.path)
    keep = _selected(args, particles, star_type)
    if args.action == "drop":
        keep = ~keep
    if not keep.any():
        raise InputError(f"{args.input}: the subset is empty, nothing is written")

    if args.with_refined_poses:
        poses = RefinedPoses.read_for_files(args.with_refined_poses, files, n_counted)
        if poses.to_be_used:
            particles = with_refined_poses(particles, star_type, poses, keep)
            if args.particles and counted.tomogram is not None and star_type == "volumeseries":
                warn_of_another_refinement(counted, particles)

    output = _output_file(args.output, args.input)
    subsets = [(output, keep)]
    if args.tomogram:
        # Numbers are compared much faster than names.
        names, number = np.unique(export.tomograms_of(particles, args.tomo_id_col), return_inverse=True)
        wanted = names[np.unique(number[keep])]
        if args.tomogram != "all":
            if args.tomogram not in wanted:
                known = ", ".join(names[:3])
                raise InputError(
                    f"--tomogram {args.tomogram}: no particle of the subset is in it; tomograms: {known}"
                )
            wanted = np.array([args.tomogram])
        for code, name in zip(np.searchsorted(names, wanted), wanted, strict=True):
            subsets.append((_tomogram_file(output, name), keep & (number == code)))
    outputs = [file for path, _ in subsets for file in (export.set_files(path) if is_set else [path])]
    refuse_overwriting_inputs(outputs, inputs)
    for path, rows in subsets:
        if is_set:
            export.write_optimisation_set(args.input, particles, tomograms_file, rows, path, args.datadir)
        else:
            particles.placed(path, args.datadir).write(path, rows)
        n_particles = len(np.unique(particles.particle[rows]))
        log.info("%s: %d of %d particles", path, n_particles, particles.n_particles)


def _particles_of(path: Path):
    """The particles of a STAR file of any kind, numbered by first appearance, and the files that it is of."""
    from tomohet.particles import export

    star_type = export.detect_type(path)
    if star_type == "optimisation_set":
        particles, tomograms_file = export.read_optimisation_set(path)
        return particles, [path, particles.path, tomograms_file]
    return export.read_particle_file(path, star_type), [path]


def _selected(args: argparse.Namespace, particles, star_type: str):
    """Which rows the indices or labels select (bool); all of them without either."""
    import numpy as np

    from tomohet.errors import InputError
    from tomohet.files.pickles import load_array, load_indices
    from tomohet.particles.filtering import checked_indices

    if args.ind and args.labels:
        raise InputError("--ind and --labels exclude each other")
    if bool(args.labels) != bool(args.labels_sel):
        raise InputError("--labels and --labels-sel belong together, give both")
    if args.particles and (args.labels or args.ind_type == "image" or star_type == "imageseries"):
        raise InputError("--particles goes with --ind, counting particles, for files of one row per particle")
    if args.ind_type == "image" and star_type != "imageseries":
        raise InputError(
            f"--ind-type image: a file of type {star_type} has one row per particle, not per image"
        )
    number = particles.particle if args.ind_type == "particle" else np.arange(particles.n_rows)
    n, what = (
        (particles.n_particles, "particles") if args.ind_type == "particle" else (particles.n_rows, "images")
    )
    if args.ind and args.particles:
        n = _particles_of(args.particles)[0].n_particles
    if args.ind:
        return np.isin(number, checked_indices(load_indices(args.ind), n, f"--ind {args.ind}", what))
    if args.labels:
        labels = load_array(args.labels).ravel()
        if len(labels) != n:
            raise InputError(f"--labels {args.labels}: {len(labels)} labels, but {args.input} has {n} {what}")
        return np.isin(labels, args.labels_sel)[number]
    return np.ones(particles.n_rows, dtype=bool)


def _output_file(output: Path, source: Path) -> Path:
    """`output` itself, or, when it is a folder, a file in it named after the input."""
    return output / source.name if output.is_dir() or output.suffix != ".star" else output


def _tomogram_file(output: Path, tomogram: str) -> Path:
    """Name of one tomogram's file; the suffix by which sets are named stays at the end."""
    name = re.sub(r"[^\w.+-]", "_", Path(tomogram).stem if tomogram.endswith(".tomostar") else tomogram)
    suffix = "_optimisation_set" if output.stem.endswith("_optimisation_set") else ""
    return output.with_name(f"{output.stem.removesuffix(suffix)}_{name}{suffix}.star")


if __name__ == "__main__":
    command(build_parser(), run)
