"""Downsampling of stacks, volumes and datasets by Fourier cropping, with their STAR files.

Pixel size and box change everywhere in the STAR files; every other byte stays as it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tomohet.errors import InputError
from tomohet.files.mrc import new_stack, read_map, read_sections, stack_dtype, stack_header, write_volume
from tomohet.files.overwriting import refuse_overwriting_inputs
from tomohet.files.star import numbers
from tomohet.files.star_editing import names_in, replaced, table_in
from tomohet.files.star_quoting import quoted
from tomohet.particles import export
from tomohet.particles.dialects import read_particles
from tomohet.particles.paths import read_any_headers, resolve_stacks
from tomohet.physics.fourier_grids import crop_fourier
from tomohet.physics.resampling import crop_spectrum

PIXEL_COLUMNS = ("rlnDetectorPixelSize", "rlnImagePixelSize", "rlnTomoSubtomogramBinning")
PIXEL_UNIT_COLUMNS = ("rlnOriginX", "rlnOriginY", "rlnOriginZ")
COORDINATES = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")


@dataclass(frozen=True)
class ImageList:
    """Images in the order of output: stack and 0-based section of each; their box and pixel size."""

    stacks: np.ndarray
    sections: np.ndarray
    box: int
    pixel_size_A: float

    def __len__(self) -> int:
        return len(self.stacks)


def images_of_stacks(stacks: list[Path]) -> ImageList:
    """List all images of some stacks, one stack after the other.

    Raises InputError when boxes or pixel sizes differ.
    """
    headers = one_box(stacks)
    depth = headers["n_sections"].to_numpy()
    sections = np.concatenate([np.arange(n) for n in depth])
    return ImageList(
        np.repeat(np.array(stacks, dtype=object), depth),
        sections,
        int(headers["box"].iloc[0]),
        float(headers["pixel_size_A"].iloc[0]),
    )


def write_downsampled(images: ImageList, box: int, path: Path, batch: int = 5000) -> None:
    """Write images cropped to `box` px as one stack, `batch` images at a time.

    Grey values are kept. Stacks of float16 stay float16 unless a value leaves its range; else float32.
    Raises InputError unless `box` is even, at least 4 and not larger than the images.
    """
    check_box(box, images.box)
    dtypes = {stack_dtype(stack) for stack in pd.unique(images.stacks)}
    pixel_size_A = images.pixel_size_A * images.box / box
    for dtype in ["float16", "float32"] if dtypes == {np.dtype("float16")} else ["float32"]:
        try:
            with new_stack(path, (len(images), box, box), dtype, pixel_size_A) as data:
                for start, cropped in _cropped(images, box, batch):
                    if np.abs(cropped).max() > np.finfo(dtype).max:
                        raise OverflowError
                    data[start : start + len(cropped)] = cropped
            return
        except OverflowError:
            continue
    raise InputError(f"{path}: pixels of the input are not finite numbers, nothing is written")


def _cropped(images: ImageList, box: int, batch: int) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(images), batch):
        here = slice(start, min(start + batch, len(images)))
        codes, stacks = pd.factorize(images.stacks[here])
        pixels = np.empty((len(codes), images.box, images.box), np.float32)
        for code, stack in enumerate(stacks):
            pixels[codes == code] = read_sections(stack, images.sections[here][codes == code])
        if not np.isfinite(pixels).all():
            raise InputError(f"{stacks[0]}: some pixels are not finite numbers; extract this stack again")
        yield start, crop_spectrum(torch.from_numpy(pixels), box).numpy()


def downsample_volume(source: Path, box: int, path: Path) -> None:
    """Write a volume cropped to `box` voxels along each axis, density kept."""
    volume, pixel_size_A = read_map(source)
    if len(set(volume.shape)) != 1:
        raise InputError(f"{source}: volume of shape {volume.shape}, expected a cube")
    check_box(box, len(volume))
    small = crop_fourier(torch.from_numpy(volume), box).numpy()
    write_volume(path, small, pixel_size_A * len(volume) / box)


def check_box(box: int, full: int) -> None:
    if box % 2 or not 4 <= box <= full:
        raise InputError(f"--downsample {box}: expected an even box from 4 px to the {full} px of the images")


def downsample_star(star: Path, path: Path, box: int, datadir: Path | None, software: str, batch: int) -> int:
    """Write a dataset at `box` px: its stacks, and the STAR file `path` or the files of an optimisation set.

    The stacks go to a folder named after `path`, under their own paths below the folder common to all.

    Returns the number of stacks. Raises InputError, before anything is written, as the readers do, when
    stacks differ in box, an input would be replaced, or a name cannot be written in a STAR file.
    """
    particle_set = read_particles(star, datadir, software, expanded=None)
    is_set = export.detect_type(star) == "optimisation_set"
    file, tomograms = export.read_optimisation_set(star, datadir) if is_set else (particle_file(star), None)
    sections, stacks = export.split_image_names(_image_names(file))
    written = list(stacks.unique())
    found = resolve_stacks(written, file.path, datadir)
    full = int(one_box(found, particle_set.pixel_sizes_A)["box"].iloc[0])
    check_box(box, full)
    targets = dict(zip(written, _targets(found, path.with_name(f"{path.stem}_stacks")), strict=True))
    renamed = stacks.map({name: str(target.relative_to(path.parent)) for name, target in targets.items()})
    coordinates = in_image_pixels(file, particle_set)
    file = replace(rescaled_file(file, sections + renamed, full, box, coordinates), path=path)
    outputs, inputs = [path, *targets.values()], [*particle_set.inputs, *found]
    if tomograms is not None:
        series = export.tilt_series_files(tomograms, datadir)
        outputs, inputs = [*export.set_files(path), *targets.values()], [*inputs, *series]
        _refuse_unwritable(path, renamed, series)
    refuse_overwriting_inputs(outputs, inputs)
    for source, target in zip(found, targets.values(), strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        depth = stack_header(source)[0][0]
        stack = np.array([source] * depth, object)
        whole = ImageList(stack, np.arange(depth), full, particle_set.pixel_size_A)
        write_downsampled(whole, box, target, batch)
    keep = np.ones(file.n_rows, bool)
    if tomograms is not None:
        export.write_optimisation_set(star, file, tomograms, keep, path, datadir)
    else:
        file.write(path, keep)
    return len(found)


def _image_names(file: export.ParticleFile) -> pd.Series:
    names = file.column("rlnImageName")
    if names is None:
        raise InputError(
            f"{file.path}: column _rlnImageName is missing, so the file cannot be rewritten for new stacks; "
            "give -o a name in .mrcs and --write-tiltseries-starfile"
        )
    return names


def _refuse_unwritable(path: Path, stacks: pd.Series, series: list[Path]) -> None:
    """Raise InputError when a name cannot be written in the files of the optimisation set `path`."""
    for name in (path.name, *map(str, series)):
        quoted(name)
    if stacks.str.match(r"\d+@").any():
        raise InputError(
            f"-o {path.name}: new stacks would be named `{stacks.iloc[0]}`, which means one section; give "
            "a name that does not begin with a number and @"
        )


def rescaled_file(
    file: export.ParticleFile, names: pd.Series, full: int, box: int, coordinates: bool
) -> export.ParticleFile:
    """Rewrite a STAR file for new image names.

    Pixel size, box and pixel units change from `full` to `box`.
    """
    coarser = full / box
    blocks = []
    for number, block in enumerate(file.blocks):
        changes: dict[str, list[str]] = {}
        is_table = number == file.table
        factors: dict[str, float] = dict.fromkeys(PIXEL_COLUMNS, coarser)
        if is_table:
            factors |= dict.fromkeys(PIXEL_UNIT_COLUMNS + (COORDINATES if coordinates else ()), 1 / coarser)
            changes["rlnImageName"] = list(names)
        if is_table or block.name == "optics":
            known = [name for name in (*factors, "rlnImageSize") if name in names_in(block)]
            table = table_in(block, file.path, known)
            for column in set(known) & set(factors):
                values = numbers(table, column, f"{file.path}: {column}")
                changes[column] = [f"{value * factors[column]:.9g}" for value in values]
            if "rlnImageSize" in known:
                changes["rlnImageSize"] = [str(box)] * len(table)
        blocks.append(replaced(block, changes) if changes else block)
    return replace(file, blocks=blocks)


def particle_file(star: Path) -> export.ParticleFile:
    return export.read_particle_file(star, "volumeseries")


def in_image_pixels(file: export.ParticleFile, particle_set) -> bool:
    """Tell whether the coordinates count pixels of the images; unbinned coordinates do not change.

    The reader has found the unit of 3-D coordinates. Where it found no positions in Å, coordinates are
    two-dimensional and count image pixels.
    """
    column = file.column(COORDINATES[0])
    position_A = particle_set.particles["x_A"]
    if column is None or position_A.isna().all() or len(column) != len(position_A):
        return True
    in_pixels_A = pd.to_numeric(column).to_numpy() * particle_set.pixel_size_A
    return bool(np.nanmedian(np.abs(in_pixels_A - position_A)) < 0.1 * np.median(np.abs(in_pixels_A)) + 1)


def _targets(stacks: list[Path], folder: Path) -> list[Path]:
    """Name a file below `folder` for each stack: its basename, with as many parents as make names unique."""
    for depth in range(1, max(len(stack.parts) for stack in stacks)):
        names = [Path(*stack.parts[-min(depth, len(stack.parts) - 1) :]) for stack in stacks]
        plain = [str(name).removesuffix(".gz").removesuffix(".bz2") for name in names]
        if len(set(plain)) == len(plain):
            break
    return [folder / name for name in plain]


def one_box(stacks: list[Path], pixel_sizes_A: np.ndarray | None = None) -> pd.DataFrame:
    """Read the headers of the stacks, one row each; raise InputError when boxes or pixel sizes (Å) differ."""
    headers = read_any_headers(stacks)
    boxes = headers["box"].unique()
    sizes = headers["pixel_size_A"].round(3).unique() if pixel_sizes_A is None else pixel_sizes_A
    if len(boxes) > 1 or len(sizes) > 1:
        raise InputError(
            f"{stacks[0]} and others: boxes of {', '.join(map(str, boxes))} px, pixel sizes of "
            f"{', '.join(f'{size:g}' for size in sizes)} Å, expected one box and one pixel size; downsample "
            "them separately, or resample them to one with `tomohet prepare --rescale`"
        )
    return headers
