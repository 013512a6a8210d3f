"""Undisturbed results, copies of them in which something goes wrong, and the judgement of what came of it."""

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import forked
import small_workflow as small
from comparing import differences
from small_workflow import RESULTS, Stage

IDENTICAL, ONE_LINE = "identical", "one line"
LINE_AND_MENDED = "one line; identical after the mend that it names"
FIRST_ROUND, BOTH_ROUNDS = ("", "all"), ("", "all", "half")


@dataclass(frozen=True)
class Fault:
    """What goes wrong, at which stage, at which of its files; and the seed of all that is drawn."""

    kind: str
    stage: str
    file: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """What came of a fault: good or bad, and in words."""

    good: bool
    said: str


class Bench:
    """Undisturbed and foreign results of the small workflow below a folder, and room for disturbed copies.

    All but the foreign results are made in one folder, `here`, one after another: some files hold their path.

    only : names of stages, without which the others are left out
    jobs : the stages, in an order in which they can run. As single commands those of the first round are run,
        whose commands the second round repeats; Snakemake runs both rounds.
    """

    def __init__(self, folder: Path, only: Sequence[str] = (), rounds: Sequence[str] = FIRST_ROUND) -> None:
        self.undisturbed, self.foreign, self.room = (
            folder / "undisturbed",
            folder / "foreign",
            folder / "cases",
        )
        self.by_snakemake = folder / "by_snakemake"
        self.here = self.room / "here"
        self.room.mkdir(parents=True, exist_ok=True)
        for place, seed in ((self.undisturbed, 1), (self.foreign, 2)):
            if not place.is_dir():
                small.make_inputs(place, seed)
        jobs = _jobs(self.undisturbed)
        self.jobs = [job for job in jobs if (not only or job.name in only) and job.round in rounds]
        self.seconds: dict[str, float] = {}

    def stage(self, name: str) -> Stage:
        return next(job for job in self.jobs if job.name == name)

    def make(self) -> None:
        """Run the commands of all stages; a failure is an error."""
        shutil.rmtree(self.here, ignore_errors=True)
        self.undisturbed.rename(self.here)
        try:
            self._make(self.here)
        finally:
            self.here.rename(self.undisturbed)
        self._make(self.foreign)

    def _make(self, place: Path) -> None:
        for job in self.jobs:
            mark = place / ".done" / job.name.replace(" ", ".")
            if not mark.is_file():
                self._write_config(place)
                ended = forked.run(job.commands, place)
                if ended.status:
                    raise RuntimeError(f"{job.name} ended with {ended.status}:\n{ended.said[-3000:]}")
                mark.parent.mkdir(exist_ok=True)
                mark.write_text(str(ended.seconds))
            self.seconds.setdefault(job.name, float(mark.read_text()))

    def make_by_snakemake(self) -> None:
        """Run the stages by Snakemake, unless that has been done; a failure is an error."""
        if self.by_snakemake.is_dir():
            return
        shutil.rmtree(self.here, ignore_errors=True)
        small.make_inputs(self.here)
        targets = [path for job in self.jobs for path in job.outputs]
        done = subprocess.run(
            small.snakemake_words("--", *targets),
            cwd=self.here,
            env=small.environment(),
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"the undisturbed run by Snakemake failed: {done.stderr[-3000:]}")
        self.here.rename(self.by_snakemake)

    def _write_config(self, place: Path) -> None:
        path = place / RESULTS / "config.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            path.write_text((place / "config.yaml").read_text())

    def before(self, stage: Stage) -> list[Stage]:
        """The stages whose files this stage needs, directly or through others."""
        needed, found = set(stage.inputs), []
        for job in reversed(self.jobs[: self.jobs.index(stage)]):
            if needed & set(job.outputs):
                needed |= set(job.inputs)
                found.append(job)
        return found[::-1]

    @contextmanager
    def case(self, stage: Stage, *more: Stage) -> Iterator[Path]:
        """A copy of the inputs and of the files of all stages before this one, and of those of `more`."""
        self.here.mkdir(exist_ok=True)
        try:
            parts = [part for job in (*self.before(stage), *more) for part in job.own]
            for part in ("inputs", "config.yaml", str(RESULTS / "config.yaml"), *dict.fromkeys(parts)):
                _copy(self.undisturbed / part, self.here / part)
            yield self.here
        finally:
            for path in self.here.iterdir():  # the folder itself may be the root of a disk
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    @cached_property
    def input_digest(self) -> str:
        return digest_of(self.undisturbed / "inputs")

    def judged(self, case: Path, stage: Stage, kept_aside: str | None = None) -> Outcome:
        """Whether the files of the stage and of those before it are the undisturbed ones.

        kept_aside : name in the paths of files that may be there besides
        """
        parts = [part for job in (*self.before(stage), stage) for part in job.own]
        found = differences(self.undisturbed, case, list(dict.fromkeys(parts)))
        found = [said for said in found if not kept_aside or kept_aside not in said]
        if digest_of(case / "inputs") != self.input_digest:
            found.insert(0, "an input was modified")
        return Outcome(not found, "; ".join(found[:4]) if found else IDENTICAL)


def digest_of(folder: Path) -> str:
    """A digest of the names and the contents of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def _copy(source: Path, target: Path) -> None:
    """Copy a file or folder with its times, and with the list of digests of a file's folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, symlinks=True)
    elif source.is_file():
        shutil.copy2(source, target)
        listed = source.parent / ".digests"
        if listed.is_file():
            shutil.copy2(listed, target.parent)


def _jobs(place: Path) -> list[Stage]:
    """The stages by a dry run in an empty folder with the same inputs: results would be found incomplete."""
    with tempfile.TemporaryDirectory(dir=place.parent) as empty:
        for name in ("inputs", "config.yaml"):
            Path(empty, name).symlink_to(place / name)
        return small.stages(Path(empty))


def mounted(*arguments: object) -> None:
    """`mount ARGUMENTS`; an error when it fails."""
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True)


def unmounted(folder: Path) -> None:
    """`umount FOLDER`, later if it is in use."""
    subprocess.run(["umount", "-l", folder], check=False, capture_output=True)
