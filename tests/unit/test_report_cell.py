"""Particles in their tomograms, as the report's page holds them."""

import numpy as np
import pandas as pd
import pytest
import starfile
from test_report_volumes import array

from fake_results import make_results
from tomohet import plots
from tomohet.mapback.labels import labels_of
from tomohet.physics.geometry import euler_to_matrix
from tomohet.report.blobs import Blobs
from tomohet.report.cell import MOST_SHOWN, cell
from tomohet.report.collect import collect
from tomohet.report.reading import Reader


def written(results) -> tuple[dict | None, Blobs, Reader]:
    found, blobs = collect(results), Blobs()
    reader = Reader(found.folder)
    return cell(found.rounds[0], reader, blobs), blobs, reader


def write_series(results, table: pd.DataFrame, moved_A: float = 0.0) -> np.ndarray:
    """The round's volume series, with angles; return these (n, 3)."""
    angles = np.random.default_rng(1).uniform([-180, 0, -180], [180, 180, 180], (len(table), 3))
    star = pd.DataFrame({"rlnMicrographName": table["tomogram"], "rlnMagnification": 10000.0})
    star["rlnDetectorPixelSize"] = 8.0
    for axis in "xyz":
        star[f"rlnCoordinate{axis.upper()}"] = (table[f"{axis}_A"] + moved_A) / 8.0
    star[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]] = angles
    star[["rlnOriginX", "rlnOriginY", "rlnOriginZ"]] = 0.0
    starfile.write(star, results / "all/subset/volumes.star")
    return angles


@pytest.fixture
def results(tmp_path):
    return make_results(tmp_path / "fake", n=90, rounds=("all",))


def test_places_labels_and_colours_of_all_particles(results):
    table = pd.read_parquet(results / "all/particles.parquet")
    folder = results / "all/mapback/tomo_TS_02"
    folder.mkdir(parents=True)
    (folder / "mapback.cxc").touch()
    spec, blobs, reader = written(results)
    assert reader.problems == []
    assert array(blobs, spec["rows"]).tolist() == list(range(90)) and spec["axes"] is None
    places = array(blobs, spec["places"]).reshape(-1, 3) * spec["step"]
    truth = table[["x_A", "y_A", "z_A"]].to_numpy()
    np.testing.assert_allclose(places, truth - truth.min(axis=0), atol=0.1)
    names = [t["name"] for t in spec["tomograms"]]
    assert [names[code] for code in array(blobs, spec["tomogram"])] == table["tomogram"].tolist()
    assert [t["scene"] for t in spec["tomograms"]] == [None, "all/mapback/tomo_TS_02/mapback.cxc", None]
    (kmeans,) = [c for c in spec["columns"] if c["name"] == "kmeans"]
    assert array(blobs, kmeans["blob"]).tolist() == table["kmeans"].tolist()
    assert kmeans["colours"] == labels_of(table["kmeans"]).colors
    assert kmeans["colours"] == plots.label_hex(4)
    (amount,) = [c for c in spec["columns"] if c["name"] == "maven_B"]
    coded = array(blobs, amount["blob"]) / 254
    np.testing.assert_allclose(coded, table["maven_B"].clip(0, 1), atol=0.003)
    (test,) = spec["tests"]
    assert test["label"] == "kmeans" and test["n"] == test["total"] == 90
    assert [row["n"] for row in test["rows"]] == np.bincount(table["kmeans"]).tolist()


def test_orientations_come_from_the_volume_series(results):
    angles = write_series(results, pd.read_parquet(results / "all/particles.parquet"))
    spec, blobs, reader = written(results)
    assert reader.problems == []
    axes = (array(blobs, spec["axes"]).reshape(-1, 3).astype(float) - 127) / 127
    np.testing.assert_allclose(axes, euler_to_matrix(*angles.T)[:, :, 2], atol=0.005)
    assert "turn_deg" in spec["tests"][0]["rows"][0]


def test_a_series_of_other_particles_is_named_and_not_used(results):
    table = pd.read_parquet(results / "all/particles.parquet")
    write_series(results, table, moved_A=900.0)
    spec, _, reader = written(results)
    assert spec["axes"] is None and "row 1: 1,559 Å from the place" in reader.problems[0]
    write_series(results, table.iloc[:-1])
    spec, _, reader = written(results)
    assert spec["axes"] is None and "89 particles, expected the 90" in reader.problems[0]


def test_particles_without_a_place_are_left_out(results):
    path = results / "all/particles.parquet"
    table = pd.read_parquet(path)
    table.loc[[4, 7], "x_A"] = np.nan
    table.to_parquet(path)
    spec, blobs, _ = written(results)
    assert spec["n"] == spec["total"] == 88
    assert not {4, 7} & set(array(blobs, spec["rows"]).tolist())
    table.drop(columns=["x_A"]).to_parquet(path)
    assert written(results)[0] is None


def test_of_very_many_particles_whole_tomograms_are_shown(results, monkeypatch):
    monkeypatch.setattr("tomohet.report.cell.MOST_SHOWN", 65)
    assert MOST_SHOWN > 65
    sizes = pd.read_parquet(results / "all/particles.parquet")["tomogram"].value_counts()
    spec, _, _ = written(results)
    shown = {t["name"]: t["n"] for t in spec["tomograms"]}
    assert shown == sizes[: len(shown)].to_dict() and spec["n"] == sum(shown.values()) <= 65
    assert spec["total"] == 90 and spec["total_tomograms"] == 3


def test_labels_keep_their_colours_whatever_their_number():
    few, many = plots.label_hex(5), plots.label_hex(20)
    assert many[:5] == few and len(set(many)) == 20
    assert len(set(plots.label_hex(40))) == 40
