"""Neighbourhood of states: simulated clusters are found, shuffled labels are not."""

import numpy as np
import pandas as pd
import pytest

from tomohet.analysis.neighbours import (
    holm,
    neighbourhood,
    sentence,
    shuffle_within,
    statistics,
    surroundings,
    two_sided,
)
from tomohet.errors import InputError
from tomohet.physics.geometry import euler_to_matrix, matrix_to_euler

FAST = 199


def scattered(rng, n=240, tomograms=3) -> pd.DataFrame:
    """Particles at random places, crowded in one half of the tomogram, with random orientations."""
    table = pd.DataFrame({"tomogram": rng.integers(0, tomograms, n)})
    x = rng.uniform(0, 6000, n)
    table["x_A"] = np.where(rng.random(n) < 0.5, 0.2 * x, x)
    table["y_A"], table["z_A"] = rng.uniform(0, 6000, n), rng.uniform(0, 1500, n)
    table["rot_deg"], table["psi_deg"] = rng.uniform(-180, 180, (2, n))
    table["tilt_deg"] = np.degrees(np.arccos(rng.uniform(-1, 1, n)))
    return table


def in_rows(rng, table: pd.DataFrame, spacing_A=150.0, per_row=8) -> pd.DataFrame:
    """Move a third of the particles into rows along their x axis, like ribosomes on one messenger RNA."""
    table = table.copy()
    table["state"] = rng.integers(1, 3, len(table))
    chosen = rng.choice(len(table), len(table) // 3 // per_row * per_row, replace=False).reshape(-1, per_row)
    for rows in chosen:
        first = rows[0]
        axis = euler_to_matrix(*table.loc[first, ["rot_deg", "tilt_deg", "psi_deg"]].to_numpy(float))[:, 0]
        steps = spacing_A * np.arange(per_row)[:, None] * axis
        table.loc[rows, ["x_A", "y_A", "z_A"]] = (
            table.loc[first, ["x_A", "y_A", "z_A"]].to_numpy(float) + steps
        )
        table.loc[rows, ["rot_deg", "tilt_deg", "psi_deg"]] = table.loc[
            first, ["rot_deg", "tilt_deg", "psi_deg"]
        ].to_numpy()
        table.loc[rows, "tomogram"] = table.loc[first, "tomogram"]
        table.loc[rows, "state"] = 0
    return table


def test_rows_of_one_state_are_found_with_their_orientation():
    rng = np.random.default_rng(1)
    rows = neighbourhood(in_rows(rng, scattered(rng)), "state", FAST).set_index("state")
    assert rows.loc[0, "distance_A"] == pytest.approx(150, rel=0.01)
    assert rows.loc[0, "ratio"] < 0.8 and rows.loc[0, "p_all"] <= 3 * 2 / (FAST + 1)
    assert rows.loc[0, "turn_deg"] < 1 < rows.loc[0, "expected_turn_deg"]
    assert rows.loc[0, "p_turn_deg"] <= 2 / (FAST + 1)
    assert rows.loc[0, "axis_share"] > 0.99 and rows.loc[0, "expected_axis_share"] < 0.8
    # The particles of the other states only lie around them.
    assert (rows.loc[[1, 2], "ratio"] > 0.9).all()
    assert "state 0 (nearer together: 150 Å instead of" in sentence(rows.reset_index(), "state")


def test_random_labels_are_rarely_called_clustered():
    """Labels follow the tomogram but not each other: false positives stay at 5 %."""
    false, runs = 0, 60
    for seed in range(runs):
        rng = np.random.default_rng(100 + seed)
        table = scattered(rng, 150)
        # State 0 is frequent in tomogram 0 alone: a test that shuffled across tomograms would fail here.
        often = np.where(table["tomogram"] == 0, 0.8, 0.1)
        table["state"] = np.where(rng.random(150) < often, 0, rng.integers(1, 3, 150))
        false += (neighbourhood(table, "state", FAST, seed)["p_all"] < 0.05).any()
    assert false <= 8  # binomial(60, 0.05) exceeds 8 in 0.3 % of such tests


def test_distances_and_frames_of_a_known_pair():
    table = pd.DataFrame({"tomogram": ["a", "a", "b"], "x_A": [0.0, 30.0, 0.0], "y_A": [0.0, 40.0, 0.0]})
    table["z_A"] = 0.0
    turned = euler_to_matrix(30.0, 60.0, 10.0)
    table[["rot_deg", "tilt_deg", "psi_deg"]] = matrix_to_euler(np.stack([np.eye(3), turned, turned]))
    around = surroundings(table, np.array([0, 0, 1]), 3)
    assert around.index[:, 0].tolist() == [1, 0, -1]
    np.testing.assert_allclose(around.distance_A[:2, 0], 50)
    pair, other = np.array([0, 1]), np.array([1, 0])
    direction = around.direction(pair, other)
    np.testing.assert_allclose(direction[0], [0.6, 0.8, 0], atol=1e-12)
    np.testing.assert_allclose(direction[1], turned.T @ [-0.6, -0.8, 0], atol=1e-6)
    angle = np.degrees(np.arccos((np.trace(turned) - 1) / 2))
    np.testing.assert_allclose(around.turn_deg(pair, other), angle, rtol=1e-5)


def test_nearest_alike_by_brute_force():
    rng = np.random.default_rng(5)
    table = scattered(rng, 90, 2)
    labels = rng.integers(0, 3, 90)
    tomograms = table["tomogram"].to_numpy()
    places = table[["x_A", "y_A", "z_A"]].to_numpy()
    apart = np.linalg.norm(places[:, None] - places, axis=2)
    apart[tomograms[:, None] != tomograms] = np.inf
    np.fill_diagonal(apart, np.inf)
    for state in range(3):
        rows = np.flatnonzero(labels == state)
        expected = np.median(apart[np.ix_(rows, rows)].min(axis=1))
        assert statistics(surroundings(table, tomograms, 60), labels, [state])[0, 0] == pytest.approx(
            expected
        )


def test_shuffling_keeps_each_tomograms_labels():
    rng = np.random.default_rng(2)
    tomograms, labels = rng.integers(0, 4, 200), rng.integers(0, 5, 200)
    mixed = shuffle_within(labels, tomograms, rng)
    assert (mixed != labels).any()
    for tomogram in range(4):
        assert sorted(mixed[tomograms == tomogram]) == sorted(labels[tomograms == tomogram])


def test_p_values():
    assert two_sided(0.0, np.arange(1, 100)) == pytest.approx(0.02)
    assert two_sided(50.0, np.arange(1, 100)) == 1
    assert holm(pd.DataFrame({"p": [0.01, 0.2, 0.03]}))["p_all"].tolist() == pytest.approx([0.03, 0.2, 0.06])


def test_places_and_labels_that_are_not_known():
    rng = np.random.default_rng(3)
    table = scattered(rng, 40)
    with pytest.raises(InputError, match="no column state"):
        neighbourhood(table, "state")
    table["state"] = -1
    assert "No state has 5 particles" in sentence(neighbourhood(table, "state", FAST), "state")
    table["state"] = np.arange(40) % 2
    alone = table.drop(columns=["rot_deg"])
    alone.loc[:9, "x_A"] = np.nan
    rows = neighbourhood(alone, "state", FAST)
    assert rows["n"].sum() == 30 and "turn_deg" not in rows
