"""The report: what is read, what is computed for it, and that the page is whole and needs nothing else."""

import json
import re
import zlib
from base64 import b64decode

import numpy as np
import pandas as pd
import pytest

from fake_results import CLUSTERS, make_results
from tomohet.errors import InputError
from tomohet.files.mrc import write_volume
from tomohet.report import write_report
from tomohet.report.blobs import Blobs
from tomohet.report.codes import coded
from tomohet.report.collect import collect
from tomohet.report.facts import facts_of, tables_of
from tomohet.report.figures import clustermap, fsc_chart, held_out_chart, histograms, resolutions, ward_order
from tomohet.report.reading import Reader, numbered
from tomohet.report.space import LEAST_TABLE_BYTES, TABLE_BYTES, share, table_bytes
from tomohet.report.tables import is_category, label_of, plottable, table_payload
from tomohet.report.view import best_view, explained
from tomohet.report.volumes import contour_level, even_choice, to_bytes, volume_set


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("results") / "fake")


@pytest.fixture(scope="module")
def page(results):
    return write_report(results).read_text()


def decoded(element: str, dtype) -> np.ndarray:
    raw = np.frombuffer(zlib.decompress(b64decode(re.search(">([^<]*)<", element)[1])), np.uint8)
    if "data-planes" in element:
        raw = raw.reshape(np.dtype(dtype).itemsize, -1).T
    return np.frombuffer(raw.tobytes(), dtype)


def specs(page: str) -> dict:
    found = re.findall(r'<script type="application/json" id="(.*?)-spec">(.*?)</script>', page, re.S)
    return {name: json.loads(text) for name, text in found}


def test_rounds_are_collected_in_tree_order(results):
    rounds = collect(results).rounds
    assert [(r.name, r.parent) for r in rounds] == [
        ("all", None),
        ("bound", "all"),
        ("classA", "bound"),
        ("rest", "all"),
    ]
    assert rounds[0].n_particles == 600
    assert rounds[1].query == "maven_B > 0.5"
    assert len(rounds[0].volumes) == CLUSTERS


def test_page_is_self_contained(page):
    # Everything but the SVG name space, which is a name and no address that is loaded.
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", page)) - {"http://www.w3.org/2000/svg"}
    assert addresses == set()
    assert not re.search(r"<(script|img|link|iframe)[^>]+(src|href)=\"(?!data:)", page)
    assert "@import" not in page and "url(" not in page


def test_page_speaks_of_every_round_and_stage(page):
    assert "The network&#39;s volumes predict held-out tilt images better than the linear model" in page
    for text in ("classA", "maven_B &gt; 0.5", "Leak audit", "SIREn", "MAVEn", "Against the truth", "0.999"):
        assert text in page
    drawn = specs(page)
    for part in (
        "explorer",
        "structures",
        "map",
        "fsc",
        "states",
        "loss-1",
        "held-out",
        "variability",
        "sizes",
        "pieces",
        "maven-map",
        "siren-map",
    ):
        assert f"round-bound-{part}" in drawn


def test_every_blob_named_by_a_figure_is_in_the_page(page):
    named = set(re.findall(r'"(blob-\d+)"', page))
    stored = set(re.findall(r'id="(blob-\d+)"', page))
    assert named == stored and named


def test_page_of_the_same_results_differs_in_its_date_alone(results, page, tmp_path):
    again = write_report(results, tmp_path / "again.html").read_text()
    undated = [re.sub(r'<p class="meta">.*?</p>', "", text) for text in (page, again)]
    assert undated[0] == undated[1]


@pytest.mark.parametrize(
    "stage", ["subset", "linear", "states", "train_vae", "convergence", "analyze", "siren", "maven", "truth"]
)
def test_any_stage_may_be_missing(tmp_path, stage):
    import shutil

    folder = make_results(tmp_path / "fake", n=60, rounds=("all",))
    shutil.rmtree(folder / "all" / stage)
    page = write_report(folder).read_text()
    assert "not run" in page and "could not be read" not in page


