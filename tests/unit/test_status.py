"""`status`: jobs at work, stopped and failed, with why they failed, and the time left, from files alone."""

import os
import time
from pathlib import Path

import pytest
import yaml

from tomohet.rounds import jobs
from tomohet.rounds.jobs import held, unfinished
from tomohet.rounds.progress import slurm_run

TRACEBACK = (
    "2026-11-28 10:00:00     stopped by a fault of the program\nTraceback (most recent call last):\n"
    '  File "x.py", line 3, in run\nZeroDivisionError: division by zero\n'
)


def job(place: Path, name: str, text: str, note_after_s: float | None = None) -> None:
    """The log of a job, and its note where it has ended well so many seconds later."""
    log = place / "logs" / "d" / f"{name}.log"
    note = place / "benchmarks" / "d" / f"{name}.tsv"
    for path in (log, note):
        path.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(text)
    now = time.time() - 100
    os.utime(log, (now, now))
    if note_after_s is not None:
        note.write_text("s\n1\n")
        os.utime(note, (now + note_after_s, now + note_after_s))


def squeue(place: Path, monkeypatch, told: str) -> None:
    """A squeue that knows job 7 alone; `told` is what its shell runs to tell why the job waits."""
    path = place / "squeue"
    path.write_text(f'#!/bin/sh\n[ "$*" = "-h -j 7 -o %r" ] || exit 1\n{told}\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(place), prepend=os.pathsep)


def found(place: Path, runs: bool = False) -> dict[str, tuple[str, str]]:
    begun = unfinished("d", ["all"], place / "logs", place / "benchmarks", runs)
    return {"/".join(filter(None, (one.round, one.rule))): (one.state, one.line) for one in begun}


def test_jobs_that_ended_well_are_left_out(tmp_path):
    job(tmp_path, "prepare", "fine\n", note_after_s=1)
    job(tmp_path, "all/states", "fine\n", note_after_s=0)
    job(tmp_path, "all/train_linear", "iteration 1\n", note_after_s=-1000)  # a note of an earlier run
    assert found(tmp_path) == {"all/train_linear": ("stopped", "iteration 1")}
    assert found(tmp_path, runs=True) == {"all/train_linear": ("running", "iteration 1")}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("begins\nerror: a.star: row 3: wrong\n", "error: a.star: row 3: wrong"),
        (TRACEBACK, "ZeroDivisionError: division by zero"),
        (
            "not tried again: the mistake must be corrected first\nerror: a.star: row 3\n",
            "error: a.star: row 3",
        ),
    ],
)
def test_a_failed_job_says_why(tmp_path, text, line):
    job(tmp_path, "all/states", text)
    assert found(tmp_path, runs=True) == {"all/states": ("failed", line)}


def test_a_job_waits_for_a_folder_as_long_as_snakemake_runs(tmp_path):
    line = "error: out: another training or command is writing there; wait for its end"
    job(tmp_path, "all/states", f"{line}\n")
    assert found(tmp_path, runs=True) == {"all/states": ("waiting", line)}
    assert found(tmp_path) == {"all/states": ("failed", line)}


def test_a_progress_bar_is_what_it_shows_now(tmp_path):
    job(tmp_path, "all/train_vae", "start\n 10 %|#\r 20 %|##\r")
    assert found(tmp_path, runs=True)["all/train_vae"] == ("running", "20 %|##")


@pytest.mark.parametrize(
    ("reason", "state", "line"),
    [
        ("", "failed", "job 7 on node1 was cancelled (scancel)"),
        (" DUE TO TIME LIMIT", "failed", "out of time: Slurm ended job 7 on node1 at its time limit"),
        (
            " DUE TO JOB REQUEUE",
            "waiting",
            "job 7 was taken from node1; Slurm has put it back into the queue",
        ),
        (
            " DUE TO PREEMPTION",
            "waiting",
            "job 7 was preempted on node1; Slurm has put it back into the queue",
        ),
        (
            " DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS",
            "waiting",
            "node1 was lost; Slurm has put job 7 back into the queue",
        ),
    ],
)
def test_why_slurm_ended_a_job_is_told_in_plain_words(tmp_path, reason, state, line):
    job(tmp_path, "all/train_vae", "stopped by SIGTERM in epoch 3\n")
    folder = tmp_path / "logs" / "slurm" / "rule_train_vae" / "all"
    folder.mkdir(parents=True)
    for one in ("JOB 7", "STEP 7.0"):  # either is written, and srun's own complaint comes last
        text = f"slurmstepd-node1: error: *** {one} ON node1 CANCELLED AT 2026-11-28T20:00:00{reason} ***"
        (folder / "7.log").write_text(f"host: node1\n{text}\nsrun: error: node1: task 0: Exited\n")
        assert found(tmp_path, runs=True) == {"all/train_vae": (state, line)}


