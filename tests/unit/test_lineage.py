"""The lineage of rounds: their origin, digests and seeds; the tree; the methods paragraph."""

import hashlib
import json
import re

import numpy as np
import pytest
import yaml

from fake_results import make_results
from tomohet.cli import options_of
from tomohet.commands import lineage as lineage_command
from tomohet.commands import methods as methods_command
from tomohet.errors import InputError
from tomohet.files.atomic import write_pickle
from tomohet.rounds.lineage import depths, read_lineage
from tomohet.rounds.lineage_figure import lines_of, rows
from tomohet.rounds.methods_text import methods_text
from tomohet.rounds.quoting import Evidence

LOG = """2026-01-01 10:00:00     command: 'tomohet train_linear' store --seed 3
2026-01-01 10:00:00     tomohet 9.9.9, Python 3.11.7, Linux
2026-01-02 10:00:00     command: 'tomohet train_linear' 'a store' --seed 4
2026-01-02 10:00:00     tomohet 9.9.10, Python 3.11.7, Linux
"""
HALF_MAPS = {"resolution_A": 21.34, "n_images": 999}
# What the fake stages do not state, but real ones do.
FACTS = {
    "linear/config.yaml": {"seed": 6, "training_args": {"refine_poses": True}},
    "linear/summary.json": {"zdim": 3, "pose_errors": {"rotation_deg": 2.26, "shift_A": 3.14}},
    "states/summary.json": {"n_states": 11},
    "train_vae/config.yaml": {
        "model_args": {"zdim": 13, "players": 4, "pdim": 512},
        "training_args": {"n": 51, "B": 9, "lr": 0.0002, "init": "all/linear"},
        "seed": 14,
    },
    "analyze/summary.json": {"kmeans": {"clusters": 15}},
    "analyze_volumes/summary.json": {"volumes": 316, "kmeans": {"clusters": 17}},
    "siren/summary.json": {"n_blocks": 18},
    "maven/summary.json": {"n_units": 19, "resolution_A": 29.5},
}


