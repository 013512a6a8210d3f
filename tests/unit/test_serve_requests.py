"""What is computed on request by the server: volumes, means and slabs."""

import shutil
import threading
import time

import numpy as np
import pytest
from served_results import make_served, serving

from tomohet.cli import run_command
from tomohet.errors import InputError
from tomohet.files.mrc import read_volume, write_volume
from tomohet.files.pickles import load_indices, load_latents, save_latents
from tomohet.serving.means import mean_of
from tomohet.serving.models import sources
from tomohet.serving.slabs import tomogram_file


@pytest.fixture(scope="module")
def results(tmp_path_factory, tiny_store, tiny_linear, tiny_training):
    return make_served(tmp_path_factory.mktemp("served") / "tiny", tiny_store, tiny_linear, tiny_training)


@pytest.fixture(scope="module")
def server(results):
    with serving(results) as running:
        yield running


def volume_of(content: bytes, folder):
    (folder / "answer.mrc").write_bytes(content)
    return read_volume(folder / "answer.mrc")


# Volumes


def test_a_round_says_which_latents_its_models_have(server, results):
    _, _, found = server.ask("GET", "/round?round=all")
    assert found["sources"] == sources(results / "all")
    for source, name in (("linear", "linear/z.train.pkl"), ("network", "train_vae/z.train.pkl")):
        mu, _ = load_latents(results / "all" / name)
        described = found["sources"][source]
        assert described["zdim"] == mu.shape[1] == len(described["low"])
        np.testing.assert_allclose(described["start"], np.median(mu, axis=0), atol=1e-4)
        assert (np.array(described["low"]) <= described["start"]).all()


@pytest.mark.parametrize(("source", "folder"), [("linear", "linear"), ("network", "train_vae")])
def test_a_volume_is_that_of_eval_vol(server, results, tmp_path, source, folder):
    z = [0.4, -1.3]
    status, headers, content = server.ask("POST", "/volume", {"round": "all", "source": source, "z": z})
    assert status == 200 and f"{source}.mrc" in headers["content-disposition"]
    np.savetxt(tmp_path / "z.txt", [z])
    words = ["--workdir", results / "all" / folder, "--zfile", tmp_path / "z.txt", "-o", tmp_path / "out"]
    # The options of the section `volumes`, and the round's own.
    run_command("eval_vol", [*map(str, words), "--flip", "--invert", "--device", "cpu"])
    volume, pixel_size_A = volume_of(content, tmp_path)
    expected, expected_A = read_volume(tmp_path / "out" / "vol_000.mrc")
    assert np.array_equal(volume, expected) and pixel_size_A == expected_A


def test_a_volume_in_a_smaller_box(server, tmp_path):
    wanted = {"round": "all", "source": "linear", "z": [0, 0], "box": 12}
    small, small_A = volume_of(server.ask("POST", "/volume", wanted)[2], tmp_path)
    full, full_A = volume_of(server.ask("POST", "/volume", wanted | {"box": None})[2], tmp_path)
    assert small.shape == (12,) * 3 and full.shape == (24,) * 3
    assert small_A == pytest.approx(2 * full_A)


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"z": [0.0]}, 400, "z has 1 numbers, but the linear model has 2 latents"),
        ({"z": [0.0, 1e400]}, 400, "z.1: Input should be a finite number"),
        ({"z": ["a", 0]}, 400, "z.0: Input should be a valid number"),
        ({"z": [0.0] * 5000}, 400, "z: List should have at most 4096 items"),
        ({"box": 13}, 400, "box: Input should be a multiple of 2"),
        ({"box": 26}, 400, "expected an even box from 4 to 24 px"),
        ({"source": "gmm"}, 400, "source: Input should be 'linear' or 'network'"),
        ({"round": "../all"}, 404, "There is no round '../all'"),
        ({"round": ""}, 404, "There is no round ''"),
        ({"round": "prepared/../all"}, 404, "There is no round"),
        ({"more": 1}, 400, "more: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_volume_is_refused_in_a_sentence(server, change, status, words):
    wanted = {"round": "all", "source": "linear", "z": [0.0, 0.0]}
    found = server.ask("POST", "/volume", wanted | change)
    assert found[0] == status and words in found[2]["error"]


def test_a_body_that_is_no_json_is_refused(server):
    assert server.ask("POST", "/volume", b"{")[0] == 400
    assert server.ask("POST", "/volume", b"{}", Content_Type="text/plain")[0] == 415


def test_a_body_that_is_too_large_is_refused(server, monkeypatch):
    monkeypatch.setattr("tomohet.serving.asked.MOST_BYTES", 100)
    status, _, found = server.ask("POST", "/mean", {"round": "all", "particles": list(range(100))})
    assert status == 413 and "ask by a query" in found["error"]


def test_requests_at_the_same_time_get_their_own_answers(server):
    points = [[float(i), -float(i)] for i in range(8)]
    alone = [server.ask("POST", "/volume", {"round": "all", "source": "linear", "z": z})[2] for z in points]
    found = [b""] * len(points)

    def ask(i: int) -> None:
        found[i] = server.ask("POST", "/volume", {"round": "all", "source": "linear", "z": points[i]})[2]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(points))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one[1024:] for one in found] == [one[1024:] for one in alone]
    assert len({one[1024:] for one in alone}) == len(points)


