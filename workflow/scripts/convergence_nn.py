"""Compare the maps of train_nn through its epochs with a reference map."""

import argparse
import logging
from pathlib import Path

from tomohet.cli import command, log_to, options, take_output

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("training_directory", type=Path, help="output folder of train_nn")
    parser.add_argument("reference_volume", type=Path, help="map to compare with, in the same box")
    parser.add_argument("-o", "--outdir", type=Path, help="output folder (TRAINING/convergence.N, N epochs)")
    parser.add_argument("--max-epoch", type=int, help="only epochs below this")
    parser.add_argument("--include-dc", action="store_true", help="keep the shell at zero frequency")
    parser.add_argument(
        "--fsc-mask",
        default="soft",
        choices=("none", "sphere", "tight", "soft"),
        help="mask of the FSC (soft)",
    )
    options.add_plot_options(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Write the FSC curves, their figures and convergence.json."""
    from tomohet.analysis import latent_plots, map_series
    from tomohet.analysis.volume_drift import MaskOptions
    from tomohet.files.atomic import write_json, write_pickle

    maps = map_series.find_maps(args.training_directory, args.max_epoch)
    outdir = args.outdir or args.training_directory / f"convergence.{len(maps)}"
    take_output(outdir)
    log_to(outdir / "convergence_nn.log")
    series = map_series.compare(maps, args.reference_volume, MaskOptions(args.fsc_mask), args.include_dc)
    write_pickle(outdir / "freqs_fscs.pkl", (series.frequency_1_A, series.curves))
    latent_plots.save_all(map_series.figures(series), outdir, args.plot_format)
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
        log.warning("maps agree best at epoch %d, less later: a sign of overfitting", series.epochs[best])
    write_json(
        outdir / "convergence.json",
        {
            "epochs": series.epochs,
            "best_epoch": series.epochs[best],
            "resolution_A": {f"fsc_{level}": values for level, values in series.resolution_A.items()},
            "integral_1_A": series.integral,
        },
    )


if __name__ == "__main__":
    command(build_parser(), run)