def test_a_dataset_of_which_only_the_input_was_checked(tmp_path):
    folder = make_results(tmp_path / "fake", n=60, rounds=())
    assert "No round has run yet" in write_report(folder).read_text()


def test_damaged_files_are_named_in_the_report(tmp_path):
    folder = make_results(tmp_path / "fake", n=60, rounds=("all",))
    (folder / "all" / "convergence" / "convergence.json").write_text("{")
    (folder / "all" / "subset" / "map.mrc").write_bytes(b"no map")
    (folder / "all" / "train_vae" / "loss.csv").write_text("")
    page = write_report(folder).read_text()
    for name in ("all/convergence/convergence.json", "all/subset/map.mrc", "all/train_vae/loss.csv"):
        assert f"{name} could not be read" in page


@pytest.mark.parametrize(("make", "message"), [(False, "no such folder"), (True, "no stage of the workflow")])
def test_a_folder_without_results_is_refused(tmp_path, make, message):
    folder = tmp_path / "nothing"
    if make:
        folder.mkdir()
    with pytest.raises(InputError, match=message):
        write_report(folder)


def test_text_from_files_cannot_break_out_of_the_page(tmp_path):
    folder = make_results(tmp_path / "fake", n=60, rounds=("all",))
    table = pd.read_parquet(folder / "all" / "particles.parquet")
    table["tomogram"] = np.where(table["particle"] % 2, "</script><b>x", "TS_01")
    table.to_parquet(folder / "all" / "particles.parquet")
    page = write_report(folder).read_text()
    assert "</script><b>x" not in page
    columns = specs(page)["round-all-explorer"]["table"]["columns"]
    assert next(c for c in columns if c["name"] == "tomogram")["categories"] == ["</script><b>x", "TS_01"]


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


def test_scenes_of_tomograms_are_named_where_they_exist(tmp_path):
    folder = make_results(tmp_path / "fake", n=60, rounds=("all",))
    scene = folder / "all" / "mapback" / "tomo_TS_02" / "mapback.cxc"
    scene.parent.mkdir(parents=True)
    scene.write_text("open")
    explorer = specs(write_report(folder).read_text())["round-all-explorer"]
    assert explorer["scenes"] == {"TS_02": "all/mapback/tomo_TS_02/mapback.cxc"}


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


def test_space_is_shared_among_rounds_and_volumes():
    assert table_bytes(200, [200, 100]) == 2 * table_bytes(100, [200, 100]) == TABLE_BYTES * 2 / 3
    assert table_bytes(None, [None]) == table_bytes(1, [10_000, 1]) == LEAST_TABLE_BYTES
    for rounds, volumes in ((1, 1), (1, 24), (3, 24), (10, 10)):
        box = share(rounds).box(volumes)
        assert box % 2 == 0 and (box == 20 or 2 * volumes * box**3 <= share(rounds).voxels)
    assert (share(1).box(1), share(1).map_box) == (48, 64)
    assert all(share(n).map_box % 2 == 0 for n in range(1, 100))


def test_columns_kept_for_plotting():
    table = pd.DataFrame(
        {f"pc{i}": np.arange(5.0) for i in range(1, 20)} | {"constant": 1.0, "source_id": list("abcde")}
    )
    assert plottable(table) == [f"pc{i}" for i in range(1, 9)]


def test_labels_and_kinds_of_columns():
    assert label_of("x_A") == "x (Å)"
    assert label_of("maven_A") == "occupancy of A (MAVEn)"  # chain A, no length
    assert label_of("vpc2") == "volume PC 2"
    assert is_category(pd.Series([1, 2, 2], name="kmeans"))
    assert not is_category(pd.Series([38, 41, 41], name="n_tilts"))
    assert not is_category(pd.Series([1.0, 2.0], name="pc1"))


