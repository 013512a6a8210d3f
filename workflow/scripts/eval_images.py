"""Infer latents of particles with a trained network."""

import argparse
from pathlib import Path

from tomohet.cli import command, options, training_options


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("particles", type=Path, help="STAR file of tilt images, or a prepared store's folder")
    parser.add_argument("-w", "--weights", type=Path, required=True, help="weights of train_vae")
    parser.add_argument("-c", "--config", type=Path, required=True, help="its config.pkl")
    parser.add_argument("--out-z", type=Path, required=True, metavar="PKL", help="file of the latents")
    parser.add_argument(
        "-b", "--batch-size", type=int, default=64, metavar="N", help="particles at once (64)"
    )
    parser.add_argument(
        "--log-interval", type=int, default=1000, metavar="N", help="particles between log lines (1000)"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log every batch")
    parser.add_argument(
        "--no-amp", action="store_true", help="accepted for tomoDRGN's command lines: latents are float32"
    )
    options.add_particle_options(parser)
    options.add_poses(parser)
    training_options.add_loading_options(parser, several_passes=False)
    options.add_sharing(parser, "the particles, in whole batches; --out-z is written when all parts are done")
    options.add_seed(parser)
    options.add_device(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Read the particles, infer, write means and log variances."""
    from tomohet.device import device_of
    from tomohet.errors import InputError
    from tomohet.files.parts import locked
    from tomohet.particles.source import open_particles
    from tomohet.processes import share_of, start_one_per_gpu
    from tomohet.training.evaluation import write_latents
    from tomohet.training.settings import check_loading

    if args.batch_size < 1 or args.log_interval < 1:
        raise InputError("--batch-size and --log-interval must be at least 1")
    check_loading(args)
    device = device_of(args.device)
    if args.multigpu:
        start_one_per_gpu(device)
    args.outdir = args.out_z.parent
    with locked(args.outdir / "prepared"):  # the first of several processes prepares what a STAR file names
        store, particles = open_particles(args.particles, args)
    write_latents(args, store, particles, device, share_of(args.part, device))


if __name__ == "__main__":
    command(build_parser(), run)
