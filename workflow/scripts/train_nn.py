"""Train one neural volume for all particles: the consensus map of a decoder without latent."""

import argparse

from tomohet.cli import command, options, training_options


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    training_options.add_particles_argument(parser)
    training_options.add_course_options(parser, batch_size=1)
    training_options.add_loss_options(parser)
    training_options.add_decoder_options(parser, "", width=512)
    options.add_particle_options(parser)
    options.add_poses(parser)
    training_options.add_loading_options(parser)
    options.add_plot_options(parser)
    options.add_seed(parser)
    options.add_device(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Read the particles, train, write."""
    from tomohet.cli.training import run_training
    from tomohet.training.homogeneous import train_nn

    run_training(train_nn, args)


if __name__ == "__main__":
    command(build_parser(), run)
