"""Subsets of particles as STAR files of their original dialect.

Rows are kept or dropped as text. Order and format of columns, unknown columns, optics tables, comments and
every other block stay as they are, byte for byte. Names of files become absolute only if they would not be
found from the new file's folder.
"""

import logging
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.star import TextBlock, as_pairs, read_star, read_text_blocks
from tomohet.files.star_editing import names_in, replaced, table_in, write_text_blocks
from tomohet.particles.copies import copy_names, numbered_copies
from tomohet.particles.dialects.linked_files import candidates
from tomohet.particles.dialects.optimisation_set import FILES, linked_files
from tomohet.particles.dialects.series_columns import DOSE_COLUMNS, PARTICLE_ID_COLUMNS, TOMOGRAM_COLUMNS
from tomohet.particles.dialects.series_identity import identify, identity_columns
from tomohet.particles.dialects.tilt_series import SERIES_FILE
from tomohet.particles.paths import find_stacks
from tomohet.particles.positions import NAME_COLUMNS

StarType = Literal["imageseries", "volumeseries", "optimisation_set"]
IMAGE_COLUMNS = ("rlnImageName", "cisTEMStackFilename", "cisTEMPositionInStack")  # rows are images
GROUP_COLUMNS = ("rlnGroupName", "rlnGroupNumber", "cisTEMParticleGroup")
STACK_COLUMNS = ("rlnImageName", "cisTEMStackFilename")
SET_SUFFIX = "_optimisation_set"

_SECTION = re.compile(rb"(?<![^ \t\"'])\d+@")  # section number of an image

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ParticleFile:
    """A STAR file of particles as text: its table of particles or tilt images, with the particle of each row.

    particle : int64, one per row; numbers particles from 0 by first appearance
    tomogram : text, one per particle; known for image series
    copy : one per particle, the number of the copy, from 0, in symmetry-expanded files
    """

    path: Path
    preamble: bytes
    blocks: list[TextBlock]
    table: int
    particle: np.ndarray
    tomogram: np.ndarray | None = None
    copy: np.ndarray | None = None

    @property
    def n_rows(self) -> int:
        return len(self.particle)

    @property
    def n_particles(self) -> int:
        return int(self.particle.max()) + 1

    def column(self, name: str) -> pd.Series | None:
        """Return a column of the particle table as text, or None."""
        block = self.blocks[self.table]
        return table_in(block, self.path, [name])[name].astype(str) if name in names_in(block) else None

    def first_column(self, names: tuple[str, ...]) -> tuple[str, pd.Series] | None:
        """Return name and text of the first of some columns that the particle table has, or None."""
        found = ((name, self.column(name)) for name in names)
        return next(((name, column) for name, column in found if column is not None), None)

    @cached_property
    def _lines(self) -> tuple[list[bytes], np.ndarray]:
        """Return the lines of the table's body, and which of them are rows.

        Blank lines and comments always stay.
        """
        return self.blocks[self.table].lines()

    def placed(self, path: Path, datadir: Path | None = None) -> "ParticleFile":
        """Return the file as it must be written at `path`, so that its stacks are found from there.

        Names stay as written when they lead to the same files from the new folder; else they become absolute.
        Names of stacks that do not exist stay.
        """
        block = self.blocks[self.table]
        named = self.first_column(STACK_COLUMNS)
        if named is None:
            return self
        column, names = named
        sections, stacks = split_image_names(names)
        written = list(stacks.unique())
        found = find_stacks(written, self.path, datadir)
        if missing := sum(place is None for place in found.values()):
            log.warning(
                "%s: %d of %d image stacks were not found, their names stay as they are",
                self.path, missing, len(found),
            )  # fmt: skip
        if found == find_stacks(written, path):
            return self
        changed = replaced(block, {column: list(sections + stacks.map(found).fillna(stacks))})
        return replace(self, blocks=[*self.blocks[: self.table], changed, *self.blocks[self.table + 1 :]])

    def write(self, path: Path, keep: np.ndarray) -> None:
        """Write the file with only the rows where `keep`, atomically."""
        if self.n_rows == 1 and keep.all():  # a single row may be written as a block of pairs
            write_text_blocks(path, self.preamble, self.blocks)
            return
        lines, is_row = self._lines
        stays = ~is_row
        stays[is_row] = keep
        body = b"".join(lines[i] for i in np.flatnonzero(stays))
        block = self.blocks[self.table]
        blocks = [*self.blocks[: self.table], replace(block, body=body), *self.blocks[self.table + 1 :]]
        write_text_blocks(path, self.preamble, blocks)


