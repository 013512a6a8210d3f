"""The lineage of a dataset's rounds: the origin, options, seeds, digests and verdicts of each subset.

Everything is read from the files of a results folder. A stage that has not run is left out. Digests are
SHA-256 of whole files, so two runs have the same lineage exactly when they chose the same particles.
"""

import hashlib
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from tomohet.errors import InputError
from tomohet.files.pickles import load_indices
from tomohet.files.text import read_json, read_yaml
from tomohet.rounds.flags import selection_words
from tomohet.rounds.layout import (
    CLASSES_SUPPORT,
    CLUSTERS_SUPPORT,
    CONFIG,
    CONVERGENCE,
    DATASET_STAGES,
    HALF_MAPS,
    HOMOGENEOUS,
    LINEAR,
    PARTICLE_TABLE,
    POSES_FROM,
    PREPARED,
    ROUND_STAGES,
    STATES,
    STATES_SUPPORT,
    SUBSET,
    SUPPORT,
    TRAIN_VAE,
    Stage,
)

FORMAT = 1
# Their summaries state a verdict.
JUDGED = (
    SUPPORT, LINEAR, STATES, STATES_SUPPORT, TRAIN_VAE, CONVERGENCE, CLUSTERS_SUPPORT, CLASSES_SUPPORT,
)  # fmt: skip
# Files whose digests say that two runs are the same: the particles, what is known of them, the models.
DIGESTED = {
    "indices": (SUBSET, SUBSET.last),
    "table": (PARTICLE_TABLE, PARTICLE_TABLE.last),
    "linear weights": (LINEAR, "weights.pkl"),
    "network weights": (TRAIN_VAE, "weights.pkl"),
}
_COMMAND = re.compile(r"^\S+ \S+ {5}command: (.+)$", re.M)
_VERSION = re.compile(r"^\S+ \S+ {5}tomohet (\S+), Python ([^\s,]+)", re.M)


def read_lineage(results: str | Path) -> dict[str, Any]:
    """Read the lineage of the dataset in the folder `results`.

    Return a mapping for JSON: `dataset`, `config_digest`, `store_digest`, `inputs` (path -> SHA-256),
    `poses_from` (what `prepare --poses-from` recorded), `versions` (of tomohet and Python in the logs),
    `resolution_A` of all particles, `commands`, and `rounds`: name -> parent, select, indices,
    chosen_by, n_particles, n_parent, first and last particle, resolution_A, verdicts, seeds, digests,
    commands. Particles are ordinals in the store; resolutions are in Å (FSC 0.143).

    Raises InputError when the folder has no configuration, or a file in it is damaged.
    """
    results = Path(results)
    config = dataset_config(results)
    store = _optional_yaml(PREPARED.path(results, PREPARED.last))
    returned = PREPARED.path(results, POSES_FROM)
    return {
        "format": FORMAT,
        "dataset": config["dataset"],
        "config_digest": file_digest(results / CONFIG),
        "store_digest": store.get("digest"),
        "inputs": store.get("inputs", {}),
        "poses_from": read_json(returned) if returned.is_file() else None,
        "versions": _versions(results, store),
        "resolution_A": _resolution_A(HOMOGENEOUS, results),
        "commands": _commands(results, DATASET_STAGES),
        "rounds": {name: _round(results / name, name, config) for name in config["rounds"]},
    }


def dataset_config(results: Path) -> dict[str, Any]:
    """Read config.yaml of a results folder.

    Raises InputError when it is missing or names no rounds.
    """
    path = results / CONFIG
    if not path.is_file():
        raise InputError(
            f"{results}: no {CONFIG}, expected the results folder of a dataset, such as results/demo; run "
            "the workflow, or give that folder"
        )
    config = read_yaml(path)
    if not isinstance(config, dict) or not isinstance(config.get("rounds"), dict) or "dataset" not in config:
        raise InputError(f"{path}: found no `dataset` and `rounds`, expected a configuration of the workflow")
    return config


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def depths(lineage: dict[str, Any]) -> dict[str, int]:
    """Return the number of ancestors of each round."""
    rounds = lineage["rounds"]
    found: dict[str, int] = {}
    for name in rounds:
        line = [name]
        while (parent := rounds[line[-1]]["parent"]) is not None and parent not in line:
            line.append(parent)
        found[name] = len(line) - 1
    return found


