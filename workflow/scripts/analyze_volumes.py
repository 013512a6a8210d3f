"""Analyse a folder of volumes: principal components, UMAP, clusters and traversals in voxel space."""

import argparse
import logging
from pathlib import Path

from tomohet.cli import command, options, take_output

TRAVERSED = 10  # components along which volumes are written

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--voldir", type=Path, required=True, help="folder of volumes *_NUMBER.mrc, or one stack of volumes"
    )
    parser.add_argument(
        "--config", type=Path, help="the training's config.pkl: also count clusters by tomogram"
    )
    parser.add_argument("-o", "--outdir", type=Path, help="output folder (VOLDIR_analyze_volumes)")
    parser.add_argument("--num-pcs", type=int, default=128, help="principal components kept (128)")
    parser.add_argument("--ksample", type=int, help="number of k-means clusters (none)")
    parser.add_argument("--skip-umap", action="store_true", help="make no UMAP")
    mask = parser.add_argument_group("mask (default: around the density of all volumes, automatic)")
    mask.add_argument("--mask-path", type=Path, help="use this mask (.mrc)")
    mask.add_argument("--mask", choices=("none", "sphere", "tight", "soft"), help="draw a mask of this kind")
    mask.add_argument("--thresh", type=float, help="tight, soft: percentile of density (99)")
    mask.add_argument("--dilate", type=int, help="tight, soft: dilation, px (box/30)")
    mask.add_argument("--dist", type=int, help="soft: width of the edge, px (box/30)")
    options.add_plot_options(parser)
    options.add_seed(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Analyse the volumes and write tables, figures and volumes."""
    from tomohet.analysis.volume_space import find_volumes
    from tomohet.errors import InputError
    from tomohet.files.leftovers import replacing

    if args.num_pcs < 1 or (args.ksample is not None and args.ksample < 1):
        raise InputError("--num-pcs and --ksample must be at least 1")
    volumes = find_volumes(args.voldir)
    source = args.voldir.resolve()
    name = source.stem if source.is_file() else source.name
    outdir = args.outdir or args.voldir.with_name(f"{name}_analyze_volumes")
    take_output(outdir)
    with replacing(outdir, "analyze_volumes"):
        analyse(args, volumes, outdir)


def analyse(args: argparse.Namespace, volumes, outdir: Path) -> None:
    """The volumes as points: components in a mask, clusters, UMAP."""
    from tomohet.analysis import volume_analysis, volume_space
    from tomohet.files.atomic import write_json, write_parquet, write_pickle
    from tomohet.files.masks import read_mask
    from tomohet.files.mrc import stack_header, write_volume

    log.info("%d volumes of %d px, %.3g Å/px", len(volumes.paths), volumes.box, volumes.pixel_size_A)

    mean, highest = volume_space.mean_and_highest(volumes)
    if args.mask_path is not None:
        mask = read_mask(args.mask_path, volumes.box, stack_header(volumes.paths[0])[1])
    else:
        mask = volume_space.analysis_mask(
            highest, volumes.pixel_size_A, args.mask, args.thresh, args.dilate, args.dist
        )
    pcs = volume_space.components(volumes, mean, mask, args.num_pcs, TRAVERSED)
    found = volume_analysis.analyse(pcs, args.ksample, args.seed, not args.skip_umap)

    write_volume(outdir / "mask.mrc", mask, volumes.pixel_size_A)
    write_volume(outdir / "mean.mrc", mean, volumes.pixel_size_A)
    write_parquet(outdir / "volumes.parquet", volume_analysis.volume_columns(volumes, found))
    write_pickle(outdir / "voxel_pc.pkl", pcs.scores)
    if found.umap is not None:
        write_pickle(outdir / "voxel_pc_umap.pkl", found.umap)
    volume_analysis.write_traversals(outdir, volumes, pcs, args.plot_format)
    if found.kmeans is not None:
        tomograms = volume_analysis.tomograms_of_volumes(args.voldir, args.config, volumes)
        folder = outdir / f"kmeans{args.ksample}"
        volume_analysis.write_clusters(folder, volumes, found, args.plot_format, tomograms)
    volume_analysis.write_figures(outdir, volumes, found, mask, args.plot_format)
    write_json(outdir / "summary.json", volume_analysis.summary(volumes, found, mask))


if __name__ == "__main__":
    command(build_parser(), run)
