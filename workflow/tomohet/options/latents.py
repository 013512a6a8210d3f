"""Options of the analysis of latents and of their volumes."""

from pathlib import Path

from tomohet.options.base import POSITIONAL, Options, option
from tomohet.options.kinds import MaskKind
from tomohet.options.shared import (
    DeviceOptions,
    ParticleMapsOptions,
    PlotOptions,
    SeedOptions,
    SharingOptions,
)

MASK = "mask (default: around the density of all volumes, automatic)"


class AnalyzeOptions(PlotOptions, SeedOptions, DeviceOptions, ParticleMapsOptions):
    """Analyse the latents of a trained model: components, clusters, UMAP, their volumes, and a leak audit."""

    workdir: Path = option(..., "Output folder of train_vae or train_linear.", POSITIONAL)
    outdir: Path | None = option(None, "Output folder (WORKDIR/analyze.EPOCH).", "-o", "--outdir")
    skip_vol: bool = option(False, "No volumes along the components and at the cluster centres.")
    skip_umap: bool = option(False, "No UMAP.")
    pc: int = option(2, "Principal components along which volumes are decoded.", ge=0)
    pc_ondata: bool = option(False, "Traverse through the nearest particles.")
    ksample: int | None = option(
        None,
        "Number of k-means clusters; null takes as many as there are states (in a command without --states, "
        "components of the Gaussian mixture of lowest BIC). Where that is one, clusters only divide the "
        "latent space, one per 50 particles, 2 to 20.",
        ge=1,
    )
    states: Path | None = option(
        None,
        "particles.parquet of `states`: its number of states is that of clusters, and the agreement of "
        "clusters and states is told.",
        metavar="PARQUET",
    )
    particles: Path | None = option(
        None,
        "Store indices of the latents' particles (config.pkl's).",
        metavar="PKL",
    )
    store: Path | None = option(None, "Prepared store, for the leak audit (config.pkl's).")


class AnalyzeVolumesOptions(PlotOptions, SeedOptions):
    """Analyse a folder of volumes: principal components, UMAP, clusters and traversals in voxel space."""

    voldir: Path = option(..., "Folder of volumes *_NUMBER.mrc, or one stack of volumes.")
    config: Path | None = option(None, "The training's config.pkl: also count clusters by tomogram.")
    outdir: Path | None = option(None, "Output folder (VOLDIR_analyze_volumes).", "-o", "--outdir")
    num_pcs: int = option(128, "Principal components kept.", ge=1)
    ksample: int | None = option(None, "Number of k-means clusters.", ge=1)
    skip_umap: bool = option(False, "Make no UMAP.")
    mask_path: Path | None = option(
        None,
        "Use this mask (.mrc).",
        section=MASK,
    )
    mask: MaskKind | None = option(
        None,
        "Mask of the voxels compared.",
        section=MASK,
    )
    thresh: float | None = option(
        None,
        "Tight, soft: percentile of density (99).",
        section=MASK,
    )
    dilate: int | None = option(
        None,
        "Tight, soft: dilation, px (box/30).",
        section=MASK,
    )
    dist: int | None = option(
        None,
        "Soft: width of the edge, px (box/30).",
        section=MASK,
    )


class ChooseVolumesOptions(SeedOptions):
    """Choose which latents to decode: one per particle, or a k-means sketch of them when there are many."""

    latents: Path = option(..., "Latents (.pkl), or the output folder of a training.", POSITIONAL)
    epoch: str = option(
        "latest",
        "With a folder: epoch, latest, -1 (final files) or the path of a convergence.json.",
    )
    particles: Path | None = option(
        None,
        "Store indices of the latents' particles (config.pkl's).",
        metavar="PKL",
    )
    count: int = option(500, "Volumes at most.", ge=1)
    outdir: Path = option(..., "Output folder.", "-o", "--outdir")


class EvalVolOptions(DeviceOptions, SharingOptions, ParticleMapsOptions):
    """Decode volumes of a trained model at given latents."""

    exclusive = (("amp", "no_amp"),)
    weights: Path | None = option(None, "Weights of train_vae, train_nn or train_linear.", "-w", "--weights")
    config: Path | None = option(None, "The training's config.pkl.", "-c", "--config")
    outdir: Path = option(..., "Folder of the volumes.", "-o", "--outdir")
    prefix: str = option("vol_", "Start of the volumes' names.")
    zfile: Path | None = option(
        None,
        "Latents, one row per volume: .pkl (first array) or .txt; not needed for a homogeneous volume.",
    )
    batch_size: int = option(
        32,
        "Volumes decoded together, fewer where they would take too much memory.",
        "-b",
        "--batch-size",
        metavar="N",
        ge=1,
    )
    stack: bool = option(
        False,
        "Write one MRC stack of volumes (vol.mrcs) instead of vol_000.mrc, vol_001.mrc, ...",
    )
    amp: bool = option(
        False,
        "16-bit products where they are fast: float16 on a GPU, bfloat16 on a CPU that has it. Volumes "
        "are then off by up to about 0.3 % and 4 % of their maximum (imported runs stay float32).",
    )
    no_amp: bool = option(False, "Float32 products (the default).")


class GraphTraversalOptions(PlotOptions):
    """Find the shortest path through the latents between chosen particles, always near observed particles."""

    z: Path = option(..., "Latents (.pkl).", POSITIONAL)
    anchors: tuple[int, ...] = option(..., "Particles (rows of the latents) to pass, in order.")
    outdir: Path = option(..., "Output folder.", "-o", "--outdir")
    max_neighbors: int = option(10, "Nearest neighbours joined.")
    avg_neighbors: float | None = option(
        None,
        "Keep only the shortest edges, so many per particle on average.",
    )


class PcTraversalOptions(Options):
    """Write latents along principal components, for eval_vol to decode."""

    z: Path = option(..., "Latents (.pkl).", POSITIONAL)
    outdir: Path = option(..., "Output folder, or with --dim a file name (.txt).", "-o", "--outdir")
    dim: int | None = option(None, "Only this principal component, from 1 (all).")
    n: int = option(10, "Points per component.", "-n")
    lim: tuple[float, float] = option((5, 95), "Percentiles.", metavar="LOW HIGH")
    use_percentile_spacing: bool = option(False, "Space points evenly in percentile, not score.")
