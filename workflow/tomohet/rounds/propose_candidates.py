"""Candidates for a division of a round's particles into two: units, blocks, states and clusters.

A candidate is a pair of queries on the round's particle table, so that what is tested is what is selected.

- Units of MAVEn and blocks of SIREn divide at their cut. They have to be bimodal: few particles may lie
  between present and absent. One that never occurs without another (a dependency) waits for the other.
- States and clusters are many. Their maps are divided into two groups by 2-means, weighted by size, in the
  metric of the linear model's maps: |V_s - V_t|^2 = (z_s - z_t) G (z_s - z_t), with the Gram matrix G of the
  basis maps. A continuum has no states: where held-out tilts prefer one, states and clusters are left out,
  and where they prefer neither, the valley between the groups has to be deeper.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans

from tomohet.files.tables import read_csv, read_table
from tomohet.files.text import read_json
from tomohet.rounds import layout
from tomohet.rounds.select import fulfilling

# The best understood first: of candidates that say the same, the first is proposed.
SOURCES = ("maven", "siren", "state", "gmm", "kmeans")
MOST_CONFUSED = 0.05  # of a unit's particles that its two modes are expected to confuse
BETWEEN = (0.3, 0.7)  # of the way from absent to present: neither
MOST_BETWEEN = 0.1  # of the particles
STARTS = 10  # of 2-means
DISCRETE = "discrete"
# Two equal Gaussians, 3.5 and 4 standard deviations apart.
MOST_VALLEY, DEEP_VALLEY = 0.5, 0.35


@dataclass(frozen=True)
class Candidate:
    """A division of particles into two.

    source : one of SOURCES
    subject : column of the particle table
    queries : conditions on the table, of which each particle fulfils one
    names : of the two parts, letters and digits
    requires : subjects that divide first, if they can
    low, high : values of the column at absence and presence; None for states and clusters
    most_valley : that may lie between the parts (`propose_evidence`); any for units and blocks, whose column
        has two modes
    """

    source: str
    subject: str
    queries: tuple[str, str]
    names: tuple[str, str]
    requires: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    most_valley: float = np.inf

    def first(self, table: pd.DataFrame) -> np.ndarray:
        """Tell which rows (N,) belong to the first part."""
        return fulfilling(table, self.queries[0])

    def divides(self, table: pd.DataFrame) -> bool:
        """Tell whether each row belongs to one part, and whether few lie between absence and presence."""
        if not (self.first(table) ^ fulfilling(table, self.queries[1])).all():
            return False
        if self.low is None or self.high is None:
            return True
        values = (table[self.subject].to_numpy(np.float64) - self.low) / (self.high - self.low)
        return bool(((values > BETWEEN[0]) & (values < BETWEEN[1])).mean() <= MOST_BETWEEN)


def fixed_candidates(round_dir: Path, table: pd.DataFrame) -> list[Candidate]:
    """List the candidates that do not depend on which of the round's particles are divided.

    round_dir : results folder of the round
    table : its particle table
    """
    return [one for one in (*_units(round_dir), *_blocks(round_dir)) if one.subject in table]


def grouped_candidates(
    table: pd.DataFrame, points: np.ndarray, members: np.ndarray, kind: str, seed: int
) -> list[Candidate]:
    """List the candidates that group the members' states, or clusters, into two; none in a continuum.

    table : (N) rows of the particle table
    points : (N, K) latents in the metric of maps
    members : (N,) bool
    kind : verdict on the round's states (`states_kind`)
    """
    found: list[Candidate] = []
    if kind == "continuous":
        return found
    for column in ("state", "gmm", "kmeans"):
        if column in table:
            labels = table[column].to_numpy()
            groups = _two_groups(labels[members], points[members], seed)
            if groups is not None:
                found.append(_of_groups(column, *groups, MOST_VALLEY if kind == DISCRETE else DEEP_VALLEY))
    return found


def states_kind(round_dir: Path) -> str:
    """Return what held-out tilts say of the round's states, such as discrete; unknown without states."""
    path = layout.STATES.path(round_dir, layout.STATES.summary)
    return str(read_json(path).get("kind", "unknown")) if path.is_file() else "unknown"


