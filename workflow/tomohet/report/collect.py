"""Content of a results folder: the dataset's own stages and the tree of rounds, as far as they have run."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from tomohet.errors import InputError
from tomohet.files.volume_list import listed_volumes
from tomohet.report.reading import Reader, numbered
from tomohet.rounds import layout
from tomohet.rounds.flags import selection_words
from tomohet.rounds.tree import RESERVED

STAGES = [stage for stage in (*layout.ROUND_STAGES, *layout.AFTER_TABLE) if stage.title]
MAPS = (layout.FILTERED_MAP, layout.MAP)
SUPPORT = "support.json"  # of a subset against random subsets, by whichever stage


@dataclass(frozen=True)
class Round:
    """One round: its position in the tree, its tables, and the paths of its maps."""

    name: str
    folder: Path
    parent: str | None
    query: str | None
    chosen_by: str
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

    @property
    def map(self) -> Path | None:
        """The subset's reconstruction: the filtered one if it exists."""
        return first_file(self.folder / layout.HALF_MAPS.folder, MAPS)

    @property
    def variability(self) -> Path | None:
        """The linear model's map of where particles differ."""
        return first_file(self.folder / layout.LINEAR.folder, (layout.VARIABILITY,))


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
    reader.note_missing()
    config_path = first_file(folder, (layout.CONFIG, "config.yml"))
    config = reader.yaml(config_path) if config_path else {}
    rounds = [_round(reader, path, config) for path in sorted(folder.iterdir()) if _is_round(path)]
    if not rounds and not any((folder / stage.folder).is_dir() for stage in layout.DATASET_STAGES):
        raise InputError(
            f"{folder}: no stage of the workflow has left a folder here; expected e.g. prepared/ or <round>/"
        )
    return Results(
        name=str(config.get("dataset", folder.name)),
        folder=folder,
        config=config,
        config_text=reader.text(config_path) if config_path else "",
        validation=reader.json(layout.VALIDATION.path(folder, layout.VALIDATION.last)),
        store=reader.yaml(layout.PREPARED.path(folder, layout.PREPARED.last)),
        homogeneous_fsc=reader.csv(layout.HOMOGENEOUS.path(folder, layout.FSC)),
        homogeneous_map=first_file(folder / layout.HOMOGENEOUS.folder, MAPS),
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
    if not path.is_dir() or path.name in RESERVED or path.name.startswith("."):
        return False
    return (path / layout.TABLE).is_file() or any((path / stage.folder).is_dir() for stage in STAGES)


def _round(reader: Reader, folder: Path, config: dict) -> Round:
    stages = {stage.name: stage.is_done(folder) for stage in STAGES}
    summaries = {
        stage.name: reader.json(stage.path(folder, stage.summary))
        for stage in (layout.SUBSET, *STAGES, *layout.ON_REQUEST)
        if stage.summary
    }
    summaries |= {
        f"{path.parent.name} {path.stem}": reader.json(path)
        for path in sorted(folder.glob(f"*/{SUPPORT}"))
        if path not in [stage.path(folder, stage.summary) for stage in STAGES]
    }
    wanted = _mapping(_mapping(config.get("rounds")).get(folder.name))
    subset = summaries[layout.SUBSET.name]
    query = wanted.get("select", subset.get("query", subset.get("select")))
    particles = reader.parquet(folder / layout.TABLE)
    if particles is None:
        particles = reader.parquet(layout.ANALYZE.path(folder, layout.ANALYZE.by_particle))
    return Round(
        name=folder.name,
        folder=folder,
        parent=wanted.get("parent", subset.get("parent")),
        query=query,
        chosen_by=selection_words(wanted) or str(query or ""),
        n_particles=_count(subset, particles),
        stages=stages,
        particles=particles,
        fsc=reader.csv(layout.HALF_MAPS.path(folder, layout.FSC)),
        loss=reader.csv(layout.TRAIN_VAE.path(folder, layout.LOSSES)),
        held_out=reader.csv(layout.TRAIN_VAE.path(folder, layout.HELD_OUT)),
        volume_table=_volume_table(reader, folder),
        blocks=reader.parquet(layout.SIREN.path(folder, layout.BLOCKS)),
        occupancies=reader.parquet(layout.MAVEN.path(folder, layout.MAVEN.by_volume)),
        summaries=summaries,
        volumes=_volumes(reader, folder),
        block_maps=numbered((folder / layout.SIREN.folder).glob(layout.block_map("*"))),
    )


def _mapping(value: object) -> dict:
    """Return a mapping as it is; an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def _count(subset: dict, particles: pd.DataFrame | None) -> int | None:
    for key in ("n_particles", "particles", "n_selected", "n"):
        if isinstance(subset.get(key), int):
            return subset[key]
    return None if particles is None else len(particles)


def _volumes(reader: Reader, folder: Path) -> list[Path]:
    """List the volumes to show: k-means centroids of the latents, or else those of the volume stage."""
    centroids = sorted((folder / layout.ANALYZE.folder).glob("kmeans*/"), key=lambda p: p.name)
    for place in [*centroids, folder / layout.VOLUMES.folder]:
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
    tables = [reader.parquet(stage.path(folder, stage.by_volume)) for stage in STAGES if stage.by_volume]
    tables = [t.set_index("volume") for t in tables if t is not None and "volume" in t.columns]
    if not tables:
        return None
    joined = pd.concat(tables, axis=1)
    return joined.loc[:, ~joined.columns.duplicated()].rename_axis("volume").reset_index()
