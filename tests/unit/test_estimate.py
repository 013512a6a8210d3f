"""The estimate of a run: work that grows as it should, own runs before the table, a line for each stage."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tomohet.errors import InputError
from tomohet.files.atomic import write_pickle
from tomohet.files.mrc import write_volume
from tomohet.rounds.config import complete_config
from tomohet.rounds.estimate import OTHER_DEVICE, SAME_DEVICE, Machine, estimates
from tomohet.rounds.measured import START_S, Measurement, own_runs, sections, table_of_devices
from tomohet.rounds.sizes import Sizes, dataset_sizes, round_sizes
from tomohet.rounds.units import duration, size
from tomohet.rounds.work import (
    DATASET,
    LAST,
    ON_DEVICE,
    ROUND,
    WORK,
    disk_bytes,
    memory_bytes,
    stored_bytes,
    work,
)

RULES = Path(__file__).resolve().parents[2] / "workflow" / "rules"
SIZES = Sizes(1000, 41_000, 96, 64)
EPYC = Machine("AMD EPYC", "cpu", 0, 1)
H100 = Machine("NVIDIA H100 80GB HBM3", "cuda", 1, 16)
GIVEN = {"dataset": "mine", "simulate": {"n_particles": 300, "box": 32, "tilt_step": 3}}


def config_of(**given):
    return complete_config(GIVEN | {"rounds": {"all": {}}} | given)


def estimated(config, machine, known, folder=Path("nowhere")):
    dataset = dataset_sizes(config, folder)
    found = estimates(config, dataset, round_sizes(config, folder, dataset), known, machine)
    return {(one.round, one.stage): one for one in found}


def test_every_job_of_the_workflow_has_its_work():
    named = {
        name for path in RULES.glob("*.smk") for name in re.findall(r"^rule (\w+):", path.read_text(), re.M)
    }
    named = {name.removesuffix("_share").removesuffix("_chosen") for name in named}  # of several jobs
    assert named - {"write_config"} == {*DATASET, *ROUND, *LAST} == set(WORK)


@pytest.mark.parametrize("stage", sorted(WORK))
def test_more_particles_are_more_work(stage):
    options = sections(config_of(volumes={"count": 5000}))
    less, more = work(stage, SIZES, options), work(stage, SIZES.of(4000), options)
    assert less > 0 and 1.9 < more / less < 16


@pytest.mark.parametrize(
    ("changed", "times"),
    [
        ({"epochs": 40}, 2),
        ({"rows_per_image": 0.25}, 0.25),
        ({"l_dose_mask": True}, 0.5),
        ({"dec_dim": 512}, pytest.approx(3.6, abs=0.3)),
    ],
)
def test_the_work_of_a_training_follows_its_options(changed, times):
    usual = {"epochs": 20, "rows_per_image": 1.0, "l_dose_mask": False, "dec_dim": 256}
    one, other = (work("train_vae", SIZES, sections(config_of(train=usual | more))) for more in ({}, changed))
    assert other / one == times


def test_a_box_of_half_the_side_is_an_eighth_of_the_decoding():
    options = [sections(config_of(volumes=given)) for given in ({}, {"downsample": 32})]
    assert work("volumes", SIZES, options[0]) == pytest.approx(8 * work("volumes", SIZES, options[1]))
    assert disk_bytes("volumes", SIZES, options[0]) == 500 * 4 * 64**3


def test_images_take_the_memory_of_their_store():
    options = sections(config_of(prepare={"dtype": "float16"}))
    assert stored_bytes(SIZES, options) == pytest.approx(41_000 * 1608.5 * 4, rel=1e-3)
    assert memory_bytes("train_vae", SIZES, options) > stored_bytes(SIZES, options)
    assert disk_bytes("prepare", SIZES, options) > stored_bytes(SIZES, options)
    assert [stage for stage in WORK if memory_bytes(stage, SIZES, options)] == [
        stage for stage in WORK if stage in ON_DEVICE
    ]


def test_a_measurement_scales_with_the_work_beyond_its_start():
    one = Measurement("prepare", START_S + 10, 100.0, "AMD EPYC", "cpu", 1, "x")
    assert one.seconds_for(100) == pytest.approx(START_S + 10)
    assert one.seconds_for(300) == pytest.approx(START_S + 30)
    assert one.seconds_for(300, faster=2) == pytest.approx(START_S + 15)
    short = replace(one, seconds=2.0)
    assert short.seconds_for(1000) == pytest.approx(1.8 + 0.2 * 10)


def test_the_table_is_of_all_stages_and_gives_back_what_was_measured():
    table = table_of_devices()
    assert {one.stage for one in table if one.device == EPYC.device} == set(WORK)
    config = complete_config(yaml.safe_load((RULES.parents[1] / "config" / "config.yaml").read_text()))
    config["rounds"]["all"]["auto"] = {}
    found = estimated(config, EPYC, table)
    for one in table:
        if one.where == "the demo" and one.stage not in DATASET + LAST:
            # The support of a round is that of its parent's images.
            own = found["bound" if one.stage == "support" else "all", one.stage]
            assert own.seconds == pytest.approx(one.seconds, rel=0.08)  # 21 tilts, 19.5
            assert own.factor == SAME_DEVICE


def test_a_gpu_counts_where_it_was_measured():
    found = estimated(config_of(), H100, table_of_devices())
    assert found["all", "train_vae"].measured == "NVIDIA H100 80GB HBM3, 2,000 particles of 64 px"
    assert found["all", "volumes"].measured.endswith("(not measured on a GPU: taken as 10 times as fast)")
    assert found["all", "analyze"].measured.endswith("(not measured on a GPU)")
    assert found["all", "volumes"].factor == OTHER_DEVICE and found["all", "train_vae"].factor == SAME_DEVICE
    assert found["all", "train_vae"].memory > 1e6 and found["all", "select"].memory == 0
    other = estimated(config_of(), replace(H100, device="NVIDIA L4"), table_of_devices())
    assert other["all", "train_vae"].factor == OTHER_DEVICE
    four = estimated(config_of(), replace(H100, gpus=4), table_of_devices())
    assert four["all", "train_vae"].seconds < found["all", "train_vae"].seconds
    assert four["all", "states"].seconds == found["all", "states"].seconds


def test_more_threads_are_faster_on_a_processor():
    one, four = (estimated(config_of(), replace(EPYC, threads=n), table_of_devices()) for n in (1, 4))
    assert four["all", "train_vae"].seconds < one["all", "train_vae"].seconds
    assert four["all", "particle_table"].seconds == one["all", "particle_table"].seconds


def finished_run(place, name, seconds, epochs=4, **given):
    """The files that a finished dataset leaves: its configuration and the seconds of its jobs."""
    config = config_of(dataset=name, train={"epochs": epochs}, **given)
    folder, notes = place / "results" / name, place / "benchmarks" / name
    (folder / "all" / "train_vae").mkdir(parents=True)
    (notes / "all").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    for stage, value in seconds.items():
        pd.DataFrame({"s": [value]}).to_csv(notes / "all" / f"{stage}.tsv", sep="\t", index=False)
    return config


def own(place):
    return own_runs(place / "results", place / "benchmarks", EPYC.device, 1)


def test_own_runs_come_before_the_table_and_this_dataset_before_others(tmp_path):
    config = finished_run(tmp_path, "mine", {"train_vae": 100.0})
    finished_run(tmp_path, "other", {"train_vae": 7000.0, "states": 600.0})
    known = own(tmp_path) + table_of_devices()
    found = estimated(config, EPYC, known)
    assert found["all", "train_vae"].seconds == pytest.approx(100)
    assert found["all", "train_vae"].measured == "your run mine/all"
    assert (found["all", "states"].seconds, found["all", "states"].measured) == (600.0, "your run other/all")
    assert found["all", "siren"].measured == "AMD EPYC, the demo"
    longer = estimated(config_of(train={"epochs": 8}), EPYC, known)
    assert longer["all", "train_vae"].seconds == pytest.approx(START_S + 2 * (100 - START_S))


def test_a_stage_of_several_jobs_is_no_measurement_of_the_whole(tmp_path):
    finished_run(tmp_path, "mine", {"siren": 30.0, "maven": 40.0}, siren={"jobs": 3})
    assert [(one.stage, one.seconds) for one in own(tmp_path)] == [("maven", 40.0)]


def test_an_interrupted_training_counts_all_of_its_epochs(tmp_path):
    finished_run(tmp_path, "mine", {"train_vae": 30.0})
    losses = pd.DataFrame({"epoch": range(4), "seconds": 50.0})
    losses.to_csv(tmp_path / "results" / "mine" / "all" / "train_vae" / "loss.csv", index=False)
    assert [one.seconds for one in own(tmp_path)] == [START_S + 200]


def test_a_run_on_a_gpu_is_none_on_a_processor(tmp_path):
    config = finished_run(tmp_path, "mine", {"train_vae": 30.0, "select": 9.0})
    log = tmp_path / "results" / "mine" / "all" / "train_vae" / "run.log"
    log.write_text("2026-11-28     1 processes on cuda\n")
    found = estimated(config, EPYC, own(tmp_path) + table_of_devices())
    assert found["all", "train_vae"].measured == "AMD EPYC, the demo"
    assert found["all", "select"].measured == "your run mine/all"
    found = estimated(config, H100, own(tmp_path) + table_of_devices())
    assert found["all", "train_vae"].measured == "your run mine/all"


def test_a_damaged_run_is_left_out_with_a_line(tmp_path, caplog):
    finished_run(tmp_path, "mine", {"states": 30.0})
    finished_run(tmp_path, "broken", {"states": 30.0})
    (tmp_path / "results" / "broken" / "config.yaml").write_text("rounds: {all: [")
    assert [one.dataset for one in own(tmp_path)] == ["mine"]
    assert "broken: left out of the estimate" in caplog.text


def test_rounds_count_what_they_have_selected(tmp_path):
    rounds = {"all": {}, "some": {"parent": "all", "select": "x > 0"}, "fewer": {"parent": "some"}}
    config = config_of(rounds=rounds)
    dataset = dataset_sizes(config, tmp_path)
    assert (dataset.particles, dataset.images) == (300, 300 * 41)
    found = round_sizes(config, tmp_path, dataset)
    assert [(one.particles, one.most) for one in found.values()] == [(300, False), (300, True), (300, True)]
    (tmp_path / "some" / "subset").mkdir(parents=True)
    write_pickle(tmp_path / "some" / "subset" / "indices.pkl", list(range(40)))
    found = round_sizes(config, tmp_path, dataset)
    assert [(one.particles, one.most) for one in found.values()] == [(300, False), (40, False), (40, False)]
    assert found["fewer"].images == 40 * 41


def test_a_simulation_without_a_box_has_the_usual_one_or_that_of_its_maps(tmp_path):
    assert dataset_sizes(complete_config({"dataset": "x", "rounds": {"all": {}}}), tmp_path).box == 32
    write_volume(tmp_path / "map.mrc", np.zeros((20, 20, 20), np.float32), 4.0)
    config = config_of(simulate={"maps": [str(tmp_path / "map.mrc")]}, prepare={"rescale": 8.0})
    found = dataset_sizes(config, tmp_path)
    assert (found.input_box, found.box) == (20, 10)


def test_sizes_of_a_particle_file_and_of_its_store(tiny, tiny_store, tmp_path):
    star = str(tiny / "particles.star")
    found = dataset_sizes(config_of(particles=star), tmp_path)
    assert (found.particles, found.input_box, found.box) == (24, 24, 24) and found.images > 24 * 10
    coarse = dataset_sizes(config_of(particles=star, prepare={"rescale": 28.0}), tmp_path)
    assert (coarse.input_box, coarse.box) == (24, 12)
    few = dataset_sizes(config_of(particles=star, prepare={"use_first_nptcls": 6}), tmp_path)
    assert few.particles == 6 and few.tilts == pytest.approx(found.tilts, rel=0.02)
    assert dataset_sizes(config_of(particles=star), tiny_store.parent) == found


def test_the_command_prints_every_stage_and_the_sum(tmp_path, run_script, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rounds = {"all": {}, "some": {"parent": "all", "select": "x > 0", "auto": {}}}
    Path("my.yaml").write_text(yaml.safe_dump(GIVEN | {"rounds": rounds}))
    output = run_script("estimate", "my.yaml", "--device", "cpu").stdout
    lines = output.splitlines()
    assert lines[0].endswith("300 particles, 12,300 tilt images of 32 px")
    assert "round some: at most 300 particles" in lines
    assert " ".join(lines[4].split()) == "round stage time range memory GPU memory disk measured on"
    stages = [line.split()[1] for line in lines if re.match(r"(dataset|all|some) +\w+  ", line)]
    assert stages == [*DATASET, *(one for one in ROUND if one not in ("support", "propose")), *ROUND, *LAST]
    assert re.search(r"^all stages, one after another: .+ \(.+ to .+\), .+ GB on disk$", output, re.M)


def test_a_mistake_in_the_configuration_is_named(tmp_path):
    from tomohet.rounds.config import read_config

    (tmp_path / "my.yaml").write_text("dataset: x\nrounds: {all: {}}\ntrain: {epoch: 3}\n")
    with pytest.raises(InputError, match=r"train\.epoch: unknown key"):
        read_config(tmp_path / "my.yaml")


def test_times_and_sizes_have_units():
    assert [duration(seconds) for seconds in (7.4, 89, 90, 5400, 3e4, 2e5, 1e7)] == [
        "7 s", "89 s", "1.5 min", "1.5 h", "8.3 h", "2.3 d", "116 d",
    ]  # fmt: skip
    assert [size(n) for n in (0, 2e6, 3.4e8, 2.5e10)] == ["-", "2 MB", "0.34 GB", "25 GB"]