def test_a_damaged_model_is_a_problem_of_that_model_alone(results, tmp_path):
    folder = tmp_path / "all"
    shutil.copytree(results / "all", folder)
    (folder / "train_vae" / "config.pkl").write_bytes(b"not a pickle")
    (folder / "train_vae" / ".digests").unlink(missing_ok=True)
    found = sources(folder)
    assert found["linear"]["zdim"] == 2
    assert "config.pkl" in found["network"]["problem"]


def test_latents_that_are_not_finite_are_a_problem(results, tmp_path):
    folder = tmp_path / "all"
    shutil.copytree(results / "all", folder)
    (folder / "linear" / ".digests").unlink()
    save_latents(folder / "linear" / "z.train.pkl", np.full((24, 2), np.nan), np.zeros((24, 2)))
    assert "not finite" in sources(folder)["linear"]["problem"]


# Means


def test_a_mean_is_that_of_backproject_voxel_and_is_found_after_a_restart(results, tmp_path):
    particles = [2, 3, 5, 7, 11, 13, 17, 19]
    n = len(load_latents(results / "all/linear/z.train.pkl")[0])
    rows = [n - 1 - particle for particle in particles]  # of the table, which is upside down
    served = tmp_path / "kept"
    with serving(results, served) as server:
        wanted = {"round": "all", "particles": particles, "name": "Selection <A>"}
        status, _, asked = server.ask("POST", "/mean", wanted)
        assert status == 202 and asked["state"] in ("waiting", "running") and asked["n_particles"] == 8
        again = server.ask("POST", "/mean", {"round": "all", "rows": rows[::-1]})[2]
        assert again["job"] == asked["job"]  # the same particles: one job
        mean = server.finished(asked)
    assert mean["state"] == "done" and mean["name"] == "Selection <A>", mean
    assert "Half maps of 8 particles agree" in mean["sentence"]
    np.testing.assert_array_equal(load_indices(served / mean["job"] / "indices.pkl"), particles)
    words = [
        results / "prepared",
        "--ind-ptcls",
        served / mean["job"] / "indices.pkl",
        "-o",
        tmp_path / "out",
    ]
    words += ["--recon-tilt-weight", "--seed", 3, "--device", "cpu"]
    run_command("backproject_voxel", list(map(str, words)))
    for name in ("map.mrc", "map_filt.mrc", "half1.mrc", "half2.mrc", "mask.mrc"):
        found, expected = (
            read_volume(folder / name)[0] for folder in (served / mean["job"], tmp_path / "out")
        )
        assert np.array_equal(found, expected), name
    changed = (served / mean["job"] / "map.mrc").stat().st_mtime_ns
    with serving(results, served) as server:
        status, _, found = server.ask("POST", "/mean", {"round": "all", "particles": particles})
        assert status == 200 and found == mean
        assert server.ask("GET", "/round?round=all")[2]["means"] == [mean]
        content = server.ask("GET", f"/served/{mean['job']}/map.mrc")[2]
        assert content == (served / mean["job"] / "map.mrc").read_bytes()
    assert (served / mean["job"] / "map.mrc").stat().st_mtime_ns == changed
    assert not (results / "served" / mean["job"]).exists()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "Expected one of particles, rows and query, found none"),
        ({"particles": [1], "query": "kmeans == 1"}, "found particles and query"),
        ({"particles": []}, "holds no particle"),
        ({"particles": [1, 10**6]}, "1 of 2 particles are not among the parent's"),
        ({"particles": [-1]}, "particles.0: Input should be greater than or equal to 0"),
        ({"particles": [10**30]}, "particles.0"),
        ({"rows": [0, 24]}, "there is no row 24; the table has 24 rows"),
        ({"query": "kmean == 1"}, "did you mean 'kmeans'"),
        ({"query": "kmeans == 7"}, "selects none of 24 particles"),
        ({"query": "@np"}, "'@' is not understood"),
        ({"particles": [1, 2, 3, 4], "refine_poses": "x"}, "refine_poses: Input should be a valid boolean"),
    ],
)
def test_a_wrong_mean_is_refused_in_a_sentence(server, asked, words):
    status, _, found = server.ask("POST", "/mean", {"round": "all"} | asked)
    assert status == 400 and words in found["error"]


