"""Measure the occupancy of each unit of a model, or of each mask, in each volume and each particle."""

import logging
from contextlib import suppress

import numpy as np

from tomohet import plots
from tomohet.analysis.ensemble import open_ensemble
from tomohet.analysis.maven import alignment, analysis, occupancy, output, tables, units
from tomohet.analysis.maven.alignment_figure import alignment_figure
from tomohet.analysis.maven.answers import unit_answers
from tomohet.analysis.maven.calibration import present_level
from tomohet.analysis.maven.masks import in_pixels
from tomohet.analysis.maven.output import Model
from tomohet.analysis.maven.particles import of_particles, particle_maps
from tomohet.analysis.siren.levels import read_levels
from tomohet.analysis.solvent import solvent_shell
from tomohet.answers import stated
from tomohet.errors import InputError
from tomohet.files.atomic import write_csv, write_json
from tomohet.files.leftovers import replacing
from tomohet.files.shares import WHOLE, ShareWritten, shares_of
from tomohet.options import MavenOptions
from tomohet.physics.molmap import read_model
from tomohet.rounds.layout import MAVEN
from tomohet.running.work import command

PIXELS_OF_RESOLUTION = 2.5

log = logging.getLogger(__name__)


@command
def run(options: MavenOptions) -> dict:
    """Measure the occupancies of all units; write tables, figures and scripts; return the summary."""
    with replacing(options.outdir, "maven"), suppress(ShareWritten):
        return measure(options)
    return {}


def measure(options: MavenOptions) -> dict:
    """Measure the occupancies of all units in volumes and particles, and analyse them."""
    shares = shares_of(options.part, options.outdir, options.parts)
    ensemble = open_ensemble(options.volumes)
    if options.classes is not None and not 1 <= options.classes <= len(ensemble):
        raise InputError(f"--classes {options.classes}: expected 1 to {len(ensemble)}, the number of volumes")
    if options.binarise is not None and options.workdir is not None:
        raise InputError("--binarise: voxels can be counted in volumes only; omit --workdir")
    if options.part != WHOLE and options.workdir is None:
        raise InputError("--part divides the particles among jobs: give their model by --workdir")
    mean = ensemble.mean()
    found, model = draw_or_read_units(options, ensemble, mean)
    names = list(found.table.unit)
    if options.unit_groups is not None and not 1 <= options.unit_groups <= len(names):
        raise InputError(
            f"--unit-groups {options.unit_groups}: expected 1 to {len(names)}, the number of units"
        )
    log.info("%d units in %d volumes", len(names), len(ensemble))

    occupied = np.asarray(found.masks.max(axis=0).todense()).reshape(mean.shape) > 0
    solvent = solvent_shell(mean, occupied)
    aligned = occupancy.alignment(mean, found, occupied | solvent)
    output.write_masks_figure(options.outdir, options.plot_format, mean, found)
    if options.model and not aligned > occupancy.LEAST_ALIGNMENT:
        log.warning(
            "the correlation of model and mean volume is only %.2f; "
            "check that the model is aligned and complete (masks.%s)",
            aligned,
            options.plot_format,
        )

    particles = by_particle = reduced = None
    if options.binarise is not None:
        published, amplitudes = count_voxels(options, ensemble, found, mean)
    else:
        measured = occupancy.of_volumes(ensemble, found, solvent)
        published = occupancy.maven_occupancy(measured.sums, found)

        def amplitude(of):
            if options.scale in ("percentile", "none"):
                return occupancy.maven_occupancy(of.sums, found)
            return occupancy.unmixed(of, found, not options.no_background)

        amplitudes = amplitude(measured)
        if options.workdir is not None:
            maps = particle_maps(options.workdir, options.epoch, options.device, *options.volume_form)
            level = present_level(occupancy.unmixed(measured, found), found.table.mass.to_numpy()).level
            sums, reduced = of_particles(
                maps, ensemble, measured, found, solvent, level, options.seed, shares
            )
            particles, by_particle = maps.particles, amplitude(sums)

    shares.end()
    # The fraction of the mask's voxels that are on needs no calibration.
    scale = options.scale if options.binarise is None or options.scale == "percentile" else "none"
    mass = found.table.mass.to_numpy()
    result = analysis.analyse(
        amplitudes, by_particle, names, mass, scale, options.classes, options.unit_groups
    )
    tables.write_tables(options.outdir, published, ensemble.numbers, found.table, result, particles)
    output.write_figures(options.outdir, options.plot_format, names, result)
    output.write_class_maps(options.outdir, ensemble, result, mean)
    if model is not None:
        output.write_model_scripts(options.outdir, model, found.table, result)
    summary = tables.summary(ensemble, found.table, result)
    summary |= {
        "resolution_A": model.resolution_A if model else None,
        "scale": scale,
        "model_map_correlation": aligned,
        "alignment": model.placed.summary() if model and model.placed else None,
        "particles": reduced,
    }
    summary |= stated(unit_answers(summary))
    write_json(options.outdir / MAVEN.summary, summary)
    log.info(
        "%d groups of volumes; %d dependencies between units",
        result.volume_tree.groups.max(),
        len(result.required),
    )
    return summary


def draw_or_read_units(options: MavenOptions, ensemble, mean):
    """Return the units and their model (None for given masks)."""
    grid = ensemble.grid
    if options.masks:
        return units.read_masks(options.masks, grid), None
    resolution_A = options.resolution or PIXELS_OF_RESOLUTION * grid.pixel_size_A
    atoms = units.units_of_model(
        options.model, options.units, not options.no_hydrogens, not options.no_waters
    )
    if options.model_origin == "centre":
        atoms = units.from_centre(atoms, grid)
    placed, files = None, options.model
    if options.align != "off":
        placed = align_model(options, mean, grid, resolution_A)
        if placed.moves:
            atoms = alignment.moved(atoms, placed.used.placement)
            files = alignment.write_aligned(
                options.model, placed.used.placement, grid, options.model_origin, options.outdir
            )
    found = units.draw_units(
        atoms,
        grid,
        resolution_A,
        options.density_mode,
        options.mask_threshold,
        in_pixels(options.mask_extend, grid.pixel_size_A),
        in_pixels(options.mask_soft_edge, grid.pixel_size_A),
        options.outdir,
    )
    return found, Model(atoms, options.model, files, resolution_A, placed)


def align_model(options: MavenOptions, mean, grid, resolution_A: float):
    """Check the position of the model, or fit it; write a table and a figure, and log a sentence."""
    atoms = read_model(options.model)
    if options.model_origin == "centre":
        atoms = units.from_centre(atoms, grid)
    found = alignment.align(atoms, mean, grid, options.align, options.model_origin)
    write_csv(options.outdir / "alignment.csv", found.table())
    picture = alignment_figure(mean, atoms, grid, resolution_A, found)
    plots.save(picture, options.outdir / f"alignment.{options.plot_format}")
    log.log(logging.INFO if found.well else logging.WARNING, "%s", found.verdict)
    return found


def count_voxels(options: MavenOptions, ensemble, found, mean):
    """Count the voxels that are on, as MAVEn does; return the counts and the fraction of each mask."""
    levels = read_levels(ensemble, options.binarise, mean, np.random.default_rng(options.seed)).values
    counts = occupancy.voxels_on(ensemble, found, levels)
    return counts, counts / np.asarray(found.masks.sum(axis=1)).ravel()
