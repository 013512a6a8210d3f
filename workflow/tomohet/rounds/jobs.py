"""The jobs of a dataset that have begun and not ended well, from their logs and Slurm's.

Snakemake starts a job's log anew with each attempt and notes its time (`benchmarks/`) when it has ended well.
A log without a later note is therefore of a job that runs, was stopped, or failed.
"""

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SLURM = "slurm"  # folder of Slurm's own logs in logs/ (`profiles/slurm`)
TAIL_BYTES = 16384
CLOCKS_S = 2.0  # by which the clocks of two machines may differ
FAULT = "stopped by a fault of the program"
OF_SLURM = re.compile(r"slurmstepd: error: .*|srun: error: .*|.*oom.kill.*", re.IGNORECASE)


@dataclass(frozen=True)
class Job:
    """One job of the workflow.

    round, rule : "" for a job of the dataset; the name of its rule
    state : running, failed, or stopped (by a signal, or with the machine)
    line : the last that it said; of a failed job why it failed
    log : the file in which all of it stands
    idle_s : seconds since the job last wrote to its log
    """

    round: str
    rule: str
    state: Literal["running", "failed", "stopped"]
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
        for log in sorted((logs / dataset / name).glob("*.log")):
            note = benchmarks / dataset / name / f"{log.stem}.tsv"
            changed = log.stat().st_mtime
            if not (note.is_file() and note.stat().st_mtime >= changed - CLOCKS_S):
                found.append(_job(name, log, logs / SLURM, time.time() - changed, runs))
    return found


def _job(round_name: str, log: Path, slurm: Path, idle_s: float, runs: bool) -> Job:
    lines = last_lines(log)
    failure = _failure(lines) or _failure_by_slurm(slurm / f"rule_{log.stem}" / round_name)
    state = "failed" if failure else "running" if runs else "stopped"
    return Job(round_name, log.stem, state, failure or (lines or [""])[-1], log, idle_s)


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


def _failure_by_slurm(folder: Path) -> str:
    """Return what Slurm says of the latest attempt: out of time, out of memory, a lost node."""
    attempts = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime)
    told = [line for path in attempts[-1:] for line in last_lines(path) if OF_SLURM.fullmatch(line)]
    return told[-1] if told else ""
