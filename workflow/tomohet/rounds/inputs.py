"""Files that a job reads beside those on its command line, so that Snakemake runs it again when they change.

Nothing here raises: what is missing or cannot be read is left out, and `validate` says what is wrong with it.
Names that Snakemake would take for its own wildcards are left out too.
"""

import hashlib
import mmap
import re
from contextlib import suppress
from functools import cache
from pathlib import Path

from tomohet.options.selection import is_particle_list
from tomohet.rounds.schema import keys_of

HEAD_BYTES = 1 << 16  # of a STAR file, in which the names of a set's files stand
IN_STACK = re.compile(rb"\b\d+@([^\s\"']+)")
WILDCARD = re.compile(r"\{\s*[.\w]+\s*(,.*)?\}|<[a-z][a-z0-9_]*>")


def named_files(stage: str, options: dict) -> list[str]:
    """List the files that options of a stage name, and the maps in the folders that they name.

    Options that are paths are marked so in the schema (`path`).
    """
    names = []
    for key, schema in keys_of(stage).items():
        for value in _paths_in(schema, options.get(key)):
            path = Path(value)
            names += sorted(str(file) for file in path.glob("*.mrc")) if path.is_dir() else [value]
    return [name for name in names if Path(name).is_file() and not WILDCARD.search(name)]


def paths_of(stage: str, options: dict) -> dict[str, list[str]]:
    """Values of the options that must be files or folders, by key; not of those that may be words instead."""
    return {
        key: _paths_in(schema, options.get(key))
        for key, schema in keys_of(stage).items()
        if schema.get("path") and "words" not in schema
    }


def selection_files(given: dict) -> dict[str, str]:
    """Return the files that the selection of a round names, by key; `exclude` may be a query instead."""
    values = {key: given.get(key) for key in ("indices", "labels", "exclude")}
    return {
        key: value
        for key, value in values.items()
        if isinstance(value, str) and (key != "exclude" or is_particle_list(value))
    }


def _paths_in(schema: dict, value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    words = schema.get("words", [])
    return [one for one in values if isinstance(one, str) and one not in words] if schema.get("path") else []


@cache
def linked_files(star: str | None, datadir: str | None) -> list[str]:
    """List the STAR files that an optimisation set names: particles, tomograms, each tilt series."""
    if star is None or not _is_a_set(star):
        return []
    from tomohet.files.star import read_star
    from tomohet.particles.dialects.optimisation_set import FILES, files_of
    from tomohet.particles.dialects.tilt_series import SERIES_FILE

    found = []
    with suppress(Exception):  # whatever a file holds, a dry run shows its jobs
        named = files_of(read_star(star))
        found = _found([named[name] for name in FILES if name in named], star, datadir)
        for file in list(found):
            found += _found(_column(file, (SERIES_FILE,)), file, datadir)
    return [name for name in dict.fromkeys(found) if not WILDCARD.search(name)]


@cache
def stack_digest(star: str, datadir: str | None) -> str:
    """Digest of name, size and time of change of every image stack of a STAR file or set.

    A column of a million rows takes about a second, and so do 100,000 stacks on a local disk.
    """
    from tomohet.particles.paths import stack_stamps

    stamps: list = []
    with suppress(Exception):
        sources = [star] if not _is_a_set(star) else linked_files(star, datadir)[:1]
        names = sorted({name for source in sources for name in _stacks_in(source)})
        stamps = [names, stack_stamps(names, Path(star), datadir)]
    return hashlib.sha256(repr(stamps).encode()).hexdigest()[:32]


def _is_a_set(star: str) -> bool:
    if not Path(star).is_file():  # a pipe would be waited for
        return False
    with suppress(OSError), open(star, "rb") as file:
        return b"rlnTomoParticlesFile" in file.read(HEAD_BYTES)
    return False


def _found(names: list[str], star: str, datadir: str | None) -> list[str]:
    """Paths of the files of these names that are there."""
    from tomohet.errors import InputError
    from tomohet.particles.dialects.linked_files import find_linked

    paths = []
    for name in names:
        with suppress(InputError, OSError):
            paths.append(str(find_linked(name, Path(star), datadir, "")))
    return paths


def _stacks_in(star: str) -> set[str]:
    """Names of the stacks in a STAR file, as written; none in what is no file."""
    if not Path(star).is_file():
        return set()
    with open(star, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        if text.find(b'"') < 0 and text.find(b"'") < 0:
            found = {match[1] for match in IN_STACK.finditer(text)}
            if found:
                return {name.decode(errors="replace") for name in found}
    written = _column(star, ("rlnImageName", "cisTEMStackFilename"))
    beside = [f"{Path(star).stem}{suffix}" for suffix in (".mrcs", ".mrc")]
    return {name.partition("@")[2] or name for name in written} or set(beside)


def _column(star: str, columns: tuple[str, ...]) -> list[str]:
    """Distinct values of the first of these columns that a block of a STAR file has."""
    from tomohet.files.star import parse_table, read_text_blocks

    for block in read_text_blocks(star)[1]:
        for column in columns:
            if column in block.columns:
                return [str(value) for value in parse_table(block, star, [column])[column].unique()]
            if column in block.pairs:
                return [block.pairs[column]]
    return []
