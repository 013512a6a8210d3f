"""The tree of rounds as Snakemake sees it: what a dry run shows, and what an edit runs again."""

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from stand_in import blocks, run_with_stand_in, snakemake

from tomohet.rounds.propose import Node
from tomohet.rounds.propose_text import configuration_text

CONFIG = {
    "dataset": "d",
    "rounds": {
        "all": {},
        "bound": {"parent": "all", "select": "maven_S1 > 0.5"},
        "class_a": {"parent": "bound", "select": "kmeans == 0"},
        "other": {"parent": "all", "select": "maven_S1 <= 0.5"},
    },
}
COMPARISONS = {"compare_clusters", "compare_classes"}
STAGES_OF_A_ROUND = {
    "select",
    "export_subset",
    "export_volume_series",
    "handover",
    "reconstruct_subset",
    "train_linear",
    "states",
    "train_vae",
    "convergence",
    "analyze",
    "volumes",
    "analyze_volumes",
    "siren",
    "maven",
    *COMPARISONS,
    "mapback",
    "particle_table",
    "assess",
}


def planned(folder: Path, config: dict, *arguments: str) -> set[tuple[str, str]]:
    """The jobs a dry run shows, as (rule, round)."""
    jobs = set()
    for block in blocks(snakemake(folder, config, "-n", *arguments)):
        rule = re.match(r"(?:local)?rule (\w+):", block)
        wildcard = re.search(r"wildcards: round=(\S+)", block)
        if rule:
            jobs.add((rule[1], wildcard[1] if wildcard else ""))
    return jobs - {("all", ""), ("everything", "")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder in which every job of CONFIG has been run by Snakemake, with a stand-in for the commands."""
    folder = tmp_path_factory.mktemp("finished")
    run_with_stand_in(folder, CONFIG)
    assert planned(folder, CONFIG) == set()
    return folder


def test_dry_run_shows_every_job_of_every_round(tmp_path):
    jobs = planned(tmp_path, CONFIG)
    for name in CONFIG["rounds"]:
        own = STAGES_OF_A_ROUND | ({"support"} if "parent" in CONFIG["rounds"][name] else set())
        assert {rule for rule, round_ in jobs if round_ == name} == own
    assert {rule for rule, round_ in jobs if not round_} == {
        "simulate",
        "validate",
        "prepare",
        "homogeneous",
        "write_config",
        "report",
        "lineage",
    }


def test_real_particles_are_neither_simulated_nor_compared_with_a_truth(tmp_path):
    (tmp_path / "p.star").write_text("")
    rules = {rule for rule, _ in planned(tmp_path, CONFIG | {"particles": str(tmp_path / "p.star")})}
    assert not rules & {"simulate", "assess", "maven", "mapback", "export_volume_series"}
    assert {"validate", "train_vae", "siren", "report"} <= rules


def test_linear_latents_need_no_network(tmp_path):
    rules = {rule for rule, _ in planned(tmp_path, CONFIG | {"latents": "linear"})}
    assert not rules & {"train_vae", "convergence"}
    assert {"train_linear", "analyze", "volumes"} <= rules


@pytest.mark.parametrize("refined", [True, False])
def test_exports_with_refined_poses_wait_for_the_round_s_own_linear_model(tmp_path, refined):
    config = CONFIG | {"export": {"refined_poses": refined}}
    files = [f"results/d/all/subset/{name}.star" for name in ("particles", "volumes")]
    jobs = planned(tmp_path, config, "--", *files)
    assert {("export_subset", "all"), ("export_volume_series", "all")} <= jobs
    assert (("train_linear", "all") in jobs) == refined
    assert not {round_ for _, round_ in jobs} - {"all", ""}
    asked = snakemake(tmp_path, config, "-n", "-p", "--", *files)
    command = "--with-refined-poses results/d/all/linear/poses.parquet"
    assert asked.count(command) == (2 if refined else 0)


def edited(**rounds) -> dict:
    return CONFIG | {"rounds": {**CONFIG["rounds"], **rounds}}


def test_editing_a_round_runs_it_and_its_children_again(finished):
    jobs = planned(finished, edited(bound={"parent": "all", "select": "maven_S1 > 0.6"}))
    assert {round_ for _, round_ in jobs} == {"bound", "class_a", ""}
    assert {rule for rule, round_ in jobs if round_ == "bound"} == STAGES_OF_A_ROUND | {"support"}
    assert {rule for rule, round_ in jobs if not round_} == {"write_config", "report", "lineage"}


def test_what_a_round_is_chosen_by_and_starts_from_are_inputs_and_options(tmp_path):
    for name in ("l.csv", "bad.txt", "some.txt"):
        (tmp_path / name).touch()
    labels = {"labels": str(tmp_path / "l.csv"), "keep": [2, 3], "exclude": str(tmp_path / "bad.txt")}
    listed = {"indices": str(tmp_path / "some.txt"), "exclude": "a > 1", "tomograms": ["T 1", "U*"]}
    listed |= {"min_confidence": 0.5, "sample": 9}
    warm = {"linear": {"init": "parent"}, "train": {"init": "parent"}}
    rounds = {"all": {}, "a": {"parent": "all", **labels, **warm}, "b": {"parent": "all", **listed}}
    files = ["results/d/a/train_vae/weights.pkl", "results/d/a/linear/weights.pkl"]
    files.append("results/d/b/subset/indices.pkl")
    output = snakemake(tmp_path, CONFIG | {"rounds": rounds}, "-n", "-p", "--", *files)
    table = "    input: results/d/all/particles.parquet"
    assert f"{table}, {tmp_path / 'l.csv'}, {tmp_path / 'bad.txt'}\n" in output
    assert f"{table}, {tmp_path / 'some.txt'}\n" in output
    assert f"--parent all --labels {tmp_path / 'l.csv'} --keep 2 3 --exclude {tmp_path / 'bad.txt'}" in output
    words = "--tomograms 'T 1' 'U*' --exclude 'a > 1' --min-confidence 0.5 --sample 9"
    assert f"--parent all --indices {tmp_path / 'some.txt'} {words}" in output
    assert "-o results/d/a/linear --warm-start results/d/all/linear " in output
    starts = "-o results/d/a/train_vae --init results/d/all/linear --warm-start results/d/all/train_vae "
    assert starts in output
    assert output.count("--warm-start") == 2, "the parent starts from its images"


def test_rounds_are_proposed_where_it_is_asked_for(tmp_path):
    assert "propose" not in {rule for rule, _ in planned(tmp_path, CONFIG | {"auto": {"depth": 3}})}
    asked = edited(all={"auto": {"min_particles": 70}}) | {"auto": {"depth": 3}}
    jobs = planned(tmp_path, asked)
    assert {round_ for rule, round_ in jobs if rule == "propose"} == {"all"}
    file = "results/d/all/proposed/rounds.yaml"
    command = re.search(r"tomohet propose .*", snakemake(tmp_path, asked, "-n", "-p", "--", file))
    assert "--depth 3 --min-particles 70 --seed 0" in command[0]
    jobs = planned(tmp_path, CONFIG, "--", file)
    assert ("propose", "all") in jobs and not {round_ for _, round_ in jobs} - {"all", ""}


def test_a_proposal_is_a_second_configuration(finished):
    proposal, odd = finished / "rounds.yaml", '`maven_a "b"` > 0.50'
    parts = (
        Node("all_S1", ("maven_S1 > 0.50",), 7, (), None, "no: {valley}"),
        Node("all_odd-2", (odd,), 5, (), None, "#"),
    )
    tree = Node("all", (), 12, (), SimpleNamespace(sentence="why: p = 1e-06"), "", parts)
    proposal.write_text(configuration_text(tree, "round all"))
    both = ("--configfile", str(finished / "config.yaml"), str(proposal))
    jobs = planned(finished, CONFIG, *both)
    assert {round_ for _, round_ in jobs} == {"all_S1", "all_odd-2", ""}
    command = snakemake(finished, CONFIG, "-n", "-p", *both, "--", "results/d/all_odd-2/subset/indices.pkl")
    assert f"--query {shlex.quote(odd)}" in command
    proposal.write_text("rounds: {}\n")
    assert planned(finished, CONFIG, *both) == set()


def test_a_new_round_runs_alone(finished):
    jobs = planned(finished, edited(new={"parent": "bound", "select": "kmeans == 1"}))
    assert {round_ for _, round_ in jobs} == {"new", ""}


def test_training_option_of_a_round_leaves_its_subset_and_other_rounds_alone(finished):
    jobs = planned(finished, edited(other=CONFIG["rounds"]["other"] | {"train": {"epochs": 7}}))
    assert {round_ for _, round_ in jobs} == {"other", ""}
    assert not {"select", "train_linear", "reconstruct_subset"} & {rule for rule, _ in jobs}


def test_plot_option_trains_nothing_again(finished):
    leaf = edited(class_a=CONFIG["rounds"]["class_a"] | {"analyze": {"plot_format": "svgz"}})
    assert planned(finished, leaf) == {
        ("analyze", "class_a"),
        ("compare_clusters", "class_a"),
        ("particle_table", "class_a"),
        ("mapback", "class_a"),
        ("assess", "class_a"),
        ("write_config", ""),
        ("report", ""),
        ("lineage", ""),
    }


def test_gpus_are_asked_for_by_what_gains_from_them(tmp_path):
    output = snakemake(tmp_path, CONFIG | {"gpus": 1}, "-n")
    jobs = blocks(output)
    with_gpu = {
        re.match(r"(?:local)?rule (\w+):", block)[1] for block in jobs if re.search(r"\bgpu=1\b", block)
    }
    assert (
        with_gpu
        == {"train_linear", "train_vae", "volumes", "siren", "maven", "states", "support"} | COMPARISONS
    )
    assert all("nodes=1" in block for block in jobs if "gpu=1" in block)
    assert "gpu=" not in snakemake(tmp_path, CONFIG, "-n")


def test_several_jobs_divide_a_stage_where_it_is_asked_for(tmp_path):
    rounds = CONFIG["rounds"] | {"bound": CONFIG["rounds"]["bound"] | {"maven": {"jobs": 4}}}
    output = snakemake(tmp_path, CONFIG | {"volumes": {"jobs": 3}, "rounds": rounds, "gpus": 1}, "-n")
    shares = re.findall(r"rule (\w+_share):.*?wildcards: round=(\w+), share=(\S+)", output, re.DOTALL)
    expected = {("volumes_share", name, f"{n}-of-3") for name in rounds for n in (1, 2, 3)}
    assert set(shares) == expected | {("maven_share", "bound", f"{n}-of-4") for n in (1, 2, 3, 4)}
    for block in re.split(r"\n(?=(?:local)?rule )", output):
        if re.match(r"rule (\w+_share):", block):
            assert "gpu=1" in block


def test_wrong_configuration_stops_before_anything_runs(tmp_path):
    output = snakemake(tmp_path, CONFIG | {"trian": {}, "train": {"lr": "1e-3"}}, "-n", ok=False)
    assert "2 mistakes" in output
    assert "trian: unknown key; did you mean 'train'?" in output
    assert "write 0.001" in output
    assert "Traceback" not in output


def test_another_configuration_replaces_the_demo(tmp_path):
    assert "results/demo" not in snakemake(tmp_path, {"dataset": "d", "rounds": {"only": {}}}, "-n")


def test_a_failing_command_fails_its_job_and_says_why(tmp_path):
    (tmp_path / "p.star").write_text("no star file")
    output = snakemake(tmp_path, CONFIG | {"particles": "p.star"}, "--until", "validate", ok=False)
    assert "Error in rule validate" in output
    assert re.search(r"^error: p.star", output, flags=re.MULTILINE)