def test_resolution_is_interpolated_in_frequency():
    fsc = pd.DataFrame({"frequency_1_A": [0, 0.02, 0.04, 0.06], "masked": [1, 0.9, 0.7, 0.1]})
    found = resolutions(fsc)
    assert found[0.5] == pytest.approx(1 / (0.04 + 0.02 * 0.2 / 0.6))
    assert found[0.143] == pytest.approx(1 / (0.04 + 0.02 * 0.557 / 0.6))


def test_a_curve_above_the_threshold_counts_to_its_last_shell_and_an_empty_one_to_nothing():
    fsc = pd.DataFrame({"frequency_1_A": [0, 0.02, 0.04], "unmasked": [1, 0.99, 0.9]})
    assert resolutions(fsc)[0.143] == pytest.approx(25.0)
    assert resolutions(fsc.assign(unmasked=np.nan)) == {}
    assert fsc_chart(None) is None


def test_gains_are_shown_where_they_were_judged():
    table = pd.DataFrame(
        {"epoch": [0, 1], "gain_of_decoder": [5.0, 9.0], "error_of_decoder": [2.0, 3.0]}
        | {"gain_of_latents": [np.nan, -4.0], "error_of_latents": [np.nan, 1.5]}
    )
    decoder, latents = held_out_chart(table)["series"]
    assert (decoder["x"], decoder["y"], decoder["error"]) == ([0, 1], [5, 9], [2, 3])
    assert (latents["x"], latents["y"], latents["error"]) == ([1], [-4], [1.5])
    assert held_out_chart(None) is None


def test_gaps_in_curves_stay_gaps():
    fsc = pd.DataFrame(
        {"frequency_1_A": [0, 0.02, 0.04], "masked": [1, 0.9, 0.2], "randomised": [np.nan, np.nan, 0.1]}
    )
    chart = fsc_chart(fsc)
    assert chart["series"][1]["y"] == [None, 0.1]
    assert chart["xreading"] == "resolution"


def test_clustermap_orders_rows_and_columns_by_likeness():
    table = pd.DataFrame(
        {"m_a": [0, 1, 0, 1.0], "m_b": [1, 0, 1, 0.0], "m_c": [0, 0.9, 0, 0.9]}, index=[5, 6, 7, 8]
    )
    found = clustermap(table, "volume", "unit", "m_")
    pairs = {frozenset(found["rows"][:2]), frozenset(found["rows"][2:])}
    assert pairs == {frozenset("57"), frozenset("68")}
    assert abs(found["columns"].index("a") - found["columns"].index("c")) == 1
    for i, row in enumerate(found["rows"]):
        for j, column in enumerate(found["columns"]):
            assert found["values"][i][j] == table.loc[int(row), f"m_{column}"]


def test_histograms_share_an_axis_and_count_every_particle():
    table = pd.DataFrame({"maven_A": [0.0, 0.1, 0.9, np.nan], "maven_B": [1.0, 1.1, 1.2, 5.0]})
    first, second = histograms(table, {"maven_A": "A", "maven_B": "B"})
    assert first["xrange"] == second["xrange"] and first["series"][0]["x"] == second["series"][0]["x"]
    assert [sum(chart["series"][0]["y"]) for chart in (first, second)] == [3, 4]


def test_dendrogram_joins_neighbours_and_reaches_full_height():
    order, links = ward_order(np.array([[0.0], [10.0], [0.1], [10.2]]))
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset({0, 2}), frozenset({1, 3})}
    assert max(height for link in links for _, height in link) == 1
    assert {position for link in links for position, height in link if height == 0} == {0.5, 1.5, 2.5, 3.5}


