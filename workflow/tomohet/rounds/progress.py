"""How far the rounds of a configuration have come, read from the files of the results folder."""

import re
from dataclasses import dataclass
from pathlib import Path

from tomohet.errors import InputError
from tomohet.files.tables import read_csv
from tomohet.rounds import layout
from tomohet.rounds.layout import Stage
from tomohet.rounds.tree import parents_first, stage_options
from tomohet.rounds.units import duration

LAST_EPOCHS = 5  # whose median is the pace of a training


@dataclass(frozen=True)
class Progress:
    """How far one stage is: its round ("": the dataset), its name, and done, pending or the epoch.

    detail : of a training that has begun, its rate and the time left
    """

    round: str
    name: str
    state: str
    detail: str = ""


def progress(config: dict, folder: Path) -> list[Progress]:
    """State of every stage of the checked `config`, whose results are in `folder`, in running order."""
    found = [
        Progress("", stage.name, _state(stage.is_done(folder)))
        for stage in layout.DATASET_STAGES
        if stage != layout.SIMULATED or not config["particles"]
    ]
    for name in parents_first(config["rounds"]):
        for stage in stages_of(config, name):
            state, detail = _state(stage.is_done(folder / name)), ""
            if stage == layout.TRAIN_VAE and state == "pending":
                state, detail = _epochs(folder / name, stage_options(config, "train", name)["epochs"])
            found.append(Progress(name, stage.name, state, detail))
    return [*found, Progress("", "report", _state((folder / layout.REPORT).exists()))]


def is_locked(folder: Path) -> bool:
    """Whether Snakemake, which runs in `folder`, has locked it: it is running there, or was killed."""
    return any((folder / ".snakemake" / "locks").glob("*"))


def slurm_run(folder: Path) -> str:
    """Return the name of all Slurm jobs of the latest Snakemake in `folder`, or "" if it has sent none."""
    logs = sorted((folder / ".snakemake" / "log").glob("*.snakemake.log"))
    told = re.search(r"SLURM run ID: (\S+)", logs[-1].read_text(errors="replace")) if logs else None
    return told[1] if told else ""


def stages_of(config: dict, round_name: str) -> list[Stage]:
    """Return the stages of a round of the checked `config`, in running order, up to the particle table."""
    left_out = [layout.TRAIN_VAE, layout.CONVERGENCE] if config["latents"] == "linear" else []
    if config["rounds"][round_name].get("parent") is None:
        left_out.append(layout.SUPPORT)
    masks = stage_options(config, "maven", round_name)["masks"]
    if masks is None and not config["model"] and config["particles"]:
        left_out += [layout.MAVEN, layout.CLASSES_SUPPORT]
    return [stage for stage in layout.ROUND_STAGES if stage not in left_out]


def _state(is_done: bool) -> str:
    return "done" if is_done else "pending"


def _epochs(round_dir: Path, n_epochs: int) -> tuple[str, str]:
    """Return the epoch of a training, and its rate with the time left at the pace of its last epochs."""
    losses = layout.TRAIN_VAE.path(round_dir, layout.LOSSES)
    if not losses.is_file():
        return "pending", ""
    try:
        table = read_csv(losses, {"seconds": "numbers", "particles_per_second": "numbers"}).tail(LAST_EPOCHS)
        done = len(read_csv(losses))
    except InputError:
        return f"damaged ({layout.LOSSES})", ""
    if table.empty:
        return "pending", ""
    seconds, rate = table["seconds"].median(), table["particles_per_second"].median()
    left = duration(max(n_epochs - done, 0) * seconds)
    return (
        f"epoch {done} of {n_epochs}",
        f"{rate:.3g} particles/s, {duration(seconds)} per epoch, {left} left",
    )
