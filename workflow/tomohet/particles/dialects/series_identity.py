"""Identity of particles in an image series: which tilt images belong to one particle.

The reader and `filter_star` both use `identify`, so that they count particles alike.

A particle is a name or number (`PARTICLE_ID_COLUMNS`) within its tomogram. rlnTomoName always separates equal
names. rlnMicrographName does too, unless it names tilt images (M, `cryodrgn parse_relion`, recovar). A
particle has one image of each exposure, so two images of one exposure from different stacks or tilt images
show two molecules. In that case numbers (rlnGroupNumber, ...) count within their stack, and equal names are
refused.

Rows of one name and one image that differ in other columns are copies (`particles.copies`): the first such
row of each image belongs to the first copy, the second to the second, and so on.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.particles.copies import copy_names
from tomohet.particles.dialects.series_columns import (
    DOSE_COLUMNS,
    PARTICLE_ID_COLUMNS,
    STACK_COLUMNS,
    TILT_COLUMNS,
    TOMOGRAM_COLUMNS,
    dose_column,
    first_column,
    stack_names,
)
from tomohet.particles.dialects.series_tomograms import equal_tomograms, first_rows, tomograms

SECTION_COLUMN = "cisTEMPositionInStack"
NUMBER_COLUMNS = ("rlnGroupNumber", "rlnTomoParticleId", "cisTEMParticleGroup")
# Columns that distinguish the tilt images of one tilt series where the doses do not.
EXPOSURE_COLUMNS = ("rlnTiltIndex", *TILT_COLUMNS, "cisTEMTiltAngle")
DOSE_STEPS = {"rlnCtfBfactor": 0.04}  # values closer than this are one exposure: 0.01 e/Å²
# A tomogram, or its stack, holds more images of a particle than this; the image of one tilt holds one.
MOST_IMAGES_OF_A_TILT = 2


class SeriesParticles(NamedTuple):
    """The particles of n rows: `particle` (n,) int64 counts p particles by first appearance.

    names, tomogram : (p,) text; names are unique
    remarks : for the user
    copy : (p,) number of the copy, from 0
    """

    particle: np.ndarray
    names: np.ndarray
    tomogram: np.ndarray
    remarks: tuple[str, ...]
    copy: np.ndarray


def identity_columns(columns: tuple[str, ...]) -> list[str]:
    """Return the columns among `columns` that `identify` reads."""
    asked = {*PARTICLE_ID_COLUMNS, *TOMOGRAM_COLUMNS, *STACK_COLUMNS, *EXPOSURE_COLUMNS, *DOSE_COLUMNS}
    asked |= {SECTION_COLUMN}
    return [column for column in columns if column in asked]


def identify(table: pd.DataFrame, where: str) -> SeriesParticles:
    """Identify particles and tomograms of a table with one row per tilt image.

    Raises InputError when no column names the particles, a row has no name, or one name stands for two
    molecules.
    """
    column = first_column(table, PARTICLE_ID_COLUMNS)
    if column is None:
        raise InputError(
            f"{where}: no column states which images belong to one particle, expected one of "
            f"{', '.join(f'_{name}' for name in PARTICLE_ID_COLUMNS)}"
        )
    table = table.reset_index(drop=True)
    texts = _texts(table, column, where)
    image = _images(table)
    if image is None:
        return _identify(table, texts, column, where)
    copy = pd.Series(image).groupby(image).cumcount().to_numpy()
    # The first copies identify the particles; the other copies have the same images.
    known = _identify(table[copy == 0], texts[copy == 0], column, where)
    source = known.particle[image]
    particle = _within(source, copy)
    first = first_rows(particle)
    names = copy_names(pd.Series(known.names[source[first]], dtype=object), copy[first]).to_numpy()
    return SeriesParticles(particle, names, known.tomogram[source[first]], known.remarks, copy[first])


def _images(table: pd.DataFrame) -> np.ndarray | None:
    """Assign a number to each image (n,) by name, stack, section and exposure.

    None if no image occurs twice.
    """
    stacks = [name for name in (*STACK_COLUMNS, SECTION_COLUMN) if name in table.columns]
    if not stacks or not table.duplicated(stacks).any():
        return None
    columns = identity_columns(tuple(table.columns))
    if not table.duplicated(columns).any():
        return None
    return table.groupby(columns, sort=False, dropna=False).ngroup().to_numpy()


def _identify(table: pd.DataFrame, texts: pd.Series, column: str, where: str) -> SeriesParticles:
    """Identify particles and tomograms of rows of different images.

    texts : (n,) names of particles in `column`
    """
    name, names = pd.factorize(texts)
    exposure = _exposures(table)
    place = _tomogram_column(table, name, exposure)
    particle = name if place is None else _within(name, pd.factorize(table[place].astype(str))[0])
    twice = _exposed_twice(table, particle, exposure)
    by_stack = twice is not None and column in NUMBER_COLUMNS
    if by_stack:
        stack = pd.factorize(stack_names(table))[0]
        if by_stack := _holds_many_images(particle, stack, exposure):
            particle = _within(particle, stack)
            twice = _exposed_twice(table, particle, exposure)
    if twice is not None:
        raise InputError(f"{where}: {_two_molecules(table, column, twice)}")
    first = first_rows(particle)
    rows, own = table.iloc[first], names[name[first]]
    tomogram = tomograms(table, particle, own, place, by_stack)
    remarks = [f"_{column} restarts in each stack: particles are counted by stack"] if by_stack else []
    return SeriesParticles(
        particle,
        _unique_names(rows, own, tomogram),
        tomogram,
        (*remarks, *equal_tomograms(rows, tomogram)),
        np.zeros(len(first), np.int64),
    )


def _texts(table: pd.DataFrame, column: str, where: str) -> pd.Series:
    """Return the particles' names as text; raise InputError where a row has none."""
    texts = table[column].astype(str)
    empty = table[column].isna() | texts.isin(("", "None"))
    if (rows := np.flatnonzero(empty)).size:
        raise InputError(
            f"{where}: column _{column}, row {rows[0] + 1}: found no particle name ({len(rows)} such rows)"
        )
    return texts


