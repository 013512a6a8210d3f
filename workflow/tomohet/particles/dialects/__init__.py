"""Readers of STAR dialects: `read_particles` recognises the dialect by its columns.

A dialect has a `name`, `source_software` (the names that force it), `expected` (in words),
`recognises(blocks) -> bool` and `read(blocks, star, datadir) -> ParticleSet`. Column order and further
columns do not matter. The first of `DIALECTS` that recognises a file reads it.
"""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pandas as pd

from tomohet.errors import InputError
from tomohet.files.star import Blocks, read_star
from tomohet.particles.copies import ask
from tomohet.particles.dialects import optimisation_set
from tomohet.particles.dialects.image_series import (
    ImageSeries,
    all_columns,
    image_table,
    missing_columns,
    missing_sentence,
)
from tomohet.particles.dialects.series_dialects import CISTEM, CRYODRGN, IMAGE_SERIES
from tomohet.particles.table import ParticleSet


class Dialect(NamedTuple):
    """A dialect that is a separate module, which states the same attributes in capitals."""

    name: str
    source_software: tuple[str, ...]
    expected: str
    recognises: Callable[[Blocks], bool]
    read: Callable[[Blocks, Path, str | Path | None], ParticleSet]


def _declared_by(module: ModuleType) -> Dialect:
    return Dialect(module.NAME, module.SOURCE_SOFTWARE, module.EXPECTED, module.recognises, module.read)


DIALECTS: tuple[Dialect | ImageSeries, ...] = (_declared_by(optimisation_set), *IMAGE_SERIES)


def read_particles(
    star: str | Path,
    datadir: str | Path | None = None,
    source_software: str = "auto",
    expanded: bool | None = False,
) -> ParticleSet:
    """Read particles and tilt images from a STAR file of any dialect into the common table.

    expanded : whether the file is meant to be symmetry-expanded; None skips this check

    All stacks are located and their headers read, so that missing files, wrong boxes and sections out of
    range are found here.

    Raises InputError for these errors, for a file that is expanded or not against `expanded`, and for
    everything else that cannot be right.
    """
    star = Path(star)
    blocks = read_star(star)
    particle_set = find_dialect(blocks, star, source_software).read(blocks, star, datadir)
    if expanded is not None:
        ask(particle_set, expanded)
    return particle_set


def find_dialect(blocks: Blocks, star: Path, source_software: str = "auto") -> Dialect | ImageSeries:
    """Return the dialect recognised by its columns, or forced by `source_software`.

    Where one name stands for several dialects (relion), the first that recognises the file is used.
    """
    named = [d for d in DIALECTS if source_software == "auto" or source_software in d.source_software]
    if not named:
        readable = dict.fromkeys(name for dialect in DIALECTS for name in dialect.source_software)
        raise InputError(
            f"--source-software {source_software}: no reader for it, expected one of {', '.join(readable)}"
        )
    recognised = next((dialect for dialect in named if dialect.recognises(blocks)), None)
    if recognised is None and source_software == "auto":
        raise InputError(f"{star}: {_nearest_dialect(blocks)}")
    return recognised or named[0]


def _nearest_dialect(blocks: Blocks) -> str:
    """Explain why no dialect fits: the columns that a table of images lacks, or the known kinds of file."""
    kinds = "; ".join(f"{dialect.name} ({dialect.expected})" for dialect in DIALECTS)
    tables = [(name, table) for name, table in blocks.items() if isinstance(table, pd.DataFrame)]
    if not tables:
        return f"no table of particles found; supported are: {kinds}"
    name, table = image_table(blocks)
    if not len(table.columns):
        name, table = max(tables, key=lambda item: len(item[1]))
    if len(table) == 0:
        return f"table data_{name} is empty, expected at least one particle"
    columns = all_columns(blocks)
    nearest = CISTEM if any(column.startswith("cisTEM") for column in columns) else CRYODRGN
    missing = missing_columns(nearest.required, columns)
    if len(missing) <= len(nearest.required) // 2:
        return f"table data_{name}: {missing_sentence(missing)}"
    return f"table data_{name} is of no known kind; supported are: {kinds}"
