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
        help="with -o .mrcs and an image series: write its STAR file too",
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Read, crop, write."""
    from dataclasses import replace

    import pandas as pd

    from tomohet.errors import InputError
    from tomohet.files.atomic import atomic_path
    from tomohet.particles import downsampling as down

    if args.batch_size < 1 or (args.chunk is not None and args.chunk < 1):
        raise InputError("--batch-size and --chunk: expected at least 1 image")
    if args.output.resolve() == args.input.resolve():
        raise InputError(f"-o {args.output}: is the input; give another name")
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
    file = None
    if is_star:
        file, images, coordinates = down.downsample_rows(args.input, args.datadir, args.source_software)
    else:
        stacks = [args.input]
        if args.input.suffix == ".txt":
            base = args.datadir or args.input.parent
            stacks = [base / line.strip() for line in args.input.read_text().splitlines() if line.strip()]
            if not stacks:
                raise InputError(f"{args.input}: names no stack, expected one per line")
        images = down.images_of_stacks(stacks)

    size = args.chunk or len(images)
    names, rows = [], []
    for number, start in enumerate(range(0, len(images), size)):
        end = min(start + size, len(images))
        path = args.output
        if args.chunk:
            path = path.with_name(f"{path.stem}.{number}{path.suffix}")
        part = replace(images, stacks=images.stacks[start:end], sections=images.sections[start:end])
        down.write_downsampled(part, args.downsample, path, args.batch_size)
        names.append(path.name)
        rows += [f"{section:06d}@{path.name}" for section in range(1, end - start + 1)]
    if args.chunk:
        with atomic_path(args.output.with_suffix(".txt")) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in names))
    if args.write_tiltseries_starfile:
        new = down.rescaled_file(file, pd.Series(rows), images.box, args.downsample, coordinates)
        new.write(args.output.with_suffix(".star"), file.particle >= 0)
    log.info("%s: %d images of %d px", args.output, len(images), args.downsample)


if __name__ == "__main__":
    command(build_parser(), run)
