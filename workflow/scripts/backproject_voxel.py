"""Reconstruct a map and its half maps from tilt images by weighted backprojection."""

import argparse
import logging
import tempfile
from pathlib import Path

from tomohet.cli import command, log_to, options, take_output
from tomohet.errors import InputError

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Options of the command; names and defaults as in tomoDRGN 1.0 where it has them."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Writes map, map_filt, half1, half2 and mask (.mrc), fsc.csv, reconstruction.json and figures "
        "into -o FOLDER; X.mrc, X_filt.mrc, X_half1.mrc, X_half2.mrc, X_FSC.pkl and so on for -o X.mrc.",
    )
    parser.add_argument("particles", help="STAR file (image series or optimisation set) or prepared store")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FOLDER|X.mrc", help="output folder, or file of the map"
    )
    options.add_particle_options(parser)
    options.add_poses(parser)
    group = parser.add_argument_group("reconstruction")
    group.add_argument("--recon-dose-weight", action="store_true", help="model the radiation damage by dose")
    group.add_argument(
        "--recon-tilt-weight", action="store_true", help="model the loss of signal by cos(tilt angle)"
    )
    group.add_argument(
        "--half-by",
        choices=("particle", "tilt"),
        default="particle",
        help="particle: the input's half sets, or particles at random; tilt: each particle's tilts at random",
    )
    group.add_argument(
        "--wiener",
        type=float,
        metavar="F",
        help="regulariser as a fraction of each shell's mean weight (default: Wiener filter from the FSC)",
    )
    group.add_argument(
        "--refine-poses",
        type=Path,
        metavar="FILE",
        help="poses.parquet of train_linear: where that model found errors (and ran without "
        "--no-refine-poses), refine the poses of each half set by a linear model of that half alone. --poses "
        "takes poses that all particles together have refined, which raises the FSC",
    )
    group.add_argument("--mask", metavar="MRC", help="mask for the FSC (default: drawn around the density)")
    group.add_argument(
        "--lowpass", type=float, metavar="A", help="low-pass of the filtered map, Å (default: its resolution)"
    )
    group.add_argument("--flip", action="store_true", help="reverse the z axis (handedness)")
    options.add_plot_options(parser)
    options.add_seed(parser)
    options.add_device(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Prepare a STAR file if need be, reconstruct, write."""
    from tomohet.reconstruction.outputs import MapFiles

    for name in ("wiener", "lowpass"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise InputError(f"--{name} {value}: expected a number above 0")
    if args.poses is not None and args.refine_poses is not None:
        raise InputError("--poses and --refine-poses: expected one; the FSC is honest with --refine-poses")
    files = MapFiles.of(args.output)
    files.folder.mkdir(parents=True, exist_ok=True)
    if not files.prefix:
        take_output(files.folder)
    log_to(files.path("run.log", "_run.log"))
    if files.prefix and not Path(args.particles).is_dir():
        # A lone X.mrc leaves no folder beside it: the prepared images go when the map is there.
        with tempfile.TemporaryDirectory(dir=files.folder, prefix=f".{files.prefix}_prepared") as folder:
            args.outdir = folder
            reconstruct(args, files)
    else:
        args.outdir = files.folder
        reconstruct(args, files)


def reconstruct(args: argparse.Namespace, files) -> None:
    """Half maps of the selected particles, written to `files`."""
    from tomohet.device import device_of
    from tomohet.files.masks import read_mask
    from tomohet.particles.source import open_particles
    from tomohet.reconstruction.half_maps import half_maps
    from tomohet.reconstruction.outputs import write_half_maps

    device = device_of(args.device)
    store, particles = open_particles(args.particles, args)
    result = half_maps(
        store,
        particles,
        by=args.half_by,
        seed=args.seed,
        recon_dose_weight=args.recon_dose_weight,
        recon_tilt_weight=args.recon_tilt_weight,
        wiener=args.wiener,
        lowpass_A=args.lowpass,
        mask=read_mask(args.mask, store.box, store.pixel_size_A) if args.mask else None,
        refine=refinement(args, store, device),
        device=device,
    )
    write_half_maps(result, files, flip=args.flip, plot_format=args.plot_format)
    log.info(
        "resolution %.1f Å (FSC 0.143), %.1f Å (FSC 0.5); written to %s",
        result.resolution_A,
        result.resolution_05_A,
        args.output,
    )


def refinement(args: argparse.Namespace, store, device):
    """What refines the poses of a half set, or None where poses stay."""
    from functools import partial

    from tomohet.linear.fit import refined_alone
    from tomohet.particles.refined_poses import RefinedPoses

    if args.poses is not None:
        log.warning("half maps with --poses are not independent of each other: their FSC is too high")
    if args.refine_poses is None or not RefinedPoses.read(args.refine_poses, store).to_be_used:
        return None
    return partial(refined_alone, seed=args.seed, device=device)


if __name__ == "__main__":
    command(build_parser(), run)
