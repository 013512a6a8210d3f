"""How far the rounds of a configuration have come, read from the files of the results folder."""

from dataclasses import dataclass
from pathlib import Path

from tomohet.errors import InputError
from tomohet.files.tables import read_csv
from tomohet.rounds.tree import parents_first, stage_options

# A stage is done when this file of it is there (each is written last, and whole).
DATASET_STAGES = {
    "validation": "validation/validation.json",
    "prepared": "prepared/store.yaml",
    "homogeneous": "homogeneous/fsc.csv",
}
ROUND_STAGES = {
    "subset": "subset/indices.pkl",
    "half maps": "subset/fsc.csv",
    "linear": "linear/z.train.pkl",
    "states": "states/particles.parquet",
    "train_vae": "train_vae/z.train.pkl",
    "convergence": "convergence/convergence.json",
    "analyze": "analyze/particles.parquet",
    "volumes": "volumes/assignment.parquet",
    "analyze_volumes": "analyze_volumes/volumes.parquet",
    "siren": "siren/volumes.parquet",
    "maven": "maven/volumes.parquet",
    "table": "particles.parquet",
}


@dataclass(frozen=True)
class Stage:
    """One stage: the round it belongs to ("": the dataset), its name, and done, pending or how far it is."""

    round: str
    name: str
    state: str


def progress(config: dict, folder: Path) -> list[Stage]:
    """State of every stage of the checked `config`, whose results are in `folder`, in running order."""
    stages = (
        [Stage("", "simulated", _state(folder / "simulated/truth.npz"))] if not config["particles"] else []
    )
    stages += [Stage("", name, _state(folder / file)) for name, file in DATASET_STAGES.items()]
    for name in parents_first(config["rounds"]):
        for stage in _stages_of(config, name):
            state = _state(folder / name / ROUND_STAGES[stage])
            if stage == "train_vae" and state == "pending":
                state = _epochs(folder / name, stage_options(config, "train", name)["epochs"])
            stages.append(Stage(name, stage, state))
    return [*stages, Stage("", "report", _state(folder / "report.html"))]


def is_locked(folder: Path) -> bool:
    """Whether Snakemake, which runs in `folder`, has locked it: it is running there, or was killed."""
    return any((folder / ".snakemake" / "locks").glob("*"))


def _stages_of(config: dict, round_name: str) -> list[str]:
    left_out = {"train_vae", "convergence"} if config["latents"] == "linear" else set()
    masks = stage_options(config, "maven", round_name)["masks"]
    if masks is None and not config["model"] and config["particles"]:
        left_out.add("maven")
    return [name for name in ROUND_STAGES if name not in left_out]


def _state(path: Path) -> str:
    return "done" if path.exists() else "pending"


def _epochs(round_dir: Path, n_epochs: int) -> str:
    losses = round_dir / "train_vae" / "loss.csv"
    if not losses.is_file():
        return "pending"
    try:
        return f"epoch {len(read_csv(losses))} of {n_epochs}"
    except InputError:
        return "damaged (loss.csv)"
