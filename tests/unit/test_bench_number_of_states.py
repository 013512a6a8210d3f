"""The benchmark of the number of states: what it counts as right, and the clusterings that it compares."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from bench_number_of_states import SETS, cluster_table, clusterings, rates_of, table_of


def row(
    structure: str, true: int | None, found: int, between: tuple[int, int], verdict: str, beyond: bool
) -> dict:
    counts = {"states": found, "HDBSCAN, 5": 7}
    return {
        "set": f"{structure}, some",
        "structure": structure,
        "true": true,
        "found": found,
        "range": between,
        "lower_bound": beyond,
        "verdict": verdict,
        "clusters": counts,
        "unassigned": {"states": 0.0, "HDBSCAN, 5": 0.25},
        "ari": {"states": 0.9, "HDBSCAN, 5": 0.1},
    }


ROWS = [
    row("two states", 2, 2, (2, 3), "discrete", False),
    row("two states", 2, 3, (3, 4), "discrete", True),  # a lower bound that does not hold
    row("two states", 2, 1, (1, 1), "undecided", True),  # one that does
    row("two states", 2, 1, (1, 1), "undecided", False),
    row("motion", None, 4, (3, 5), "continuous", True),
]


def test_truth_within_the_range_and_wrong_numbers_are_counted():
    two, motion = rates_of(ROWS).splitlines()
    assert two == (
        "two states: number right in 1, too high in 1, too low in 2 of 4 sets; truth within the range in 2"
    )
    assert motion == "motion: discrete said of 0 of 1 sets"
    _, _, first, second = table_of(ROWS).splitlines()
    assert first == (
        "| two states, some (4) | 2 | 2, 3, 1, 1 | 2 to 3, 3 to 4, 1 to 1, 1 to 1 | 2 of 4 | 2 of 4 "
        "| 2 discrete, 2 undecided |"
    )
    assert second == "| motion, some (1) | continuum | 4 | 3 to 5 | 1 of 1 |  | 1 continuous |"
    clusters = cluster_table(ROWS).splitlines()
    assert clusters[2] == "| two states, some (4) | 2, 3, 1, 1; 0.90 | 7, 7, 7, 7; 25 % noise; 0.10 |"
    assert clusters[3] == "| motion, some (1) | 4 | 7; 25 % noise |"


def test_groups_that_lie_apart_are_found_in_every_way():
    group = np.repeat([0, 1], 40)
    latents = np.random.default_rng(0).normal(size=(80, 2)) + 12.0 * group[:, None]
    for labels in clusterings(latents, 2).values():
        assigned = labels >= 0
        assert assigned.mean() > 0.7
        assert not set(labels[assigned & (group == 0)]) & set(labels[assigned & (group == 1)])


def test_every_set_has_a_folder_of_its_own():
    assert len({one.folder for one in SETS}) == len(SETS)
