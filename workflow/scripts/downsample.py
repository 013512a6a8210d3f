"""Crop images, volumes or whole datasets to a smaller box in Fourier space; STAR files follow."""

import argparse
import logging
from pathlib import Path

from tomohet.cli import command, options

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "input",
        type=Path,
        help="stack (.mrcs), list of stacks (.txt), volume (--is-vol), image series or optimisation set",
    )
    parser.add_argument("-D", "--downsample", type=int, required=True, metavar="BOX", help="new box, px")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help="file to write: .mrcs, .mrc; .star writes a whole dataset with new stacks beside it",
    )
    parser.add_argument(
        "--source-software",
        default="auto",
        choices=options.SOURCE_SOFTWARE,
        help="dialect of the STAR file (auto)",
    )
    parser.add_argument(
        "--batch-size", type=int, default=5000, metavar="N", help="images in memory at a time (5000)"
    )
    parser.add_argument("--is-vol", action="store_true", help="the input is a volume")
    parser.add_argument("--chunk", type=int, metavar="N", help="images per output file, listed in a .txt")
    parser.add_argument("--lazy", action="store_true", help="accepted; images are always read as needed")
    parser.add_argument("--datadir", type=Path, help="folder in which the stacks are found")
    parser.add_argument(
        "--write-tiltseries-starfile",
        action="store_true",
        help="with -o .mrcs and a STAR file: write an image series of the new images too, named after -o",
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Read, crop, write."""
    from tomohet.errors import InputError
    from tomohet.files.overwriting import refuse_overwriting_inputs
    from tomohet.particles import downsampled_stack as one
    from tomohet.particles import downsampling as down

    if args.batch_size < 1 or (args.chunk is not None and args.chunk < 1):
        raise InputError("--batch-size and --chunk: expected at least 1 image")
    refuse_overwriting_inputs([args.output], [args.input])
    if not args.input.is_file():
        raise InputError(f"{args.input}: no such file")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    if args.is_vol:
        down.downsample_volume(args.input, args.downsample, args.output)
        return
    is_star = args.input.suffix == ".star"
    if is_star and args.output.suffix == ".star":
        if args.chunk:
            raise InputError("--chunk: for -o .mrcs only; with -o .star every stack keeps its images")
        n = down.downsample_star(
            args.input, args.output, args.downsample, args.datadir, args.source_software, args.batch_size
        )
        log.info("%s: %d stacks of %d px", args.output, n, args.downsample)
        return
    if args.output.suffix not in (".mrcs", ".mrc") or (args.write_tiltseries_starfile and not is_star):
        raise InputError(f"-o {args.output}: expected .mrcs for stacks, .star for a STAR file")
    if is_star:
        source = one.images_of_star(args.input, args.datadir, args.source_software)
    else:
        source = one.images_of_list(args.input, args.datadir)
    one.write_one_stack(
        source, args.output, args.downsample, args.batch_size, args.chunk, args.write_tiltseries_starfile
    )
    log.info("%s: %d images of %d px", args.output, len(source.images), args.downsample)


if __name__ == "__main__":
    command(build_parser(), run)
