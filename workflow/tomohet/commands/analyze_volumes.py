"""Analyse a folder of volumes: principal components, UMAP, clusters and traversals in voxel space."""

import logging
from pathlib import Path

from tomohet.analysis import volume_analysis, volume_space
from tomohet.analysis.ensemble import Ensemble
from tomohet.analysis.volume_space import find_volumes
from tomohet.answers import stated
from tomohet.files.atomic import write_json, write_parquet, write_pickle
from tomohet.files.leftovers import replacing
from tomohet.files.masks import read_mask
from tomohet.files.mrc import write_volume
from tomohet.options import AnalyzeVolumesOptions
from tomohet.rounds.layout import ANALYZE_VOLUMES
from tomohet.running.outputs import take_output
from tomohet.running.work import command

TRAVERSED = 10  # number of components for traversal volumes

log = logging.getLogger(__name__)


@command
def run(options: AnalyzeVolumesOptions) -> dict:
    """Analyse the volumes; write tables, figures and volumes; return the summary."""
    volumes = find_volumes(options.voldir)
    source = options.voldir.resolve()
    name = source.stem if source.is_file() else source.name
    outdir = options.outdir or options.voldir.with_name(f"{name}_analyze_volumes")
    take_output(outdir)
    with replacing(outdir, "analyze_volumes"):
        return analyse(options, volumes, outdir)


def analyse(options: AnalyzeVolumesOptions, volumes: Ensemble, outdir: Path) -> dict:
    """Analyse the volumes as points in voxel space: principal components in a mask, clusters, UMAP."""
    log.info("%d volumes of %d px, %.3g Å/px", len(volumes), volumes.grid.box, volumes.grid.pixel_size_A)

    mean, highest = volume_space.mean_and_highest(volumes)
    if options.mask_path is not None:
        mask = read_mask(options.mask_path, volumes.grid.box, volumes.grid.pixel_size_A)
    else:
        mask = volume_space.analysis_mask(
            highest, volumes.grid.pixel_size_A, options.mask, options.thresh, options.dilate, options.dist
        )
    pcs = volume_space.components(volumes, mean, mask, options.num_pcs, TRAVERSED)
    found = volume_analysis.analyse(pcs, options.ksample, options.seed, not options.skip_umap)

    write_volume(outdir / "mask.mrc", mask, volumes.grid.pixel_size_A)
    write_volume(outdir / "mean.mrc", mean, volumes.grid.pixel_size_A)
    write_parquet(outdir / ANALYZE_VOLUMES.by_volume, volume_analysis.volume_columns(volumes, found))
    write_pickle(outdir / "voxel_pc.pkl", pcs.scores)
    if found.umap is not None:
        write_pickle(outdir / "voxel_pc_umap.pkl", found.umap)
    volume_analysis.write_traversals(outdir, volumes, pcs, options.plot_format)
    if found.kmeans is not None:
        tomograms = volume_analysis.tomograms_of_volumes(options.voldir, options.config, volumes)
        folder = outdir / f"kmeans{options.ksample}"
        volume_analysis.write_clusters(folder, volumes, found, options.plot_format, tomograms)
    volume_analysis.write_figures(outdir, volumes, found, mask, options.plot_format)
    summary = volume_analysis.summary(volumes, found, mask)
    summary |= stated([volume_analysis.components_answer(summary)])
    write_json(outdir / ANALYZE_VOLUMES.summary, summary)
    return summary
