"""What jobs ask for: sizes counted from a file's beginning, memory and time that grow with them, the caps."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tomohet.analysis.latent import LANDMARKS
from tomohet.errors import InputError
from tomohet.files.atomic import write_pickle
from tomohet.files.mrc import write_stack
from tomohet.rounds import counting, scale
from tomohet.rounds.config import complete_config
from tomohet.rounds.counting import counted
from tomohet.rounds.estimate import Machine, estimates
from tomohet.rounds.host_memory import MOST_IMAGES, SHARE_OF_MEMORY, host_bytes
from tomohet.rounds.measured import sections, table_of_devices
from tomohet.rounds.requests import LEAST, MEMORY_FACTOR, estimated, request
from tomohet.rounds.sizes import Sizes, dataset_sizes
from tomohet.rounds.work import ROUND, WORK, stored_bytes

GIVEN = {"dataset": "mine", "rounds": {"all": {}, "some": {"parent": "all", "select": "x > 0"}}}
SIMULATED = {"n_particles": 300, "box": 32, "tilt_step": 3}
HEAD = "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnImagePixelSize\n1 3.5\n\n"
TABLE = "data_particles\n\nloop_\n_rlnImageName\n_rlnGroupName\n_rlnOpticsGroup\n"


def config_of(**given):
    return complete_config(GIVEN | {"simulate": SIMULATED} | given)


def series(folder: Path, particles: int, tilts: int) -> str:
    """An image series of so many particles, all in one stack that is long enough for none of them."""
    write_stack(folder / "all.mrcs", np.zeros((2, 20, 20), np.float32), 2.0)
    rows = (f"{tilt + 1:06d}@all.mrcs p{one:06d} 1\n" for one in range(particles) for tilt in range(tilts))
    (folder / "series.star").write_text(HEAD + TABLE + "".join(rows))
    return str(folder / "series.star")


def test_a_file_is_counted_from_its_beginning(tmp_path, monkeypatch):
    star = series(tmp_path, 3000, 7)
    exact = counted.__wrapped__(star, None)
    assert (exact.particles, exact.images, exact.box, exact.pixel_size_A) == (3000, 21_000, 20, 3.5)
    monkeypatch.setattr(counting, "HEAD_BYTES", 20_000)
    about = counted.__wrapped__(star, None)
    assert about.images == pytest.approx(21_000, rel=0.01)
    assert about.particles == pytest.approx(3000, rel=0.02)


def test_a_million_rows_are_counted_in_a_second(tmp_path):
    from time import process_time

    star = series(tmp_path, 25_000, 40)
    start = process_time()
    assert counted.__wrapped__(star, None).images == pytest.approx(1_000_000, rel=0.01)
    assert process_time() - start < 2


def test_a_set_counts_the_images_of_its_first_particle(tmp_path):
    write_stack(tmp_path / "p1.mrcs", np.zeros((31, 16, 16), np.float32), 5.0)
    (tmp_path / "parts.star").write_text(
        "data_particles\n\nloop_\n_rlnTomoName\n_rlnImageName\nT1 p1.mrcs\nT1 p2.mrcs\n"
    )
    for text in (
        "data_\n\n_rlnTomoParticlesFile parts.star\n_rlnTomoTomogramsFile t.star\n",
        "data_\n\nloop_\n_rlnTomoParticlesFile\n_rlnTomoTomogramsFile\nparts.star t.star\n",
    ):
        (tmp_path / "set.star").write_text(text)
        found = counted.__wrapped__(str(tmp_path / "set.star"), None)
        assert (found.particles, found.images, found.box, found.pixel_size_A) == (2, 62, 16, 5.0)


def test_counting_agrees_with_reading(tiny, tmp_path):
    config = config_of(particles=str(tiny / "particles.star"))
    about, read = (dataset_sizes(config, tmp_path, read_all=one) for one in (False, True))
    assert (about.particles, about.box) == (read.particles, read.box)
    assert read.images <= about.images <= 1.2 * read.images  # hidden tilts are left out later
    few = config_of(particles=str(tiny / "particles.star"), prepare={"use_first_ntilts": 5})
    assert dataset_sizes(few, tmp_path, read_all=False).images == 5 * read.particles


def test_what_cannot_be_counted_is_said_and_asks_for_the_least(tmp_path):
    (tmp_path / "a.star").write_text(TABLE + "1@lost.mrcs p1 1\n")
    with pytest.raises(InputError, match=r"the stack lost\.mrcs is missing"):
        counted(str(tmp_path / "a.star"), None)
    (tmp_path / "b.star").write_text("data_x\n\nloop_\n_rlnFoo\n1\n")
    with pytest.raises(InputError, match="found no table of images"):
        counted(str(tmp_path / "b.star"), None)
    for name in "ab":
        config = config_of(particles=str(tmp_path / f"{name}.star"))
        assert estimated(config, tmp_path, tmp_path, 1) == {}
    assert request("train_vae", None, None, 1440).mem_mb == LEAST["train_vae"][0]


def test_every_stage_has_a_least_request():
    assert set(LEAST) == set(WORK)


def of_size(particles: int, **changes):
    return {(one.round, one.stage): one for one in scale.of_size(particles, **changes)}


def test_requests_of_three_sizes():
    """22 thousand, a million and ten million particles; run with -s to see the table."""
    asked = {
        name: [request(one.stage, one, None, 10**6) for one in scale.of_size(count)]
        for name, count in scale.PARTICLES.items()
    }
    stages = [one.stage for one in scale.of_size(1000)]
    print(f"\n{'stage':<22}" + "".join(f"{name:>26}" for name in asked))
    for row, stage in enumerate(stages):
        cells = (f"{of[row].mem_mb:>12,} MB {of[row].runtime:>7,} min" for of in asked.values())
        print(f"{stage:<22}" + "".join(f"{cell:>26}" for cell in cells))
    small, large, vast = asked.values()
    for row, stage in enumerate(stages):
        of = [one[row] for one in (small, large, vast)]
        assert of[0].mem_mb >= LEAST[stage][0] and of[0].runtime >= LEAST[stage][1]
        assert of[0].mem_mb <= of[1].mem_mb <= of[2].mem_mb
        assert of[0].runtime <= of[1].runtime <= of[2].runtime
        assert all(one.mem_mb % 1000 == 0 for one in of)
    row = stages.index("prepare")
    assert vast[row].mem_mb > 9 * large[row].mem_mb > 9 * 9 * small[row].mem_mb / 10
    assert small[stages.index("train_vae")].mem_mb > LEAST["train_vae"][0]


def test_the_page_shows_these_tables():
    page = scale.PAGE.read_text()
    for table in scale.tables().split("\n\n"):
        assert table in page, "python -m tomohet.rounds.scale prints the tables of docs/scale.md"


def test_memory_is_that_of_what_a_stage_holds():
    options = sections(config_of())
    sizes = Sizes(1000, 41_000, 64, 64)
    with_images = host_bytes("train_vae", sizes, sizes, options, on_gpu=True)
    options["train"]["lazy"] = True
    lazy = host_bytes("train_vae", sizes, sizes, options, on_gpu=True)
    assert with_images - lazy == pytest.approx(stored_bytes(sizes, options) / SHARE_OF_MEMORY)
    options["train"]["lazy"] = False
    vast = Sizes(10**7, 41 * 10**7, 64, 64)
    assert host_bytes("train_vae", vast, vast, options, True) < 410e6 * 1000 + 2 * MOST_IMAGES
    on_processor = host_bytes("train_linear", sizes, sizes, options, on_gpu=False)
    assert on_processor > host_bytes("train_linear", sizes, sizes, options, on_gpu=True)


def test_a_subset_reads_the_images_of_its_own_particles():
    options = sections(config_of())
    whole = Sizes(10**6, 41 * 10**6, 64, 64)
    part = whole.of(1000)

    def share(stage):
        return host_bytes(stage, part, whole, options, True) / host_bytes(stage, whole, whole, options, True)

    assert share("states") < 0.25
    assert share("propose") > 0.9  # it reads the whole table
    assert share("convergence") < 0.8


def test_umap_takes_the_memory_of_its_landmarks_only():
    options = sections(config_of())

    def of(particles: int) -> float:
        sizes = Sizes(particles, 0, 64, 64)
        return host_bytes("convergence", sizes, sizes, options, True) - host_bytes(
            "convergence", sizes.of(0), sizes, options, True
        )

    assert of(10 * LANDMARKS) < 0.3 * 10 * of(LANDMARKS)


def test_a_round_counts_at_most_its_parent_until_it_has_selected(tmp_path):
    config = config_of(simulate=SIMULATED | {"n_particles": 10**6})
    before = estimated(config, tmp_path, tmp_path, 1)
    assert before["some", "analyze"].host == before["all", "analyze"].host
    (tmp_path / "mine" / "some" / "subset").mkdir(parents=True)
    write_pickle(tmp_path / "mine" / "some" / "subset" / "indices.pkl", list(range(40)))
    after = estimated(config, tmp_path, tmp_path, 1)
    assert after["some", "analyze"].host < before["some", "analyze"].host
    assert after["some", "states"].host < before["some", "states"].host
    assert {stage for name, stage in after if name == "some"} <= set(ROUND)


def test_requests_grow_with_the_attempt_and_end_at_what_is_allowed():
    one = of_size(10**6)["all", "states"]
    first = request("states", one, None, 10**6)
    assert first.mem_mb >= MEMORY_FACTOR * one.host / 1e6
    assert first.runtime * 60 >= one.seconds * one.factor
    assert request("states", one, None, 10**6, jobs=4).runtime < first.runtime / 3
    second, third = (request("states", one, None, 10**6, attempt) for attempt in (2, 3))
    assert (second.mem_mb, third.mem_mb) == (2 * first.mem_mb, 3 * first.mem_mb)
    assert (second.runtime, third.runtime) == (2 * first.runtime, 4 * first.runtime)
    capped = request("states", one, 20_000, 300, 2)
    assert (capped.mem_mb, capped.runtime) == (20_000, 300)


def test_the_demo_asks_for_the_least():
    config = config_of(simulate={"n_particles": 400, "box": 32, "tilt_step": 6}, train={"epochs": 6})
    sizes = dataset_sizes(config, Path("nowhere"))
    rounds = {name: sizes for name in config["rounds"]}
    machine = Machine("", "cpu", 0, 1)
    for one in estimates(config, sizes, rounds, table_of_devices(), machine):
        asked = request(one.stage, one, None, 1440)
        assert (asked.mem_mb, asked.runtime) == LEAST[one.stage], one


def test_requests_need_no_pytorch():
    code = "import tomohet.rounds.requests, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
