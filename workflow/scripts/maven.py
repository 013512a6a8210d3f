"""Measure the occupancy of every unit of a model, or of every mask, in every volume and every particle."""

import argparse
import logging
from pathlib import Path

from tomohet.cli import command, options

PIXELS_OF_RESOLUTION = 2.5

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="occupancies.csv holds MAVEn's numbers (mask sum / sum of the reference density, on the "
        "volumes' own grey scale); volumes.parquet and particles.parquet hold the calibrated ones, "
        "0 = absent and 1 = present.",
    )
    parser.add_argument(
        "--volumes",
        type=Path,
        required=True,
        help="folder of <name>_<number>.mrc files, or one stack of volumes",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--model", type=Path, nargs="+", metavar="FILE", help="PDB or mmCIF files, aligned to the volumes"
    )
    source.add_argument(
        "--masks", type=Path, metavar="DIR", help="folder of masks (.mrc), such as siren's blocks"
    )
    parser.add_argument("-o", "--outdir", type=Path, required=True, help="output folder")
    _add_model_options(parser)
    analysis = parser.add_argument_group("analysis")
    analysis.add_argument(
        "--scale",
        default="modes",
        choices=("modes", "present", "percentile", "none"),
        help="0 and 1 are: a unit's two modes where it has two, else solvent and the level of present units; "
        "the latter for all; MAVEn's percentiles; the grey scale as it is (modes)",
    )
    analysis.add_argument(
        "--no-background", action="store_true", help="do not subtract the solvent around the structure"
    )
    analysis.add_argument(
        "--binarise",
        metavar="LEVEL",
        help="count the voxels at or above a level instead of summing density: auto, a number, or a CSV "
        "table with columns volume and level (or SIREn's predictions.csv)",
    )
    analysis.add_argument("--classes", type=int, metavar="N", help="groups of volumes (the best silhouette)")
    analysis.add_argument("--unit-groups", type=int, metavar="N", help="groups of units (likewise)")
    options.add_particle_maps(parser)
    options.add_plot_options(parser)
    options.add_seed(parser)
    options.add_device(parser)
    return parser


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    model = parser.add_argument_group("densities and masks of the model's units")
    model.add_argument(
        "--resolution", type=float, metavar="A", help="resolution of the densities, Å (2.5 pixels)"
    )
    model.add_argument(
        "--units",
        default="chain",
        help="chain, label, entity, or a CSV table: unit, file, chain, label, first, last, residues, "
        "threshold, colour (chain)",
    )
    model.add_argument("--no-hydrogens", action="store_true", help="leave out hydrogen atoms")
    model.add_argument("--no-waters", action="store_true", help="leave out water")
    model.add_argument(
        "--density-mode",
        default="chimerax",
        choices=("chimerax", "integrated"),
        help="sample as ChimeraX's molmap, or integrate over each voxel (chimerax)",
    )
    model.add_argument(
        "--model-origin",
        default="header",
        choices=("header", "centre"),
        help="the model's coordinates count from the maps' header origin, or their centre voxel (header)",
    )
    model.add_argument(
        "--align",
        default="auto",
        choices=("auto", "check", "fit", "off"),
        help="is the model where the volumes are? auto: move it only if it is clearly wrong; check: say so, "
        "move nothing; fit: search everywhere and refine; off: do not ask (auto)",
    )
    model.add_argument(
        "--mask-threshold",
        type=float,
        metavar="T",
        help="density at which a mask begins (RELION's 0.01, or a fifth of the unit's peak if lower)",
    )
    model.add_argument(
        "--mask-extend", default="0", metavar="L", help="grow masks: pixels, or Å as in 10A (0)"
    )
    model.add_argument(
        "--mask-soft-edge", default="0", metavar="L", help="soft edge: pixels, or Å as in 10A (0)"
    )


def run(args: argparse.Namespace) -> None:
    """Draw the units, measure their occupancies, analyse them, and write tables, figures and scripts."""
    from tomohet.files.leftovers import replacing

    with replacing(args.outdir, "maven"):
        measure(args)


