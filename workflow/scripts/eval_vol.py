"""Decode volumes of a trained model at given latents."""

import argparse
import logging
from pathlib import Path

from tomohet.cli import command, options, take_output

log = logging.getLogger(__name__)


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
    parser.add_argument("--prefix", default="vol_", help="start of the volumes' names (vol_)")
    parser.add_argument(
        "--zfile",
        type=Path,
        help="latents, one row per volume: .pkl (first array) or .txt; not needed for a homogeneous volume",
    )
    parser.add_argument(
        "-b",
        "--batch-size",
        type=int,
        default=32,
        metavar="N",
        help="volumes decoded together, fewer where they would take too much memory (32)",
    )
    parser.add_argument(
        "--stack",
        action="store_true",
        help="write one MRC stack of volumes (vol.mrcs) instead of vol_000.mrc, vol_001.mrc, ...",
    )
    precision = parser.add_mutually_exclusive_group()
    precision.add_argument(
        "--amp",
        action="store_true",
        help="16-bit products where they are fast: float16 on a GPU, bfloat16 on a CPU that has it. Volumes "
        "are then off by up to about 0.3 %% and 4 %% of their maximum (imported runs stay float32)",
    )
    precision.add_argument("--no-amp", action="store_true", help="float32 products (the default)")
    options.add_volume_options(parser)
    options.add_sharing(
        parser,
        "the volumes, numbered as in the whole; of a --stack, each part writes its own volumes into it, and "
        "it has its name when all parts are done",
    )
    options.add_device(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Open the model, decode, write."""
    import numpy as np
    import torch

    from tomohet.device import device_of
    from tomohet.errors import InputError
    from tomohet.files.parts import content_digest
    from tomohet.model.load import load_model
    from tomohet.model.volumes import (
        half_precision,
        read_latent_points,
        stem,
        write_homogeneous,
        write_volumes,
    )
    from tomohet.processes import share_of, start_one_per_gpu

    if args.batch_size < 1:
        raise InputError(f"--batch-size {args.batch_size}: expected at least 1")
    weights, config = _model_files(args)
    device = device_of(args.device)
    if args.multigpu:
        start_one_per_gpu(device)
    share = share_of(args.part, device)
    take_output(args.outdir, shared=share.size > 1)
    half = half_precision(device) if args.amp else None
    if args.amp and half is None:
        log.warning("--amp: this CPU has no instructions for bfloat16; products are float32")
    decoder = load_model(weights, config, device)
    chosen = {
        "box": args.downsample,
        "lowpass_A": args.lowpass,
        "flip": args.flip,
        "invert": args.invert,
        "dtype": half or torch.float32,
    }
    if decoder.zdim == 0:
        if share.leads:
            write_homogeneous(decoder, args.outdir / f"{stem(args.prefix)}.mrc", **chosen)
        return
    if args.zfile is None:
        raise InputError("--zfile is needed: the model has latents, and a volume belongs to each")
    z = read_latent_points(args.zfile, decoder.zdim).astype(np.float32)
    write_volumes(
        decoder,
        z,
        args.outdir,
        batch=args.batch_size,
        prefix=args.prefix,
        part=share.part(len(z)),
        stack=args.stack,
        model_digest=content_digest(weights, config),
        **chosen,
    )


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
