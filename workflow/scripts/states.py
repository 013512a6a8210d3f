"""Find discrete states: sort particles into maps, and say whether states or a continuum fit them better."""

import argparse
from pathlib import Path

from tomohet.cli import command, log_to, options


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("particles", type=Path, help="prepared store, or STAR file")
    parser.add_argument(
        "--linear", type=Path, required=True, metavar="DIR", help="output folder of train_linear"
    )
    parser.add_argument("-o", "--outdir", type=Path, required=True, help="output folder")
    parser.add_argument(
        "--states",
        type=int,
        metavar="N",
        help="number of states (default: as many as held-out tilt images tell from each other)",
    )
    parser.add_argument("--most", type=int, default=12, metavar="N", help="states at most (12)")
    options.add_particle_options(parser)
    options.add_plot_options(parser)
    options.add_seed(parser)
    options.add_device(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Read, fit, write."""
    from tomohet.device import device_of
    from tomohet.errors import InputError
    from tomohet.files.leftovers import replacing
    from tomohet.linear.state_output import write_states
    from tomohet.linear.states import fit_states
    from tomohet.particles.source import open_particles

    args.outdir.mkdir(parents=True, exist_ok=True)
    log_to(args.outdir / "run.log")
    store, particles = open_particles(args.particles, args)
    for name, number in (("--states", args.states), ("--most", args.most)):
        if number is not None and not 1 <= number:
            raise InputError(f"{name} {number}: expected at least 1")
    if args.states is not None and args.states > len(particles):
        raise InputError(f"--states {args.states}: more than the {len(particles)} particles")
    if len(particles) < 2:
        raise InputError(f"{args.particles}: {len(particles)} particles; states need at least 2")
    states = fit_states(
        store,
        particles,
        args.linear,
        args.states,
        most=args.most,
        seed=args.seed,
        device=device_of(args.device),
    )
    with replacing(args.outdir, "states"):
        write_states(args.outdir, store, particles, states, args.plot_format)


if __name__ == "__main__":
    command(build_parser(), run)