@pytest.fixture
def results(tmp_path):
    """Four rounds, of which two have not run; the others have indices and counts as `select` writes them."""
    folder = make_results(tmp_path / "fake", n=60, rounds=("all", "bound"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config |= {"linear": {"seed": 5}, "simulate": {"seed": 8}}
    config["rounds"]["bound"]["linear"] = {"seed": 6}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    store = folder / "prepared" / "store.yaml"
    told = yaml.safe_load(store.read_text()) | {
        "counts": {"particles": 60, "images": 1234, "tomograms": 7},
        "box": 24,
        "pixel_size_A": 8.0,
        "dialect": "Warp/M image series",
        "tomohet": "9.9.9",
        "inputs": {"particles.star": "abc"},
        "digest": "def",
    }
    store.write_text(yaml.safe_dump(told))
    for name, kept in (("all", np.arange(60)), ("bound", np.arange(5, 25))):
        subset = folder / name / "subset"
        write_pickle(subset / "indices.pkl", kept)
        given = config["rounds"][name]
        counts = {
            "parent": given.get("parent"),
            "query": given.get("select"),
            "indices": None,
            "n_particles": len(kept),
            "n_parent": 60,
        }
        (subset / "summary.json").write_text(json.dumps(counts))
        for file, facts in (
            FACTS | {"subset/reconstruction.json": HALF_MAPS | {"n_particles": len(kept)}}
        ).items():
            path = folder / name / file
            known = yaml.safe_load(path.read_text()) if path.exists() else {}
            path.write_text(json.dumps(known | facts))
    (folder / "bound" / "linear" / "run.log").write_text(LOG)
    return folder


def test_a_round_tells_its_origin_digests_seed_and_last_command(results):
    lineage = read_lineage(results)
    bound = lineage["rounds"]["bound"]
    assert (bound["parent"], bound["select"]) == ("all", "maven_B > 0.5")
    assert (bound["n_particles"], bound["n_parent"]) == (20, 60)
    assert (bound["first_particle"], bound["last_particle"]) == (5, 24)
    file = results / "bound" / "subset" / "indices.pkl"
    assert bound["digests"]["indices"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert bound["seeds"]["linear"] == 6
    assert lineage["rounds"]["all"]["seeds"]["linear"] == 5
    assert bound["commands"]["linear"] == "tomohet train_linear 'a store' --seed 4"
    assert lineage["versions"]["tomohet"] == ["9.9.10", "9.9.9"]
    assert bound["resolution_A"] == 21.34


def test_subsets_states_clusters_and_classes_have_their_verdicts_against_controls(results):
    said = {"subset": "weak", "states": "1 of 2 supported", "groups/clusters": "3 of 9 supported"}
    for folder, verdict in (said | {"groups/classes": None}).items():
        (results / "bound" / folder).mkdir(parents=True, exist_ok=True)
        (results / "bound" / folder / "support.json").write_text(json.dumps({"verdict": verdict}))
    log = "2026-01-03 10:00:00     command: 'tomohet support' store\n"
    (results / "bound" / "linear" / "run.log").write_text(LOG + log)
    bound = read_lineage(results)["rounds"]["bound"]
    found = {name: verdict for name, verdict in bound["verdicts"].items() if "support" in name}
    assert found == {
        "support": "weak",
        "states support": "1 of 2 supported",
        "clusters support": "3 of 9 supported",
    }
    assert "clusters support: 3 of 9 supported" in lines_of(bound)
    assert bound["commands"]["linear"] == "tomohet train_linear 'a store' --seed 4"


def test_a_round_that_has_not_run_has_no_counts(results):
    found = read_lineage(results)["rounds"]["classA"]
    assert found["n_particles"] is None and not found["digests"] and not found["commands"]
    assert lines_of(found)[0] == "not selected yet"


def test_the_tree_has_a_row_for_each_leaf_and_parents_between_their_children(results):
    lineage = read_lineage(results)
    assert depths(lineage) == {"all": 0, "bound": 1, "rest": 1, "classA": 2}
    place = rows(lineage)
    assert place["classA"] == place["bound"] == 0 and place["rest"] == 1 and place["all"] == 0.5


def test_the_command_writes_json_and_two_figures(results, tmp_path):
    folder = tmp_path / "told"
    written = lineage_command.run(options_of("lineage", [str(results), "-o", str(folder)]))
    assert json.loads((folder / "lineage.json").read_text()) == written
    svg = (folder / "lineage.svg").read_text()
    assert all(f">{name}<" in svg for name in written["rounds"]) and "maven_B" in svg
    assert (folder / "lineage.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_without_a_configuration_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no config\.yaml, expected the results folder of a dataset"):
        read_lineage(tmp_path)


def test_every_number_of_the_methods_paragraph_stands_in_the_named_file(results, tmp_path):
    output = tmp_path / "methods.md"
    text = methods_command.run(options_of("methods", [str(results), "-o", str(output)]))
    assert output.read_text() == text
    body, table = text.split("## Where the numbers stand")
    quoted = re.findall(r"^\| (.*) \| (\S+) \| (\S+) \|$", table, re.M)[2:]
    lineage = read_lineage(results)
    evidence = Evidence(results, lineage)
    for written, file, key in quoted:
        value = evidence.value(file, key)
        if isinstance(value, float | int):
            places = len(written.partition(".")[2])
            assert float(written.replace(",", "")) == pytest.approx(value, abs=0.5 * 10**-places), (file, key)
    prose = body.split("## Versions")[0]
    prose = re.sub(r"“[^”]*”|`[^`]*`|FSC 0\.143|from 0", "", prose)  # quoted whole, or definitions
    said = [number.rstrip(".,") for number in re.findall(r"\d[\d,.]*", prose)]
    known = {written for written, *_ in quoted}
    assert said and not [number for number in said if number not in known]


def test_what_has_not_run_is_not_mentioned(results):
    text = methods_text(results)
    assert "**Round bound** has the 20 of 60 particles of round all for which `maven_B > 0.5`" in text
    assert "**Round classA**" not in text and "**Round rest**" not in text
    assert "MAVEn measured" in text and "MAVEn." in text
    for name in ("all", "bound"):
        (results / name / "maven" / "summary.json").unlink()
    assert "MAVEn" not in methods_text(results)


def test_all_steps_of_a_selection_are_told(results):
    file = results / "bound" / "subset" / "summary.json"
    steps = [{"text": "query x > 1", "n_left": 30}, {"text": "sample 9 (seed 0)", "n_left": 9}]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"query": "x > 1", "steps": steps}))
    assert "left after these steps: `query x > 1`; `sample 9 (seed 0)`" in methods_text(results)


def test_a_training_that_may_end_early_had_at_most_its_epochs(results):
    file = results / "all" / "train_vae" / "config.yaml"
    told = yaml.safe_load(file.read_text())
    told["training_args"]["until"] = "converged"
    file.write_text(yaml.safe_dump(told))
    assert "trained for at most 51 epochs" in methods_text(results)


def test_poses_that_came_back_are_told(results):
    told = {
        "file": "back.star",
        "n_particles": 60,
        "n_changed": 41,
        "median_rotation_deg": 2.5,
        "median_shift_A": 3,
    }
    (results / "prepared" / "poses_from.json").write_text(json.dumps(told))
    assert read_lineage(results)["poses_from"] == told
    text = methods_text(results)
    assert (
        "Poses of 60 particles were taken from back.star; 41 of them differ from the input, by 2.5 degrees"
        in text
    )
    assert "| 41 | prepared/poses_from.json | n_changed |" in text


def test_a_number_that_a_file_lacks_is_an_error_in_one_line(results):
    (results / "prepared" / "store.yaml").write_text("box: 24\n")
    with pytest.raises(InputError, match=r"store\.yaml: no `counts/particles`, expected a number"):
        methods_text(results)
