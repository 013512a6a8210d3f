"""Analyse the latents of a trained model: components, clusters, UMAP, volumes, and a leak audit."""

import logging
from pathlib import Path

import numpy as np

from tomohet.analysis import latent_analysis, latent_plots, leaks
from tomohet.analysis.decode import VolumeMaker
from tomohet.analysis.movement import component_maps, movement_shares
from tomohet.analysis.run_folder import FINAL, RunFolder
from tomohet.analysis.volume_montage import montage
from tomohet.answers import stated
from tomohet.files.atomic import write_csv, write_json, write_parquet, write_pickle
from tomohet.files.leftovers import replacing
from tomohet.files.tables import read_table
from tomohet.options import AnalyzeOptions
from tomohet.particles.joining import rows_of
from tomohet.particles.same_input import refuse_other_input
from tomohet.particles.store import open_store
from tomohet.rounds.layout import ANALYZE
from tomohet.running.outputs import take_output
from tomohet.running.work import command

log = logging.getLogger(__name__)


@command
def run(options: AnalyzeOptions) -> dict:
    """Analyse the latents; write tables, figures and volumes; return the summary."""
    training = RunFolder(options.workdir)
    epoch = training.epoch(options.epoch)
    outdir = options.outdir or options.workdir / ("analyze" if epoch == FINAL else f"analyze.{epoch}")
    take_output(outdir)
    with replacing(outdir, "analyze"):
        return analyse(options, training, epoch, outdir)


def analyse(options: AnalyzeOptions, training: RunFolder, epoch: int, outdir: Path) -> dict:
    """Analyse the latents of one epoch: components, clusters, UMAP, volumes, and the leak audit."""
    trained = training.particles()
    latents = training.latents_of_particles(epoch, options.particles)
    z, logvar, particles = latents.mean, latents.logvar, latents.particles
    maker = None if options.skip_vol else VolumeMaker(training, epoch, options)

    log.info("epoch %d: %d particles, %d latent dimensions", epoch, *z.shape)
    states = states_of(options.states, particles) if options.states else None
    found = latent_analysis.analyse(z, options.ksample, options.seed, not options.skip_umap, states)
    numbers = {"epoch": epoch, **latent_analysis.summary(found, logvar)}
    write_parquet(outdir / ANALYZE.by_particle, latent_analysis.particle_columns(particles, found))
    figures = latent_analysis.overview_figures(found)
    if found.umap is not None:
        write_pickle(outdir / "umap.pkl", found.umap)

    tomograms = None
    store_folder = options.store or trained.store
    if store_folder:
        store = open_store(store_folder)
        refuse_other_input(trained.origin, store.description, training.path, store_folder)
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
        log.warning("the prepared store is unknown, so the leak audit is skipped; give it with --store")
    latent_plots.save_all(figures, outdir, options.plot_format)

    # The folder is named as asked for, though few distinct latents make fewer clusters.
    kmeans = f"kmeans{options.ksample or len(found.kmeans.rows)}"
    sets = {kmeans: found.kmeans.centres}
    titles = {kmeans: "Volumes at the k-means centres"}
    folder = outdir / kmeans
    latent_analysis.write_clusters(folder, found.kmeans)
    latent_plots.save_all(latent_analysis.cluster_figures(found, tomograms), folder, options.plot_format)
    for component in range(min(options.pc, found.pcs.scores.shape[1])):
        folder = outdir / f"pc{component + 1}"
        points, rows = latent_analysis.component_points(found, component, options.pc_ondata)
        latent_analysis.write_component(folder, points, rows, options.pc_ondata)
        latent_plots.save_all(
            latent_analysis.component_figures(found, component, rows), folder, options.plot_format
        )
        sets[folder.name] = points
        titles[folder.name] = f"Volumes along PC{component + 1}"
    if maker is not None:
        for name, points in sets.items():
            volumes = maker.write(points, outdir / name)
            montage(volumes, outdir / f"volumes_{name}.{options.plot_format}", titles[name])
    numbers |= stated(latent_analysis.latent_answers(numbers))
    write_json(outdir / ANALYZE.summary, numbers)
    return numbers


def states_of(path: Path, particles: np.ndarray) -> np.ndarray:
    """Return the state of each particle from a table of `states`; -1 where the table lacks the particle."""
    table = read_table(path, {"particle": "whole numbers", "state": "whole numbers"})
    rows = rows_of(particles, table["particle"].to_numpy(), path)
    return np.where(rows >= 0, table["state"].to_numpy()[rows], -1)
