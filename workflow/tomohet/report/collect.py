"""Content of a results folder: the dataset's own stages and the tree of rounds, as far as they have run."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from tomohet.errors import InputError
from tomohet.files.volume_list import listed_volumes
from tomohet.report.reading import Reader, numbered

STAGES = (
    ("subset", "Half maps"),
    ("linear", "Linear model"),
    ("states", "States"),
    ("train_vae", "Network"),
    ("convergence", "Convergence"),
    ("analyze", "Latent space"),
    ("volumes", "Volumes"),
    ("analyze_volumes", "Volume space"),
    ("siren", "SIREn"),
    ("maven", "MAVEn"),
    ("truth", "Truth"),
)
OWN_FOLDERS = {"simulated", "validation", "prepared", "homogeneous", "logs", "benchmarks"}


@dataclass(frozen=True)
class Round:
    """One round: its position in the tree, its tables, and the paths of its maps."""

    name: str
    folder: Path
    parent: str | None
    query: str | None
    n_particles: int | None
    stages: dict[str, bool]
    particles: pd.DataFrame | None
    fsc: pd.DataFrame | None
    loss: pd.DataFrame | None
    held_out: pd.DataFrame | None
    volume_table: pd.DataFrame | None
    blocks: pd.DataFrame | None
    occupancies: pd.DataFrame | None
    summaries: dict[str, dict] = field(default_factory=dict)
    volumes: list[Path] = field(default_factory=list)
    block_maps: list[Path] = field(default_factory=list)
    figures: list[Path] = field(default_factory=list)

    @property
    def map(self) -> Path | None:
        """The subset's reconstruction: the filtered one if it exists."""
        return first_file(self.folder / "subset", ("map_filt.mrc", "map.mrc"))

    @property
    def variability(self) -> Path | None:
        """The linear model's map of where particles differ."""
        return first_file(self.folder / "linear", ("variability.mrc",))


@dataclass(frozen=True)
class Results:
    """A dataset's results: those common to all rounds, and the rounds, parents before children."""

    name: str
    folder: Path
    config: dict
    config_text: str
    validation: dict
    store: dict
    homogeneous_fsc: pd.DataFrame | None
    homogeneous_map: Path | None
    rounds: list[Round]
    problems: list[str]


def collect(folder: str | Path) -> Results:
    """Read a results folder.

    Raises
    ------
    InputError
        when `folder` does not exist or holds none of the stages' folders.

    """
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; give the results folder of one dataset, e.g. results/demo"
        )
    reader = Reader(folder)
    config_path = first_file(folder, ("config.yaml", "config.yml"))
    config = reader.yaml(config_path) if config_path else {}
    rounds = [_round(reader, path, config) for path in sorted(folder.iterdir()) if _is_round(path)]
    if not rounds and not any((folder / name).is_dir() for name in OWN_FOLDERS):
        raise InputError(
            f"{folder}: no stage of the workflow has left a folder here; expected e.g. prepared/ or <round>/"
        )
    return Results(
        name=str(config.get("dataset", folder.name)),
        folder=folder,
        config=config,
        config_text=reader.text(config_path) if config_path else "",
        validation=reader.json(folder / "validation" / "validation.json"),
        store=reader.yaml(folder / "prepared" / "store.yaml"),
        homogeneous_fsc=reader.csv(folder / "homogeneous" / "fsc.csv"),
        homogeneous_map=first_file(folder / "homogeneous", ("map_filt.mrc", "map.mrc")),
        rounds=in_tree_order(rounds),
        problems=reader.problems,
    )


def in_tree_order(rounds: list[Round]) -> list[Round]:
    """Order rounds depth first, each after its parent; a round without its parent counts as a root."""
    names = {r.name for r in rounds}
    children: dict[str | None, list[Round]] = {}
    for r in rounds:
        children.setdefault(r.parent if r.parent in names else None, []).append(r)
    ordered: list[Round] = []
    waiting = children.get(None, [])[::-1]
    while waiting:
        current = waiting.pop()
        ordered.append(current)
        waiting.extend(children.get(current.name, [])[::-1])
    return ordered