def _exposures(table: pd.DataFrame) -> np.ndarray | None:
    """Return a number for each exposure of a tilt series (n,): by dose, else by tilt; None without either."""
    for column in (dose_column(table), *EXPOSURE_COLUMNS):
        if column is None or column not in table.columns:
            continue
        values = pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64)
        codes, distinct = pd.factorize(np.round(values / DOSE_STEPS.get(column, 0.01)))
        if len(distinct) > 1:
            return codes + 1  # 0 stands for a missing number
    return None


def _within(name: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return pairs of name and place (n,), numbered by first appearance."""
    return pd.factorize(name.astype(np.int64) * (int(place.max()) + 1) + place)[0]


def _tomogram_column(table: pd.DataFrame, name: np.ndarray, exposure: np.ndarray | None) -> str | None:
    """Return the column that names the rows' tomograms; None when there is none or it names tilt images."""
    column = first_column(table, TOMOGRAM_COLUMNS)
    if column is None or column == "rlnTomoName":
        return column
    place = pd.factorize(table[column].astype(str))[0]
    if (place == place[first_rows(name)][name]).all() or _holds_many_images(name, place, exposure):
        return column
    return None


def _holds_many_images(name: np.ndarray, place: np.ndarray, exposure: np.ndarray | None) -> bool:
    """Tell whether a place (tomogram, stack) holds many exposures of a particle.

    The image of a tilt holds one.
    """
    pair = _within(name, place)
    images = len(pair) if exposure is None else int(_within(pair, exposure).max()) + 1
    return images > MOST_IMAGES_OF_A_TILT * (int(pair.max()) + 1)


def _exposed_twice(
    table: pd.DataFrame, particle: np.ndarray, exposure: np.ndarray | None
) -> tuple[int, int] | None:
    """Find two rows of one particle and exposure from different stacks or tilt images; else return None."""
    if exposure is None:
        return None
    seen = pd.Series(particle.astype(np.int64) * (int(exposure.max()) + 1) + exposure)
    again = np.flatnonzero(seen.duplicated(keep=False))
    if not len(again):
        return None
    source = pd.Series(pd.factorize(_sources(table.iloc[again]))[0], index=again)
    differs = source != source.groupby(seen.iloc[again]).transform("first")
    if not differs.any():
        return None
    second = int(differs.idxmax())
    return int((seen == seen[second]).idxmax()), second


def _sources(table: pd.DataFrame) -> pd.Series:
    """Return stack and micrograph of each row, as one text."""
    stacks = stack_names(table)
    if "rlnMicrographName" not in table.columns:
        return stacks
    return stacks + "\n" + table["rlnMicrographName"].astype(str)


def _two_molecules(table: pd.DataFrame, column: str, rows: tuple[int, int]) -> str:
    """Describe two rows of one name that are images of two molecules."""
    pair = table.iloc[list(rows)]
    first, second = stack_names(pair)
    if first == second:
        first, second = pair["rlnMicrographName"]
    return (
        f"duplicate particle {pair[column].iloc[0]}: rows {pair.index[0] + 1} and {pair.index[1] + 1} are "
        f"images of one exposure, from {first} and from {second}, expected one image of each exposure; give "
        f"particles of different sessions different names (_{column}) or tomograms (_rlnTomoName)"
    )


def _unique_names(rows: pd.DataFrame, names: np.ndarray, tomogram: np.ndarray) -> np.ndarray:
    """Return unique names (p,) of particles: the file's own, else preceded by tomogram or stack."""
    names = pd.Series(names, dtype=object)
    if names.is_unique:
        return names.to_numpy()
    longer = [
        prefix + "/" + names for prefix in (pd.Series(tomogram), stack_names(rows).reset_index(drop=True))
    ]
    return next((one for one in longer if one.is_unique), longer[-1]).to_numpy()