def test_a_mean_with_refined_poses_is_another_one(results):
    particles = np.arange(8)
    config = {"homogeneous": {"seed": 3, "unknown": 1}, "rounds": {"all": {"homogeneous": {"lowpass": 40}}}}
    plain = mean_of(results, config, "all", particles, device="cpu")
    refined = mean_of(results, config, "all", particles, device="cpu", refine_poses=True)
    assert plain.name != refined.name
    assert refined.words[-2:] == ("--refine-poses", str(results / "all/linear/poses.parquet"))
    words = ("--lowpass", "40")
    for mean in (plain, refined):
        at = mean.words.index("--lowpass")
        assert mean.words[at : at + 2] == words and "3" in mean.words and "unknown" not in str(mean.words)
    assert mean_of(results, config, "all", particles, device="cpu").name == plain.name
    assert mean_of(results, config, "all", particles[1:], device="cpu").name != plain.name
    with pytest.raises(InputError, match="Round rest has no refined poses"):
        mean_of(results, config, "rest", particles, refine_poses=True)
    with pytest.raises(InputError, match="holds no prepared particles"):
        mean_of(results / "all", config, "all", particles)


def test_a_mean_that_cannot_be_made_says_why(server, results):
    mean = server.finished(server.ask("POST", "/mean", {"round": "all", "particles": [4]})[2])
    assert mean["state"] == "failed" and "half" in mean["said"]
    assert not list((results / "served").glob(f"*{mean['job']}*"))


def test_one_mean_at_a_time_and_each_can_be_cancelled(server, results):
    first = server.ask("POST", "/mean", {"round": "all", "query": "kmeans == 0"})[2]
    second = server.ask("POST", "/mean", {"round": "all", "query": "kmeans == 1"})[2]
    time.sleep(0.5)
    states = [server.ask("GET", f"/mean?job={mean['job']}")[2]["state"] for mean in (first, second)]
    assert states == ["running", "waiting"]
    listed = {mean["job"]: mean["state"] for mean in server.ask("GET", "/round?round=all")[2]["means"]}
    assert listed[first["job"]] == "running" and listed[second["job"]] == "waiting"
    for mean in (second, first):
        assert server.ask("DELETE", f"/mean?job={mean['job']}")[2] == {"state": "cancelled"}
        assert server.ask("GET", f"/mean?job={mean['job']}")[0] == 404
        assert server.ask("DELETE", f"/mean?job={mean['job']}")[0] == 404
    assert not list((results / "served").glob(".mean-*"))


