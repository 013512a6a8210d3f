"""Compare the maps of all epochs of train_nn with a reference map."""

import logging

from tomohet.analysis import latent_plots, map_series
from tomohet.analysis.volume_drift import MaskOptions
from tomohet.files.atomic import write_json, write_pickle
from tomohet.options import ConvergenceNnOptions
from tomohet.running.logs import log_to
from tomohet.running.outputs import take_output
from tomohet.running.work import command

log = logging.getLogger(__name__)


@command
def run(options: ConvergenceNnOptions) -> dict:
    """Write the FSC curves, their figures and convergence.json; return the content of convergence.json."""
    maps = map_series.find_maps(options.training_directory, options.max_epoch)
    outdir = options.outdir or options.training_directory / f"convergence.{len(maps)}"
    take_output(outdir)
    log_to(outdir / "convergence_nn.log")
    series = map_series.compare(
        maps, options.reference_volume, MaskOptions(options.fsc_mask), options.include_dc
    )
    write_pickle(outdir / "freqs_fscs.pkl", (series.frequency_1_A, series.curves))
    latent_plots.save_all(map_series.figures(series), outdir, options.plot_format)
    best = int(series.integral.argmax())
    for row, epoch in enumerate(series.epochs):
        log.info(
            "epoch %d: FSC 0.5 at %.2f Å, 0.143 at %.2f Å, area %.4g 1/Å%s",
            epoch,
            series.resolution_A[0.5][row],
            series.resolution_A[0.143][row],
            series.integral[row],
            " (best)" if row == best else "",
        )
    if best < len(maps) - 1:
        log.warning(
            "the agreement is best at epoch %d and decreases later, which indicates overfitting",
            series.epochs[best],
        )
    found = {
        "epochs": series.epochs,
        "best_epoch": series.epochs[best],
        "resolution_A": {f"fsc_{level}": values for level, values in series.resolution_A.items()},
        "integral_1_A": series.integral,
    }
    write_json(outdir / "convergence.json", found)
    return found
