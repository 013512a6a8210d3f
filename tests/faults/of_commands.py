"""Faults of single commands: signals, disks, limits, damaged files and replaced inputs."""

import os
import resource
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import forked
import numpy as np
import small_workflow as small
from comparing import differences, files_of
from disturbed import LINE_AND_MENDED, ONE_LINE, Bench, Fault, Outcome, mounted, unmounted
from forked import Ended
from small_workflow import RESULTS, Stage

Act = Callable[[Bench, Fault], Outcome]


def _refused(ended: Ended, expected: str) -> Outcome | None:
    """A bad outcome when the disturbed command hung or ended in anything but success or one clear line."""
    if ended.status is None:
        return Outcome(False, f"hung after {expected}")
    if ended.status > 0 and ended.clear_line is None and not ended.said.startswith("Killed"):
        return Outcome(False, f"no clear line after {expected}: {ended.said[-500:]}")
    return None


def _again(bench: Bench, case: Path, stage: Stage, kept_aside: str | None = None) -> Outcome:
    """The same commands run again, undisturbed: they must succeed, and leave what they always leave."""
    ended = forked.run(stage.commands, case)
    if ended.status != 0:
        return Outcome(False, f"the rerun ended with {ended.status}: {ended.said[-500:]}")
    return bench.judged(case, stage, kept_aside)


def signalled(*numbers: int) -> Act:
    """Signals to a command at a random moment of its work, and the same command again."""

    def act(bench: Bench, fault: Fault) -> Outcome:
        stage, rng = bench.stage(fault.stage), small.generator(fault)
        with bench.case(stage) as case:
            process, text = forked.start(stage.commands, case)
            time.sleep(rng.uniform(0.02, 0.95) * bench.seconds[stage.name])
            for number in numbers:
                _send(process, number)
                time.sleep(rng.uniform(0, 0.2))
            ended = forked.wait(process, text)
            if ended.status is None or "Traceback" in ended.said:
                return Outcome(False, f"after the signal: {ended.status} {ended.said[-500:]}")
            return _again(bench, case, stage)

    return act


def _send(process: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)  # not yet waited for, so the number is still its own


def _largest(bench: Bench, stage: Stage) -> int:
    return max(path.stat().st_size for path in files_of(bench.undisturbed, stage.own).values())


def limited_file_size(bench: Bench, fault: Fault) -> Outcome:
    """No file may become larger than a random share of the largest that the stage writes."""
    stage = bench.stage(fault.stage)
    limit = int(small.generator(fault).uniform(0, 1) * _largest(bench, stage))
    with bench.case(stage) as case:
        ended = forked.run(
            stage.commands, case, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        )
        return _refused(ended, f"a limit of {limit} bytes") or _again(bench, case, stage)


def full_disk(bench: Bench, fault: Fault) -> Outcome:
    """The disk has room for a random share of what the stage writes; then there is room."""
    stage = bench.stage(fault.stage)
    written = files_of(bench.undisturbed, stage.own).values()
    room = int(small.generator(fault).uniform(0, 1) * sum(path.stat().st_size for path in written))
    bench.here.mkdir(exist_ok=True)
    mounted("-t", "tmpfs", "-o", "size=1g", "none", bench.here)
    try:
        with bench.case(stage) as case:
            used = shutil.disk_usage(case).used
            mounted("-o", f"remount,size={used + room + 4096}", case)
            ended = forked.run(stage.commands, case)
            mounted("-o", "remount,size=1g", case)
            return _refused(ended, f"a full disk, {room} bytes free") or _again(bench, case, stage)
    finally:
        unmounted(bench.here)


def read_only(bench: Bench, fault: Fault) -> Outcome:
    """The results cannot be written; then they can."""
    stage = bench.stage(fault.stage)
    with bench.case(stage) as case:
        results = case / RESULTS
        mounted("--bind", results, results)
        try:
            mounted("-o", "remount,bind,ro", results)
            ended = forked.run(stage.commands, case)
        finally:
            unmounted(results)
        if ended.clear_line is None:
            return Outcome(False, f"no clear line on a read-only disk: {ended.status} {ended.said[-500:]}")
        return _again(bench, case, stage)


def _cut(share: float) -> Callable[[Path, Path, np.random.Generator], None]:
    def damage(path: Path, _: Path, __: np.random.Generator) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])

    return damage


