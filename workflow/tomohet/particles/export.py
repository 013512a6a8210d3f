"""Subsets of particles as STAR files of the dialect they came from.

Rows are kept or dropped as text: order and format of columns, unknown columns, optics tables, comments and
every other block stay as they are, byte for byte. Only names of files that would lead nowhere from the new
file's folder become absolute.
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

_SECTION = re.compile(rb"(?<![^ \t\"'])\d+@")  # of an image in a stack

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ParticleFile:
    """A STAR file of particles as text: its table of particles or tilt images, and whose row is whose.

    `particle` (int64, one per row) numbers particles from 0 by first appearance. `tomogram` (text, one per
    particle) is known of image series. `copy` (one per particle): which copy of its images each is, from 0,
    in symmetry-expanded files.
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
        """A column of the particle table as text, or None."""
        block = self.blocks[self.table]
        return table_in(block, self.path, [name])[name].astype(str) if name in names_in(block) else None

    @cached_property
    def _lines(self) -> tuple[list[bytes], np.ndarray]:
        """Lines of the table's body, and which are rows: blank lines and comments stay in every subset."""
        return self.blocks[self.table].lines()

    def placed(self, path: Path, datadir: Path | None = None) -> "ParticleFile":
        """The file as it has to be written at `path`, so that its stacks are found from there.

        Names stay as written when they lead to the same files from the new folder, else they become
        absolute; those of stacks that are not at hand stay.
        """
        block = self.blocks[self.table]
        column = next((name for name in STACK_COLUMNS if name in names_in(block)), None)
        if column is None:
            return self
        sections, stacks = split_image_names(self.column(column))
        written = list(stacks.unique())
        found = find_stacks(written, self.path, datadir)
        if missing := sum(place is None for place in found.values()):
            log.warning(
                "%s: %d of %d image stacks are not at hand, their names stay as they are",
                self.path, missing, len(found),
            )  # fmt: skip
        if found == find_stacks(written, path):
            return self
        changed = replaced(block, {column: list(sections + stacks.map(found).fillna(stacks))})
        return replace(self, blocks=[*self.blocks[: self.table], changed, *self.blocks[self.table + 1 :]])

    def write(self, path: Path, keep: np.ndarray) -> None:
        """Write the file with only the rows where `keep`, atomically."""
        if self.n_rows == 1 and keep.all():  # the one row may be a block of pairs
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
    """Image names `N@stack` as `N@` and `stack`; the name of a whole stack or volume has no `N@`."""
    parts = names.str.partition("@")
    numbered = (parts[1] == "@") & pd.to_numeric(parts[0], errors="coerce").notna()
    return (parts[0] + "@").where(numbered, ""), parts[2].where(numbered, names)


def detect_type(path: Path) -> StarType:
    """The kind of a STAR file: optimisation set, image series (particles have group names), or volumes."""
    _, blocks = read_text_blocks(path)
    if any(set(FILES) <= set(names_in(block)) for block in blocks):
        return "optimisation_set"
    block = blocks[_particle_table(blocks, path)]
    columns = names_in(block)
    # A particle's name may stand in a volume series too; only image series say what a tilt has received.
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
    n_rows = len(block.rows()) if block.columns else 1
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
    """Which copy each row is, where particles of one name have one stack; None without copies."""
    columns = [
        next((c for c in some if file.column(c) is not None), None) for some in (NAME_COLUMNS, STACK_COLUMNS)
    ]
    if None in columns:
        return None
    keys = [file.column(column) for column in columns]
    copy = keys[0].groupby(keys).cumcount().to_numpy()
    return copy if copy.any() else None


def read_optimisation_set(path: Path, datadir: Path | None = None) -> tuple[ParticleFile, Path]:
    """The particles file of an optimisation set, and the path of its tomograms file."""
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

    They are named as `set_files` says; the set names them without folder, tomograms are copied whole.
    Raises InputError, before anything is written, when a name cannot stand in a STAR file.
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
    """The files of an optimisation set written to `path`: itself, its particles and its tomograms.

    Of `X_optimisation_set.star` they are `X.star` and `X_tomograms.star`; of any other `Y.star`,
    `Y_particles.star` and `Y_tomograms.star`.
    """
    stem = path.stem.removesuffix(SET_SUFFIX)
    particles = f"{stem}.star" if stem != path.stem else f"{stem}_particles.star"
    return path, path.with_name(particles), path.with_name(f"{stem}_tomograms.star")


