"""Assess the convergence of train_vae: losses, latents and volumes over the epochs."""

import logging
from pathlib import Path

from tomohet.analysis import convergence, convergence_plots, latent_drift
from tomohet.analysis.run_folder import FINAL, RunFolder
from tomohet.analysis.sketch import density_maxima
from tomohet.analysis.verdict import convergence_answer, epoch_to_use, judge
from tomohet.analysis.volume_drift import MaskOptions, follow
from tomohet.answers import stated
from tomohet.files.atomic import write_csv, write_json, write_pickle
from tomohet.files.digests import sealed
from tomohet.files.leftovers import replacing
from tomohet.files.tables import read_csv
from tomohet.options import ConvergenceVaeOptions
from tomohet.physics.fsc import resolution_at
from tomohet.reconstruction.half_maps import SIGNIFICANT
from tomohet.rounds.layout import CONVERGENCE
from tomohet.running.logs import log_to
from tomohet.running.outputs import take_output
from tomohet.running.work import command

log = logging.getLogger(__name__)


@command
def run(options: ConvergenceVaeOptions) -> dict:
    """Compare epochs; write numbers, figures and convergence.json; return the content of convergence.json."""
    training = RunFolder(options.workdir)
    last = training.epoch(options.epoch)
    outdir = options.outdir or options.workdir / ("convergence" if last == FINAL else f"convergence.{last}")
    take_output(outdir)
    log_to(outdir / "convergence.log")
    with replacing(outdir, "convergence_vae"):
        return compare(options, training, last, outdir)


def compare(options: ConvergenceVaeOptions, training: RunFolder, last: int, outdir: Path) -> dict:
    """Compare losses, latents and volumes of representative particles up to epoch `last`; choose an epoch."""
    known = [epoch for epoch in training.latent_epochs() if epoch <= last] or [last]
    epochs = latent_drift.listed_epochs(known, options.epoch_interval, last)
    log.info("epochs compared: %s", ", ".join(map(str, epochs)))

    losses = latent_drift.read_losses(options.workdir)
    every_shift = latent_drift.shifts(training, known)
    moved = latent_drift.shifts(training, epochs)
    stable = latent_drift.stability(training, epochs, options.random_seed)
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
    if not options.skip_umap:
        umaps = convergence.umap_planes(training, epochs, outdir, options.subset, options)
        if umaps is not None:
            planes = umaps
            figures["02_encoder_umaps"] = convergence_plots.planes(umaps.points, umaps.names, umaps.title)
    maxima = density_maxima(
        planes.points[last],
        options.n_bins,
        options.smooth_width if options.smooth else 0,
        options.pruned_maxima,
        options.radius,
        options.final_maxima,
    )
    figures["04_decoder_sketching"] = convergence_plots.sketching(planes.points[last], planes.names, maxima)
    figures["05_decoder_maxima-sketch-consistency"] = convergence_plots.consistency(
        planes.points, planes.names, maxima.members
    )
    members = [planes.rows[group] for group in maxima.members]
    volumes = convergence.representative_volumes(training, epochs, members, outdir, options)
    drifted = None
    if volumes:
        mask = MaskOptions(options.mask, options.thresh, options.dilate, options.dist)
        drifted = follow(volumes, mask, options.ground_truth)
        convergence.write_volume_drift(outdir, drifted)
        figures |= convergence.volume_figures(drifted, [path.stem for path in options.ground_truth])
    held_out = latent_drift.read_held_out(options.workdir, last)
    resolution_A = resolution_of(options.fsc) if options.fsc else None
    verdict = judge(training.latents(last)[0], losses, moved, stable, drifted, held_out, resolution_A)
    used = epoch_to_use(verdict.preferred, known, last)
    answer = convergence_answer(verdict.text, last, verdict.best, used)
    figures["verdict"] = convergence_plots.verdict(answer.sentence, used, held_out, moved, stable, drifted)
    convergence.save(figures, outdir, options.plot_format)
    write_pickle(
        outdir / "vector_metrics.pkl",
        every_shift[["dot", "magnitude", "cosine_distance"]].to_numpy(),
    )
    write_csv(outdir / "latent_shifts.csv", every_shift)
    write_csv(outdir / "latent_stability.csv", stable)
    for line in [*verdict.reasons, *verdict.warnings]:
        log.info("%s", line)
    log.info("verdict: %s; epoch %d is chosen", verdict.text, used)
    found = {
        "epoch": used,
        "last_epoch": last,
        "verdict": verdict.text,
        "reasons": verdict.reasons,
        "warnings": verdict.warnings,
        "metrics": verdict.metrics,
        "epochs": epochs,
    }
    found |= stated([answer])
    with sealed(outdir / CONVERGENCE.summary):
        write_json(outdir / CONVERGENCE.summary, found)
    return found


def resolution_of(path: Path) -> float:
    """Read the resolution in Å at FSC 0.143 from the fsc.csv of half maps (`homogeneous`, `subset`)."""
    table = read_csv(path, dict.fromkeys(("frequency_1_A", "corrected"), "numbers"))
    return resolution_at(table["corrected"], table["frequency_1_A"], SIGNIFICANT)