def depth_of(round_: Round, rounds: list[Round]) -> int:
    """Count the ancestors of a round among `rounds`."""
    by_name = {r.name: r for r in rounds}
    depth, parent = 0, round_.parent
    while parent in by_name and depth < len(rounds):
        depth, parent = depth + 1, by_name[parent].parent
    return depth


def first_file(folder: Path, names: tuple[str, ...]) -> Path | None:
    """Return the first of `names` that is a file in `folder`."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _is_round(path: Path) -> bool:
    if not path.is_dir() or path.name in OWN_FOLDERS or path.name.startswith("."):
        return False
    return (path / "particles.parquet").is_file() or any((path / stage).is_dir() for stage, _ in STAGES)


def _round(reader: Reader, folder: Path, config: dict) -> Round:
    stages = {stage: _has_content(folder / stage) for stage, _ in STAGES}
    summaries = {stage: _summary(reader, folder, stage) for stage, _ in STAGES}
    wanted = _mapping(_mapping(config.get("rounds")).get(folder.name))
    subset = summaries["subset"]
    particles = reader.parquet(folder / "particles.parquet")
    if particles is None:
        particles = reader.parquet(folder / "analyze" / "particles.parquet")
    return Round(
        name=folder.name,
        folder=folder,
        parent=wanted.get("parent", subset.get("parent")),
        query=wanted.get("select", subset.get("query", subset.get("select"))),
        n_particles=_count(subset, particles),
        stages=stages,
        particles=particles,
        fsc=reader.csv(folder / "subset" / "fsc.csv"),
        loss=reader.csv(folder / "train_vae" / "loss.csv"),
        held_out=reader.csv(folder / "train_vae" / "held_out.csv"),
        volume_table=_volume_table(reader, folder),
        blocks=reader.parquet(folder / "siren" / "blocks.parquet"),
        occupancies=reader.parquet(folder / "maven" / "volumes.parquet"),
        summaries=summaries,
        volumes=_volumes(reader, folder),
        block_maps=numbered((folder / "siren").glob("block_*.mrc")),
        figures=[p for stage, _ in STAGES for p in sorted((folder / stage).glob("*.png"))],
    )


def _mapping(value: object) -> dict:
    """Return a mapping as it is; an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def _has_content(folder: Path) -> bool:
    return folder.is_dir() and any(not p.name.startswith(".") for p in folder.iterdir())


def _summary(reader: Reader, folder: Path, stage: str) -> dict:
    summary = reader.json(folder / stage / "summary.json")
    return {**summary, **reader.json(folder / stage / f"{stage}.json")}


def _count(subset: dict, particles: pd.DataFrame | None) -> int | None:
    for key in ("n_particles", "particles", "n_selected", "n"):
        if isinstance(subset.get(key), int):
            return subset[key]
    return None if particles is None else len(particles)


def _volumes(reader: Reader, folder: Path) -> list[Path]:
    """List the volumes to show: k-means centroids of the latents, or else those of the volume stage."""
    centroids = sorted((folder / "analyze").glob("kmeans*/"), key=lambda p: p.name)
    for place in [*centroids, folder / "volumes"]:
        try:
            found = listed_volumes(place).paths
        except InputError as error:
            reader.problem(place, error)
            continue
        if found:
            return found
    return []


def _volume_table(reader: Reader, folder: Path) -> pd.DataFrame | None:
    """Join all tables about the volumes of `volumes/` by the volumes' number."""
    tables = [
        reader.parquet(folder / stage / "volumes.parquet") for stage in ("analyze_volumes", "siren", "maven")
    ]
    tables = [t.set_index("volume") for t in tables if t is not None and "volume" in t.columns]
    if not tables:
        return None
    joined = pd.concat(tables, axis=1)
    return joined.loc[:, ~joined.columns.duplicated()].rename_axis("volume").reset_index()
