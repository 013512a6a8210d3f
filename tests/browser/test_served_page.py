"""The served page in a real browser: a mean, volumes and a slab on request, and what they show."""

import json
import os
import queue
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from served_results import TOKEN, make_served, serving
from starlette.responses import Response
from starlette.routing import Route

import tomohet.serving.kept_page as kept_page
from tomohet.cli import run_command
from tomohet.files.mrc import read_volume, write_volume
from tomohet.files.pickles import load_indices

PLAYER = Path(__file__).with_name("served_player.js")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --remote-debugging-port=0"
).split()
LONGEST_S = 300


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None and os.environ.get("TOMOHET_REQUIRE_BROWSER") == "1":
        pytest.fail("TOMOHET_REQUIRE_BROWSER=1, but there is no chromium")
    return found or pytest.skip("no chromium")


@pytest.fixture(scope="module")
def results(tmp_path_factory, tiny_store, tiny_linear, tiny_training):
    return make_served(tmp_path_factory.mktemp("served") / "tiny", tiny_store, tiny_linear, tiny_training)


@pytest.fixture(scope="module")
def outcome(browser, results, tmp_path_factory):
    """What the player found on the page."""
    folder = tmp_path_factory.mktemp("played")
    tomograms = folder / "tomograms"
    tomograms.mkdir()
    for number in range(1, 5):
        values = np.random.default_rng(number).normal(size=(10, 30, 40))
        write_volume(tomograms / f"TS_{number:03d}_10.00Apx.mrc", values, 10.0)
    told: queue.Queue = queue.Queue()

    async def tell(request) -> Response:
        told.put(json.loads(await request.body()))
        return Response()

    written = kept_page.render

    def played(found, served):
        return written(found, served).replace("</body>", f"<script>{PLAYER.read_text()}</script></body>")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(kept_page, "render", played)
        with serving(
            results, tomograms=tomograms, routes=[Route("/outcome", tell, methods=["POST"])]
        ) as server:
            address = f"http://127.0.0.1:{server.port}/?token={TOKEN.replace(' ', '%20')}"
            words = [f"--user-data-dir={folder / 'profile'}", "--window-size=1300,900", address]
            with open(folder / "said", "w") as said:
                process = subprocess.Popen([browser, *FLAGS, *words], stdout=said, stderr=said)
                try:
                    found = told.get(timeout=LONGEST_S)
                except queue.Empty:
                    pytest.fail((folder / "said").read_text()[-2000:])
                finally:
                    process.terminate()
                    process.wait(20)
    assert not found["failures"] and "stopped" not in found, found
    return found


def assert_shows(canvases: list, volume: np.ndarray) -> None:
    """The canvases are the central sections xy, xz and yz, the second axis upwards, in one grey scale."""
    middle = len(volume) // 2
    sections = np.stack([volume[middle], volume[:, middle], volume[:, :, middle]])[:, ::-1]
    shown = np.array(canvases).reshape(sections.shape)
    low, high = np.quantile(sections, [0.005, 0.998], method="lower")
    expected = np.clip(255 * (sections - low) / (high - low), 0, 255)
    assert np.abs(shown - expected).max() <= 1.01


def test_the_token_leaves_the_address_and_everything_has_a_name(outcome):
    assert outcome["address"].endswith("/") and "token" not in outcome["address"]
    assert outcome["unnamed"] == [] and outcome["overflow"] <= 0


def test_a_selection_is_reconstructed_and_shown(outcome, results):
    assert outcome["early"] == "B: 2 particles"
    assert outcome["label"] == "A: 8 particles" and outcome["hidden"] and outcome["progress"]
    folder = results / "served" / outcome["job"]
    # Row 0 of the round's table is the last particle of the store.
    assert load_indices(folder / "indices.pkl").tolist() == list(range(16, 24))
    assert "Half maps of 8 particles agree" in outcome["said"]
    assert f"/served/{outcome['job']}/half1.mrc" in outcome["links"]
    assert_shows(outcome["mean"], read_volume(folder / "map_filt.mrc")[0])


def test_a_wrong_query_and_a_cancelled_mean(outcome, results):
    assert "did you mean 'kmeans'" in outcome["mistake"]
    assert outcome["cancelled"].startswith("mean-")
    assert not (results / "served" / outcome["cancelled"]).exists()


def test_the_volume_at_the_sliders_is_that_of_eval_vol(outcome, results, tmp_path):
    np.savetxt(tmp_path / "z.txt", [outcome["z"]])
    words = ["--workdir", results / "all" / "linear", "--zfile", tmp_path / "z.txt", "-o", tmp_path / "out"]
    run_command("eval_vol", [*map(str, words), "--flip", "--invert", "--device", "cpu"])
    assert_shows(outcome["volume"], read_volume(tmp_path / "out" / "vol_000.mrc")[0])


def test_a_slab_is_shown_with_its_height(outcome):
    assert outcome["slab"] == [40, 30] and outcome["height"] == "z 50 Å"