def _units(round_dir: Path) -> Iterator[Candidate]:
    """Yield the bimodal units of MAVEn."""
    path = layout.MAVEN.path(round_dir, "units.csv")
    if not path.is_file():
        return
    numbers = ("low_mode", "high_mode", "confused", "cut")
    units = read_csv(path, {"unit": "anything", "column": "anything"} | dict.fromkeys(numbers, "numbers"))
    column_of = {str(unit): f"maven_{column}" for unit, column in zip(units.unit, units.column, strict=True)}
    required: dict[str, list[str]] = {}
    dependencies = layout.MAVEN.path(round_dir, "dependencies.csv")
    if dependencies.is_file():
        rows = read_csv(dependencies, {"unit": "anything", "requires": "anything"})
        for unit, other in zip(rows.unit.astype(str), rows.requires.astype(str), strict=True):
            required.setdefault(unit, []).append(column_of.get(other, other))
    modes = units[units[list(numbers)].notna().all(axis=1) & (units.confused <= MOST_CONFUSED)]
    for row in modes.itertuples():
        column = column_of[str(row.unit)]
        queries = _at_cut(column, row.cut)
        names = _named(str(row.column))
        yield Candidate(
            "maven",
            column,
            queries,
            names,
            tuple(required.get(str(row.unit), ())),
            row.low_mode,
            row.high_mode,
        )


def _blocks(round_dir: Path) -> Iterator[Candidate]:
    """Yield the blocks of SIREn."""
    path = layout.SIREN.path(round_dir, layout.BLOCKS)
    if not path.is_file():
        return
    blocks = read_table(path, {"id": "whole numbers", "requires": "anything"})
    for block, requires in zip(blocks.id, blocks.requires.astype(str), strict=True):
        column, others = f"siren_{block}", re.findall(r"\d+", requires)
        queries, names = _at_cut(column, 0.5), _named(f"block{block}")
        yield Candidate("siren", column, queries, names, tuple(f"siren_{one}" for one in others), 0.0, 1.0)


def _at_cut(column: str, cut: float) -> tuple[str, str]:
    name = column if column.isidentifier() else f"`{column}`"
    return f"{name} > {cut:.2f}", f"{name} <= {cut:.2f}"


def _named(unit: str) -> tuple[str, str]:
    """Name the parts with and without a unit, with letters and digits only."""
    safe = re.sub(r"[^A-Za-z0-9]+", "-", unit).strip("-") or "unit"
    return safe, f"no-{safe}"


def _two_groups(labels: np.ndarray, points: np.ndarray, seed: int) -> tuple[list[int], list[int]] | None:
    """Divide labels into two groups whose means lie apart; the larger group comes first.

    labels : (M,) of the particles
    points : (M, K) of the particles

    Returns None for less than two labels.
    """
    known, number, count = np.unique(labels, return_inverse=True, return_counts=True)
    if len(known) < 2:
        return None
    sums = np.zeros((len(known), points.shape[1]))
    np.add.at(sums, number, points)
    side = KMeans(2, n_init=STARTS, random_state=seed).fit_predict(sums / count[:, None], sample_weight=count)
    if len(np.unique(side)) < 2:
        return None
    groups = [np.flatnonzero(side == one) for one in (0, 1)]
    groups.sort(key=lambda group: (-count[group].sum(), group[0]))
    first, second = ([int(label) for label in known[group]] for group in groups)
    return first, second


def _of_groups(column: str, first: list[int], second: list[int], most_valley: float) -> Candidate:
    queries = (f"{column} in {first}", f"{column} in {second}")
    return Candidate(column, column, queries, (f"{column}-a", f"{column}-b"), most_valley=most_valley)
