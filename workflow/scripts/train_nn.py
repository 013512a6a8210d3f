"""Train one neural volume for all particles: the consensus map of a decoder without latent."""

import argparse

from tomohet.cli import command, log_to, options, training_options


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    training_options.add_particles_argument(parser)
    training_options.add_course_options(parser, batch_size=1)
    training_options.add_loss_options(parser)
    training_options.add_decoder_options(parser, "", width=512)
    options.add_particle_options(parser)
    training_options.add_loading_options(parser)
    options.add_plot_options(parser)
    options.add_seed(parser)
    options.add_device(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Read the particles, train, write."""
    from tomohet.device import device_of
    from tomohet.particles.source import open_particles
    from tomohet.training.checkpoints import lock_folder
    from tomohet.training.homogeneous import train_nn
    from tomohet.training.settings import check_options

    check_options(args)
    with lock_folder(args.outdir):
        log_to(args.outdir / "run.log")
        store, particles = open_particles(args.particles, args)
        train_nn(args, store, particles, device_of(args.device))


if __name__ == "__main__":
    command(build_parser(), run)