BACK = "node1 was lost; Slurm has put job 7 back into the queue"


@pytest.mark.parametrize(
    ("line", "told", "hint"),
    [
        (
            BACK,
            "echo launch failed requeued held",
            "Slurm holds it (launch failed requeued held) until you run",
        ),
        (BACK, "echo JobHeldAdmin", "Slurm holds it (JobHeldAdmin) until an administrator runs"),
        (BACK, "echo BeginTime", ""),
        (BACK, "exit 1", ""),
        (BACK, "exec sleep 60", ""),
        ("error: out: job 7 is writing there", "echo JobHeldUser", ""),
    ],
)
def test_what_releases_a_job_that_slurm_holds_is_told(tmp_path, monkeypatch, line, told, hint):
    squeue(tmp_path, monkeypatch, told)
    monkeypatch.setattr(jobs, "ASK_S", 0.5)
    found = held(line)
    assert found == (f"{hint}: scontrol release 7" if hint else "")


def test_one_of_several_jobs_of_a_stage_is_told_by_its_share(tmp_path):
    job(tmp_path, "all/maven_share.1-of-2", "epoch\n")
    folder = tmp_path / "logs" / "slurm" / "rule_maven_share" / "all_1-of-2"
    folder.mkdir(parents=True)
    (folder / "7.log").write_text("slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch.\n")
    (state, line) = found(tmp_path, runs=True)["all/maven_share.1-of-2"]
    assert state == "failed" and "oom_kill" in line


def test_what_slurm_says_of_the_latest_attempt_is_why_a_job_failed(tmp_path):
    job(tmp_path, "all/train_vae", "epoch 3\n")
    folder = tmp_path / "logs" / "slurm" / "rule_train_vae" / "all"
    folder.mkdir(parents=True)
    told = "slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch."
    (folder / "7.log").write_text(f"host: node1\n{told}\n")
    assert found(tmp_path, runs=True) == {"all/train_vae": ("failed", told)}
    (folder / "9.log").write_text("host: node2\n")
    later = time.time() + 10
    os.utime(folder / "9.log", (later, later))
    assert found(tmp_path, runs=True) == {"all/train_vae": ("running", "epoch 3")}


@pytest.mark.parametrize(
    ("key", "slurm"),
    [
        ("prepare", "rule_prepare"),
        ("all/siren", "rule_siren/all"),
        ("all/siren_share.2-of-3", "rule_siren_share/all_2-of-3"),
    ],
)
def test_a_job_that_failed_before_its_command_is_told(tmp_path, key, slurm):
    folder = tmp_path / "logs" / "slurm" / slurm
    folder.mkdir(parents=True)
    (folder / "8.log").write_text(
        "Traceback (most recent call last):\n  x\nNotADirectoryError: '/dev/null/home'\n"
    )
    assert found(tmp_path, runs=True) == {key: ("failed", "NotADirectoryError: '/dev/null/home'")}
    job(tmp_path, key, "begins\n", note_after_s=1)
    assert found(tmp_path, runs=True) == {}


def test_the_jobs_of_the_latest_snakemake_are_named(tmp_path):
    logs = tmp_path / ".snakemake" / "log"
    assert slurm_run(tmp_path) == ""
    logs.mkdir(parents=True)
    for day, run in ((1, "tomohet_1"), (3, "tomohet_3"), (2, "tomohet_2")):
        (logs / f"2026-11-0{day}T101112.snakemake.log").write_text(
            f"host: a\nSLURM run ID: {run}\nBuilding\n"
        )
    assert slurm_run(tmp_path) == "tomohet_3"


def test_the_command_names_failed_jobs_and_the_time_left(tmp_path, run_script, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = {"dataset": "d", "simulate": {"n_particles": 50, "box": 32}, "rounds": {"all": {}}}
    Path("c.yaml").write_text(yaml.safe_dump(config))
    job(tmp_path, "all/states", "error: no room\n")
    job(tmp_path, "all/train_vae", "stopped by SIGTERM in epoch 3\n")
    log = tmp_path / "logs/slurm/rule_train_vae/all/7.log"
    log.parent.mkdir(parents=True)
    log.write_text(
        "slurmstepd-n1: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-28T20:00:00 DUE TO PREEMPTION ***\n"
    )
    squeue(tmp_path, monkeypatch, "echo JobHeldUser")
    output = run_script("status", "--configfile", "c.yaml").stdout
    assert "\nfailed\n  all/states: error: no room (logs/d/all/states.log)\n" in output
    assert (
        "queue; Slurm holds it (JobHeldUser) until you run: scontrol release 7 (logs/d/all/train_vae.log)\n"
        in output
    )
    assert " jobs to come, one after another: " in output
