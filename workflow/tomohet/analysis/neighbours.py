"""Neighbourhood of states: distances and relative orientations against shuffled labels.

Labels are shuffled among the particles of each tomogram. Crowded regions, the shape of the specimen and
differences between tomograms can therefore not make a state look clustered.
This is random labelling of a marked point process (Diggle 2013, Statistical Analysis of Spatial and
Spatio-Temporal Point Patterns, section 6.3), with nearest-neighbour distances as the summary.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from tomohet.errors import InputError
from tomohet.physics.geometry import euler_to_matrix

NEIGHBOURS = (8, 120)  # fewest and most that are searched around each particle
ALIKE = 4
PERMUTATIONS = 999
FEWEST = 5  # particles of a state with a neighbour
SIGNIFICANT = 0.05
POSITION = ["x_A", "y_A", "z_A"]
ANGLES = ["rot_deg", "tilt_deg", "psi_deg"]


@dataclass(frozen=True)
class Surroundings:
    """Nearest neighbours of each particle in its own tomogram, nearest first.

    index, distance_A : (n, k) row of the neighbour, -1 if there is none, and its distance, inf if none
    places_A : (n, 3) in the tomogram
    pose : (n, 3, 3) rotations from the reference to the tomogram; None without orientations
    """

    index: np.ndarray
    distance_A: np.ndarray
    places_A: np.ndarray
    pose: np.ndarray | None

    def direction(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return unit vectors (m, 3) from particles to others, in the frame of each particle."""
        away = self.places_A[others] - self.places_A[rows]
        # A pose turns the reference into the tomogram, so its transpose leads back to the reference.
        away = np.einsum("mji,mj->mi", self.pose[rows], away)
        return away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)

    def turn_deg(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return the angles (m,) of the rotations between particles and others."""
        trace = np.einsum("mij,mij->m", self.pose[rows], self.pose[others])
        return np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))


def neighbourhood(
    table: pd.DataFrame, label: str, permutations: int = PERMUTATIONS, seed: int = 0
) -> pd.DataFrame:
    """Compare the neighbours of each state's particles with those under shuffled labels.

    Parameters
    ----------
    table
        one row per particle: tomogram, x_A, y_A, z_A and the label; rot_deg, tilt_deg, psi_deg if the
        orientations are known
    label
        column of whole numbers; negative and missing ones have no state

    Returns
    -------
    pandas.DataFrame
        One row per state: `n`; `distance_A`, the median distance to the nearest particle of the same state;
        `expected_A` and `low_A`, `high_A`, the mean and the middle 95 % of it under shuffled labels;
        `ratio`, of found to expected; `p`, that of a distance as far from the expected one (two-sided
        permutation test), and `p_all`, corrected for the number of states (Holm 1979). With orientations:
        `turn_deg`, the median angle between both particles, `axis_share` (`statistics`), their expected
        values, and p.

    Raises
    ------
    InputError
        when a column is missing.

    """
    needed = ["tomogram", *POSITION, label]
    if missing := [name for name in needed if name not in table]:
        raise InputError(f"the particle table has no column {missing[0]}; expected {', '.join(needed)}")
    known = table[POSITION].notna().all(axis=1) & table[label].notna() & (table[label] >= 0)
    table = table[known].reset_index(drop=True)
    labels = table[label].to_numpy(int)
    tomograms = pd.factorize(table["tomogram"])[0]
    sizes = pd.Series(labels).value_counts()
    states = sorted(sizes.index[sizes >= FEWEST])
    around = surroundings(table, tomograms, enough_neighbours(sizes[states] / len(labels)))
    rng = np.random.default_rng(seed)
    found = statistics(around, labels, states)
    shuffled = np.stack(
        [statistics(around, shuffle_within(labels, tomograms, rng), states) for _ in range(permutations)]
    )
    rows = [_row(labels, state, found[i], shuffled[:, i]) for i, state in enumerate(states)]
    return holm(pd.DataFrame(rows))


def enough_neighbours(shares: pd.Series) -> int:
    """Return how many neighbours of a particle hold `ALIKE` of the rarest state on average, within limits."""
    rarest = shares.min() if len(shares) else 1.0
    return int(np.clip(np.ceil(ALIKE / rarest), *NEIGHBOURS))


def surroundings(table: pd.DataFrame, tomograms: np.ndarray, k: int) -> Surroundings:
    """Find each particle's k nearest neighbours in its tomogram (k-d tree)."""
    n = len(table)
    places = table[POSITION].to_numpy(float)
    index, distance = np.full((n, k), -1), np.full((n, k), np.inf)
    for tomogram in np.unique(tomograms):
        rows = np.flatnonzero(tomograms == tomogram)
        most = min(k, len(rows) - 1)
        if most < 1:
            continue
        far, near = cKDTree(places[rows]).query(places[rows], k=most + 1)
        # The first is the particle itself, or a copy of it at the same place.
        itself = near == np.arange(len(rows))[:, None]
        itself[~itself.any(axis=1), -1] = True
        index[rows, :most] = rows[near[~itself].reshape(len(rows), most)]
        distance[rows, :most] = far[~itself].reshape(len(rows), most)
    if not set(ANGLES) <= set(table.columns) or table[ANGLES].isna().to_numpy().any():
        return Surroundings(index, distance, places, None)
    return Surroundings(index, distance, places, euler_to_matrix(*table[ANGLES].to_numpy(float).T))


def nearest_alike(around: Surroundings, labels: np.ndarray) -> np.ndarray:
    """Return (n,) which of each particle's neighbours is the nearest with the same label; -1 if none is."""
    alike = (labels[around.index] == labels[:, None]) & (around.index >= 0)
    return np.where(alike.any(axis=1), alike.argmax(axis=1), -1)


def statistics(around: Surroundings, labels: np.ndarray, states: list[int]) -> np.ndarray:
    """Return (states, 3): median distance (Å) to the nearest of the state, median angle (°), axis share.

    The axis share is the largest eigenvalue of the mean of d d', where d is the direction to the nearest
    particle of the state in the particle's own frame: 1/3 for any direction, 1 for one axis, forwards or
    backwards. A particle without one among its neighbours counts with the distance of the last neighbour,
    which is a lower bound. Unknown values are NaN.
    """
    which = nearest_alike(around, labels)
    last = np.maximum(np.isfinite(around.distance_A).sum(axis=1) - 1, 0)
    every = np.arange(len(labels))
    distance = around.distance_A[every, np.where(which < 0, last, which)]
    found = np.full((len(states), 3), np.nan)
    for i, state in enumerate(states):
        rows = np.flatnonzero(labels == state)
        reached = distance[rows][np.isfinite(distance[rows])]
        found[i, 0] = np.median(reached) if len(reached) else np.nan
        rows = rows[which[rows] >= 0]
        if around.pose is None or len(rows) < FEWEST:
            continue
        others = around.index[rows, which[rows]]
        found[i, 1] = np.median(around.turn_deg(rows, others))
        away = around.direction(rows, others)
        found[i, 2] = np.linalg.eigvalsh(away.T @ away / len(away))[-1]
    return found


def shuffle_within(labels: np.ndarray, tomograms: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Permute labels among the particles of each tomogram."""
    order, target = np.lexsort((rng.random(len(labels)), tomograms)), np.argsort(tomograms, kind="stable")
    mixed = np.empty_like(labels)
    mixed[target] = labels[order]
    return mixed


def holm(rows: pd.DataFrame) -> pd.DataFrame:
    """Add `p_all`: p values of the distances, corrected for their number (Holm 1979)."""
    if rows.empty:
        return rows
    order = np.argsort(rows["p"].to_numpy(), kind="stable")
    ladder = rows["p"].to_numpy()[order] * np.arange(len(rows), 0, -1)
    corrected = np.empty(len(rows))
    corrected[order] = np.minimum(np.maximum.accumulate(ladder), 1)
    return rows.assign(p_all=corrected)


def sentence(rows: pd.DataFrame, label: str) -> str:
    """Say which states stand nearer together, or farther apart, than shuffled labels."""
    if rows.empty:
        return f"No {label} has {FEWEST} particles with a known position"
    significant = rows[rows["p_all"] < SIGNIFICANT]
    if significant.empty:
        return f"Particles of one {label} are distributed as shuffled labels are"
    parts = [
        f"{label} {row.state} ({'nearer together' if row.ratio < 1 else 'farther apart'}: "
        f"{row.distance_A:.0f} Å instead of {row.expected_A:.0f} Å, p = {row.p_all:.2g})"
        for row in significant.itertuples()
    ]
    return "Not as shuffled labels are: " + "; ".join(parts)


def _row(labels: np.ndarray, state: int, found: np.ndarray, shuffled: np.ndarray) -> dict:
    distance = shuffled[:, 0]
    row = {"state": int(state), "n": int((labels == state).sum()), "distance_A": float(found[0])}
    row |= {"expected_A": distance.mean(), "low_A": np.quantile(distance, 0.025)}
    row |= {"high_A": np.quantile(distance, 0.975), "ratio": found[0] / distance.mean()}
    row |= {"p": two_sided(found[0], distance)}
    for column, name in ((1, "turn_deg"), (2, "axis_share")):
        known = shuffled[:, column][np.isfinite(shuffled[:, column])]
        if np.isfinite(found[column]) and len(known):
            row |= {name: float(found[column]), f"expected_{name}": known.mean()}
            row |= {f"p_{name}": two_sided(found[column], known)}
    return row


def two_sided(found: float, shuffled: np.ndarray) -> float:
    """Return the two-sided p value of a permutation test; the found order is one of the permutations."""
    n = len(shuffled)
    below, above = (1 + (shuffled <= found).sum()) / (n + 1), (1 + (shuffled >= found).sum()) / (n + 1)
    return float(min(1.0, 2 * min(below, above)))