def test_a_damaged_mean_is_named_and_hides_no_other(results, tmp_path):
    for name, text in (("mean-01", '{"resolution_A": Infinity}'), ("mean-02", "{")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "request.json").write_text('{"round": "all", "n_particles": 2, "query": null}')
        (folder / "reconstruction.json").write_text(text)
    with serving(results, tmp_path) as server:
        (mean,) = server.ask("GET", "/round?round=all")[2]["means"]
        assert mean["job"] == "mean-01" and mean["resolution_A"] is None
        status, _, found = server.ask("GET", "/mean?job=mean-02")
        assert status == 400 and "mean-02/reconstruction.json" in found["error"]


@pytest.mark.parametrize("name", ["", "..", "mean-../../all", "mean-zz", "mean-00"])
def test_other_names_are_no_jobs(server, name):
    assert server.ask("GET", f"/mean?job={name}")[0] == 404


# Slabs


def test_a_slab_is_the_mean_of_the_sections_around_a_height(results, tmp_path):
    from matplotlib.image import imread

    tomograms = tmp_path / "tomograms"
    tomograms.mkdir()
    table = np.zeros((12, 20, 16), np.float32)
    table[4:6, 3, 5] = 1  # z 40 to 60 Å
    for name in sorted(set(load_names(results))):
        write_volume(tomograms / f"{name.removesuffix('.tomostar')}_10.00Apx.mrc", table, 10.0)
    name = load_names(results)[0]
    with serving(results, tmp_path / "kept", tomograms) as server:
        assert server.ask("GET", "/round?round=all")[2]["tomograms"] == sorted(set(load_names(results)))
        status, headers, content = server.ask("GET", f"/slab?tomogram={name}&z=50&thickness=20")
        assert status == 200 and headers["content-type"] == "image/png"
        assert float(headers["x-height-a"]) == 120 and float(headers["x-z-a"]) == 50
        (tmp_path / "slab.png").write_bytes(content)
        image = imread(tmp_path / "slab.png")[..., 0]
        assert image.shape == (20, 16)
        assert np.unravel_index(image.argmax(), image.shape) == (20 - 1 - 3, 5)  # y upwards
        (tmp_path / "slab.png").write_bytes(server.ask("GET", f"/slab?tomogram={name}&z=100&thickness=20")[2])
        assert np.ptp(imread(tmp_path / "slab.png")[..., 0]) == 0
        for words in (
            f"{name}&z=121",
            f"{name}&z=-1",
            f"{name}&z=nan",
            "absent",
            "../all",
            f"{name}&thickness=x",
        ):
            status, _, found = server.ask("GET", f"/slab?tomogram={words}")
            assert status == 400 and found["error"]


def load_names(results) -> list[str]:
    import pandas as pd

    return pd.read_parquet(results / "all" / "particles.parquet")["tomogram"].astype(str).tolist()


def test_a_tomogram_has_one_file(tmp_path):
    for name in (
        "TS_1_10.00Apx.mrc",
        "TS_10_10.00Apx.mrc",
        "TS_2.rec",
        "TS_2_bin4.mrc",
        "TS_3_a.mrc",
        "TS_3_b.mrc",
    ):
        (tmp_path / name).touch()
    assert tomogram_file(tmp_path, "TS_1.tomostar").name == "TS_1_10.00Apx.mrc"
    assert tomogram_file(tmp_path, "TS_2").name == "TS_2.rec"
    with pytest.raises(InputError, match="several files of tomogram TS_3"):
        tomogram_file(tmp_path, "TS_3")
    with pytest.raises(InputError, match="no tomogram TS_4.mrc"):
        tomogram_file(tmp_path, "TS_4")


def test_without_tomograms_there_are_no_slabs(server):
    assert server.ask("GET", "/slab?tomogram=TS_1")[0] == 404
    assert server.ask("GET", "/round?round=all")[2]["tomograms"] == []
