"""Measure the occupancy of every unit of a model, or of every mask, in every volume."""

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
        "volumes' own grey scale); volumes.parquet holds the calibrated ones, 0 = absent and 1 = present.",
    )
    parser.add_argument(
        "--volumes",
        type=Path,
        required=True,
        help="folder of <name>_<number>.mrc files, or one stack of volumes",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--model", type=Path, nargs="+", metavar="FILE", help="PDB or mmCIF files (see --align)"
    )
    source.add_argument(
        "--masks", type=Path, metavar="DIR", help="folder of masks (.mrc), such as siren's blocks"
    )
    parser.add_argument("-o", "--outdir", type=Path, required=True, help="output folder")
    model = parser.add_argument_group("densities and masks of the model's units")
    model.add_argument(
        "--resolution", type=float, metavar="A", help="resolution of the densities, Å (2.5 pixels)"
    )
    model.add_argument(
        "--units",
        default="chain",
        help="chain, label, entity, or a CSV table: unit, file, chain, first, last (chain)",
    )
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
    model.add_argument("--mask-extend", type=float, default=0.0, metavar="PX", help="grow masks, pixels (0)")
    model.add_argument(
        "--mask-soft-edge", type=float, default=0.0, metavar="PX", help="soft edge, pixels (0)"
    )
    analysis = parser.add_argument_group("analysis")
    analysis.add_argument(
        "--scale",
        default="present",
        choices=("present", "percentile"),
        help="calibrate by solvent, neighbours and the level of present units, or by MAVEn's percentiles",
    )
    analysis.add_argument("--classes", type=int, metavar="N", help="groups of volumes (the best silhouette)")
    options.add_plot_options(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Draw the units, measure their occupancies, group them, and write tables and figures."""
    import numpy as np

    from tomohet import plots
    from tomohet.analysis import cooccurrence
    from tomohet.analysis.ensemble import open_ensemble
    from tomohet.analysis.maven import alignment, clustering, figures, occupancy, tables, units
    from tomohet.analysis.solvent import solvent_shell
    from tomohet.errors import InputError
    from tomohet.files.atomic import write_csv, write_json

    ensemble = open_ensemble(args.volumes)
    if args.classes is not None and not 1 <= args.classes <= len(ensemble):
        raise InputError(f"--classes {args.classes}: expected 1 to {len(ensemble)}, the number of volumes")
    resolution_A = args.resolution
    if resolution_A is None:
        resolution_A = PIXELS_OF_RESOLUTION * ensemble.grid.pixel_size_A
    mean, placed = ensemble.mean(), None
    if args.masks:
        found = units.read_masks(args.masks, ensemble.grid)
    else:
        atoms = units.units_of_model(args.model, args.units)
        if args.model_origin == "centre":
            atoms = units.from_centre(atoms, ensemble.grid)
        if args.align != "off":
            placed = align_model(args, mean, ensemble.grid, resolution_A)
            if placed.moves:
                atoms = alignment.moved(atoms, placed.used.placement)
        found = units.draw_units(
            atoms,
            ensemble.grid,
            resolution_A,
            args.density_mode,
            args.mask_threshold,
            args.mask_extend,
            args.mask_soft_edge,
            args.outdir,
        )
    names = list(found.table.unit)
    log.info("%d units in %d volumes", len(names), len(ensemble))

    occupied = np.asarray(found.masks.max(axis=0).todense()).reshape(mean.shape) > 0
    solvent = solvent_shell(mean, occupied)
    aligned = occupancy.alignment(mean, found, occupied | solvent)
    picture = figures.masks_on_mean(mean, units.strongest_unit(found, mean.shape), names)
    plots.save(picture, args.outdir / f"masks.{args.plot_format}")
    if not args.masks and not aligned > occupancy.LEAST_ALIGNMENT:
        log.warning(
            "the model correlates with the mean volume by %.2f only: is it aligned, complete? See masks.%s",
            aligned,
            args.plot_format,
        )

    sums, background = occupancy.mask_sums(ensemble, found, solvent)
    published = occupancy.maven_occupancy(sums, found)
    gain = None
    if args.scale == "percentile":
        calibrated = occupancy.percentile_scaled(published)
    else:
        amplitudes = occupancy.unmixed(sums, background, found)
        gain = occupancy.present_level(amplitudes, found.table.mass.to_numpy())
        calibrated = amplitudes / gain.level

    limited = np.clip(calibrated, 0, 1)
    volume_tree, unit_tree = clustering.ward(limited, args.classes), clustering.ward(limited.T)
    described = clustering.describe_units(calibrated, names)
    required = cooccurrence.dependencies(calibrated > described.cut.to_numpy(), names)
    tables.write_occupancies(args.outdir / "occupancies.csv", published, ensemble.numbers, found.table)
    tables.write_volumes(
        args.outdir / "volumes.parquet", calibrated, ensemble.numbers, found.table, volume_tree
    )
    write_csv(args.outdir / "units.csv", tables.unit_table(found.table, described, unit_tree))
    write_csv(args.outdir / "dependencies.csv", required)
    for name, fig in {
        "clustermap": figures.clustermap(limited, names, volume_tree, unit_tree),
        "histograms": figures.histograms(calibrated, described),
        "correlation": figures.correlation(calibrated, names, unit_tree.order),
    }.items():
        plots.save(fig, args.outdir / f"{name}.{args.plot_format}")
    summary = tables.summary(ensemble, found.table, described, required, volume_tree, gain, aligned)
    summary["alignment"] = placed.summary() if placed else None
    write_json(args.outdir / "summary.json", {"resolution_A": resolution_A, "scale": args.scale, **summary})
    log.info("%d groups of volumes; %d dependencies between units", volume_tree.groups.max(), len(required))


def align_model(args: argparse.Namespace, mean, grid, resolution_A: float):
    """Check where the model lies, or fit it: table, figure, the moved model, one sentence in the log."""
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
    if found.moves:
        alignment.write_aligned(args.model, found.used.placement, grid, args.model_origin, args.outdir)
    log.log(logging.INFO if found.well else logging.WARNING, "%s", found.verdict)
    return found


if __name__ == "__main__":
    command(build_parser(), run)
