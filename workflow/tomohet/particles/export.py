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
from tomohet.files.atomic import atomic_path
from tomohet.files.star import TextBlock, parse_table, read_text_blocks
from tomohet.particles.dialects.linked_files import candidates
from tomohet.particles.dialects.optimisation_set import FILES, linked_files
from tomohet.particles.dialects.series_columns import DOSE_COLUMNS, PARTICLE_ID_COLUMNS, TOMOGRAM_COLUMNS
from tomohet.particles.dialects.series_identity import identify, identity_columns
from tomohet.particles.dialects.tilt_series import SERIES_FILE
from tomohet.particles.paths import find_stacks

StarType = Literal["imageseries", "volumeseries", "optimisation_set"]
IMAGE_COLUMNS = ("rlnImageName", "cisTEMStackFilename", "cisTEMPositionInStack")  # rows are images
GROUP_COLUMNS = ("rlnGroupName", "rlnGroupNumber", "cisTEMParticleGroup")
STACK_COLUMNS = ("rlnImageName", "cisTEMStackFilename")
NAME_COLUMNS = ("rlnGroupName", "rlnTomoParticleName")  # one name for a particle in files of any kind
SET_SUFFIX = "_optimisation_set"
_TOKEN = re.compile(rb"\"[^\"\n]*\"(?![^ \t\r\n])|'[^'\n]*'(?![^ \t\r\n])|[^ \t\r\n]+")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ParticleFile:
    """A STAR file of particles as text: its table of particles or tilt images, and whose row is whose.

    `particle` (int64, one per row) numbers particles from 0 by first appearance. `tomogram` (text, one per
    particle) is known of image series.
    """

    path: Path
    preamble: bytes
    blocks: list[TextBlock]
    table: int
    particle: np.ndarray
    tomogram: np.ndarray | None = None

    @property
    def n_rows(self) -> int:
        return len(self.particle)

    @property
    def n_particles(self) -> int:
        return int(self.particle.max()) + 1

    def column(self, name: str) -> pd.Series | None:
        """A column of the particle table as text, or None."""
        block = self.blocks[self.table]
        return parse_table(block, self.path, [name])[name].astype(str) if name in block.columns else None

    @cached_property
    def _lines(self) -> tuple[list[bytes], np.ndarray]:
        """Lines of the table's body, and which are rows: blank lines and comments stay in every subset."""
        return self.blocks[self.table].lines()

    def placed(self, path: Path, datadir: Path | None = None) -> "ParticleFile":
        """The file as it has to be written at `path`, so that its stacks are found from there.

        Names stay as written when they lead to the same files from the new folder, or when the stacks are
        not at hand; else they become absolute.
        """
        block = self.blocks[self.table]
        column = next((name for name in STACK_COLUMNS if name in block.columns), None)
        if column is None:
            return self
        parts = self.column(column).str.rpartition("@")
        written = list(parts[2].unique())
        found = find_stacks(written, self.path, datadir)
        if None in found.values():
            log.warning("%s: image stacks are not at hand, their names stay as they are", self.path)
            return self
        if found == find_stacks(written, path):
            return self
        names = parts[0] + parts[1] + parts[2].map(found)
        changed = replaced(block, {column: [_quoted(name).encode() for name in names]})
        return replace(self, blocks=[*self.blocks[: self.table], changed, *self.blocks[self.table + 1 :]])

    def write(self, path: Path, keep: np.ndarray) -> None:
        """Write the file with only the rows where `keep`, atomically."""
        lines, is_row = self._lines
        stays = ~is_row
        stays[is_row] = keep
        body = b"".join(lines[i] for i in np.flatnonzero(stays))
        block = self.blocks[self.table]
        blocks = [*self.blocks[: self.table], replace(block, body=body), *self.blocks[self.table + 1 :]]
        _write_blocks(path, self.preamble, blocks)


def detect_type(path: Path) -> StarType:
    """The kind of a STAR file: optimisation set, image series (particles have group names), or volumes."""
    _, blocks = read_text_blocks(path)
    if any(set(FILES) <= set(block.pairs) for block in blocks):
        return "optimisation_set"
    columns = blocks[_particle_table(blocks, path)].columns
    # A particle's name may stand in a volume series too; only image series say what a tilt has received.
    tilted = any(name in columns for name in DOSE_COLUMNS)
    joined = PARTICLE_ID_COLUMNS if tilted else GROUP_COLUMNS
    images = any(name in columns for name in IMAGE_COLUMNS)
    return "imageseries" if images and any(name in columns for name in joined) else "volumeseries"


