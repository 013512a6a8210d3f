"""Steps that choose a round's particles: a query or a file, then what narrows the selection down."""

import difflib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import NamedTuple

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.options.selection import Selection, is_particle_list
from tomohet.rounds.particle_lists import as_text, labels_of, listed_particles
from tomohet.rounds.select import columns_of, fulfilling, select

OF_THE_ROUND = "linear_confidence"  # counts where a query names no column with a confidence of its own
CONFIDENCES = ("{}_probability", "{}_confidence")  # what a column's own confidence is called
GROUPS = ("tomogram", "state", "gmm", "kmeans", "maven_class")  # columns whose values are counted
MOST_GROUPS = 40  # values of a column that are listed


class NarrowedBy(NamedTuple):
    """A step of the selection in words, and which rows of the table are left after it."""

    text: str
    left: np.ndarray


def chosen_in_steps(table: pd.DataFrame, query: str | None, options: Selection) -> list[NarrowedBy]:
    """Choose the particles of a round, step by step; the last step's `left` (N,) bool are its particles.

    table : the parent's particle table, (N) rows

    Raises InputError for what does not fit the table, and for a step after which no particle is left.
    """
    left = np.ones(len(table), bool)
    steps = []
    for text, keeps in _steps(table, query, options):
        before, left = left, left & keeps
        if not left.any():
            raise InputError(f"{text} leaves none of {before.sum()} particles")
        steps.append(NarrowedBy(text, left))
    if options.sample is not None:
        steps.append(_sampled(table, left, options.sample, options.sample_seed))
    return steps


def _steps(table: pd.DataFrame, query: str | None, options: Selection) -> Iterator[tuple[str, np.ndarray]]:
    particles = table["particle"]
    if (options.labels is None) != (options.keep is None):
        raise InputError("labels and keep belong together: give both, a file and the labels to keep")
    if query is not None:
        yield f"query {query}", particles.isin(select(table, query)).to_numpy()
    if options.indices is not None:
        listed = listed_particles(table, options.indices)
        yield f"indices {options.indices}", particles.isin(listed).to_numpy()
    if options.labels is not None and options.keep is not None:
        found = labels_of(table, options.labels)
        kept = _kept(found, options.keep, f"labels {options.labels}")
        yield f"labels {', '.join(options.keep)} of {options.labels}", kept
    if options.tomograms is not None:
        yield f"tomograms {', '.join(options.tomograms)}", _in_tomograms(table, options.tomograms)
    if options.exclude is not None:
        yield f"exclude {options.exclude}", ~_excluded(table, options.exclude)
    if options.min_confidence is not None:
        columns = confidence_columns(table, query)
        sure = (table[columns] >= options.min_confidence).all(axis=1).to_numpy(bool)
        yield f"min_confidence {options.min_confidence:g} of {', '.join(columns)}", sure


def confidence_columns(table: pd.DataFrame, query: str | None) -> list[str]:
    """Name the columns of confidence that count for a query.

    They are the own confidences of the columns in the query, such as `state_probability` of `state`; without
    any, the round's `linear_confidence`. Raises InputError when the table has none.
    """
    asked = sorted(columns_of(query)) if query else []
    own = [name.format(column) for column in asked for name in CONFIDENCES]
    found = [name for name in own if name in table]
    if found:
        return found
    if OF_THE_ROUND not in table:
        raise InputError(
            f"min_confidence: the table has no column {OF_THE_ROUND}; select from a round whose linear model "
            "has run, or leave min_confidence out"
        )
    return [OF_THE_ROUND]


def _kept(labels: pd.Series, keep: tuple[str, ...], source: str) -> np.ndarray:
    wanted = set(as_text(pd.Series(keep)))
    known = sorted(labels.dropna().unique())
    unknown = sorted(wanted - set(known))
    if unknown:
        raise InputError(f"{source}: no label {unknown[0]}; there are {', '.join(known)[:300]}")
    return labels.isin(wanted).to_numpy(bool)


def _in_tomograms(table: pd.DataFrame, patterns: tuple[str, ...]) -> np.ndarray:
    """Tell which rows (N,) lie in a tomogram whose name, or name without its extension, fits a pattern."""
    if "tomogram" not in table:
        raise InputError("tomograms: the table has no column 'tomogram'; use a query or a file of particles")
    names = [str(name) for name in table["tomogram"].dropna().unique()]
    wanted: set[str] = set()
    for pattern in patterns:
        fits = {n for n in names if fnmatchcase(n, pattern) or fnmatchcase(PurePath(n).stem, pattern)}
        if not fits:
            near = difflib.get_close_matches(pattern, names, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(sorted(names)[:5])}"
            raise InputError(f"tomograms: no particle is in a tomogram '{pattern}'; {hint}")
        wanted |= fits
    return table["tomogram"].astype("string").isin(wanted).to_numpy(bool)


def _excluded(table: pd.DataFrame, exclude: str) -> np.ndarray:
    """Tell which rows (N,) a query or a file excludes; a file may list particles that are not here."""
    if is_particle_list(exclude):
        return table["particle"].isin(listed_particles(table, exclude, foreign=True)).to_numpy()
    return fulfilling(table, exclude)


def _sampled(table: pd.DataFrame, left: np.ndarray, n: int, seed: int) -> NarrowedBy:
    """Draw `n` of the rows that are left, without replacement.

    A particle's lot depends on the seed and on its own number alone: a larger sample contains a smaller one,
    and another selection draws the same of the particles that it shares.
    """
    if n > left.sum():
        raise InputError(f"sample {n}: only {left.sum()} particles are left; take {left.sum()} or fewer")
    particles = table["particle"].to_numpy(np.int64)
    lot = np.random.default_rng(seed).random(int(particles.max()) + 1)[particles]
    rows = np.flatnonzero(left)
    drawn = rows[np.argsort(lot[rows], kind="stable")[:n]]
    keeps = np.zeros(len(table), bool)
    keeps[drawn] = True
    return NarrowedBy(f"sample {n} (seed {seed})", keeps)


def counted_by_group(table: pd.DataFrame, chosen: np.ndarray) -> Iterator[str]:
    """Yield lines that count the chosen rows (N,) bool of each tomogram, state and cluster."""
    for column in GROUPS:
        if column not in table:
            continue
        values = table[column]
        counts = pd.DataFrame({"of": values.value_counts(), "chosen": values[chosen].value_counts()})
        counts = counts.fillna(0).astype(int).sort_index()
        yield f"by {column}:"
        for name, row in counts.head(MOST_GROUPS).iterrows():
            yield f"{row['chosen']:8d} of {row['of']:8d}  {name}"
        if len(counts) > MOST_GROUPS:
            rest = counts.iloc[MOST_GROUPS:].sum()
            yield f"{rest['chosen']:8d} of {rest['of']:8d}  in {len(counts) - MOST_GROUPS} more"
