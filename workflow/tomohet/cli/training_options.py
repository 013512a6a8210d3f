"""Options that the training commands share; names and defaults as in tomoDRGN 1.0 unless the help says so."""

import argparse
from pathlib import Path

ENCODINGS = ("geom_ft", "geom_full", "geom_lowf", "geom_nohighf", "linear_lowf", "gaussian", "none")
BETA_LETTERS = ("a", "b", "c", "d", "e")


def add_course_options(parser: argparse.ArgumentParser, batch_size: int) -> None:
    """Length, optimiser, continuation and logging."""
    group = parser.add_argument_group("training")
    group.add_argument("-n", "--num-epochs", type=int, default=20, metavar="N", help="epochs (20)")
    group.add_argument(
        "-b",
        "--batch-size",
        type=int,
        default=batch_size,
        metavar="N",
        help=f"particles per step ({batch_size})",
    )
    group.add_argument("--wd", type=float, default=0.0, metavar="F", help="weight decay of AdamW (0)")
    group.add_argument(
        "--lr",
        type=float,
        default=1e-4,
        metavar="F",
        help="base learning rate (1e-4); a step's is this times sqrt(batch size) times 2, the published rule",
    )
    group.add_argument(
        "--sequential-tilt-sampling",
        action="store_true",
        help="leave out the factor 2 of the learning rate; every tilt is used in its order in any case",
    )
    group.add_argument(
        "--lr-schedule",
        default="constant",
        choices=("constant", "cosine"),
        help="learning rate over the training: constant, or a cosine down to 0 (constant)",
    )
    group.add_argument(
        "--lr-warmup",
        type=float,
        default=0.0,
        metavar="F",
        help="share of the training over which the learning rate rises from 0 (0)",
    )
    group.add_argument(
        "--load",
        metavar="WEIGHTS",
        help="continue from this weights.N.pkl, or from `latest`; without it a training whose settings and "
        "particles are those of the output folder is continued, any other starts afresh",
    )
    group.add_argument(
        "--checkpoint", type=int, default=1, metavar="N", help="epochs between weights, latents and map (1)"
    )
    group.add_argument(
        "--checkpoint-minutes",
        type=float,
        default=5.0,
        metavar="MIN",
        help="minutes between checkpoints within an epoch, from which a killed training continues (5)",
    )
    group.add_argument(
        "--log-interval", type=int, default=200, metavar="N", help="particles between log lines (200)"
    )
    group.add_argument("-v", "--verbose", action="store_true", help="log the losses of every step")
    group.add_argument(
        "--no-amp",
        action="store_true",
        help="float32 throughout; the default is bfloat16 in the decoder's hidden layers where the device is "
        "faster with it (GPUs of 2020 and later, CPUs with AVX512-BF16 or AMX)",
    )
    group.add_argument(
        "--multigpu",
        action="store_true",
        help="train on all visible GPUs, each with its part of every batch; the result is that of one GPU "
        "up to the order of summation",
    )


def add_loss_options(parser: argparse.ArgumentParser) -> None:
    """Which Fourier points of the images are fitted, and with which weights."""
    group = parser.add_argument_group("loss")
    group.add_argument(
        "--recon-dose-weight",
        action="store_true",
        help="weight residuals by the dose attenuation per frequency",
    )
    group.add_argument(
        "--recon-tilt-weight", action="store_true", help="weight residuals by the cosine of the tilt"
    )
    group.add_argument(
        "--l-dose-mask",
        action="store_true",
        help="leave out frequencies beyond an image's optimal dose (2.51 times the critical dose)",
    )
    group.add_argument(
        "--noise-model",
        default="flat",
        choices=("flat", "shells"),
        help="weights of the residuals: the same at every frequency, or by the inverse of the noise of each "
        "Fourier shell, estimated from the images; noise.csv then lists it (flat)",
    )
    group.add_argument(
        "--max-frequency",
        type=float,
        default=0.5,
        metavar="F",
        help="highest frequency fitted, cycles per pixel; 0.5 is Nyquist (0.5)",
    )
    group.add_argument(
        "--march",
        type=float,
        default=0.0,
        metavar="F",
        help="share of the training over which the highest frequency fitted grows from a quarter of "
        "--max-frequency to all of it, epoch by epoch (0: all from the start)",
    )
    group.add_argument(
        "--rows-per-image",
        type=float,
        default=1.0,
        metavar="F",
        help="share of each image's Fourier points drawn at random per step, without bias (1: all)",
    )