def read_particle_file(path: Path, star_type: StarType) -> ParticleFile:
    """Read an image series (rows are tilt images) or a file with one row per particle.

    Raises InputError when there is no table, no row, or (image series) no column that names the particles, or
    one name for two of them.
    """
    preamble, blocks = read_text_blocks(path)
    number = _particle_table(blocks, path)
    block = blocks[number]
    n_rows = len(block.rows())
    if n_rows == 0:
        raise InputError(f"{path}: table data_{block.name} is empty, expected at least one particle")
    if star_type != "imageseries":
        return ParticleFile(path, preamble, blocks, number, np.arange(n_rows))
    if not any(column in block.columns for column in PARTICLE_ID_COLUMNS):
        raise InputError(
            f"{path}: column _rlnGroupName is missing, an image series needs it; is this a volume series "
            "(--starfile-type volumeseries)?"
        )
    table = parse_table(block, path, identity_columns(block.columns))
    known = identify(table, f"{path}: table data_{block.name}")
    return ParticleFile(path, preamble, blocks, number, known.particle, known.tomogram)


def read_optimisation_set(path: Path, datadir: Path | None = None) -> tuple[ParticleFile, Path]:
    """The particles file of an optimisation set, and the path of its tomograms file."""
    _, blocks = read_text_blocks(path)
    files = linked_files({block.name: dict(block.pairs) for block in blocks}, path, datadir)
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

    Of `X_optimisation_set.star` they are `X.star` and `X_tomograms.star`; of any other `Y.star`,
    `Y_particles.star` and `Y_tomograms.star`. The set names them without folder; tomograms are copied whole.
    """
    particles = particles.placed(path, datadir)
    stem = path.stem.removesuffix(SET_SUFFIX)
    particles_name = f"{stem}.star" if stem != path.stem else f"{stem}_particles.star"
    tomograms_name = f"{stem}_tomograms.star"
    particles.write(path.with_name(particles_name), keep)
    _copy_tomograms(tomograms, path.with_name(tomograms_name), datadir)
    preamble, blocks = read_text_blocks(source)
    for name, value in zip(FILES, (particles_name, tomograms_name), strict=True):
        pattern = re.compile(rb"^([ \t]*_" + name.encode() + rb"[ \t]+)\S+", re.MULTILINE)
        blocks = [
            replace(block, head=pattern.sub(lambda m, v=value: m.group(1) + v.encode(), block.head))
            for block in blocks
        ]
    _write_blocks(path, preamble, blocks)


def _copy_tomograms(tomograms: Path, path: Path, datadir: Path | None) -> None:
    """Copy a tomograms file; tilt series in files of their own (RELION 5) stay where they are."""
    preamble, blocks = read_text_blocks(tomograms)
    for number, block in enumerate(blocks):
        if SERIES_FILE not in block.columns:
            continue
        names = parse_table(block, tomograms, [SERIES_FILE])[SERIES_FILE].astype(str)
        places = [_first_file(name, tomograms, datadir) for name in names]
        if None not in places and places != [_first_file(name, path, None) for name in names]:
            changes = {SERIES_FILE: [_quoted(str(place)).encode() for place in places]}
            blocks[number] = replaced(block, changes)
    _write_blocks(path, preamble, blocks)


def _first_file(name: str, star: Path, datadir: Path | None) -> Path | None:
    return next((p.resolve() for p in candidates(name, star, datadir) if p.is_file()), None)


def replaced(block: TextBlock, changes: dict[str, list[bytes]]) -> TextBlock:
    """A table with other values in some columns; the text between the values stays."""
    lines, is_row = block.lines()
    place = sorted((block.columns.index(column), values) for column, values in changes.items())
    for row, line_number in enumerate(np.flatnonzero(is_row)):
        line, pieces, end = lines[line_number], [], 0
        spans = [match.span() for match in _TOKEN.finditer(line)]
        for column, values in place:
            pieces += [line[end : spans[column][0]], values[row]]
            end = spans[column][1]
        lines[line_number] = b"".join([*pieces, line[end:]])
    return replace(block, body=b"".join(lines))


def _quoted(name: str) -> str:
    return f'"{name}"' if re.search(r"\s", name) else name


def numbered_as(file: ParticleFile, other: ParticleFile) -> ParticleFile:
    """`file` with the particle numbers of `other`; -1 for rows whose particle `other` lacks.

    Particles are joined by name where both files name them, else row i of `file` is particle i.

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
    names = file.column(column)
    if names.duplicated().any():
        raise InputError(
            f"{file.path}: _{column} `{names[names.duplicated()].iloc[0]}` stands in several rows"
        )
    ordinals = pd.Series(other.particle, index=other.column(known))
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
    """Number of the block with the particles: `data_particles`, or the only table beside the optics."""
    tables = [i for i, block in enumerate(blocks) if block.columns and block.name != "optics"]
    named = [i for i in tables if blocks[i].name == "particles"]
    if len(named or tables) != 1:
        raise InputError(f"{path}: found {len(tables)} tables of particles, expected one (or data_particles)")
    return (named or tables)[0]


def _write_blocks(path: Path, preamble: bytes, blocks: list[TextBlock]) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(preamble)
        for block in blocks:
            file.write(block.head)
            file.write(block.body)
