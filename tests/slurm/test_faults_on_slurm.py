"""Faults on a real Slurm of two nodes: trainings end as undisturbed ones do.

All at once: of three trainings one is cancelled, one is sent back to the queue, and one loses its node.
In a second folder, whose jobs find neither home nor temporary folder, Snakemake is killed and started again
while its training goes on. `tests/faults/README.md` has the outcomes.
"""

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import yaml
from comparing import differences
from test_slurm import ROOT, run, user

from tomohet.rounds.jobs import unfinished

EPOCHS = 90
THREE = ("a", "b", "c")  # rounds whose jobs are cancelled, requeued, or lose their node
CONFIG = {
    "dataset": "f",
    "simulate": {
        "n_particles": 32, "n_tomograms": 2, "box": 20, "pixel_size": 16, "snr": 0.3, "seed": 1,
        "tilt_step": 20, "hidden_fraction": 0,
    },
    "linear": {"zdim": 1, "iterations": 1},
    "train": {
        "init": None, "zdim": 2, "epochs": EPOCHS, "batch_size": 8, "dec_dim": 64, "pe_dim": 3,
        "checkpoint": 20,
    },
    "rounds": {name: {} for name in ("undisturbed", *THREE, "killed")},
}  # fmt: skip
RESULTS = Path("results/f")
BEGUN = 3  # epochs of a training that is then disturbed
LONGEST_S = 300
IN_USE = "is writing there"
# An sbatch whose jobs find neither their home nor their folder for temporary files.
NO_HOME = """#!/bin/sh
export HOME=/dev/null/home TMPDIR=/dev/null/tmp
exec {sbatch} "$@"
"""

pytestmark = [
    pytest.mark.skipif(shutil.which("sbatch") is None, reason="no sbatch on this machine"),
    pytest.mark.alone,
    pytest.mark.skipif(
        os.environ.get("TOMOHET_FAULTS_ON_SLURM") != "1",
        reason="TOMOHET_FAULTS_ON_SLURM=1 takes nodes away from a Slurm, which may have to be mended by hand",
    ),
]


def target(name: str) -> Path:
    return RESULTS / name / "train_vae" / "weights.pkl"


def slurm(*words: object) -> str:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def epochs(folder: Path, name: str) -> int:
    losses = folder / RESULTS / name / "train_vae" / "loss.csv"
    return len(losses.read_text().splitlines()) - 1 if losses.is_file() else 0


def logs_of_slurm(folder: Path, name: str) -> list[Path]:
    """The logs of a round's training jobs that have begun, the latest last."""
    logs = (folder / "logs/slurm/rule_train_vae" / name).glob("*.log")
    return sorted(logs, key=lambda path: int(path.stem))


def job(folder: Path, name: str) -> str:
    """The number of the latest Slurm job of a round's training."""
    return logs_of_slurm(folder, name)[-1].stem


def wait_for(what: Callable[[], object], why: str) -> None:
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < LONGEST_S, f"waited in vain for {why}"
        time.sleep(0.2)


