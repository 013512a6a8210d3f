"""How many particles and images a STAR file lists, from its beginning and its length.

A request of memory and time needs a size within a few percent, before anything else has run and in every dry
run. A file of a million rows is counted in a tenth of a second; `validate` reads it wholly later.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from tomohet.errors import InputError
from tomohet.files.mrc import stack_header
from tomohet.files.star import TextBlock, parse_table, split_blocks
from tomohet.particles.dialects.linked_files import find_linked
from tomohet.particles.dialects.optimisation_set import FILES, files_of
from tomohet.particles.dialects.series_columns import PARTICLE_ID_COLUMNS, STACK_COLUMNS
from tomohet.particles.paths import find_stacks

HEAD_BYTES = 8 << 20
PIXEL_SIZES = ("rlnImagePixelSize", "rlnDetectorPixelSize", "cisTEMPixelSize")


@dataclass(frozen=True)
class Counted:
    """About how many particles and tilt images a file lists; the box of its first stack, and its pixel size.

    Exact for files of up to `HEAD_BYTES`, but for tilts that preparation leaves out.
    """

    particles: int
    images: int
    box: int
    pixel_size_A: float


@cache
def counted(star: str, datadir: str | None) -> Counted:
    """Count the particles and images of an image series or of an optimisation set.

    Raises InputError where the file has no table of images, or its first stack cannot be found.
    """
    path = Path(star)
    blocks = _head(path)
    if linked := files_of({block.name: _content(block, path) for block in blocks}):
        path = find_linked(linked[FILES[0]], path, datadir, FILES[0])
        blocks = _head(path)
    images = next((block for block in reversed(blocks) if {*block.columns} & {*STACK_COLUMNS}), None)
    if images is None:
        raise InputError(f"{path}: found no table of images, expected a column {' or '.join(STACK_COLUMNS)}")
    columns = [
        name for name in (*STACK_COLUMNS, *PARTICLE_ID_COLUMNS, *PIXEL_SIZES) if name in images.columns
    ]
    table = parse_table(images, path, columns)
    if table.empty:
        raise InputError(f"{path}: table data_{images.name} is empty, expected at least one row")
    rows = round(len(table) * _share(images, path))
    (sections, _, box), header_A = _first_stack(table, path, datadir)
    pixel_size_A = _pixel_size_A(table, blocks) or header_A
    if linked:
        return Counted(rows, rows * sections, box, pixel_size_A)
    identity = next((name for name in PARTICLE_ID_COLUMNS if name in table), None)
    particles = rows if identity is None else round(rows * table[identity].nunique() / len(table))
    return Counted(max(particles, 1), rows, box, pixel_size_A)


def _head(path: Path) -> list[TextBlock]:
    """Return the blocks in the beginning of a file, which ends with a whole line."""
    try:
        with open(path, "rb") as file:
            text = file.read(HEAD_BYTES)
    except OSError as error:
        raise InputError(f"{path}: cannot be read as a STAR file ({error.strerror})") from error
    if len(text) == HEAD_BYTES:
        text = text[: text.rfind(b"\n") + 1]
    return split_blocks(text, path)[1]


def _content(block: TextBlock, path: Path) -> pd.DataFrame | dict[str, str]:
    """Return what tells a set: pairs, or a loop of one row, which is the set's other form."""
    return parse_table(block, path) if {*FILES} <= {*block.columns} else dict(block.pairs)


def _share(block: TextBlock, path: Path) -> float:
    """Return by what factor the table is longer than its part in the beginning of the file, which it ends."""
    length = path.stat().st_size
    return 1 + (length - HEAD_BYTES) / len(block.body) if length > HEAD_BYTES else 1.0


def _first_stack(table: pd.DataFrame, path: Path, datadir: str | None) -> tuple[tuple[int, int, int], float]:
    column = next(name for name in STACK_COLUMNS if name in table)
    written = str(table[column].iloc[0])
    name = written.partition("@")[2] or written
    found = find_stacks([name], path, datadir)[name]
    if found is None:
        raise InputError(f"{path}: the stack {name} is missing; give its folder with --datadir")
    return stack_header(found)


def _pixel_size_A(table: pd.DataFrame, blocks: list[TextBlock]) -> float:
    """Return the first pixel size that a table or a pair of the file states, Å; 0 where there is none."""
    for name in PIXEL_SIZES:
        if name in table:
            return float(table[name].iloc[0])
        for block in blocks:
            if name in block.pairs:
                return float(block.pairs[name])
            if name in block.columns:
                return float(parse_table(block, "", [name])[name].iloc[0])
    return 0.0
