"""Faults on a real Slurm of two nodes: trainings end as undisturbed ones do.

One training is sent back to the queue and held there, is preempted, loses its node, and is cancelled, one
after the other. In a second folder, whose jobs find neither home nor temporary folder, Snakemake is killed
and started again while its training goes on. `tests/faults/README.md` has the outcomes.

Needs an administrator's rights on a Slurm whose nodes are all this machine, and a partition `urgent` that
preempts.
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

from tomohet.rounds.jobs import held, unfinished

EPOCHS = 90
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
    "rounds": {name: {} for name in ("undisturbed", "disturbed", "killed")},
}  # fmt: skip
RESULTS = Path("results/f")
BEGUN = 3  # epochs that a training does before it is disturbed (again)
# What `tomohet status` says after each fault.
TOLD = {
    "requeued": ("waiting", r"job {job} was taken from node\d; Slurm has put it back into the queue"),
    "preempted": ("waiting", r"job {job} was preempted on node\d; Slurm has put it back into the queue"),
    "lost": ("waiting", r"node\d was lost; Slurm has put job {job} back into the queue"),
    "cancelled": ("failed", r"job {job} on node\d was cancelled \(scancel\)"),
}
HELD = "launch failed requeued held"
PREFIX = "tomohet_faults"  # of the names of all jobs here
# Why a node is away that is resumed: what the test says of it, and Slurm after a job went wrong.
AWAY = ("fault of a test", "batch job complete failure", "Kill task failed", "Duplicate jobid")
LONGEST_S = 600
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


def release_held_jobs() -> None:
    """Do as a user does: a busy Slurm holds a job that a node could not start."""
    for line in slurm("squeue", "-h", "-t", "PENDING", "-o", "%i|%j|%r").splitlines():
        number, name, why = line.split("|")
        if name.startswith(PREFIX) and why == HELD:
            slurm("scontrol", "release", number)
            slurm("scontrol", "update", f"jobid={number}", "StartTime=now")


def wait_for(what: Callable[[], object], why: str, meanwhile: Callable[[], None] = release_held_jobs) -> None:
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < LONGEST_S, f"waited in vain for {why}; {slurm('squeue')}"
        meanwhile()
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
        words += ["--slurm-jobname-prefix", PREFIX]
        words += ["--slurm-init-seconds-before-status-checks", str(self.first_check_s)]
        words += ["--seconds-between-status-checks", "1", "--", *map(target, self.rounds)]
        with open(self.log, "w") as file:
            self.process = subprocess.Popen(
                words, cwd=self.folder, env=self.environment, stdout=file, stderr=subprocess.STDOUT
            )

    def ended_well(self) -> str:
        """Wait for its end, which must be a good one, and return what it has said."""
        wait_for(lambda: self.process.poll() is not None, "a Snakemake to end")
        assert self.process.returncode == 0, self.log.read_text()[-6000:]
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

    first, second : the folders of the disturbed training, and of the killed Snakemake
    jobs : the Slurm job that each fault of the first training met
    told : what `status` told after each fault: state and line
    held : what it told of the job that Slurm held
    said : what the Snakemakes said, and `status` of the second folder
    """

    first: Path
    second: Path
    jobs: dict[str, str] = field(default_factory=dict)
    told: dict[str, tuple[str, str]] = field(default_factory=dict)
    held: str = ""
    said: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def found(folder, run_script) -> Iterator[Found]:
    environment = user(folder.parent)
    result = Found(folder, folder.parent / "second")
    shutil.copytree(folder, result.second, symlinks=True)
    without_home = environment | {
        "PATH": f"{sbatch_without_home(folder.parent)}:{environment['PATH']}",
        "XDG_CACHE_HOME": str(folder.parent / "cache"),
    }
    running = [Snakemake(folder, environment, ("disturbed",))]
    try:
        for fault in TOLD:
            disturb(result, fault)
        running.append(Snakemake(result.second, without_home, ("killed",)))
        wait_for(lambda: epochs(result.second, "killed") >= BEGUN, "the second training to begin")
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
        for line in slurm("squeue", "-h", "-o", "%i|%j").splitlines():
            number, name = line.split("|")
            if name.startswith(PREFIX):
                slurm("scancel", number)
        resume_nodes()
        for process in psutil.process_iter(["cmdline"]):  # which a Slurm without cgroups has lost sight of
            if any(str(folder.parent) in word for word in process.info["cmdline"] or ()):
                process.kill()


def sbatch_without_home(folder: Path) -> Path:
    """Write the sbatch of jobs without a home, and return the folder in which it is found."""
    (folder / "bin").mkdir()
    path = folder / "bin" / "sbatch"
    path.write_text(NO_HOME.format(sbatch=shutil.which("sbatch")))
    path.chmod(0o755)
    return path.parent


