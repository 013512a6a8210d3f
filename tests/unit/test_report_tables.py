"""The particle table inside the report: codes, their precision, samples, and the first view."""

import re

import numpy as np
import pandas as pd
import pytest
from page_blobs import decoded

from tomohet.report.blobs import Blobs
from tomohet.report.codes import coded
from tomohet.report.tables import MOST_COLUMNS, is_category, label_of, plottable, table_payload
from tomohet.report.view import best_view, explained


def test_table_values_arrive_unchanged():
    table = pd.DataFrame(
        {"particle": [3, 5, 9], "pc1": [0.5, np.nan, -2.0], "kmeans": [1, 0, 1], "half": [1, 2, 1]}
    )
    blobs = Blobs()
    payload = table_payload(blobs, table, "particle", 1000)
    assert [c["name"] for c in payload["columns"]] == ["pc1", "kmeans"]
    np.testing.assert_array_equal(np.cumsum(decoded(blobs.elements[0], "<i4")), [3, 5, 9])
    np.testing.assert_array_equal(decoded(blobs.elements[1], "<f4"), np.float32([0.5, np.nan, -2.0]))
    np.testing.assert_array_equal(decoded(blobs.elements[2], "u1"), [1, 0, 1])
    assert payload["columns"][1]["categories"] == [0, 1]


def random_table(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    names = ("pc1", "pc2", "quality", "score")
    return pd.DataFrame({"particle": np.arange(n)} | {name: rng.random(n) for name in names})


@pytest.mark.parametrize(
    ("most_bytes", "kinds", "n"),
    [
        (9e6, ["f8"] * 4, 200_000),
        (2.4e6, ["u2"] * 4, 200_000),
        (1.7e6, ["u2", "u2", "u1", "u1"], 200_000),
        (1.45e6, ["u2", "u2", "u1", "u1"], 200_000),
        (0.8e6, ["u2"] * 4, 66_666),
    ],
)
def test_a_large_table_loses_precision_before_rows_and_its_axes_last(most_bytes, kinds, n):
    table, first, second = random_table(200_000), Blobs(), Blobs()
    payload = table_payload(first, table, "particle", most_bytes)
    table_payload(second, table, "particle", most_bytes)
    assert first.elements == second.elements
    assert (payload["total"], payload["n"]) == (200_000, n)
    assert [re.search('kind="(..)"', element)[1] for element in first.elements[1:]] == kinds
    assert sum(map(len, first.elements[1:])) <= 1.02 * most_bytes + 500
    rows = np.cumsum(decoded(first.elements[0], "<i4"))
    assert len(np.unique(rows)) == n
    column = payload["columns"][1]
    kind = {"f8": "<f8", "u2": "<u2"}[kinds[1]]
    values = column.get("low", 0) + column.get("step", 1) * decoded(first.elements[2], kind)
    np.testing.assert_allclose(values, table["pc2"].to_numpy()[rows], atol=0.5001 * column.get("step", 0))


def test_whole_numbers_and_missing_values_survive_any_precision():
    values = pd.Series([-3, 400, np.nan, 12.0], name="a")
    for precision in (0, 1, 2, 3):
        found = coded(values, precision)
        assert found.values.dtype == np.uint16
        np.testing.assert_array_equal(found.low + found.step * found.values[[0, 1, 3]], [-3, 400, 12])
        assert found.values[2] == 65_535
    assert coded(pd.Series([np.nan] * 3, name="a"), 0).values.tolist() == [255] * 3


def test_what_holds_of_a_volume_is_stored_once():
    volume = np.arange(4000) % 20
    occupancy = np.random.default_rng(0).random(20)
    table = pd.DataFrame(
        {
            "particle": np.arange(4000),
            "volume": volume,
            "maven_A": occupancy[volume],
            "pc1": np.arange(4000.0) / 7,
        }
    )
    blobs = Blobs()
    payload = table_payload(blobs, table, "particle", 1e6)
    column = next(c for c in payload["columns"] if c["name"] == "maven_A")
    assert column["keyed"]
    element = {re.search('id="(.*?)"', e)[1]: e for e in blobs.elements}
    np.testing.assert_array_equal(decoded(element[column["blob"]], "<f8"), occupancy)
    np.testing.assert_array_equal(decoded(element[payload["keys"]], "u1"), volume)


def test_every_tomogram_can_be_chosen_however_many_there_are():
    table = pd.DataFrame({"particle": np.arange(900), "tomogram": [f"TS_{i % 300}" for i in range(900)]})
    table["source_path"] = [f"p{i}" for i in range(900)]
    assert plottable(table) == ["tomogram"]
    payload = table_payload(Blobs(), table, "particle", 1e6)
    assert len(payload["columns"][0]["categories"]) == 300


def test_the_first_view_shows_the_occupancy_that_the_axes_explain():
    rng = np.random.default_rng(1)
    present = rng.random(2000) < 0.5
    table = pd.DataFrame(
        {
            "pc1": rng.normal(size=2000),
            "pc2": rng.normal(size=2000),
            "linear_z1": present + rng.normal(0, 0.2, 2000),
            "linear_z2": rng.normal(size=2000),
            "vpc1": present + rng.normal(0, 0.01, 2000),
            "vpc2": rng.normal(size=2000),
            "maven_noise": rng.normal(size=2000),
            "maven_A": present + rng.normal(0, 0.1, 2000),
            "kmeans": rng.integers(0, 4, 2000),
        }
    )
    assert best_view(table, list(table)) == (("linear_z1", "linear_z2"), "maven_A")
    assert best_view(table, ["pc1", "pc2", "kmeans"]) == (("pc1", "pc2"), "kmeans")
    assert explained(table["pc1"], table["pc2"], table["maven_A"]) < 0.05
    assert explained(table["linear_z1"], table["linear_z2"], table["maven_A"]) > 0.9


def test_columns_kept_for_plotting():
    table = pd.DataFrame(
        {f"pc{i}": np.arange(5.0) for i in range(1, 20)} | {"constant": 1.0, "source_id": list("abcde")}
    )
    assert plottable(table) == [f"pc{i}" for i in range(1, 9)]
    many = {f"maven_{i}": np.arange(5.0) for i in range(90)}
    parent = {f"parent_{axis}{i}": np.arange(5.0) for axis in ("pc", "umap") for i in range(1, 5)}
    kept = plottable(pd.DataFrame(many | parent | {"parent_vpc1": np.arange(5.0)}))
    axes = [*(f"parent_pc{i}" for i in range(1, 4)), *(f"parent_umap{i}" for i in range(1, 5)), "parent_vpc1"]
    assert kept == [*list(many)[: MOST_COLUMNS - len(axes)], *axes]


def test_labels_and_kinds_of_columns():
    assert label_of("x_A") == "x (Å)"
    assert label_of("maven_A") == "occupancy of A (MAVEn)"  # chain A, no length
    assert label_of("vpc2") == "volume PC 2"
    assert label_of("parent_vpc2") == "volume PC 2 of the parent"
    assert is_category(pd.Series([1, 2, 2], name="kmeans"))
    assert not is_category(pd.Series([38, 41, 41], name="n_tilts"))
    assert not is_category(pd.Series([1.0, 2.0], name="pc1"))
