"""Decode volumes of a trained model at given latents."""

import argparse
from pathlib import Path

from tomohet.cli import command, options


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-w", "--weights", type=Path, help="weights of train_vae, train_nn or train_linear")
    parser.add_argument("-c", "--config", type=Path, help="its config.pkl")
    parser.add_argument("--workdir", type=Path, help="its output folder, instead of -w and -c")
    parser.add_argument(
        "--epoch",
        default="latest",
        help="with --workdir: epoch, latest, -1 (final files) or the path of a convergence.json (latest)",
    )
    parser.add_argument("-o", "--outdir", type=Path, required=True, help="folder of the volumes")
    parser.add_argument("--prefix", default="vol_", help="start of the volumes' file names (vol_)")
    parser.add_argument(
        "--zfile",
        type=Path,
        help="latents, one row per volume: .pkl (first array) or .txt; not needed for a homogeneous volume",
    )
    parser.add_argument(
        "-b", "--batch-size", type=int, default=32, metavar="N", help="volumes decoded at once (32)"
    )
    parser.add_argument(
        "--no-amp", action="store_true", help="accepted for tomoDRGN's command lines: volumes are float32"
    )
    parser.add_argument(
        "--multigpu", action="store_true", help="accepted for tomoDRGN's command lines; one device is used"
    )
    options.add_volume_options(parser)
    options.add_device(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Open the model, decode, write."""
    import numpy as np

    from tomohet.device import device_of
    from tomohet.errors import InputError
    from tomohet.model.load import load_model
    from tomohet.model.volumes import read_latent_points, write_homogeneous, write_volumes

    weights, config = _model_files(args)
    if args.batch_size < 1:
        raise InputError(f"--batch-size {args.batch_size}: expected at least 1")
    decoder = load_model(weights, config, device_of(args.device))
    chosen = {
        "box": args.downsample,
        "lowpass_A": args.lowpass,
        "flip": args.flip,
        "invert": args.invert,
    }
    if decoder.zdim == 0:
        write_homogeneous(decoder, args.outdir, **chosen)
    elif args.zfile is None:
        raise InputError("--zfile is needed: the model has latents, and a volume belongs to each")
    else:
        z = read_latent_points(args.zfile, decoder.zdim).astype(np.float32)
        write_volumes(decoder, z, args.outdir, batch=args.batch_size, prefix=args.prefix, **chosen)


def _model_files(args: argparse.Namespace) -> tuple[Path, Path]:
    from tomohet.analysis.run_folder import RunFolder
    from tomohet.errors import InputError

    if args.workdir is not None:
        training = RunFolder(args.workdir)
        return training.weights_path(training.epoch(args.epoch)), training.config_path
    if args.weights is None or args.config is None:
        raise InputError("give the model as -w WEIGHTS -c CONFIG, or as --workdir FOLDER")
    return args.weights, args.config


if __name__ == "__main__":
    command(build_parser(), run)
