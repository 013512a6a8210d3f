"""Groups of options that several commands share; names, defaults and meaning as in tomoDRGN 1.0."""

import argparse
from pathlib import Path

SOURCE_SOFTWARE = (
    "auto",
    "warp",
    "cryosrpnt",
    "cryodrgn",
    "nextpyp",
    "tomodrgn_preprocessed",
    "cistem",
    "warptools",
    "relion",
)


def add_particle_options(parser: argparse.ArgumentParser) -> None:
    """Which particles and tilt images to read, where their stacks are, and how images are prepared."""
    group = parser.add_argument_group("particles")
    group.add_argument(
        "--source-software", default="auto", choices=SOURCE_SOFTWARE, help="dialect of the STAR file (auto)"
    )
    group.add_argument(
        "--datadir", help="folder in which the image stacks are found (the STAR file's folder)"
    )
    add_symmetry_expanded(group)
    group.add_argument("--ind-ptcls", metavar="PKL", help="indices of the particles to keep (0-based)")
    group.add_argument("--ind-imgs", metavar="PKL", help="indices of the tilt images to keep (0-based)")
    group.add_argument(
        "--sort-ptcl-imgs",
        default="unsorted",
        choices=("unsorted", "dose_ascending", "random"),
        help="order of a particle's images before --use-first-ntilts (unsorted: as in the file)",
    )
    group.add_argument(
        "--use-first-ntilts",
        type=int,
        default=-1,
        metavar="N",
        help="keep each particle's first N images, drop particles with fewer (-1: all)",
    )
    group.add_argument(
        "--use-first-nptcls", type=int, default=-1, metavar="N", help="keep the first N particles (-1: all)"
    )
    group.add_argument(
        "--uninvert-data",
        action="store_true",
        help="keep the contrast as it is (default: invert, unless the images are CTF-premultiplied)",
    )
    group.add_argument("--no-window", action="store_true", help="no circular real-space window")
    group.add_argument(
        "--window-r",
        type=float,
        default=0.8,
        metavar="F",
        help="window: inner radius, fraction of half box (0.8)",
    )
    group.add_argument(
        "--window-r-outer", type=float, default=0.9, metavar="F", help="window: outer radius, likewise (0.9)"
    )
    group.add_argument(
        "--norm",
        type=float,
        nargs=2,
        metavar=("SHIFT", "SCALE"),
        help="normalise images as (x - SHIFT) / SCALE and leave their background in them, as networks of "
        "tomoDRGN know them (default: background taken off, by each image's own noise)",
    )
    group.add_argument(
        "--lazy",
        action="store_true",
        help="read images from disk as needed, a gigabyte at most at once, even if they fit in memory (other "
        "commands than trainings and eval_images always do)",
    )


def add_symmetry_expanded(parser) -> None:
    """Whether several poses of one particle are meant; `particles.copies` asks."""
    parser.add_argument(
        "--symmetry-expanded",
        action="store_true",
        help="the file is symmetry-expanded: each particle occurs several times, in poses that its point "
        "group relates; copies stay together in half sets and tests (default: such a file is asked about)",
    )


def add_poses(parser: argparse.ArgumentParser) -> None:
    """The refined poses that `particles.source.open_particles` applies."""
    parser.add_argument(
        "--poses",
        type=Path,
        metavar="FILE",
        help="poses.parquet of train_linear on the same particles: use the poses that it has refined, unless "
        "it ran with --no-refine-poses (default: poses as the input states them)",
    )


def add_volume_options(parser: argparse.ArgumentParser) -> None:
    """What is done to every volume written."""
    group = parser.add_argument_group("volumes")
    group.add_argument("--flip", action="store_true", help="reverse the z axis (handedness)")
    group.add_argument("--invert", action="store_true", help="change the sign of the volumes")
    group.add_argument("--downsample", type=int, metavar="BOX", help="Fourier-crop to this box size, px")
    group.add_argument("--lowpass", type=float, metavar="A", help="low-pass filter at this resolution, Å")


def volume_form(args: argparse.Namespace) -> tuple[int | None, float | None, bool, bool]:
    """The values of `add_volume_options`: box, low-pass, flip, invert."""
    return args.downsample, args.lowpass, args.flip, args.invert


def add_particle_maps(parser: argparse.ArgumentParser) -> None:
    """The model whose maps of every particle are measured, and the form that its volumes were written in."""
    group = parser.add_argument_group(
        "every particle",
        "With the volumes' own model: --downsample, --lowpass, --flip, --invert as for them.",
    )
    group.add_argument(
        "--workdir", type=Path, metavar="DIR", help="output folder of train_vae or train_linear"
    )
    group.add_argument(
        "--epoch",
        default="latest",
        help="epoch, latest, -1 (final files) or the path of a convergence.json (latest)",
    )
    add_volume_options(parser)


def add_plot_options(parser: argparse.ArgumentParser) -> None:
    """File type of the figures."""
    parser.add_argument(
        "--plot-format", default="png", choices=("png", "svgz"), help="figure file type (png)"
    )


def add_seed(parser: argparse.ArgumentParser, default: int = 0) -> None:
    """The seed from which all random numbers of the command derive."""
    parser.add_argument("--seed", type=int, default=default, help=f"seed of all random numbers ({default})")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Where tensors are computed; `tomohet.device.device_of` resolves the value."""
    parser.add_argument(
        "--device",
        default="auto",
        choices=("auto", "cpu", "cuda"),
        help="auto: CUDA if there is one, else CPU",
    )


def add_sharing(parser: argparse.ArgumentParser, share: str) -> None:
    """Several processes for one job: `processes.share_of` says which is whose."""
    parser.add_argument(
        "--part",
        type=part,
        default=(1, 1),
        metavar="I/N",
        help=f"do only the I-th of N shares (1/N to N/N) of {share}",
    )
    parser.add_argument(
        "--multigpu",
        action="store_true",
        help="share the work among all visible GPUs (no effect with one, or on a CPU)",
    )


def part(text: str) -> tuple[int, int]:
    """(I, N) from I/N, 1 <= I <= N."""
    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise argparse.ArgumentTypeError(f"{text}: expected I/N with I from 1 to N, such as 2/8")
    return int(number), int(of)
