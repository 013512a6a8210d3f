"""One downsampled stack of all images of a STAR file, list or stack, or chunks of it, and its STAR file."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.atomic import write_text
from tomohet.files.overwriting import refuse_overwriting_inputs
from tomohet.files.star import write_star
from tomohet.files.star_quoting import quoted
from tomohet.particles import downsampling as down
from tomohet.particles import export
from tomohet.particles.dialects import read_particles
from tomohet.particles.paths import resolve_stacks
from tomohet.particles.series_table import series_table
from tomohet.particles.table import ParticleSet

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Images in the order of output, the files they are read from, and their description.

    particle_set : None without a STAR file
    file : an image series whose rows are the images; None where rows are made from the table of images
        instead
    """

    images: down.ImageList
    inputs: list[Path]
    particle_set: ParticleSet | None = None
    file: export.ParticleFile | None = None


def images_of_list(path: Path, datadir: Path | None) -> Source:
    """List the images of a stack, or of the stacks named in a text file, one per line.

    Raises InputError when the list is empty, or when boxes or pixel sizes differ.
    """
    stacks = [path]
    if path.suffix == ".txt":
        lines = path.read_text(errors="surrogateescape").splitlines()
        stacks = [_listed(line, datadir or path.parent) for line in lines if line.strip()]
        if not stacks:
            raise InputError(f"{path}: it names no stack, expected one per line")
    return Source(down.images_of_stacks(stacks), [path, *stacks])


def _listed(line: str, folder: Path) -> Path:
    """Return the stack that a line names.

    Surrounding blanks belong to the name only if such a file exists.
    """
    return folder / line if (folder / line).is_file() else folder / line.strip()


def images_of_star(star: Path, datadir: Path | None, software: str) -> Source:
    """List the images of a STAR file: an image series in the order of its rows, a set by particle and tilt.

    Hidden tilts of a set are left out. Raises InputError as the readers do, and when stacks differ in box.
    """
    particle_set = read_particles(star, datadir, software, expanded=None)
    if particle_set.expansion:
        raise InputError(
            f"{star}: {particle_set.expansion}; one stack would hold each image several times: downsample "
            "the file from before the expansion, or give -o a .star, which keeps the stacks"
        )
    is_set = export.detect_type(star) == "optimisation_set"
    file = None if is_set else down.particle_file(star)
    names = None if file is None else file.column("rlnImageName")
    if names is None:
        table = particle_set.images
        stacks, sections = table["stack"].to_numpy(object), table["section"].to_numpy() - 1
        found, file = pd.unique(stacks), None
    else:
        numbers, written = export.split_image_names(names)
        known = list(written.unique())
        found = resolve_stacks(known, star, datadir)
        stacks = written.map(dict(zip(known, found, strict=True))).to_numpy(object)
        sections = numbers.str.rstrip("@").astype(int).to_numpy() - 1
    full = int(down.one_box([Path(stack) for stack in found], particle_set.pixel_sizes_A)["box"].iloc[0])
    images = down.ImageList(stacks, sections, full, particle_set.pixel_size_A)
    series = export.tilt_series_files(particle_set.inputs[-1], datadir) if is_set else []
    return Source(images, [*particle_set.inputs, *map(Path, found), *series], particle_set, file)


def write_one_stack(
    source: Source, path: Path, box: int, batch: int, chunk: int | None, with_star: bool
) -> None:
    """Write all images at `box` px to `path`; or, for X.mrcs, `chunk` images each to X.0.mrcs, X.1.mrcs, ...

    The chunks are listed in X.txt. `with_star` also writes X.star, an image series that names the images.

    Raises InputError, before anything is written, when an input would be replaced or a name cannot be written
    in a STAR file.
    """
    down.check_box(box, source.images.box)
    size = chunk or len(source.images)
    starts = range(0, len(source.images), size)
    stacks = [path.with_name(f"{path.stem}.{i}{path.suffix}") if chunk else path for i in range(len(starts))]
    star, listed = path.with_suffix(".star"), path.with_suffix(".txt")
    outputs = [*stacks, *([listed] if chunk else []), *([star] if with_star else [])]
    refuse_overwriting_inputs(outputs, source.inputs)
    row, number = np.arange(len(source.images)) % size + 1, np.arange(len(source.images)) // size
    names = [f"{section:06d}@{stacks[i].name}" for section, i in zip(row, number, strict=True)]
    if chunk or with_star:
        quoted(names[0])
    write_rows = _star_writer(source, names, box) if with_star else None
    for stack, start in zip(stacks, starts, strict=True):
        here = slice(start, start + size)
        part = replace(
            source.images, stacks=source.images.stacks[here], sections=source.images.sections[here]
        )
        down.write_downsampled(part, box, stack, batch)
    if chunk:
        write_text(listed, "".join(f"{stack.name}\n" for stack in stacks))
    if write_rows is not None:
        write_rows(star)


def _star_writer(source: Source, names: list[str], box: int) -> Callable[[Path], None]:
    """Return a function that writes the STAR file of the new images.

    Raises InputError at once if a name cannot be written in a STAR file.
    """
    file, particle_set = source.file, source.particle_set
    if particle_set is None:
        raise ValueError("images of a list or a stack have no description for a STAR file")
    if file is None:
        table = series_table(particle_set, names, box)
        if particle_set.images["ctf_premultiplied"].any():
            log.warning(
                "images are CTF-premultiplied: the STAR file states it for tomohet, but tomoDRGN ignores it"
            )
        return lambda star: write_star(star, {"": table})
    coordinates = down.in_image_pixels(file, particle_set)
    rescaled = down.rescaled_file(file, pd.Series(names), source.images.box, box, coordinates)
    return lambda star: rescaled.write(star, np.ones(file.n_rows, bool))
