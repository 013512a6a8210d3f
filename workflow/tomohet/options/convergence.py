"""Options of the verdict on convergence."""

from pathlib import Path

from tomohet.options.base import POSITIONAL, option
from tomohet.options.kinds import MaskKind
from tomohet.options.shared import DeviceOptions, ParticleMapsOptions, PlotOptions

SKETCH = "representative particles: density maxima of the last embedding"
MASK_OF_MAPS = "mask of map comparisons"


class ConvergenceNnOptions(PlotOptions):
    """Compare the maps of train_nn through its epochs with a reference map."""

    training_directory: Path = option(..., "Output folder of train_nn.", POSITIONAL)
    reference_volume: Path = option(..., "Map to compare with, in the same box.", POSITIONAL)
    outdir: Path | None = option(None, "Output folder (TRAINING/convergence.N, N epochs).", "-o", "--outdir")
    max_epoch: int | None = option(None, "Only epochs below this.")
    include_dc: bool = option(False, "Keep the shell at zero frequency.")
    fsc_mask: MaskKind = option("soft", "Mask of the FSC.")


class ConvergenceVaeOptions(PlotOptions, DeviceOptions, ParticleMapsOptions):
    """Judge the convergence of train_vae: losses, latents and volumes followed through the epochs."""

    workdir: Path = option(..., "Output folder of train_vae.", POSITIONAL)
    outdir: Path | None = option(None, "Output folder (WORKDIR/convergence.EPOCH).", "-o", "--outdir")
    epoch_interval: int = option(5, "Step between the epochs looked at.", unit="epochs", ge=1)
    subset: int = option(50000, "Particles in the UMAP at most.", ge=1)
    random_seed: int = option(0, "Seed of subsets and clusters.")
    random_state: int = option(42, "Seed of UMAP.")
    skip_umap: bool = option(False, "Follow principal components instead of UMAP, which takes longer.")
    n_bins: int = option(30, "Histogram bins per axis.", section=SKETCH, ge=1)
    smooth: bool = option(
        True,
        "Smooth the histogram.",
        metavar="BOOL",
        section=SKETCH,
    )
    smooth_width: float = option(
        1.0,
        "Smoothing width, bins.",
        section=SKETCH,
    )
    pruned_maxima: int = option(12, "Prune close maxima down to this.", section=SKETCH, ge=1)
    radius: float = option(
        5.0,
        "Closer than this is too close, bins.",
        section=SKETCH,
    )
    final_maxima: int = option(10, "Maxima kept.", section=SKETCH, ge=1)
    fsc: Path | None = option(
        None,
        "fsc.csv of the half maps of the same particles: a growth of the volumes' power beyond their "
        "resolution is warned of.",
        metavar="CSV",
    )
    skip_volgen: bool = option(False, "Take the volumes of an earlier run.")
    ground_truth: tuple[Path, ...] = option((), "Maps to compare with, in the volumes' box.")
    mask: MaskKind = option(
        "soft",
        "Kind of mask.",
        section=MASK_OF_MAPS,
    )
    thresh: float | None = option(
        None,
        "Tight, soft: percentile of density (99).",
        section=MASK_OF_MAPS,
    )
    dilate: int | None = option(
        None,
        "Tight, soft: dilation, px (box/30).",
        section=MASK_OF_MAPS,
    )
    dist: int | None = option(
        None,
        "Soft: width of the edge, px (box/30).",
        section=MASK_OF_MAPS,
    )