def _round(folder: Path, name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Read one round; counts are None until `select` has run."""
    given = config["rounds"][name] or {}
    counts = _summary(SUBSET, folder)
    path = SUBSET.path(folder, SUBSET.last)
    chosen = np.sort(load_indices(path)) if path.is_file() else np.empty(0, np.int64)
    return {
        "parent": given.get("parent"),
        "select": given.get("select"),
        "indices": given.get("indices"),
        "chosen_by": selection_words(given),
        "n_particles": counts.get("n_particles"),
        "n_parent": counts.get("n_parent"),
        "first_particle": int(chosen[0]) if len(chosen) else None,
        "last_particle": int(chosen[-1]) if len(chosen) else None,
        "resolution_A": _resolution_A(HALF_MAPS, folder),
        "verdicts": {
            stage.name: verdict for stage in JUDGED if (verdict := _summary(stage, folder).get("verdict"))
        },
        "seeds": _seeds(config, given),
        "digests": {
            what: file_digest(stage.path(folder, file))
            for what, (stage, file) in DIGESTED.items()
            if stage.path(folder, file).is_file()
        },
        "commands": _commands(folder, ROUND_STAGES),
    }


def _seeds(config: dict[str, Any], given: dict[str, Any]) -> dict[str, int]:
    """Return the seed of each section of the configuration as a round has it."""
    sections = {key: value for key, value in config.items() if isinstance(value, dict) and "seed" in value}
    return {
        key: (given.get(key) or {}).get("seed", value["seed"])
        for key, value in sections.items()
        if key != "simulate"
    }


def _summary(stage: Stage, folder: Path) -> dict[str, Any]:
    path = stage.path(folder, stage.summary)
    return read_json(path) if path.is_file() else {}


def _resolution_A(stage: Stage, folder: Path) -> float | None:
    path = stage.path(folder, "reconstruction.json")
    return read_json(path).get("resolution_A") if path.is_file() else None


def _optional_yaml(path: Path) -> dict[str, Any]:
    return read_yaml(path) or {} if path.is_file() else {}


def _logs(folder: Path, stages: tuple[Stage, ...]) -> dict[str, str]:
    """Return the text of the run.log of each folder of stages that has one."""
    folders = dict.fromkeys(stage.folder for stage in stages if stage.folder)
    paths = {name: folder / name / "run.log" for name in folders}
    return {name: path.read_text(errors="replace") for name, path in paths.items() if path.is_file()}


def _commands(folder: Path, stages: tuple[Stage, ...]) -> dict[str, str]:
    """Return the last command line that each log records; the program's name is `tomohet COMMAND`.

    `tomohet support` judges what another command has left in a folder, so that the other command is told.
    """
    found = {
        name: [_plain(line) for line in _COMMAND.findall(text)]
        for name, text in _logs(folder, stages).items()
    }
    made = {
        name: [line for line in lines if not line.startswith("tomohet support ")]
        for name, lines in found.items()
    }
    return {name: (made[name] or lines)[-1] for name, lines in found.items() if lines}


def _plain(command: str) -> str:
    """Write the program's name, which the log quotes as one word, as two."""
    program, *arguments = shlex.split(command)
    return f"{program} {shlex.join(arguments)}".strip()


def _versions(results: Path, store: dict[str, Any]) -> dict[str, list[str]]:
    """Return the versions of tomohet and of Python that the store and the logs record, ascending."""
    texts = [*_logs(results, DATASET_STAGES).values()]
    for folder in sorted(path for path in results.iterdir() if path.is_dir()):
        texts += _logs(folder, ROUND_STAGES).values()
    found = [pair for text in texts for pair in _VERSION.findall(text)]
    own = {version for version, _ in found} | ({store["tomohet"]} if "tomohet" in store else set())
    return {"tomohet": sorted(own), "python": sorted({version for _, version in found})}