def measure(args: argparse.Namespace) -> None:
    """The occupancies of all units in volumes and particles, and what follows from them."""
    import numpy as np

    from tomohet.analysis.ensemble import open_ensemble
    from tomohet.analysis.maven import analysis, occupancy, output, tables
    from tomohet.analysis.maven.calibration import present_level
    from tomohet.analysis.maven.particles import of_particles, particle_maps
    from tomohet.analysis.solvent import solvent_shell
    from tomohet.errors import InputError
    from tomohet.files.atomic import write_json

    ensemble = open_ensemble(args.volumes)
    if args.classes is not None and not 1 <= args.classes <= len(ensemble):
        raise InputError(f"--classes {args.classes}: expected 1 to {len(ensemble)}, the number of volumes")
    if args.binarise is not None and args.workdir is not None:
        raise InputError("--binarise: voxels can be counted in volumes only; leave out --workdir")
    mean = ensemble.mean()
    found, model = draw_or_read_units(args, ensemble, mean)
    names = list(found.table.unit)
    if args.unit_groups is not None and not 1 <= args.unit_groups <= len(names):
        raise InputError(f"--unit-groups {args.unit_groups}: expected 1 to {len(names)}, the number of units")
    log.info("%d units in %d volumes", len(names), len(ensemble))

    occupied = np.asarray(found.masks.max(axis=0).todense()).reshape(mean.shape) > 0
    solvent = solvent_shell(mean, occupied)
    aligned = occupancy.alignment(mean, found, occupied | solvent)
    output.write_masks_figure(args.outdir, args.plot_format, mean, found)
    if args.model and not aligned > occupancy.LEAST_ALIGNMENT:
        log.warning(
            "the model correlates with the mean volume by %.2f only: is it aligned, complete? See masks.%s",
            aligned,
            args.plot_format,
        )

    particles = by_particle = reduced = None
    if args.binarise is not None:
        published, amplitudes = count_voxels(args, ensemble, found, mean)
    else:
        measured = occupancy.of_volumes(ensemble, found, solvent)
        published = occupancy.maven_occupancy(measured.sums, found)

        def amplitude(of):
            if args.scale in ("percentile", "none"):
                return occupancy.maven_occupancy(of.sums, found)
            return occupancy.unmixed(of, found, not args.no_background)

        amplitudes = amplitude(measured)
        if args.workdir is not None:
            maps = particle_maps(args.workdir, args.epoch, args.device, *options.volume_form(args))
            level = present_level(occupancy.unmixed(measured, found), found.table.mass.to_numpy()).level
            sums, reduced = of_particles(maps, ensemble, measured, found, solvent, level, args.seed)
            particles, by_particle = maps.particles, amplitude(sums)

    # The share of a mask that is on needs no calibration.
    scale = args.scale if args.binarise is None or args.scale == "percentile" else "none"
    mass = found.table.mass.to_numpy()
    result = analysis.analyse(amplitudes, by_particle, names, mass, scale, args.classes, args.unit_groups)
    tables.write_tables(args.outdir, published, ensemble.numbers, found.table, result, particles)
    output.write_figures(args.outdir, args.plot_format, names, result)
    output.write_class_maps(args.outdir, ensemble, result, mean)
    if model is not None:
        output.write_model_scripts(args.outdir, model, found.table, result)
    summary = tables.summary(ensemble, found.table, result)
    summary |= {
        "resolution_A": model.resolution_A if model else None,
        "scale": scale,
        "model_map_correlation": aligned,
        "alignment": model.placed.summary() if model and model.placed else None,
        "particles": reduced,
    }
    write_json(args.outdir / "summary.json", summary)
    log.info(
        "%d groups of volumes; %d dependencies between units",
        result.volume_tree.groups.max(),
        len(result.required),
    )


def draw_or_read_units(args: argparse.Namespace, ensemble, mean):
    """The units, and what is known of the model (None for given masks)."""
    from tomohet.analysis.maven import alignment, units
    from tomohet.analysis.maven.masks import in_pixels
    from tomohet.analysis.maven.output import Model

    grid = ensemble.grid
    if args.masks:
        return units.read_masks(args.masks, grid), None
    resolution_A = args.resolution or PIXELS_OF_RESOLUTION * grid.pixel_size_A
    atoms = units.units_of_model(args.model, args.units, not args.no_hydrogens, not args.no_waters)
    if args.model_origin == "centre":
        atoms = units.from_centre(atoms, grid)
    placed, files = None, args.model
    if args.align != "off":
        placed = align_model(args, mean, grid, resolution_A)
        if placed.moves:
            atoms = alignment.moved(atoms, placed.used.placement)
            files = alignment.write_aligned(
                args.model, placed.used.placement, grid, args.model_origin, args.outdir
            )
    found = units.draw_units(
        atoms,
        grid,
        resolution_A,
        args.density_mode,
        args.mask_threshold,
        in_pixels(args.mask_extend, grid.pixel_size_A),
        in_pixels(args.mask_soft_edge, grid.pixel_size_A),
        args.outdir,
    )
    return found, Model(atoms, args.model, files, resolution_A, placed)


def align_model(args: argparse.Namespace, mean, grid, resolution_A: float):
    """Check where the model lies, or fit it: table, figure, one sentence in the log."""
    from tomohet import plots
    from tomohet.analysis.maven import alignment, units
    from tomohet.analysis.maven.alignment_figure import alignment_figure
    from tomohet.files.atomic import write_csv
    from tomohet.physics.molmap import read_model

    atoms = read_model(args.model)
    if args.model_origin == "centre":
        atoms = units.from_centre(atoms, grid)
    found = alignment.align(atoms, mean, grid, args.align, args.model_origin)
    write_csv(args.outdir / "alignment.csv", found.table())
    picture = alignment_figure(mean, atoms, grid, resolution_A, found)
    plots.save(picture, args.outdir / f"alignment.{args.plot_format}")
    log.log(logging.INFO if found.well else logging.WARNING, "%s", found.verdict)
    return found


def count_voxels(args: argparse.Namespace, ensemble, found, mean):
    """Counts of voxels that are on, as MAVEn writes them, and the share of every mask that is on."""
    import numpy as np

    from tomohet.analysis.maven import occupancy
    from tomohet.analysis.siren.levels import read_levels

    levels = read_levels(ensemble, args.binarise, mean, np.random.default_rng(args.seed)).values
    counts = occupancy.voxels_on(ensemble, found, levels)
    return counts, counts / np.asarray(found.masks.sum(axis=1)).ravel()


if __name__ == "__main__":
    command(build_parser(), run)
