"""Faults of the whole workflow: signals to Snakemake and its jobs, two at once, clocks that differ."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import small_workflow as small
from comparing import differences
from disturbed import IDENTICAL, ONE_LINE, Bench, Fault, Outcome, digest_of
from small_workflow import Stage

LONGEST_S = 600.0
DAY_S = 86400
HINTS = {"--unlock": r"--unlock|LockException", "--rerun-incomplete": r"IncompleteFilesException"}


@dataclass
class Snakemake:
    """A Snakemake at work on the files of one stage, in a session of its own."""

    folder: Path
    targets: tuple[str, ...]
    more: tuple[str, ...] = ()
    said: str = ""
    process: subprocess.Popen = field(init=False)

    def __post_init__(self) -> None:
        self.text = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            small.snakemake_words(*self.more, "--", *self.targets), cwd=self.folder, env=small.environment(),
            stdout=self.text, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def jobs(self) -> list[psutil.Process]:
        """The commands of tomohet among its descendants."""
        try:
            below = psutil.Process(self.process.pid).children(recursive=True)
            return [p for p in below if "tomohet.cli" in p.cmdline()]
        except psutil.NoSuchProcess:
            return []

    def wait_for_job(self) -> list[psutil.Process]:
        """The commands of the job as soon as it has begun; none when Snakemake has ended before."""
        began = time.monotonic()
        while self.process.poll() is None and time.monotonic() - began < LONGEST_S:
            if found := self.jobs():
                return found
            time.sleep(0.05)
        return []

    def ended(self) -> int | None:
        """Wait; its status, or None when it hung, and then it and its jobs are killed."""
        try:
            status = self.process.wait(LONGEST_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            status = None
        self.text.seek(0)
        self.said = self.text.read()
        return status


@contextmanager
def half_finished(bench: Bench, stage: Stage) -> Iterator[Path]:
    """A copy of the finished workflow without the files of the stage and of all that need them."""
    folder = bench.here
    try:
        shutil.copytree(bench.by_snakemake, folder, dirs_exist_ok=True, symlinks=True)
        for job in (stage, *small.after(stage, bench.jobs)):
            for part in job.own:
                path = folder / part
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def again(bench: Bench, case: Path, stage: Stage) -> Outcome:
    """Snakemake once more, with the options that its own messages ask for; then the results are compared."""
    asked: list[str] = []
    for _ in range(8):
        rerun = Snakemake(case, stage.outputs, tuple(asked))
        status = rerun.ended()
        if status == 0 and "--unlock" not in asked:
            return _judged(bench, case, stage, asked)
        if status is None:
            return Outcome(False, "the rerun hung")
        wanted = [option for option, words in HINTS.items() if re.search(words, rerun.said)]
        if "--unlock" in asked:
            asked = [option for option in asked if option != "--unlock"] + ["--rerun-incomplete"]
        elif wanted:
            asked = sorted(
                {*asked, *wanted} - {"--rerun-incomplete"} if "--unlock" in wanted else {*asked, *wanted}
            )
        elif "another training or command is writing there" in rerun.said:
            time.sleep(3)  # the job of the killed Snakemake is still at work, and the line says so
        elif "clock skew problem" in rerun.said:
            return Outcome(True, f"{ONE_LINE} of Snakemake: the clocks differ")
        else:
            return Outcome(False, f"the rerun ended with {status}: {rerun.said[-600:]}")
    return Outcome(False, f"eight reruns did not finish: {rerun.said[-600:]}")


def _judged(bench: Bench, case: Path, stage: Stage, asked: list[str]) -> Outcome:
    gone = {part for job in small.after(stage, bench.jobs) for part in job.own}
    parts = [part for job in bench.jobs for part in job.own if part not in gone]
    found = differences(bench.by_snakemake, case, list(dict.fromkeys(parts)))
    if digest_of(case / "inputs") != digest_of(bench.by_snakemake / "inputs"):
        found.insert(0, "an input was modified")
    hints = f" after {' '.join(asked)}" if asked else ""
    return Outcome(not found, "; ".join(found[:4]) if found else IDENTICAL + hints)


def signalled(to: str, *numbers: int) -> Callable[[Bench, Fault], Outcome]:
    """Signals to the job, to Snakemake or to the group of both, at a random moment of the job."""

    def act(bench: Bench, fault: Fault) -> Outcome:
        stage, rng = bench.stage(fault.stage), small.generator(fault)
        with half_finished(bench, stage) as case:
            running = Snakemake(case, stage.outputs)
            jobs = running.wait_for_job()
            time.sleep(rng.uniform(0, 1.2) * (2 + bench.seconds.get(stage.name, 1)))
            for number in numbers:
                _send(running, jobs, to, number)
                time.sleep(rng.uniform(0, 0.5))
            status = running.ended()
            if status is None:
                return Outcome(False, "Snakemake hung")
            if "Traceback" in running.said and "tomohet/" in running.said:
                return Outcome(False, f"a traceback of tomohet: {running.said[-800:]}")
            return again(bench, case, stage)

    return act


def _send(running: Snakemake, jobs: list[psutil.Process], to: str, number: int) -> None:
    try:
        if to == "group":
            os.killpg(running.process.pid, number)
        elif to == "snakemake":
            running.process.send_signal(number)
        for job in jobs if to == "job" else ():
            job.send_signal(number)
    except (ProcessLookupError, psutil.NoSuchProcess):
        pass


def two_at_once(*more: str) -> Callable[[Bench, Fault], Outcome]:
    """A second Snakemake in the same folder while the first one's job runs."""

    def act(bench: Bench, fault: Fault) -> Outcome:
        stage = bench.stage(fault.stage)
        with half_finished(bench, stage) as case:
            first = Snakemake(case, stage.outputs)
            first.wait_for_job()
            second = Snakemake(case, stage.outputs, more)
            if second.ended() is None or first.ended() is None:
                return Outcome(False, "one of the two hung")
            if "Traceback" in first.said + second.said:
                return Outcome(False, f"a traceback: {(first.said + second.said)[-800:]}")
            return again(bench, case, stage)

    return act


def clock(days: float) -> Callable[[Bench, Fault], Outcome]:
    """The files before the stage come from a machine whose clock is ahead (or behind) by days."""

    def act(bench: Bench, fault: Fault) -> Outcome:
        stage = bench.stage(fault.stage)
        with half_finished(bench, stage) as case:
            for path in (case / "results").rglob("*"):
                moment = path.stat().st_mtime + days * DAY_S
                os.utime(path, (moment, moment))
            return again(bench, case, stage)

    return act


KINDS: dict[str, Callable[[Bench, Fault], Outcome]] = {
    f"{name} to {to}": signalled(to, getattr(signal, name))
    for to in ("job", "snakemake", "group")
    for name in ("SIGKILL", "SIGTERM", "SIGINT")
} | {
    "SIGINT twice to group": signalled("group", signal.SIGINT, signal.SIGINT),
    "SIGHUP to group": signalled("group", signal.SIGHUP),
    "SIGTERM, then SIGKILL to group (preempted)": signalled("group", signal.SIGTERM, signal.SIGKILL),
    "two Snakemakes": two_at_once(),
    "two Snakemakes with --nolock": two_at_once("--nolock"),
    "clock a day ahead": clock(1),
    "clock a day behind": clock(-1),
}
