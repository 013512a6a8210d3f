"""The report: what is read, what is computed for it, and that the page is whole and needs nothing else."""

import json
import re
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from page_blobs import decoded

from fake_results import CLUSTERS, make_results
from tomohet.errors import InputError
from tomohet.files.mrc import write_volume
from tomohet.report import bundle as bundle_module
from tomohet.report import write_report
from tomohet.report.blobs import Blobs
from tomohet.report.collect import collect
from tomohet.report.facts import facts_of, tables_of
from tomohet.report.figures import (
    clustermap,
    fsc_chart,
    held_out_chart,
    held_out_directions,
    histograms,
    resolutions,
    ward_order,
)
from tomohet.report.reading import Reader, numbered
from tomohet.report.space import LEAST_TABLE_BYTES, TABLE_BYTES, share, table_bytes
from tomohet.report.volumes import contour_level, even_choice, to_bytes, volume_set


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("results") / "fake")


@pytest.fixture(scope="module")
def page(results):
    return write_report(results).read_text()


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


def test_a_page_elsewhere_links_to_the_files_of_the_results(results, tmp_path):
    elsewhere = tmp_path / "a page" / "report.html"
    elsewhere.parent.mkdir()
    page = write_report(results, elsewhere).read_text()
    links = [unquote(link) for link in re.findall(r'<a href="([^"#]*/subset/fsc\.csv)"', page)]
    assert links and all((elsewhere.parent / link).is_file() for link in links)


def test_page_of_the_same_results_differs_in_its_date_alone(results, page):
    again = write_report(results, results / "again.html").read_text()
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


def test_scenes_of_tomograms_are_named_where_they_exist(tmp_path):
    folder = make_results(tmp_path / "fake", n=60, rounds=("all",))
    scene = folder / "all" / "mapback" / "tomo_TS_02" / "mapback.cxc"
    scene.parent.mkdir(parents=True)
    scene.write_text("open")
    explorer = specs(write_report(folder).read_text())["round-all-explorer"]
    assert explorer["scenes"] == {"TS_02": "all/mapback/tomo_TS_02/mapback.cxc"}


def test_space_is_shared_among_rounds_and_volumes():
    assert table_bytes(200, [200, 100]) == 2 * table_bytes(100, [200, 100]) == TABLE_BYTES * 2 / 3
    assert table_bytes(None, [None]) == table_bytes(1, [10_000, 1]) == LEAST_TABLE_BYTES
    for rounds, volumes in ((1, 1), (1, 24), (3, 24), (10, 10)):
        box = share(rounds).box(volumes)
        assert box % 2 == 0 and (box == 20 or 2 * volumes * box**3 <= share(rounds).voxels)
    assert (share(1).box(1), share(1).map_box) == (48, 64)
    assert all(share(n).map_box % 2 == 0 for n in range(1, 100))


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


def test_directions_that_are_confirmed_have_a_colour_of_their_own():
    chart = held_out_directions({"held_out_moments": [9.0, 4.0, -1.0], "components_confirmed": 2})
    (series,) = chart["series"]
    assert series["y"] == [9.0, 4.0, -1.0]
    assert series["colours"][0] == series["colours"][1] != series["colours"][2]
    assert held_out_directions({"held_out_moments": [1.0], "components_confirmed": None}) is None
    assert held_out_directions({}) is None


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


def test_modules_are_joined_after_those_that_they_import(monkeypatch):
    sources = {
        "page": 'import { b } from "./b.js";\nimport { a } from "./a.js";\nexport const c = a + b;\n',
        "b": 'import { a } from "./a.js";\nexport function b() { return a; }\n',
        "a": "export const a = 1;\nconst own = 2;\n",
    }
    monkeypatch.setattr(bundle_module, "_source", sources.__getitem__)
    assert bundle_module.in_order("page") == ["a", "b", "page"]
    script = bundle_module.bundle()
    assert "TomoHet.modules.b = (() => {\nconst { a } = TomoHet.modules.a;\nfunction b()" in script
    assert "return { a };" in script and "export" not in script and "import" not in script
    sources["a"] = 'import { b } from "./b.js";\n'
    with pytest.raises(ValueError, match="page > b > a > b"):
        bundle_module.in_order("page")
    sources["a"] = 'import b from "./b.js";\n'
    with pytest.raises(ValueError, match=r"a\.js: imports read"):
        bundle_module.bundle()
