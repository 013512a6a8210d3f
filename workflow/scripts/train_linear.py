"""Fit a linear latent model: a mean map, a few basis maps and closed-form latents."""

import argparse
from pathlib import Path

from tomohet.cli import command, options


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("particles", type=Path, help="prepared store, or STAR file")
    parser.add_argument("-o", "--outdir", type=Path, required=True, help="output folder")
    parser.add_argument(
        "--zdim",
        type=int,
        metavar="N",
        help="number of basis maps (default: as many as tilt images that were held out confirm, at most 10)",
    )
    parser.add_argument(
        "-n",
        "--iterations",
        type=int,
        default=40,
        help="most iterations of EM, which ends when the latents have settled (40)",
    )
    parser.add_argument(
        "--max-frequency",
        type=float,
        default=0.25,
        metavar="F",
        help="highest spatial frequency used, cycles per pixel; 0.5 is Nyquist (0.25)",
    )
    parser.add_argument(
        "--structure-may-follow",
        nargs="+",
        default=[],
        choices=("view", "defocus", "tomogram", "tilts", "noise"),
        help="count components although one of these explains them, such as tomogram where the tomograms are "
        "of different samples (default: none)",
    )
    parser.add_argument(
        "--focus-mask",
        type=Path,
        metavar="MRC",
        help="model differences inside of this mask alone; those outside are nuisance, fitted and integrated "
        "out (default: differences anywhere)",
    )
    parser.add_argument(
        "--refine-poses",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="let what comes after use the poses that the model refines, where it finds errors (yes)",
    )
    options.add_particle_options(parser)
    options.add_plot_options(parser)
    options.add_seed(parser)
    options.add_device(parser)
    parser.add_argument(
        "--multigpu",
        action="store_true",
        help="share the particles among all visible GPUs (no effect with one, or on a CPU)",
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Read, fit, write."""
    from tomohet.cli.training import run_together
    from tomohet.errors import InputError

    if not 0 < args.max_frequency <= 0.5:
        raise InputError(f"--max-frequency {args.max_frequency}: expected more than 0 and at most 0.5")
    run_together(fit_and_write, args)


def fit_and_write(args: argparse.Namespace, store, particles, device, processes) -> None:
    """Fit, together with the other processes; the leader writes."""
    from tomohet.analysis import leaks
    from tomohet.analysis.movement import movement_shares
    from tomohet.errors import InputError
    from tomohet.files.atomic import write_csv
    from tomohet.files.masks import read_mask
    from tomohet.linear.explained import CONDITIONS
    from tomohet.linear.figures import write_figures
    from tomohet.linear.fit import fit_linear_model
    from tomohet.linear.output import LinearRun, write_run

    if len(particles) < 2:
        raise InputError(f"{args.particles}: {len(particles)} particle; a linear model needs at least 2")
    if args.zdim is not None and not 1 <= args.zdim < len(particles):
        raise InputError(f"--zdim {args.zdim}: expected 1 to {len(particles) - 1} (particles less one)")
    fit = {"iterations": args.iterations, "max_frequency": args.max_frequency, "seed": args.seed}
    focus = None if args.focus_mask is None else read_mask(args.focus_mask, store.box, store.pixel_size_A)
    nuisances = [condition for condition in CONDITIONS if condition not in args.structure_may_follow]
    asked = {"zdim": args.zdim, "nuisances": nuisances}
    where = {"focus": focus, "device": device, "processes": processes}
    model = fit_linear_model(store, particles, **asked, **where, **fit)
    if not processes.leads:
        return
    write_figures(model, args.outdir, args.plot_format)
    audit = leaks.audit(model.latents.mean.cpu().numpy(), leaks.nuisances(store, particles))
    audit = leaks.with_movement(audit, movement_shares(model.basis, model.mean.volume))
    leaks.warn(audit)
    write_csv(args.outdir / "leaks.csv", audit.tests)
    run = LinearRun(store, particles, fit | asked | focus_of(args), args.refine_poses)
    write_run(args.outdir, run, model, leaks.describe(audit))


def focus_of(args: argparse.Namespace) -> dict:
    """The focus mask as an option of the fit, where there is one."""
    return {} if args.focus_mask is None else {"focus_mask": str(args.focus_mask.resolve())}


if __name__ == "__main__":
    command(build_parser(), run)