@dataclass
class Snakemake:
    """A Snakemake that submits the trainings of some rounds, and what it says."""

    folder: Path
    environment: dict[str, str]
    rounds: tuple[str, ...]
    first_check_s: int = 1  # of the jobs' states; the plugin waits 10 seconds more before each further check
    process: subprocess.Popen = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder / f"snakemake.{len(list(self.folder.glob('snakemake.*.txt')))}.txt"
        half = max(1, int(slurm("sinfo", "-h", "-p", "gpu", "-o", "%c")) // 2)  # two jobs fill a node
        words = ["snakemake", "--profile", "slurm", "--set-threads", f"train_vae={half}"]
        words += ["--slurm-init-seconds-before-status-checks", str(self.first_check_s)]
        words += ["--seconds-between-status-checks", "1", "--", *map(target, self.rounds)]
        with open(self.log, "w") as file:
            self.process = subprocess.Popen(
                words, cwd=self.folder, env=self.environment, stdout=file, stderr=subprocess.STDOUT
            )

    def ended_well(self) -> str:
        """Wait for its end, which must be a good one, and return what it has said."""
        status = self.process.wait(LONGEST_S)
        assert status == 0, self.log.read_text()[-6000:]
        return self.log.read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An undisturbed training, and the other rounds up to theirs: copies, as all have the same particles."""
    place = tmp_path_factory.mktemp("faults") / "first"
    place.mkdir()
    for name in ("Snakefile", "workflow", "envs", "profiles"):
        (place / name).symlink_to(ROOT / name)
    (place / "config").mkdir()
    (place / "config" / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    run(["snakemake", "--cores", "2", target("undisturbed")], place, user(place.parent))
    for name in CONFIG["rounds"]:
        for stage in ("subset", "linear") if name != "undisturbed" else ():
            shutil.copytree(place / RESULTS / "undisturbed" / stage, place / RESULTS / name / stage)
    return place


@dataclass
class Found:
    """What came of all faults.

    first, second : the folders of the three rounds, and of the killed Snakemake
    rounds : the round that each of the three faults met
    said : what the Snakemakes said, and `status` of the second folder
    told : what `status` told of each of the three rounds
    """

    first: Path
    second: Path
    rounds: dict[str, str] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    told: dict[str, tuple[str, str]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def found(folder, run_script) -> Iterator[Found]:
    environment = user(folder.parent)
    result = Found(folder, folder.parent / "second")
    shutil.copytree(folder, result.second, symlinks=True)
    without_home = environment | {
        "PATH": f"{sbatch_without_home(folder.parent)}:{environment['PATH']}",
        "XDG_CACHE_HOME": str(folder.parent / "cache"),
    }
    running = [Snakemake(folder, environment, THREE)]
    try:
        numbers = disturb(result)
        running.append(Snakemake(result.second, without_home, ("killed",)))
        resume_nodes()
        for number in numbers:  # else they wait for two minutes
            wait_for(lambda number=number: has_left(number), "a job to leave its node")
            slurm("scontrol", "update", f"jobid={number}", "StartTime=now")
        wait_for(lambda: epochs(result.second, "killed") >= BEGUN, "the fourth training to begin")
        running[1].process.kill()
        left = job(result.second, "killed")
        slurm("scontrol", "suspend", left)  # its training shall outlast the start of the next one
        with contextlib.chdir(result.second):
            result.said["status"] = run_script("status").stdout
        run(["snakemake", "--profile", "slurm", "--unlock"], result.second, environment)
        running.append(Snakemake(result.second, without_home, ("killed",), first_check_s=20))
        log = result.second / "logs/f/killed/train_vae.log"
        wait_for(lambda: log.is_file() and IN_USE in log.read_text(), "the line of a second writer")
        slurm("scontrol", "resume", left)
        result.said |= {"rerun": running[2].ended_well(), "first": running[0].ended_well()}
        yield result
    finally:
        for one in running:
            one.process.kill()
            for name in re.findall(r"SLURM run ID: (\S+)", one.log.read_text()):
                slurm("scancel", "--name", name)
        resume_nodes()


def sbatch_without_home(folder: Path) -> Path:
    """Write the sbatch of jobs without a home, and return the folder in which it is found."""
    (folder / "bin").mkdir()
    path = folder / "bin" / "sbatch"
    path.write_text(NO_HOME.format(sbatch=shutil.which("sbatch")))
    path.chmod(0o755)
    return path.parent


def disturb(found: Found) -> list[str]:
    """Disturb three trainings once they have begun, note what `status` tells, and return the queued jobs."""
    wait_for(lambda: all(any(logs_of_slurm(found.first, name)) for name in THREE), "three jobs to run")
    node = {name: slurm("squeue", "-h", "-j", job(found.first, name), "-o", "%N") for name in THREE}
    assert all(node.values()), f"a training had ended before the others began; make them longer: {node}"
    alone = min(THREE, key=lambda name: list(node.values()).count(node[name]))
    found.rounds = dict(zip(("lost", "cancelled", "requeued"), sorted(THREE, key=alone.__ne__), strict=True))
    number = {fault: job(found.first, name) for fault, name in found.rounds.items()}
    faults = {
        "lost": ("scontrol", "update", f"nodename={node[alone]}", "state=down", "reason=test"),
        "cancelled": ("scancel", number["cancelled"]),
        "requeued": ("scontrol", "requeue", number["requeued"]),
    }

    def step() -> bool:
        for fault in [one for one in faults if epochs(found.first, found.rounds[one]) >= BEGUN]:
            slurm(*faults.pop(fault))
        for one in unfinished("f", THREE, found.first / "logs", found.first / "benchmarks", runs=True):
            if one.state in ("failed", "waiting"):
                found.told.setdefault(one.round, (one.state, one.line))
        return not faults and len(found.told) == len(THREE)

    wait_for(step, "the trainings to begin, and status to tell what became of them")
    return [number["requeued"], number["lost"]]


def has_left(number: str) -> bool:
    """Whether a job is in the queue, and its last process has ended, without which no node takes it again."""
    stewards = (" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    ended = not any(line.startswith(f"slurmstepd: [{number}.") for line in stewards)
    return ended and slurm("squeue", "-h", "-j", number, "-o", "%T") == "PENDING"


def resume_nodes() -> None:
    def down() -> set[str]:
        return {*slurm("sinfo", "-hN", "-t", "down,drain", "-o", "%N").split()}

    for node in down():  # one that has meanwhile reported to the controller is up, and cannot be resumed
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=False)
    wait_for(lambda: not down(), "the nodes to be up")


def as_undisturbed(folder: Path, name: str, room: Path) -> list[str]:
    """What distinguishes the training of a round from the undisturbed one, but for the names of folders."""
    expected = room / RESULTS / name / "train_vae"
    shutil.copytree(folder / RESULTS / "undisturbed" / "train_vae", expected)
    config = expected / "config.yaml"
    text = config.read_text().replace("/undisturbed/", f"/{name}/")
    config.write_text(text.replace(str(folder.with_name("first")), str(folder)))
    (expected / "config.pkl").unlink()  # the same, as a pickle
    said = differences(room, folder, [str(RESULTS / name / "train_vae")])
    return [one for one in said if not one.endswith("config.pkl: left behind")]


def continued(folder: Path, name: str) -> int:
    """The epoch at which the second start of a training went on; every epoch was trained once, in order."""
    log = (folder / RESULTS / name / "train_vae" / "run.log").read_text()
    assert log.count("command:") == 2
    assert [int(number) for number in re.findall(r"Epoch: (\d+) ", log)] == list(range(1, EPOCHS + 1))
    (epoch,) = re.findall(r"continuing at epoch (\d+), step", log)
    return int(epoch)


def test_a_cancelled_job_is_tried_again(found, tmp_path):
    assert re.search(r"SLURM-job '\d+' failed, SLURM status is: 'CANCELLED'", found.said["first"])
    name = found.rounds["cancelled"]
    state, line = found.told[name]
    assert state == "failed" and re.fullmatch(r"job \d+ on node\d was cancelled \(scancel\)", line)
    assert continued(found.first, name) > 0
    assert as_undisturbed(found.first, name, tmp_path) == []


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("requeued", r"job \d+ was taken from node\d; Slurm has put it back into the queue"),
        ("lost", r"node\d was lost; Slurm has put job \d+ back into the queue"),
    ],
)
def test_a_job_that_slurm_puts_back_into_the_queue_continues(found, tmp_path, fault, why):
    name = found.rounds[fault]
    state, line = found.told[name]
    assert state == "waiting" and re.fullmatch(why, line)
    assert len(logs_of_slurm(found.first, name)) == 1, "the same job"
    assert continued(found.first, name) > 0
    assert as_undisturbed(found.first, name, tmp_path) == []


def test_a_killed_snakemake_is_started_again_beside_its_job(found, tmp_path):
    """The new job waits until the old one has ended. Neither has a home or a folder for temporary files."""
    run_name = re.search(r"end its jobs first: scancel --name (tomohet_\S+); then", found.said["status"])[1]
    assert run_name not in found.said["rerun"]
    assert IN_USE not in (found.second / "logs/f/killed/train_vae.log").read_text()
    assert continued(found.second, "killed") == EPOCHS, "the old job has trained to the end"
    assert as_undisturbed(found.second, "killed", tmp_path) == []
