"""The workflow on a real Slurm, by the command the README gives: `snakemake --profile slurm`.

Needs sbatch with account `lab` and partition `gpu`, as in the shipped profile.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from tomohet.files.pickles import load_latents

ROOT = Path(__file__).resolve().parents[2]
GPU_CONFIG = {
    "dataset": "timed",
    "gpus": 1,
    "simulate": {"n_particles": 48, "n_tomograms": 2, "box": 32, "snr": 0.2, "seed": 1},
    "linear": {"zdim": 2, "iterations": 2},
    "train": {
        "zdim": 4,
        "epochs": 60,
        "batch_size": 8,
        "dec_dim": 192,
        "rows_per_image": 1,
        "checkpoint": 20,
    },
    "rounds": {"all": {}},
}

LIBRARY = {"PYTHONPATH": str(ROOT / "workflow")}

pytestmark = pytest.mark.skipif(shutil.which("sbatch") is None, reason="no sbatch on this machine")


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A fresh working copy of the workflow, on a disk that all nodes see."""
    for name in ("Snakefile", "workflow", "envs", "profiles"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return tmp_path


@pytest.fixture
def home(tmp_path) -> dict[str, str]:
    return user(tmp_path)


def user(folder: Path) -> dict[str, str]:
    """Environment of a user with a home in `folder`, whose profile `slurm` is the link of `make install`."""
    profiles = folder / "home" / ".config" / "snakemake"
    profiles.mkdir(parents=True, exist_ok=True)
    (profiles / "slurm").unlink(missing_ok=True)
    (profiles / "slurm").symlink_to(ROOT / "profiles" / "slurm")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")}
    return environment | {"HOME": str(folder / "home"), "PATH": path}


def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-6000:]
    return output


def test_a_round_of_the_demo_runs_on_slurm_as_the_readme_says(checkout, home):
    path = checkout / "config" / "config.yaml"
    demo = yaml.safe_load(path.read_text())
    fewer = {
        "simulate": demo["simulate"] | {"n_particles": 100},
        "volumes": {"count": 50, "jobs": 2},  # on both nodes
        "siren": {"jobs": 2},
        "maven": {"jobs": 2},
    }
    path.write_text(yaml.safe_dump(demo | fewer | {"rounds": {"all": {}}}))
    run(["snakemake", "--profile", "slurm"], checkout, home)
    assert (checkout / "results/demo/report.html").stat().st_size > 100_000
    shares = {path.name for path in (checkout / "logs/demo/all").glob("*_share.*.log")}
    assert shares == {f"{name}_share.{n}-of-2.log" for name in ("volumes", "siren", "maven") for n in (1, 2)}
    assert "computed here" not in (checkout / "logs/demo/all/siren.log").read_text()
    assert "Nothing to be done" in run(["snakemake", "--profile", "slurm"], checkout, home)