def add_decoder_options(parser: argparse.ArgumentParser, prefix: str, width: int) -> None:
    """The decoder; `prefix` "dec-" for train_vae's names."""
    group = parser.add_argument_group("decoder")
    group.add_argument(
        f"--{prefix}layers", dest="dec_layers", type=int, default=3, metavar="N", help="hidden layers (3)"
    )
    group.add_argument(
        f"--{prefix}dim", dest="dec_dim", type=int, default=width, metavar="N", help=f"width ({width})"
    )
    group.add_argument(
        "--l-extent",
        type=float,
        default=0.5,
        metavar="F",
        help="half-width of the lattice of coordinates given to the decoder, scaled by F / 0.5 (0.5)",
    )
    group.add_argument(
        "--pe-type", default="gaussian", choices=ENCODINGS, help="positional encoding (gaussian)"
    )
    group.add_argument(
        "--pe-dim", type=int, metavar="N", help="frequencies of the encoding per axis (half the box)"
    )
    group.add_argument(
        "--feat-sigma", type=float, default=0.5, metavar="F", help="width of the random frequencies (0.5)"
    )
    group.add_argument(
        "--activation", default="relu", choices=("relu", "leaky_relu"), help="activation (relu)"
    )


def add_loading_options(parser: argparse.ArgumentParser, several_passes: bool = True) -> None:
    """How images are read that do not fit on the device; they change the speed, never the result.

    several_passes : the command goes through the images more than once
    """
    group = parser.add_argument_group(
        "reading of images that do not fit on the device, or of all images with --lazy"
    )
    group.add_argument(
        "--num-workers",
        type=int,
        default=0,
        metavar="N",
        help="threads that read from disk and put batches together (0, which is 1)",
    )
    group.add_argument(
        "--prefetch-factor", type=int, metavar="N", help="batches made ready before they are needed (2)"
    )
    if several_passes:
        group.add_argument(
            "--persistent-workers",
            action="store_true",
            help="keep the reading threads for all epochs instead of starting new ones in each",
        )
    group.add_argument(
        "--pin-memory",
        action="store_true",
        help="copy batches to the GPU from page-locked memory, while it computes; without a GPU nothing is "
        "copied",
    )


def add_encoder_options(parser: argparse.ArgumentParser) -> None:
    """The encoder and the latent's prior."""
    group = parser.add_argument_group("encoder")
    group.add_argument(
        "--encoder",
        choices=("tilts", "backprojected", "free"),
        help="what latents come from: a network that sees each tilt image but not its pose (tilts, as "
        "published); one that sees the particle's back-projection in a small box (backprojected); or no "
        "network, but the images' likelihood under the decoder (free). The last two need --init (free with "
        "--init, else tilts)",
    )
    for name, default, meaning in (
        ("--enc-layers-A", 3, "hidden layers of encoder A, per tilt"),
        ("--enc-dim-A", 256, "width of encoder A"),
        ("--out-dim-A", 128, "features per tilt"),
        ("--enc-layers-B", 3, "hidden layers of encoder B, per particle"),
        ("--enc-dim-B", 256, "width of encoder B, or of the set encoder"),
    ):
        group.add_argument(name, type=int, default=default, metavar="N", help=f"{meaning} ({default})")
    group.add_argument(
        "--enc-mask", type=int, metavar="PX", help="diameter of the frequencies seen (box; -1 likewise)"
    )
    group.add_argument(
        "--pooling-function",
        default="mean",
        choices=("concatenate", "max", "mean", "median", "set_encoder"),
        help="pooling over all tilts of a particle, whatever their number (mean, which forgets their order; "
        "tomoDRGN's default is concatenate)",
    )
    group.add_argument("--num-seeds", type=int, default=1, metavar="N", help="seeds of the set encoder (1)")
    group.add_argument("--num-heads", type=int, default=4, metavar="N", help="its attention heads (4)")
    group.add_argument("--layer-norm", action="store_true", help="layer normalisation in the set encoder")
    group.add_argument(
        "--beta",
        type=beta_value,
        metavar="F|a-e",
        help="weight of the KL divergence: a number, or a schedule a to e (1/zdim)",
    )
    group.add_argument(
        "--beta-control",
        type=float,
        metavar="F",
        help="pull the KL divergence to --beta with this strength instead",
    )


def beta_value(text: str) -> str | float:
    """A number, or the letter of a schedule."""
    if text in BETA_LETTERS:
        return text
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a number nor one of {', '.join(BETA_LETTERS)}"
        ) from error


def add_particles_argument(parser: argparse.ArgumentParser) -> None:
    """Input and output."""
    parser.add_argument("particles", type=Path, help="STAR file of tilt images, or a prepared store's folder")
    parser.add_argument("-o", "--outdir", type=Path, required=True, help="output folder")