def split_image_names(names: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Split image names `N@stack` into `N@` and `stack`; names of whole stacks or volumes have no `N@`."""
    parts = names.str.partition("@")
    numbered = (parts[1] == "@") & pd.to_numeric(parts[0], errors="coerce").notna()
    return (parts[0] + "@").where(numbered, ""), parts[2].where(numbered, names)


def detect_type(path: Path) -> StarType:
    """Return the kind of a STAR file: optimisation set, image series (with group names), or volume series."""
    _, blocks = read_text_blocks(path)
    if any(set(FILES) <= set(names_in(block)) for block in blocks):
        return "optimisation_set"
    block = blocks[_particle_table(blocks, path)]
    columns = names_in(block)
    # A volume series may name particles too; only image series state the dose of a tilt.
    tilted = any(name in columns for name in DOSE_COLUMNS)
    joined = PARTICLE_ID_COLUMNS if tilted else GROUP_COLUMNS
    images = any(name in columns for name in IMAGE_COLUMNS)
    if "rlnImageName" in columns:
        row = next(iter(block.rows()), b"1@") if block.columns else block.pairs["rlnImageName"].encode()
        images = _SECTION.search(row) is not None  # else it names whole volumes
    return "imageseries" if images and any(name in columns for name in joined) else "volumeseries"


def read_particle_file(path: Path, star_type: StarType) -> ParticleFile:
    """Read an image series (rows are tilt images) or a file with one row per particle.

    Raises InputError when there is no table, no row, or (image series) no column that names the particles, or
    one name for two of them.
    """
    preamble, blocks = read_text_blocks(path)
    number = _particle_table(blocks, path)
    block = blocks[number]
    n_rows = int(block.lines()[1].sum()) if block.columns else 1
    if n_rows == 0:
        raise InputError(f"{path}: table data_{block.name} is empty, expected at least one particle")
    if star_type != "imageseries":
        file = ParticleFile(path, preamble, blocks, number, np.arange(n_rows))
        return replace(file, copy=_copies(file))
    if not any(column in names_in(block) for column in PARTICLE_ID_COLUMNS):
        raise InputError(
            f"{path}: column _rlnGroupName is missing, an image series needs it; is this a volume series "
            "(--starfile-type volumeseries)?"
        )
    table = table_in(block, path, identity_columns(names_in(block)))
    known = identify(table, f"{path}: table data_{block.name}")
    copy = known.copy if known.copy.any() else None
    return ParticleFile(path, preamble, blocks, number, known.particle, known.tomogram, copy)


def _copies(file: ParticleFile) -> np.ndarray | None:
    """Return the number of each row's copy, where particles of one name have one stack; else None."""
    names, stacks = file.first_column(NAME_COLUMNS), file.first_column(STACK_COLUMNS)
    if names is None or stacks is None:
        return None
    copy = names[1].groupby([names[1], stacks[1]]).cumcount().to_numpy()
    return copy if copy.any() else None


def read_optimisation_set(path: Path, datadir: Path | None = None) -> tuple[ParticleFile, Path]:
    """Read the particles file of an optimisation set; return it and the path of the tomograms file."""
    blocks = {name: as_pairs(block) or block for name, block in read_star(path).items()}
    files = linked_files(blocks, path, datadir)
    particles, tomograms = (files[name] for name in FILES)
    return read_particle_file(particles, "volumeseries"), tomograms


def write_optimisation_set(
    source: Path,
    particles: ParticleFile,
    tomograms: Path,
    keep: np.ndarray,
    path: Path,
    datadir: Path | None = None,
) -> None:
    """Write a subset of an optimisation set: the set `path`, and beside it its particles and tomograms.

    The files are named by `set_files`. The set names them without folder, and tomograms are copied whole.

    Raises InputError, before anything is written, when a name cannot be written in a STAR file.
    """
    particles = particles.placed(path, datadir)
    _, *paths = set_files(path)
    names = {entry: [file.name] for entry, file in zip(FILES, paths, strict=True)}
    preamble, blocks = read_text_blocks(source)
    blocks = [replaced(block, names) if set(FILES) <= set(names_in(block)) else block for block in blocks]
    series = _placed_tomograms(tomograms, paths[1], datadir)
    particles.write(paths[0], keep)
    write_text_blocks(paths[1], *series)
    write_text_blocks(path, preamble, blocks)


def set_files(path: Path) -> tuple[Path, Path, Path]:
    """Return the files of an optimisation set at `path`: the set, its particles and its tomograms.

    For `X_optimisation_set.star` they are `X.star` and `X_tomograms.star`; for any other `Y.star`,
    `Y_particles.star` and `Y_tomograms.star`.
    """
    stem = path.stem.removesuffix(SET_SUFFIX)
    particles = f"{stem}.star" if stem != path.stem else f"{stem}_particles.star"
    return path, path.with_name(particles), path.with_name(f"{stem}_tomograms.star")


def tilt_series_files(tomograms: Path, datadir: Path | None = None) -> list[Path]:
    """List the files that a tomograms file names for its tilt series (RELION 5), as far as they exist."""
    _, blocks = read_text_blocks(tomograms)
    files = [file for block in blocks for file in _series_files(block, tomograms, datadir)]
    return [file for file in files if file is not None]


def _placed_tomograms(tomograms: Path, path: Path, datadir: Path | None) -> tuple[bytes, list[TextBlock]]:
    """Return the text of a tomograms file as it must be written at `path`.

    Separate files of tilt series (RELION 5) stay where they are. A name becomes absolute where it would lead
    elsewhere from `path`. The name of a missing file stays, because its tomogram may have no particles.
    """
    preamble, blocks = read_text_blocks(tomograms)
    for number, block in enumerate(blocks):
        places = _series_files(block, tomograms, datadir)
        if places == _series_files(block, path, None):
            continue
        names = table_in(block, tomograms, [SERIES_FILE])[SERIES_FILE].astype(str)
        placed = [str(place or name) for name, place in zip(names, places, strict=True)]
        blocks[number] = replaced(block, {SERIES_FILE: placed})
    return preamble, blocks


def _series_files(block: TextBlock, star: Path, datadir: Path | None) -> list[Path | None]:
    """List the files of tilt series that a block of the file `star` names, None for each missing one."""
    if SERIES_FILE not in names_in(block):
        return []
    names = table_in(block, star, [SERIES_FILE])[SERIES_FILE].astype(str)
    return [_first_file(name, star, datadir) for name in names]


def _first_file(name: str, star: Path, datadir: Path | None) -> Path | None:
    return next((p.resolve() for p in candidates(name, star, datadir) if p.is_file()), None)


def numbered_as(file: ParticleFile, other: ParticleFile) -> ParticleFile:
    """Give the particles of `file` the numbers of `other`; -1 for rows whose particle `other` lacks.

    Particles are joined by name where both files have names; else row i of `file` is particle i. Copies in
    symmetry-expanded files have the same name, in the same order.

    Raises InputError when a name is missing from `file` or belongs to several of its particles,
    and, without names, when the numbers of particles differ.
    """
    own, others = file.first_column(NAME_COLUMNS), other.first_column(NAME_COLUMNS)
    if own is None or others is None:
        if file.n_particles != other.n_particles:
            raise InputError(
                f"{file.path}: {file.n_particles} particles, but {other.path} has {other.n_particles}; "
                f"files without {' or '.join(NAME_COLUMNS)} are joined by row and need equal numbers"
            )
        return file
    (column, names), (known, known_names) = own, others
    first_row = np.unique(file.particle, return_index=True)[1]  # an image series has several of each particle
    names = names.iloc[first_row].reset_index(drop=True)
    if other.copy is not None:
        names = numbered_copies(names)
        known_names = copy_names(known_names, other.copy[other.particle])
    if names.duplicated().any():
        raise InputError(f"{file.path}: _{column} `{names[names.duplicated()].iloc[0]}` is in several rows")
    ordinals = pd.Series(other.particle, index=known_names)
    ordinals = ordinals[~pd.Series(other.particle).duplicated().to_numpy()]
    if ordinals.index.has_duplicates:
        twice = ordinals.index[ordinals.index.duplicated()][0]
        raise InputError(
            f"{other.path}: _{known} `{twice}` names particles of several tomograms, so particles of "
            f"{file.path} cannot be found by name; give particles unique names"
        )
    missing = ordinals.index.difference(pd.Index(names))
    if len(missing):
        raise InputError(
            f"{file.path}: _{column} lacks {len(missing)} of {len(ordinals)} particles of {other.path}, "
            f"the first is `{missing[0]}`"
        )
    numbers = ordinals.reindex(names).fillna(-1).to_numpy(dtype=np.int64)
    return replace(file, particle=numbers[file.particle])


def tomograms_of(particles: ParticleFile, column: str) -> np.ndarray:
    """Return each row's tomogram as text.

    It is the given column, rlnTomoName, or the particle's name up to its last `_`. For image series the
    reader's tomograms are used, unless the user gives a column.

    Raises InputError when the file does not name tomograms.
    """
    wanted = column.removeprefix("_")
    if particles.tomogram is not None and (wanted in TOMOGRAM_COLUMNS or particles.column(wanted) is None):
        return particles.tomogram[particles.particle]
    for name in (wanted, *TOMOGRAM_COLUMNS):
        if (names := particles.column(name)) is not None:
            return names.to_numpy()
    if (names := particles.column("rlnGroupName")) is not None:
        return names.str.replace(r"_[^_]*$", "", regex=True).to_numpy()
    raise InputError(f"{particles.path}: no column {column} names the tomograms; give one with --tomo-id-col")


def _particle_table(blocks: list[TextBlock], path: Path) -> int:
    """Return the number of the block with the particles.

    It is `data_particles`, or the only table besides the optics. A table of one row may be written as pairs,
    which are recognised by the particle's name or an image's name.
    """
    tables = [i for i, block in enumerate(blocks) if block.columns and block.name != "optics"]
    named = [i for i, block in enumerate(blocks) if names_in(block) and block.name == "particles"]
    pairs = [i for i, block in enumerate(blocks) if set(IMAGE_COLUMNS) & set(block.pairs)]
    found = named or tables or pairs
    if len(found) != 1:
        raise InputError(f"{path}: found {len(found)} tables of particles, expected one (or data_particles)")
    return found[0]
