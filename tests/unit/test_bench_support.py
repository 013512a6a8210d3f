"""The benchmark of the verdict on subsets: what it draws, selects and prints."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from bench_support import of_tables, selected, table


def test_tables_with_structure_support_the_true_subset_and_without_it_none():
    found = {row["subset"]: row["p"] for row in of_tables(1.0, seed=0)}
    assert found["true"] < 1e-4 and found["first latent, half"] < 1e-4 and found["random"] > 0.01
    nothing = of_tables(0.0, seed=0)
    assert {row["p"] for row in nothing} == {1.0} and "true" not in {row["subset"] for row in nothing}


def test_selected_subsets_have_their_sizes():
    z = np.random.default_rng(0).normal(size=(100, 3))
    subsets = selected(z, z[:, 1] > 1, seed=0)
    sizes = {name: int(members.sum()) for name, members in subsets.items()}
    assert sizes["random"] == 33 and sizes["first latent, half"] == sizes["last latent, half"] == 50
    assert sizes["first latent, fifth"] == 20 and sizes["largest cluster"] >= 25
    assert sizes["true"] == (z[:, 1] > 1).sum() and "true" not in selected(z, z[:, 1] < 99, seed=0)


def test_the_table_counts_verdicts():
    verdicts = ("supported", "weak", "weak", "not supported")
    rows = [{"set": "a", "subset": "true", "verdict": one, "p_unmatched": 0.001} for one in verdicts]
    assert "| a | true | 4 | 1 | 2 | 1 | 4 |" in table(rows)