def test_volume_set_keeps_grey_values_and_grid(tmp_path):
    rng = np.random.default_rng(1)
    maps = rng.normal(size=(2, 12, 12, 12)).astype("f4")
    paths = [tmp_path / f"vol_{i}.mrc" for i in range(2)]
    for path, volume in zip(paths, maps, strict=True):
        write_volume(path, volume, 3.0)
    blobs = Blobs()
    found = volume_set(Reader(tmp_path), blobs, paths, box=12)
    values = decoded(blobs.elements[0], "u1").reshape(2, 12, 12, 12)
    restored = found["low"] + values / 255 * (found["high"] - found["low"])
    kept = (maps > found["low"]) & (maps < found["high"])
    assert kept.mean() > 0.999
    assert np.abs(restored - maps)[kept].max() <= (found["high"] - found["low"]) / 510 * 1.001
    assert found["pixel_size_A"] == 3.0


def test_large_volumes_are_cropped_and_their_pixel_grows(tmp_path):
    axis = np.arange(32) - 16
    ball = np.exp(-(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) / 50).astype("f4")
    write_volume(tmp_path / "map.mrc", ball, 2.0)
    blobs = Blobs()
    found = volume_set(Reader(tmp_path), blobs, [tmp_path / "map.mrc"], box=16)
    values = decoded(blobs.elements[0], "u1").reshape(16, 16, 16)
    assert (found["box"], found["original_box"], found["pixel_size_A"]) == (16, 32, 4.0)
    assert np.unravel_index(values.argmax(), values.shape) == (8, 8, 8)


def test_odd_boxes_are_cropped_and_other_shapes_named(tmp_path):
    write_volume(tmp_path / "odd.mrc", np.random.default_rng(0).normal(size=(33, 33, 33)), 2.0)
    write_volume(tmp_path / "flat.mrc", np.zeros((4, 8, 8)), 2.0)
    reader = Reader(tmp_path)
    assert volume_set(reader, Blobs(), [tmp_path / "odd.mrc"], box=20)["box"] == 20
    assert volume_set(reader, Blobs(), [tmp_path / "flat.mrc"], box=20) is None
    assert reader.problems == ["flat.mrc could not be read: expected a cube, found (4, 8, 8) voxels"]


def test_contour_stands_above_solvent_noise():
    rng = np.random.default_rng(2)
    stack = rng.normal(0, 1, (1, 24, 24, 24))
    stack[0, 10:14, 10:14, 10:14] += 8
    assert 2.5 < contour_level(stack) < 8


def test_choice_and_order_of_volumes(tmp_path):
    assert even_choice(3, 24) == [0, 1, 2]
    chosen = even_choice(500, 24)
    assert len(chosen) == 24 and chosen[0] == 0 and chosen[-1] == 499
    assert even_choice(0, 24) == []
    names = ["vol_10.mrc", "vol_2.mrc", "vol_1.mrc"]
    assert [p.name for p in numbered(tmp_path / n for n in names)] == ["vol_1.mrc", "vol_2.mrc", "vol_10.mrc"]


def test_bytes_cover_the_grey_range():
    np.testing.assert_array_equal(
        to_bytes(np.array([-5.0, 0.0, 1.0, 2.0, 9.0]), 0.0, 2.0), [0, 0, 128, 255, 255]
    )


def test_unknown_numbers_of_a_stage_appear_by_themselves():
    summary = {
        "new_number_A": 1.5,
        "nested": {"seed": 3},
        "per_block": {"A": {"auc": 0.9}, "B": {"auc": 0.8}},
    }
    assert facts_of(summary) == [("new number (Å)", "1.5"), ("nested: seed", "3")]
    assert tables_of(summary) == [
        {"title": "per block", "columns": ["", "AUC"], "rows": [["A", "0.9"], ["B", "0.8"]]}
    ]


def test_command_writes_where_it_is_told(run_script, tmp_path):
    folder = make_results(tmp_path / "fake", n=60, rounds=("all",))
    run_script("report", folder, "-o", tmp_path / "out.html")
    assert (tmp_path / "out.html").read_text().startswith("<!DOCTYPE html>")
    failed = run_script("report", tmp_path / "absent", check=False)
    assert (
        failed.returncode == 1 and failed.stderr.startswith("error: ") and "no such folder" in failed.stderr
    )