def tilt_series_files(tomograms: Path, datadir: Path | None = None) -> list[Path]:
    """The files that a tomograms file names for its tilt series (RELION 5), as far as they are there."""
    _, blocks = read_text_blocks(tomograms)
    files = [file for block in blocks for file in _series_files(block, tomograms, datadir)]
    return [file for file in files if file is not None]


def _placed_tomograms(tomograms: Path, path: Path, datadir: Path | None) -> tuple[bytes, list[TextBlock]]:
    """Text of a tomograms file as it has to be written at `path`.

    Tilt series in files of their own (RELION 5) stay where they are. A name becomes absolute where it would
    lead elsewhere from `path`; of a file that is missing it stays: its tomogram may have no particles.
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
    """The files of tilt series that a block of the file `star` names, None for each that is missing."""
    if SERIES_FILE not in names_in(block):
        return []
    names = table_in(block, star, [SERIES_FILE])[SERIES_FILE].astype(str)
    return [_first_file(name, star, datadir) for name in names]


def _first_file(name: str, star: Path, datadir: Path | None) -> Path | None:
    return next((p.resolve() for p in candidates(name, star, datadir) if p.is_file()), None)


def numbered_as(file: ParticleFile, other: ParticleFile) -> ParticleFile:
    """`file` with the particle numbers of `other`; -1 for rows whose particle `other` lacks.

    Particles are joined by name where both files name them, else row i of `file` is particle i.

    Copies in symmetry-expanded files have the same name, in the same order.

    Raises InputError when a name is missing from `file` or stands for several rows of it, or, without
    names, when the numbers of particles differ.
    """
    column = next((c for c in NAME_COLUMNS if file.column(c) is not None), None)
    known = next((c for c in NAME_COLUMNS if other.column(c) is not None), None)
    if column is None or known is None:
        if file.n_particles != other.n_particles:
            raise InputError(
                f"{file.path}: {file.n_particles} particles, but {other.path} has {other.n_particles}; "
                f"files without {' or '.join(NAME_COLUMNS)} are joined by row and need equal numbers"
            )
        return file
    names, known_names = file.column(column), other.column(known)
    if other.copy is not None:
        names = numbered_copies(names)
        known_names = copy_names(known_names, other.copy[other.particle])
    if names.duplicated().any():
        raise InputError(
            f"{file.path}: _{column} `{names[names.duplicated()].iloc[0]}` stands in several rows"
        )
    ordinals = pd.Series(other.particle, index=known_names)
    ordinals = ordinals[~pd.Series(other.particle).duplicated().to_numpy()]
    if ordinals.index.has_duplicates:
        twice = ordinals.index[ordinals.index.duplicated()][0]
        raise InputError(
            f"{other.path}: _{known} `{twice}` stands for particles of several tomograms, so particles of "
            f"{file.path} cannot be found by it; give particles names of their own"
        )
    missing = ordinals.index.difference(names)
    if len(missing):
        raise InputError(
            f"{file.path}: _{column} lacks {len(missing)} of {len(ordinals)} particles of {other.path}, "
            f"the first is `{missing[0]}`"
        )
    return replace(file, particle=ordinals.reindex(names).fillna(-1).to_numpy(dtype=np.int64))


def tomograms_of(particles: ParticleFile, column: str) -> np.ndarray:
    """Each row's tomogram as text: the given column, rlnTomoName, or the particle's name up to its last `_`.

    In image series all but a column of the user's own says what the reader says. Raises InputError when the
    file tells no tomogram.
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
    """Number of the block with the particles: `data_particles`, or the only table beside the optics.

    A table of one row may stand as pairs, which are known by their name or by that of an image.
    """
    tables = [i for i, block in enumerate(blocks) if block.columns and block.name != "optics"]
    named = [i for i, block in enumerate(blocks) if names_in(block) and block.name == "particles"]
    pairs = [i for i, block in enumerate(blocks) if set(IMAGE_COLUMNS) & set(block.pairs)]
    found = named or tables or pairs
    if len(found) != 1:
        raise InputError(f"{path}: found {len(found)} tables of particles, expected one (or data_particles)")
    return found[0]
