"""Judge the convergence of train_vae: losses, latents and volumes followed through the epochs."""

import argparse
import logging
from pathlib import Path

from tomohet.cli import command, log_to, options, take_output

log = logging.getLogger(__name__)


def truth(text: str) -> bool:
    """A yes or no of the command line."""
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"expected True or False, found {text!r}")
    return known[text.lower()]


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workdir", type=Path, help="output folder of train_vae")
    parser.add_argument(
        "--epoch", default="latest", help="last epoch to compare (0-based), or latest (latest)"
    )
    parser.add_argument("-o", "--outdir", type=Path, help="output folder (WORKDIR/convergence.EPOCH)")
    parser.add_argument("--epoch-interval", type=int, default=5, help="epochs between those compared (5)")
    parser.add_argument("--subset", type=int, default=50000, help="particles in UMAP at most (50000)")
    parser.add_argument("--random-seed", type=int, default=0, help="seed of subsets and clusters (0)")
    parser.add_argument("--random-state", type=int, default=42, help="seed of UMAP (42)")
    parser.add_argument("--skip-umap", action="store_true", help="no UMAP: sketch principal components")
    sketch = parser.add_argument_group("representative particles: density maxima of the last embedding")
    sketch.add_argument("--n-bins", type=int, default=30, help="histogram bins per axis (30)")
    sketch.add_argument("--smooth", type=truth, nargs="?", const=True, default=True, help="smooth it (True)")
    sketch.add_argument("--smooth-width", type=float, default=1.0, help="smoothing width, bins (1)")
    sketch.add_argument("--pruned-maxima", type=int, default=12, help="prune close maxima down to this (12)")
    sketch.add_argument("--radius", type=float, default=5.0, help="closer than this is too close, bins (5)")
    sketch.add_argument("--final-maxima", type=int, default=10, help="maxima kept (10)")
    options.add_volume_options(parser)
    parser.add_argument("--skip-volgen", action="store_true", help="take the volumes of an earlier run")
    parser.add_argument(
        "--ground-truth", type=Path, nargs="+", default=[], help="maps to compare with, in the volumes' box"
    )
    mask = parser.add_argument_group("mask of map comparisons")
    mask.add_argument(
        "--mask", default="soft", choices=("none", "sphere", "tight", "soft"), help="kind (soft)"
    )
    mask.add_argument("--thresh", type=float, help="tight, soft: percentile of density (99)")
    mask.add_argument("--dilate", type=int, help="tight, soft: dilation, px (box/30)")
    mask.add_argument("--dist", type=int, help="soft: width of the edge, px (box/30)")
    options.add_plot_options(parser)
    options.add_device(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Compare epochs and write numbers, figures and convergence.json."""
    from tomohet.analysis.run_folder import FINAL, RunFolder
    from tomohet.errors import InputError
    from tomohet.files.leftovers import replacing

    if min(args.epoch_interval, args.subset, args.n_bins, args.final_maxima, args.pruned_maxima) < 1:
        raise InputError("--epoch-interval, --subset, --n-bins, --pruned-maxima, --final-maxima: at least 1")
    training = RunFolder(args.workdir)
    last = training.epoch(args.epoch)
    outdir = args.outdir or args.workdir / ("convergence" if last == FINAL else f"convergence.{last}")
    take_output(outdir)
    log_to(outdir / "convergence.log")
    with replacing(outdir, "convergence_vae"):
        compare(args, training, last, outdir)


def compare(args: argparse.Namespace, training, last: int, outdir: Path) -> None:
    """The epochs up to `last`: losses, latents, and volumes of representatives; which epoch is taken."""
    from tomohet.analysis import convergence, convergence_plots, latent_drift
    from tomohet.analysis.run_folder import FINAL
    from tomohet.analysis.sketch import density_maxima
    from tomohet.analysis.verdict import judge
    from tomohet.analysis.volume_drift import MaskOptions, follow
    from tomohet.files.atomic import write_csv, write_json, write_pickle
    from tomohet.files.digests import sealed

    known = [epoch for epoch in training.latent_epochs() if epoch <= last] or [last]
    epochs = latent_drift.listed_epochs(known, args.epoch_interval, last)
    log.info("epochs compared: %s", ", ".join(map(str, epochs)))

    losses = latent_drift.read_losses(args.workdir)
    every_shift = latent_drift.shifts(training, known)
    moved = latent_drift.shifts(training, epochs)
    stable = latent_drift.stability(training, epochs, args.random_seed)
    components = convergence.component_planes(training, epochs, outdir)
    figures = {
        "01_encoder_pcs": convergence_plots.planes(components.points, components.names, components.title)
    }
    if losses is not None:
        losses = losses[losses["epoch"] <= last] if last != FINAL else losses
        figures["00_total_loss"] = convergence_plots.losses(losses)
    if len(moved):
        figures["03_encoder_latent_vector_shifts"] = convergence_plots.drift(every_shift, stable)
    planes = components
    if not args.skip_umap:
        umaps = convergence.umap_planes(training, epochs, outdir, args.subset, args)
        if umaps is not None:
            planes = umaps
            figures["02_encoder_umaps"] = convergence_plots.planes(umaps.points, umaps.names, umaps.title)
    maxima = density_maxima(
        planes.points[last],
        args.n_bins,
        args.smooth_width if args.smooth else 0,
        args.pruned_maxima,
        args.radius,
        args.final_maxima,
    )
    figures["04_decoder_sketching"] = convergence_plots.sketching(planes.points[last], planes.names, maxima)
    figures["05_decoder_maxima-sketch-consistency"] = convergence_plots.consistency(
        planes.points, planes.names, maxima.members
    )
    members = [planes.rows[group] for group in maxima.members]
    volumes = convergence.representative_volumes(training, epochs, members, outdir, args)
    drifted = None
    if volumes:
        mask = MaskOptions(args.mask, args.thresh, args.dilate, args.dist)
        drifted = follow(volumes, mask, args.ground_truth)
        convergence.write_volume_drift(outdir, drifted)
        figures |= convergence.volume_figures(drifted, [path.stem for path in args.ground_truth])
    convergence.save(figures, outdir, args.plot_format)

    verdict = judge(training.latents(last)[0], losses, moved, stable, drifted)
    write_pickle(
        outdir / "vector_metrics.pkl",
        every_shift[["dot", "magnitude", "cosine_distance"]].to_numpy(),
    )
    write_csv(outdir / "latent_shifts.csv", every_shift)
    write_csv(outdir / "latent_stability.csv", stable)
    for line in [*verdict.reasons, *verdict.warnings]:
        log.info("%s", line)
    log.info("verdict: %s; epoch %d is taken", verdict.text, last)
    found = {
        "epoch": last,
        "verdict": verdict.text,
        "reasons": verdict.reasons,
        "warnings": verdict.warnings,
        "metrics": verdict.metrics,
        "epochs": epochs,
    }
    with sealed(outdir / "convergence.json"):
        write_json(outdir / "convergence.json", found)


if __name__ == "__main__":
    command(build_parser(), run)