@pytest.mark.alone  # jobs of the partition `urgent` send others back to the queue
def test_jobs_find_their_partition_and_bear_the_names_of_rule_and_round(checkout, home, tmp_path):
    """The partitions here: gpu, and urgent, which stands for one without GPUs."""
    given = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text())
    del given["default-resources"]["slurm_partition"]
    listed = {"gpu": {"max_runtime": 1440, "max_gpu": 2}, "urgent": {"max_runtime": 300, "max_mem_mb": 8000}}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "partitions.yaml").write_text(yaml.safe_dump({"partitions": listed}))
    given["slurm-partition-config"] = "mine/partitions.yaml"
    (tmp_path / "mine" / "config.yaml").write_text(yaml.safe_dump(given))
    small = GPU_CONFIG | {"dataset": "named", "most_runtime": 60}
    (checkout / "config" / "config.yaml").write_text(yaml.safe_dump(small))
    output = run(["snakemake", "--profile", "mine", "results/named/all/linear/weights.pkl"], checkout, home)
    chosen = {rule: partition for partition, rule in re.findall(r"partition '(\w+)' for job (\w+)", output)}
    assert (chosen["prepare"], chosen["train_linear"]) == ("urgent", "gpu")
    logs = {
        str(path.relative_to(checkout / "logs" / "slurm").parent)
        for path in checkout.glob("logs/slurm/**/*.log")
    }
    assert {"rule_train_linear/all", "rule_prepare"} <= logs
    told = subprocess.run(
        ["sacct", "-nP", "-X", "--format=JobName,Comment,Partition", "-S", "now-10minutes"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert re.search(r"^tomohet_\S+\|rule_train_linear_wildcards_all\|gpu$", told, re.MULTILINE), told


def test_a_mistake_is_one_job_and_no_second_attempt_that_computes(checkout, home):
    (checkout / "bad.star").write_text("data_\n\nloop_\n_rlnImageName\n1@a.mrcs\n")
    config = {"dataset": "bad", "particles": "bad.star", "rounds": {"all": {}}}
    (checkout / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    command = ["snakemake", "--profile", "slurm", "results/bad/validation/validation.json"]
    done = subprocess.run(command, cwd=checkout, env=home, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    log = (checkout / "logs" / "bad" / "validate.log").read_text()
    assert log.startswith("not tried again") and "error: " in log
    told = run([sys.executable, "-m", "tomohet.cli", "status"], checkout, home | LIBRARY)
    assert re.search(r"failed\n  validate: error: .*bad\.star", told)


def test_doctor_checks_the_cluster(checkout, home):
    command = [sys.executable, "-m", "tomohet.cli", "doctor", "--slurm"]
    told = run(command, checkout, home | LIBRARY)
    for found in (
        r"ok +account +lab",
        r"ok +ended jobs +squeue knows them for \d+ s",
        r"ok +partition +gpu: 2 nodes, .*GPUs gpu:toy:2; in the configuration: most_mem_mb: \d+",
        r"ok +job +ran on \S+, which reads what this machine has written",
        r"note +gpu +\S+: Slurm gave GPU '\d', but PyTorch sees none",
        r"ok +clock ",
        r"ok +files +a file of \S+ is seen here after",
        r"disk +\S+: writes \d+ MB/s, reads \d+ MB/s, [\d.]+ ms for a small file",
    ):
        assert re.search(found, told), (found, told)
    assert list(checkout.glob(".doctor*")) == []


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        (
            {"slurm_partition": "gpus"},
            r"FAIL +partition +no gpus; set slurm_partition in the profile to one of .*gpu",
        ),
        (
            {"slurm_account": "other"},
            r"FAIL +account +other is not yours; set slurm_account in the profile to lab",
        ),
    ],
)
def test_doctor_says_what_to_change_in_the_profile(checkout, home, tmp_path, changed, found):
    given = {"slurm_account": "lab", "slurm_partition": "gpu"} | changed
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text(yaml.safe_dump({"default-resources": given}))
    command = [sys.executable, "-m", "tomohet.cli", "doctor", "--slurm", "--profile", "mine"]
    done = subprocess.run(
        command, cwd=checkout, env=home | LIBRARY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and re.search(found, done.stdout), done.stdout


def test_training_killed_by_its_time_limit_resumes_when_tried_again(checkout, home):
    (checkout / "config" / "config.yaml").write_text(yaml.safe_dump(GPU_CONFIG))
    target = "results/timed/all/train_vae/weights.pkl"
    one_minute_first = "train_vae:runtime=1+19*(attempt-1)"
    # One GPU, and a training that takes longer than its first limit.
    output = run(
        [
            "snakemake",
            "--profile",
            "slurm",
            "--set-resources",
            one_minute_first,
            "--until",
            "train_vae",
            target,
        ],
        checkout,
        home,
    )
    assert re.search(r"TIMEOUT", output), "the first attempt ended within its limit: make the training longer"
    log = (checkout / "results/timed/all/train_vae/run.log").read_text()
    assert log.count("command:") == 2
    assert re.search(r"stopped by SIGTERM in epoch \d+", log)
    continued = re.search(r"continuing at epoch (\d+), step (\d+)", log)
    assert continued and int(continued[1]) > 0
    epochs = [int(number) for number in re.findall(r"Epoch: (\d+) ", log)]
    assert epochs == list(range(1, GPU_CONFIG["train"]["epochs"] + 1)), "every epoch once, in order"


TWO_NODES = {
    "dataset": "two",
    "gpus": 2,
    "gpus_per_node": 1,
    "simulate": {"n_particles": 24, "n_tomograms": 2, "box": 16, "pixel_size": 21.0, "snr": 0.2, "seed": 1},
    "linear": {"zdim": 2, "iterations": 2},
    "train": {"init": None, "zdim": 2, "epochs": 1, "batch_size": 4, "dec_dim": 16, "rows_per_image": 1},
    "rounds": {"all": {}},
}


def test_linear_model_and_training_run_on_two_nodes_as_on_one(checkout, home):
    losses, latents = {}, {}
    for name, changed in (("two", {}), ("one", {"dataset": "one", "gpus": 1})):
        (checkout / "config" / "config.yaml").write_text(yaml.safe_dump(TWO_NODES | changed))
        run(["snakemake", "--profile", "slurm", f"results/{name}/all/train_vae/weights.pkl"], checkout, home)
        folder = checkout / f"results/{name}/all/train_vae"
        for stage in ("linear", "train_vae"):
            log = (checkout / f"results/{name}/all/{stage}/run.log").read_text()
            assert f"{2 if name == 'two' else 1} processes on cpu" in log
        latents[name] = load_latents(checkout / f"results/{name}/all/linear/z.train.pkl")[0]
        table = (folder / "loss.csv").read_text().splitlines()
        losses[name] = float(dict(zip(*(line.split(",") for line in table[:2]), strict=True))["total"])
    assert losses["two"] == pytest.approx(losses["one"], rel=1e-4)
    np.testing.assert_allclose(latents["two"], latents["one"], atol=1e-3 * abs(latents["one"]).max())
