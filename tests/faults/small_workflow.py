"""The small workflow that is disturbed: 32 particles of box 20, two rounds, a network of two epochs.

Its stages, their files and their commands are those of Snakemake's own dry run.
"""

import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import forked
import numpy as np
import yaml
from snakemake_here import run_snakemake

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path("results/small")
SIMULATION = {
    "n_particles": 32, "n_tomograms": 2, "box": 20, "pixel_size": 16, "snr": 0.3, "seed": 1,
    "tilt_step": 20, "hidden_fraction": 0,
}  # fmt: skip
CONFIG = {
    "dataset": "small",
    "particles": "inputs/particles.star",
    "datadir": "inputs",
    "volume_series": "inputs/volumes.star",
    "model": ["inputs/model.cif"],
    "linear": {"zdim": 1, "iterations": 1},
    "states": {"most": 2},
    "train": {"zdim": 2, "epochs": 2, "batch_size": 8, "dec_dim": 16, "pe_dim": 3},
    "convergence": {"epoch_interval": 1, "skip_umap": True},
    "analyze": {"ksample": 3, "pc": 1, "skip_umap": True},
    "volumes": {"count": 16},
    "analyze_volumes": {"num_pcs": 3, "ksample": 2},
    "rounds": {"all": {}, "half": {"parent": "all", "select": "kmeans <= 1", "analyze": {"ksample": 2}}},
}
# Folders of a single stage: all of their files are its own.
SHARED_FOLDERS = {"subset", "all", "half", "small"}
# What a stage writes in a shared folder besides the files that it declares.
UNDECLARED = {"reconstruct_subset": ("fsc.png", "mask.mrc", "ntilts.png", "run.log")}


@dataclass(frozen=True)
class Stage:
    """A job of the workflow: its files, relative to the folder of the workflow, and its commands' words."""

    rule: str
    round: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]

    @property
    def name(self) -> str:
        return f"{self.rule} {self.round}".strip()

    @cached_property
    def own(self) -> tuple[str, ...]:
        """The files and folders that are this stage's alone; folders where all their files are."""
        folders = {str(Path(path).parent) for path in self.outputs if Path(path).suffix}
        if len(folders) == 1 and Path(*folders).name not in SHARED_FOLDERS:
            return tuple(folders)
        more = UNDECLARED.get(self.rule, ())
        return (*self.outputs, *(str(Path(self.outputs[0]).with_name(name)) for name in more))

    def reads(self, path: str | Path) -> bool:
        """Whether one of its inputs is this file, its folder, or lies in the same folder of one stage."""
        folder = Path(path).parent
        return any(
            Path(given) in (Path(path), *Path(path).parents)
            or (Path(given).parent == folder and folder.name not in SHARED_FOLDERS)
            for given in self.inputs
        )


def make_inputs(folder: Path, seed: int = 1, particles: int = 32) -> None:
    """Simulate the inputs, and write the configuration of the workflow."""
    folder.mkdir(parents=True)
    settings = SIMULATION | {"seed": seed, "n_particles": particles}
    (folder / "simulate.yaml").write_text(yaml.safe_dump(settings))
    ended = forked.run([("simulate", "-o", "inputs", "--config", "simulate.yaml")], folder)
    if ended.status:
        raise RuntimeError(f"the simulation ended with {ended.status}:\n{ended.said[-3000:]}")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))


def snakemake_words(*arguments: str) -> list[str]:
    """The words of a Snakemake of one core on the small workflow, in its folder."""
    words = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "-d", ".", "--cores", "1"]
    return [*map(str, words), "--configfile", "config.yaml", *arguments]


def environment() -> dict[str, str]:
    """The environment of a Snakemake that runs this checkout."""
    return os.environ | {"PYTHONPATH": str(ROOT / "workflow"), "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}


def stages(folder: Path) -> list[Stage]:
    """All jobs of the workflow in an order in which they can run, from a dry run."""
    done = run_snakemake(*snakemake_words("-n", "-p", "--forceall")[3:], cwd=folder)
    if done.returncode:
        raise RuntimeError(done.stdout[-4000:])
    blocks = re.split(r"\n(?=(?:local)?rule \w+:\n)", done.stdout)[1:]
    found = [_stage(block) for block in blocks]
    return _in_order([stage for stage in found if stage.commands])


def _stage(block: str) -> Stage:
    def listed(key: str) -> tuple[str, ...]:
        line = re.search(rf"^    {key}: (.*)$", block, re.M)
        return tuple(dict.fromkeys(line[1].split(", "))) if line else ()

    rule = re.match(r"(?:local)?rule (\w+):", block)
    # `logged LOG ATTEMPT tomohet ...`, or a function of several commands that is run in this way.
    shell = re.search(r"^Shell command: (?:\w+\(\) \{ (.*); \};|logged .*?(?=tomohet )(.*)$)", block, re.M)
    text = (shell[1] or shell[2]) if shell else ""
    words = [shlex.split(part)[1:] for part in text.split(" && ")] if text else []
    round_ = re.search(r"wildcards: round=(\w+)", block)
    return Stage(
        rule[1] if rule else "",
        round_[1] if round_ else "",
        listed("input"),
        listed("output"),
        tuple(map(tuple, words)),
    )


def _in_order(jobs: Sequence[Stage]) -> list[Stage]:
    waiting, ordered = list(jobs), []
    while waiting:
        due = {path for job in waiting for path in job.outputs}
        ready = [job for job in waiting if not due & set(job.inputs)]
        if not ready:
            raise RuntimeError(f"jobs wait for files that none of them writes: {[j.name for j in waiting]}")
        for job in ready:
            waiting.remove(job)
            ordered.append(job)
    return ordered


def after(stage: Stage, jobs: Sequence[Stage]) -> list[Stage]:
    """The stages that need what this stage writes, or what one of them writes."""
    made, found = set(stage.outputs), []
    for job in jobs:  # in an order in which they can run
        if made & set(job.inputs):
            made.update(job.outputs)
            found.append(job)
    return found


def generator(*words: object) -> np.random.Generator:
    """Random numbers that depend on the words alone."""
    return np.random.default_rng([*map(ord, "/".join(map(str, words)))])
