"""Readers of STAR dialects: `read_particles` recognises the dialect by the columns it needs.

A dialect is a module with `NAME`, `SOURCE_SOFTWARE` (the names that force it), `EXPECTED` (in words),
`recognises(blocks) -> bool` and `read(blocks, star, datadir) -> ParticleSet`. Column order and further
columns do not matter. The first module of `DIALECTS` that recognises a file reads it.
"""

from pathlib import Path
from types import ModuleType

from tomohet.errors import InputError
from tomohet.files.star import Blocks, read_star
from tomohet.particles.dialects import cryosrpnt, optimisation_set, warp
from tomohet.particles.table import ParticleSet

DIALECTS: tuple[ModuleType, ...] = (optimisation_set, warp, cryosrpnt)


def read_particles(
    star: str | Path, datadir: str | Path | None = None, source_software: str = "auto"
) -> ParticleSet:
    """Read particles and tilt images from a STAR file of any dialect into the one table.

    All stacks are located and their headers read, so that missing files, wrong boxes and sections out of
    range are found here. Raises InputError for these and for everything else that cannot be right.
    """
    star = Path(star)
    blocks = read_star(star)
    return find_dialect(blocks, star, source_software).read(blocks, star, datadir)


def find_dialect(blocks: Blocks, star: Path, source_software: str = "auto") -> ModuleType:
    """The dialect's module, recognised by its columns or forced by `source_software`."""
    if source_software == "auto":
        for dialect in DIALECTS:
            if dialect.recognises(blocks):
                return dialect
        raise InputError(f"{star}: {_nearest_dialect(blocks)}")
    for dialect in DIALECTS:
        if source_software in dialect.SOURCE_SOFTWARE:
            return dialect
    readable = [name for dialect in DIALECTS for name in dialect.SOURCE_SOFTWARE]
    raise InputError(
        f"--source-software {source_software}: no reader for it, expected one of {', '.join(readable)}"
    )


def _nearest_dialect(blocks: Blocks) -> str:
    """Why no dialect fits: the particle table that misses the fewest columns, or the known kinds of file."""
    kinds = "; ".join(f"{dialect.NAME} ({dialect.EXPECTED})" for dialect in DIALECTS)
    tables = [(name, table) for name, table in blocks.items() if hasattr(table, "columns")]
    if not tables:
        return f"no table of particles found; readable are: {kinds}"
    name, table = max(tables, key=lambda item: len(item[1]))
    if len(table) == 0:
        return f"table data_{name} is empty, expected at least one particle"
    missing = [f"_{column}" for column in cryosrpnt.REQUIRED if column not in table.columns]
    if len(missing) <= len(cryosrpnt.REQUIRED) // 2:
        return f"table data_{name}: column {', '.join(missing)} is missing, an image series needs it"
    return f"table data_{name} is of no known kind; readable are: {kinds}"
