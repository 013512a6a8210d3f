"""A page of 400,000 particles in 200 tomograms: all are there, counts are true, and it stays small."""

import re
from pathlib import Path

import numpy as np
import pytest
from headless import find_browser, played

from fake_results import make_results, particle_table
from tomohet.report import write_report
from tomohet.rounds.select import select

PLAYER = Path(__file__).with_name("large_player.js")
N, TOMOGRAMS = 400_000, 200


def large_table(n: int):
    rng = np.random.default_rng(1)
    table = particle_table(n, rng)
    table["tomogram"] = [f"TS_{i:03d}" for i in np.sort(rng.integers(0, TOMOGRAMS, n))]
    for family, size in (("linear_z", 8), ("pc", 8)):
        for i in range(1, size + 1):
            table[f"{family}{i}"] = rng.normal(0, 1 / i, n).astype(np.float32)
    for i in range(1, 5):
        table[f"siren_{i}"] = rng.normal(table["kmeans"] == i - 1, 0.2)
    return table


@pytest.fixture(scope="module")
def browser() -> str:
    return find_browser()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("large") / "fake", n=60, rounds=("all",))


@pytest.fixture(scope="module")
def table(results):
    table = large_table(N)
    table.to_parquet(results / "all" / "particles.parquet")
    return table


@pytest.fixture(scope="module")
def page(results, table):
    return write_report(results).read_text()


def test_all_particles_are_in_a_page_of_at_most_twenty_megabytes(browser, page, table, tmp_path):
    assert len(page) <= 20e6
    found = played(browser, page, PLAYER, tmp_path)
    # Times depend on the machine: stated, not asserted.
    print(f"{len(page) / 1e6:.1f} MB; milliseconds:", {k: round(v) for k, v in found["ms"].items()})
    assert (found["n"], found["total"], found["note"], found["indices"]) == (N, N, "", False)
    assert found["cluster"] == (table["kmeans"] == 2).sum()
    assert 0 < found["listed"] <= TOMOGRAMS and found["searched"] == [f"TS_{i}" for i in range(170, 180)]
    assert found["rows"] < 40 and found["height"] < 6
    # The page rounds coordinates to a 4,000th of their range or finer: few particles at the border differ.
    query, count = found["lasso"]["query"], found["lasso"]["count"]
    assert count > 1000 and abs(len(select(table, query)) - count) < 0.01 * count
    assert f"{count:,} particles" in found["lasso"]["text"]


def test_a_sample_says_so_and_multiplies_its_counts(browser, results, table, tmp_path, monkeypatch):
    monkeypatch.setattr("tomohet.report.space.TABLE_BYTES", 3_000_000)
    page = write_report(results).read_text()
    found = played(browser, page, PLAYER, tmp_path)
    parts = int(re.search(r"1 in (\d+) drawn", found["note"])[1])
    assert found["note"] == f"of 400,000: 1 in {parts} drawn" and found["n"] == N // parts
    assert found["indices"]  # disabled: they would leave out particles
    real = len(select(table, found["lasso"]["query"]))
    stated = int(re.search(r"≈ ([\d,]+) particles", found["lasso"]["text"])[1].replace(",", ""))
    assert abs(stated - real) < 5 * parts * np.sqrt(real / parts)
    counts = [int(text.replace(",", "").replace("≈", "")) for text in re.findall(r"≈ [\d,]+", found["chips"])]
    assert abs(np.mean(counts) - N / TOMOGRAMS) < 300
