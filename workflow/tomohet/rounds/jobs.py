"""The jobs of a dataset that have begun and not ended well, from their logs and Slurm's.

Snakemake starts a job's log anew with each attempt and notes its time (`benchmarks/`) when it has ended well.
A log without a later note is therefore of a job that runs, was stopped, or failed.
"""

import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ASK_S = 10.0  # how long squeue may take to answer
SLURM = "slurm"  # folder of Slurm's own logs in logs/ (`profiles/slurm`)
TAIL_BYTES = 16384
CLOCKS_S = 2.0  # by which the clocks of two machines may differ
IN_USE = "another training or command is writing there"
FAULT = "stopped by a fault of the program"
ENDED_BY_SLURM = re.compile(
    r"slurmstepd\S*: error: \*\*\* (?:JOB|STEP) (?P<job>\d+)\S* ON (?P<node>\S+) CANCELLED AT \S+"
    r"(?: DUE TO (?P<why>[A-Z ]+))?.*\*\*\*"
)
WAITS, FAILED = "waiting", "failed"
# What follows when Slurm ends a job, and in plain words why, by what it says was the reason (none: scancel).
REASONS = {
    "TIME LIMIT": (FAILED, "out of time: Slurm ended job {job} on {node} at its time limit"),
    "PREEMPTION": (WAITS, "job {job} was preempted on {node}; Slurm has put it back into the queue"),
    "JOB REQUEUE": (WAITS, "job {job} was taken from {node}; Slurm has put it back into the queue"),
    "NODE FAILURE": (WAITS, "{node} was lost; Slurm has put job {job} back into the queue"),
    "": (FAILED, "job {job} on {node} was cancelled (scancel)"),
}
QUEUED = re.compile(r".*Slurm has put (?:it|job \d+) back into the queue")
OTHERS_OF_SLURM = re.compile(r"slurmstepd\S*: error: .*|srun: error: .*|.*oom.kill.*", re.IGNORECASE)


@dataclass(frozen=True)
class Job:
    """One job of the workflow.

    round, rule : "" for a job of the dataset; the name of its rule
    state : running, failed, stopped (by a signal, or with the machine), or waiting (for Slurm, or a folder)
    line : the last that it said; of a failed or waiting job why
    log : the file in which all of it stands
    idle_s : seconds since the job last wrote to its log
    """

    round: str
    rule: str
    state: Literal["running", "failed", "stopped", "waiting"]
    line: str
    log: Path
    idle_s: float


def unfinished(dataset: str, rounds: list[str], logs: Path, benchmarks: Path, runs: bool) -> list[Job]:
    """Return the jobs that have begun and not ended well, of the dataset and then of each round.

    logs, benchmarks : folders of the workflow's logs and notes
    runs : whether Snakemake is at work, so that a job without an error may still run
    """
    found = []
    for name in ("", *rounds):
        found += _failed_before_their_commands(name, logs / dataset / name, logs / SLURM)
        for log in sorted((logs / dataset / name).glob("*.log")):
            note = benchmarks / dataset / name / f"{log.stem}.tsv"
            changed = log.stat().st_mtime
            if not (note.is_file() and note.stat().st_mtime >= changed - CLOCKS_S):
                found.append(_job(name, log, logs / SLURM, time.time() - changed, runs))
    return found


def _job(round_name: str, log: Path, slurm: Path, idle_s: float, runs: bool) -> Job:
    lines = last_lines(log)
    failure = _failure(lines)
    in_use = runs and IN_USE in failure  # the job starts again until the other process has ended (jobs.sh)
    state, why = (
        (WAITS if in_use else FAILED, failure)
        if failure
        else _end_by_slurm(_folder_of_slurm(slurm, log.stem, round_name))
    )
    if not why:
        state, why = "running" if runs else "stopped", (lines or [""])[-1]
    return Job(round_name, log.stem, state, why, log, idle_s)


def _folder_of_slurm(slurm: Path, name: str, round_name: str) -> Path:
    """Return Slurm's folder of logs of a job; the `name` of one of several is `<rule>.<share>`."""
    rule, _, share = name.partition(".")
    return slurm / f"rule_{rule}" / "_".join(filter(None, (round_name, share)))


def _failed_before_their_commands(round_name: str, logs: Path, slurm: Path) -> list[Job]:
    """Return jobs of which Slurm has a log with an error, and the command none, as on a node without home."""
    found = []
    of_shares = slurm.glob(f"rule_*_share/{round_name}_*-of-*") if round_name else ()
    for folder in sorted([*slurm.glob(f"rule_*/{round_name}"), *of_shares]):
        rule, *round_and_share = folder.relative_to(slurm).parts
        share = "".join(round_and_share)[len(round_name) :].removeprefix("_")
        rule = ".".join(filter(None, (rule.removeprefix("rule_"), share)))
        attempts = _by_time(folder)
        line = _failure(last_lines(attempts[-1])) if attempts else ""
        if line and not (logs / f"{rule}.log").exists():
            idle_s = time.time() - attempts[-1].stat().st_mtime
            found.append(Job(round_name, rule, FAILED, line, attempts[-1], idle_s))
    return found


def _by_time(folder: Path) -> list[Path]:
    """Return the logs of Slurm in a folder, the latest last."""
    return sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime)


def last_lines(path: Path) -> list[str]:
    """Return the last lines of a log that hold anything; of a progress bar, what it shows now."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        text = file.read().decode(errors="replace")
    return [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]


def _failure(lines: list[str]) -> str:
    """Return why a command failed: its line `error: ...`, or the last line of a traceback."""
    errors = [line for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1]
    return lines[-1] if any(FAULT in line or line.startswith("Traceback") for line in lines) else ""


def _end_by_slurm(folder: Path) -> tuple[str, str]:
    """Return the state after Slurm ended the latest attempt, and why: out of time, preempted, a lost node.

    Of other troubles (out of memory) the line is Slurm's own. "", "" : it says nothing.
    """
    lines = [line for path in _by_time(folder)[-1:] for line in last_lines(path)]
    for ended in filter(None, map(ENDED_BY_SLURM.fullmatch, lines)):
        state, words = REASONS.get((ended["why"] or "").strip(), (FAILED, ended.string))
        return state, words.format(job=ended["job"], node=ended["node"])
    told = [line for line in lines if OTHERS_OF_SLURM.fullmatch(line)]
    return (FAILED, told[-1]) if told else ("", "")


def held(line: str) -> str:
    """Return what releases a job that Slurm holds in its queue; "" where it does not, or no squeue tells it.

    line : what `unfinished` says of the waiting job; it names the job
    """
    number = re.search(r"job (\d+)", line)
    if not (QUEUED.fullmatch(line) and number and shutil.which("squeue")):
        return ""
    words = ["squeue", "-h", "-j", number[1], "-o", "%r"]
    try:
        why = subprocess.run(words, capture_output=True, text=True, check=False, timeout=ASK_S).stdout.strip()
    except subprocess.TimeoutExpired:
        return ""
    if "held" not in why.lower():
        return ""
    who = "an administrator runs" if why == "JobHeldAdmin" else "you run"
    return f"Slurm holds it ({why}) until {who}: scontrol release {number[1]}"