def _flip(path: Path, _: Path, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def _zero_block(path: Path, _: Path, rng: np.random.Generator) -> None:
    """A block of 4096 bytes that never reached the disk."""
    content = bytearray(path.read_bytes())
    start = int(rng.integers(max(1, len(content) // 4096))) * 4096
    content[start : start + 4096] = bytes(len(content[start : start + 4096]))
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path, Path, np.random.Generator], None]] = {
    "halved": _cut(0.5),
    "emptied": _cut(0),
    "one bit flipped": _flip,
    "a block of zeros": _zero_block,
    "garbage": lambda path, _, rng: path.write_bytes(rng.bytes(path.stat().st_size)),  # type: ignore[arg-type]
    "deleted": lambda path, _, __: path.unlink(),
    "of another run": lambda path, other, __: shutil.copyfile(other, path),  # type: ignore[arg-type]
}


def damaged(kind: str) -> Act:
    """A file that a stage wrote is damaged, its times are kept, and a stage that reads it runs.

    When the reader refuses it, the writer is run again, as the reader says, and then the reader.
    """

    def act(bench: Bench, fault: Fault) -> Outcome:
        reader = bench.stage(fault.stage)
        writer = next(job for job in bench.jobs if fault.file in files_of(bench.undisturbed, job.own))
        with bench.case(reader) as case:
            path, other = case / fault.file, bench.foreign / fault.file
            if kind == "of another run" and not other.is_file():
                return Outcome(True, "the other run has no such file")
            times = path.stat()
            DAMAGE[kind](path, other, small.generator(fault))
            if path.is_file():
                os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            ended = forked.run(reader.commands, case)
            if ended.status == 0:
                found = differences(bench.undisturbed, case, reader.own)
                if found and _reported(case, reader, path.name):
                    return Outcome(True, f"{ONE_LINE} in the report")
                return Outcome(
                    not found, "; ".join(["went on with it", *found[:3]]) if found else "identical"
                )
            wrong = _refused(ended, f"{kind} {fault.file}")
            if wrong or ended.clear_line is None:
                return wrong or Outcome(False, f"killed by signal {ended.status}")
            return _mended(bench, case, writer, reader, ended.clear_line)

    return act


def _reported(case: Path, reader: Stage, name: str) -> bool:
    """Whether the report, which is made of whatever can be read, names the file that cannot."""
    lines = (case / RESULTS / "report.html").read_text().splitlines() if reader.rule == "report" else []
    return any(f"{name} could not be read" in line for line in lines)


def _mended(bench: Bench, case: Path, writer: Stage, reader: Stage, line: str) -> Outcome:
    """The writer and then the reader run again after a refusal, in an empty folder if it says so."""
    for part in writer.own if "in an empty folder" in line else ():
        shutil.rmtree(case / part)
    again = forked.run(writer.commands, case)
    if again.status != 0:
        if again.clear_line is None:
            return Outcome(False, f"the writer's rerun ended with {again.status}: {again.said[-500:]}")
        return Outcome(True, f"{ONE_LINE} of both") if again.clear_line else Outcome(False, line)
    outcome = _again(bench, case, reader, kept_aside="superseded.")
    if not outcome.good:
        return Outcome(False, f"refused ({line}); after {writer.name} ran again: {outcome.said}")
    return Outcome(True, LINE_AND_MENDED)


def replaced_input(bench: Bench, fault: Fault) -> Outcome:
    """An input is replaced after its stage has run; the stage over its old files does as in a new folder."""
    stage, rng = bench.stage(fault.stage), small.generator(fault)
    kind = list(DAMAGE)[rng.integers(len(DAMAGE))]
    ends: list[Ended] = []
    new = bench.room / "new"
    for kept in ((), (stage,)):
        with bench.case(stage, *kept) as case:
            DAMAGE[kind](case / fault.file, bench.foreign / fault.file, small.generator(fault, kind))
            ends.append(forked.run(stage.commands, case))
            wrong = _refused(ends[-1], f"{kind} {fault.file}")
            if wrong:
                return wrong
            if not kept:
                shutil.rmtree(new, ignore_errors=True)
                shutil.copytree(case, new)
                continue
            if ends[0].status:
                same = ends[0].status == ends[1].status
                return Outcome(same, ONE_LINE if same else f"only a new folder refuses: {ends[0].clear_line}")
            if ends[1].status:
                return Outcome(True, ONE_LINE)
            found = differences(new, case, stage.own)
            return Outcome(not found, "; ".join(found[:4]) if found else "as in a new folder")
    raise AssertionError("unreachable")


SIGNALS: dict[str, Act] = {
    "SIGKILL": signalled(signal.SIGKILL),
    "SIGTERM": signalled(signal.SIGTERM),
    "SIGINT": signalled(signal.SIGINT),
    "SIGINT twice": signalled(signal.SIGINT, signal.SIGINT),
    "SIGHUP": signalled(signal.SIGHUP),
    "SIGTERM, then SIGKILL (preempted)": signalled(signal.SIGTERM, signal.SIGKILL),
}
DISKS: dict[str, Act] = {
    "full disk": full_disk,
    "file-size limit": limited_file_size,
    "read-only results": read_only,
}
OF_FILES: dict[str, Act] = {f"file {kind}": damaged(kind) for kind in DAMAGE}
OF_INPUTS: dict[str, Act] = {"input replaced": replaced_input}
