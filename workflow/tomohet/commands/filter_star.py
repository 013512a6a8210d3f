"""Write a subset of a STAR file, selected by indices, labels or tomogram, in the dialect of the input."""

import logging
import re
from pathlib import Path

import numpy as np

from tomohet.errors import InputError
from tomohet.files.overwriting import refuse_overwriting_inputs
from tomohet.files.pickles import load_array, load_indices
from tomohet.options import FilterStarOptions
from tomohet.particles import export
from tomohet.particles.filtering import checked_indices
from tomohet.particles.posed_files import with_refined_poses
from tomohet.particles.refined_poses import RefinedPoses
from tomohet.particles.same_refinement import warn_of_another_refinement
from tomohet.running.work import command

log = logging.getLogger(__name__)


@command
def run(options: FilterStarOptions) -> list[Path]:
    """Select rows and write them; return the paths of the STAR files."""
    star_type = options.starfile_type or export.detect_type(options.input)
    is_set = star_type == "optimisation_set"
    given = (options.input, options.particles, options.ind, options.labels, options.with_refined_poses)
    inputs = [path for path in given if path]
    if is_set:
        particles, tomograms_file = export.read_optimisation_set(options.input, options.datadir)
        files = [options.input, particles.path, tomograms_file]
        inputs += files[1:]
        inputs += export.tilt_series_files(tomograms_file, options.datadir)
    else:
        particles = export.read_particle_file(options.input, star_type)
        files = [options.input]
    n_counted = particles.n_particles
    if options.particles:
        counted, files = _particles_of(options.particles)
        particles, n_counted = export.numbered_as(particles, counted), counted.n_particles
        inputs.append(counted.path)
    keep = _selected(options, particles, star_type)
    if options.action == "drop":
        keep = ~keep
    if not keep.any():
        raise InputError(f"{options.input}: the subset is empty, nothing is written")

    if options.with_refined_poses:
        poses = RefinedPoses.read_for_files(options.with_refined_poses, files, n_counted)
        if poses.to_be_used:
            particles = with_refined_poses(particles, star_type, poses, keep)
            if options.particles and counted.tomogram is not None and star_type == "volumeseries":
                warn_of_another_refinement(counted, particles)

    output = _output_file(options.output, options.input)
    subsets = [(output, keep)]
    if options.tomogram:
        # Integers are compared much faster than names.
        names, number = np.unique(export.tomograms_of(particles, options.tomo_id_col), return_inverse=True)
        wanted = names[np.unique(number[keep])]
        if options.tomogram != "all":
            if options.tomogram not in wanted:
                known = ", ".join(names[:3])
                raise InputError(
                    f"--tomogram {options.tomogram}: no particle of the subset is in it; tomograms: {known}"
                )
            wanted = np.array([options.tomogram])
        for code, name in zip(np.searchsorted(names, wanted), wanted, strict=True):
            subsets.append((_tomogram_file(output, name), keep & (number == code)))
    outputs = [file for path, _ in subsets for file in (export.set_files(path) if is_set else [path])]
    refuse_overwriting_inputs(outputs, inputs)
    for path, rows in subsets:
        if is_set:
            export.write_optimisation_set(
                options.input, particles, tomograms_file, rows, path, options.datadir
            )
        else:
            particles.placed(path, options.datadir).write(path, rows)
        n_particles = len(np.unique(particles.particle[rows]))
        log.info("%s: %d of %d particles", path, n_particles, particles.n_particles)
    return [path for path, _ in subsets]


def _particles_of(path: Path):
    """Read the particles of a STAR file, numbered by first appearance; return them and the files read."""
    star_type = export.detect_type(path)
    if star_type == "optimisation_set":
        particles, tomograms_file = export.read_optimisation_set(path)
        return particles, [path, particles.path, tomograms_file]
    return export.read_particle_file(path, star_type), [path]


def _selected(options: FilterStarOptions, particles, star_type: str):
    """Return which rows the indices or labels select (bool); all rows without either."""
    if options.ind and options.labels:
        raise InputError("--ind and --labels exclude each other")
    if bool(options.labels) != bool(options.labels_sel):
        raise InputError("--labels and --labels-sel belong together: give both")
    if options.particles and (options.labels or options.ind_type == "image"):
        raise InputError("--particles requires --ind with --ind-type particle")
    if options.ind_type == "image" and star_type != "imageseries":
        raise InputError(
            f"--ind-type image: a file of type {star_type} has one row per particle, not per image"
        )
    number = particles.particle if options.ind_type == "particle" else np.arange(particles.n_rows)
    n, what = (
        (particles.n_particles, "particles")
        if options.ind_type == "particle"
        else (particles.n_rows, "images")
    )
    if options.ind and options.particles:
        n = _particles_of(options.particles)[0].n_particles
    if options.ind:
        return np.isin(number, checked_indices(load_indices(options.ind), n, f"--ind {options.ind}", what))
    if options.labels:
        labels = load_array(options.labels).ravel()
        if len(labels) != n:
            raise InputError(
                f"--labels {options.labels}: {len(labels)} labels, but {options.input} has {n} {what}"
            )
        return np.isin(labels, options.labels_sel)[number]
    return np.ones(particles.n_rows, dtype=bool)


def _output_file(output: Path, source: Path) -> Path:
    """Return `output`, or a file in it named after the input if `output` is a folder."""
    return output / source.name if output.is_dir() or output.suffix != ".star" else output


def _tomogram_file(output: Path, tomogram: str) -> Path:
    """Return the file name of one tomogram; the suffix that marks optimisation sets stays at the end."""
    name = re.sub(r"[^\w.+-]", "_", Path(tomogram).stem if tomogram.endswith(".tomostar") else tomogram)
    suffix = "_optimisation_set" if output.stem.endswith("_optimisation_set") else ""
    return output.with_name(f"{output.stem.removesuffix(suffix)}_{name}{suffix}.star")
