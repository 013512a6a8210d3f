"""Analyse the latents of a trained model: components, clusters, UMAP, their volumes, and a leak audit."""

import argparse
import logging
from pathlib import Path

from tomohet.cli import command, options, take_output

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workdir", type=Path, help="output folder of train_vae or train_linear")
    parser.add_argument(
        "--epoch",
        default="latest",
        help="epoch (0-based), latest, -1 for the final files, or the path of a convergence.json (latest)",
    )
    parser.add_argument("-o", "--outdir", type=Path, help="output folder (WORKDIR/analyze.EPOCH)")
    parser.add_argument("--skip-vol", action="store_true", help="decode no volumes")
    parser.add_argument("--skip-umap", action="store_true", help="make no UMAP")
    parser.add_argument("--pc", type=int, default=2, help="number of principal components to traverse (2)")
    parser.add_argument("--pc-ondata", action="store_true", help="traverse through the nearest particles")
    parser.add_argument("--ksample", type=int, default=20, help="number of k-means clusters (20)")
    parser.add_argument(
        "--particles", type=Path, metavar="PKL", help="store indices of the latents' particles (config.pkl's)"
    )
    parser.add_argument("--store", type=Path, help="prepared store, for the leak audit (config.pkl's)")
    options.add_volume_options(parser)
    options.add_plot_options(parser)
    options.add_seed(parser)
    options.add_device(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Analyse the latents and write tables, figures and volumes."""
    from tomohet.analysis.run_folder import FINAL, RunFolder
    from tomohet.errors import InputError
    from tomohet.files.leftovers import replacing

    if args.ksample < 1 or args.pc < 0:
        raise InputError(f"--ksample {args.ksample} must be at least 1 and --pc {args.pc} at least 0")
    training = RunFolder(args.workdir)
    epoch = training.epoch(args.epoch)
    outdir = args.outdir or args.workdir / ("analyze" if epoch == FINAL else f"analyze.{epoch}")
    take_output(outdir)
    with replacing(outdir, "analyze"):
        analyse(args, training, epoch, outdir)


def analyse(args: argparse.Namespace, training, epoch: int, outdir: Path) -> None:
    """The latents of one epoch: components, clusters, UMAP, their volumes, and the leak audit."""
    from tomohet.analysis import latent_analysis, latent_plots, leaks
    from tomohet.analysis.decode import VolumeMaker
    from tomohet.analysis.movement import component_maps, movement_shares
    from tomohet.analysis.run_folder import particles_of
    from tomohet.analysis.volume_montage import montage
    from tomohet.files.atomic import write_csv, write_json, write_parquet, write_pickle

    z, logvar = training.latents(epoch)
    config = training.config()
    particles = particles_of(len(z), args.particles, config)
    maker = None if args.skip_vol else VolumeMaker(training, epoch, args)

    log.info("epoch %d: %d particles, %d latent dimensions", epoch, *z.shape)
    found = latent_analysis.analyse(z, args.ksample, args.seed, not args.skip_umap)
    numbers = {"epoch": epoch, **latent_analysis.summary(found, logvar)}
    write_parquet(outdir / "particles.parquet", latent_analysis.particle_columns(particles, found))
    figures = latent_analysis.overview_figures(found)
    if found.umap is not None:
        write_pickle(outdir / "umap.pkl", found.umap)

    tomograms = None
    store_folder = args.store or config.get("store")
    if store_folder:
        from tomohet.particles.same_input import refuse_other_input
        from tomohet.particles.store import open_store

        store = open_store(store_folder)
        refuse_other_input(config, store.description, training.path, store_folder)
        table = leaks.nuisances(store, particles)
        tomograms = table["tomogram"].to_numpy()
        audit = leaks.audit(found.pcs.scores, table)
        if maker is not None:
            maps, mean = component_maps(maker.decoder, found.pcs, leaks.COMPONENTS)
            audit = leaks.with_movement(audit, movement_shares(maps, mean))
        numbers["leaks"] = leaks.describe(audit)
        write_csv(outdir / "leaks.csv", audit.tests)
        figures["leaks"] = latent_plots.leak_table(audit)
        figures["controls"] = latent_plots.controls(*latent_plots.plane(found.pcs), table)
        leaks.warn(audit)
    else:
        log.warning("no prepared store is known, so the leak audit is skipped; name one with --store")
    latent_plots.save_all(figures, outdir, args.plot_format)

    sets = {f"kmeans{args.ksample}": found.kmeans.centres}
    titles = {f"kmeans{args.ksample}": "Volumes at the k-means centres"}
    folder = outdir / f"kmeans{args.ksample}"
    latent_analysis.write_clusters(folder, found.kmeans)
    latent_plots.save_all(latent_analysis.cluster_figures(found, tomograms), folder, args.plot_format)
    for component in range(min(args.pc, found.pcs.scores.shape[1])):
        folder = outdir / f"pc{component + 1}"
        points, rows = latent_analysis.component_points(found, component, args.pc_ondata)
        latent_analysis.write_component(folder, points, rows, args.pc_ondata)
        latent_plots.save_all(
            latent_analysis.component_figures(found, component, rows), folder, args.plot_format
        )
        sets[folder.name] = points
        titles[folder.name] = f"Volumes along PC{component + 1}"
    if maker is not None:
        for name, points in sets.items():
            volumes = maker.write(points, outdir / name)
            montage(volumes, outdir / f"volumes_{name}.{args.plot_format}", titles[name])
    write_json(outdir / "summary.json", numbers)


if __name__ == "__main__":
    command(build_parser(), run)