def disturb(found: Found, fault: str) -> None:
    """Disturb the first training once it has gone on, note what `status` tells, and let it start again."""
    done = epochs(found.first, "disturbed")
    wait_for(lambda: epochs(found.first, "disturbed") >= done + BEGUN, f"epochs before it is {fault}")
    assert epochs(found.first, "disturbed") < EPOCHS - BEGUN, "make the training longer"
    number = found.jobs[fault] = job(found.first, "disturbed")
    node = slurm("squeue", "-h", "-j", number, "-o", "%N")
    preempting = f"sbatch -Q -J {PREFIX}_urgent -p urgent -w {node} --exclusive -o /dev/null --wrap true"
    slurm(
        *{
            "requeued": ("scontrol", "requeue", number),
            "preempted": preempting.split(),
            "lost": ("scontrol", "update", f"nodename={node}", "state=down", f"reason={AWAY[0]}"),
            "cancelled": ("scancel", number),
        }[fault]
    )

    def told() -> bool:
        jobs = unfinished("f", ["disturbed"], found.first / "logs", found.first / "benchmarks", runs=True)
        for one in jobs:
            if one.state == TOLD[fault][0]:
                found.told[fault] = (one.state, one.line)
        return fault in found.told

    wait_for(told, f"status to tell that it is {fault}")
    if fault != "cancelled":
        wait_for(lambda: is_queued(number), "a job to be in the queue")
        slurm("scontrol", "update", f"jobid={number}", "StartTime=now+1hour")  # not before it has left
        wait_for(lambda: not processes(number), "a job to leave its node")
        resume_nodes()
        if fault == "requeued":
            found.held = hold(number, found.told[fault][1])
        slurm("scontrol", "update", f"jobid={number}", "StartTime=now")  # else it waits for two minutes


def is_queued(number: str) -> bool:
    return slurm("squeue", "-h", "-j", number, "-o", "%T") == "PENDING"


def processes(number: str) -> list[str]:
    """The processes of Slurm that still look after a job; until they have ended, no node takes it again."""
    lines = (" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    return [line for line in lines if line.startswith(f"slurmstepd: [{number}.")]


def hold(number: str, line: str) -> str:
    """Let Slurm hold a queued job, as no node can start it; return what `status` adds to its `line`."""
    spool = re.search(r"SlurmdSpoolDir\s*= (\S+)", slurm("scontrol", "show", "config"))[1]
    nodes = {*slurm("sinfo", "-hN", "-p", "gpu", "-o", "%N").split()}
    in_the_way = [Path(spool.replace("%n", node), f"job{int(number):05d}") for node in nodes]
    for path in in_the_way:
        path.touch(exist_ok=False)  # where a node makes the folder of the job
    slurm("scontrol", "update", f"jobid={number}", "StartTime=now")
    try:
        wait_for(lambda: held(line), "Slurm to hold a job", meanwhile=lambda: None)
    finally:
        for path in in_the_way:
            path.unlink()
    said = held(line)
    slurm(*said.partition(": ")[2].split())
    return said


def resume_nodes() -> None:
    def away() -> set[str]:
        lines = slurm("sinfo", "-hN", "-t", "down,drain", "-o", "%N %E").splitlines()
        return {line.split()[0] for line in lines if line.split(maxsplit=1)[1] in AWAY}

    for node in away():  # one that has meanwhile reported to the controller is up, and cannot be resumed
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=False)
    wait_for(lambda: not away(), "the nodes to be up")


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


def starts(folder: Path, name: str) -> list[int]:
    """The epochs at which a training went on after its first start. It did every epoch once, in order."""
    log = (folder / RESULTS / name / "train_vae" / "run.log").read_text()
    assert [int(number) for number in re.findall(r"Epoch: (\d+) ", log)] == list(range(1, EPOCHS + 1))
    return [int(epoch) for epoch in re.findall(r"continuing at epoch (\d+), step", log)]


@pytest.mark.parametrize("fault", TOLD)
def test_status_tells_in_plain_words_what_became_of_a_job(found, fault):
    state, line = TOLD[fault]
    assert found.told[fault][0] == state
    assert re.fullmatch(line.format(job=found.jobs[fault]), found.told[fault][1])


def test_status_tells_what_releases_a_job_that_slurm_holds(found):
    assert found.held == f"Slurm holds it ({HELD}) until you run: scontrol release {found.jobs['requeued']}"


def test_a_disturbed_training_ends_as_an_undisturbed_one(found, tmp_path):
    """A cancelled job is tried again as another, and so is one that a busy Slurm lets fail."""
    assert re.search(r"SLURM-job '\d+' failed, SLURM status is: 'CANCELLED'", found.said["first"])
    assert len(logs_of_slurm(found.first, "disturbed")) >= 2
    begun = starts(found.first, "disturbed")
    assert len(begun) >= len(TOLD) and begun == sorted(begun) and begun[0] > 0
    assert as_undisturbed(found.first, "disturbed", tmp_path) == []


def test_a_killed_snakemake_is_started_again_beside_its_job(found, tmp_path):
    """The new job waits until the old one has ended. Neither has a home or a folder for temporary files."""
    run_name = re.search(rf"end its jobs first: scancel --name ({PREFIX}_\S+); then", found.said["status"])[1]
    assert run_name not in found.said["rerun"]
    assert IN_USE not in (found.second / "logs/f/killed/train_vae.log").read_text()
    assert starts(found.second, "killed") == [EPOCHS], "the old job has trained to the end"
    assert as_undisturbed(found.second, "killed", tmp_path) == []
