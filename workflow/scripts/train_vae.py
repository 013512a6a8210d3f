"""Train the heterogeneity network: latents of particles and the volumes they stand for."""

import argparse
from pathlib import Path

from tomohet.cli import command, options, training_options


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    training_options.add_particles_argument(parser)
    parser.add_argument(
        "--zdim",
        type=int,
        metavar="N",
        help="size of the latent (with --init the linear model's number of basis maps; needed without)",
    )
    training_options.add_course_options(parser, batch_size=1)
    training_options.add_loss_options(parser)
    parser.add_argument(
        "--fraction-train",
        type=float,
        default=1.0,
        metavar="F",
        help="share of each particle's tilts that is trained on; latents of the others are z.N.test.pkl (1)",
    )
    parser.add_argument(
        "--init",
        type=Path,
        metavar="DIR",
        help="output folder of train_linear on the same particles: latents start from its posterior, and the "
        "decoder adds to its maps",
    )
    training_options.add_encoder_options(parser)
    training_options.add_decoder_options(parser, "dec-", width=256)
    options.add_particle_options(parser)
    options.add_poses(parser)
    training_options.add_loading_options(parser)
    options.add_plot_options(parser)
    options.add_seed(parser)
    options.add_device(parser)
    parser.add_argument(
        "--show-summary-stats",
        nargs="?",
        metavar="BOOL",
        help="accepted for tomoDRGN's command lines: the summary is always written",
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Read the particles, train, write."""
    from tomohet.cli.training import run_training
    from tomohet.training.vae import train_vae

    run_training(train_vae, args)


if __name__ == "__main__":
    command(build_parser(), run)
