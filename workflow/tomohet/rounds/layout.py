"""The results tree: which folder a stage writes, and the names of its files that others read.

Folders of dataset stages lie in `results/<dataset>/`, those of round stages in `results/<dataset>/<round>/`.
The rules declare the same names (`tests/workflow/test_layout.py`). `<stage>.shares` beside a stage's folder
holds what several jobs have computed, until it is gathered.
"""

from dataclasses import dataclass
from pathlib import Path

REPORT, CONFIG = "report.html", "config.yaml"  # of a dataset
LINEAGE, METHODS = "lineage.json", "methods.md"  # of a dataset
LINEAGE_FIGURES = ("lineage.png", "lineage.svg")
POSES_FROM = "poses_from.json"  # of the store: the file that its poses are from, and how many changed
SERVED = "served"  # folder of what `tomohet serve` has reconstructed
TABLE = "particles.parquet"  # the particle table of a round, and what some stages add to it
LATENTS, LOSSES, HELD_OUT = "z.train.pkl", "loss.csv", "held_out.csv"  # of a training
FSC, MAP, FILTERED_MAP = "fsc.csv", "map.mrc", "map_filt.mrc"  # of a reconstruction
RECONSTRUCTION = "reconstruction.json"
BLOCKS = "blocks.parquet"  # of SIREn
VARIABILITY = "variability.mrc"  # of the linear model

_HALF_MAPS = (MAP, FILTERED_MAP, "half1.mrc", "half2.mrc", RECONSTRUCTION, FSC)


@dataclass(frozen=True)
class Stage:
    """One stage and the names of its files within its folder; "" where it has no such file.

    name : as `tomohet status` says it
    folder : several stages may share one
    last : of the files that others read, the one written last: the stage is done when it is there
    title : in the report; "" where the report does not list the stage
    files : declared by the stage's rules; a stage without them declares its folder
    summary : numbers and the verdict, for the report
    by_particle, by_volume : tables for the particle table, a row per particle or per decoded volume
    """

    name: str
    folder: str
    last: str
    title: str = ""
    files: tuple[str, ...] = ()
    summary: str = ""
    by_particle: str = ""
    by_volume: str = ""

    def path(self, base: Path, file: str) -> Path:
        """Return the path of one of the stage's files; `base` is the dataset's or the round's folder."""
        return base / self.folder / file

    @property
    def adds_to_table(self) -> bool:
        """Whether the particle table takes columns from the stage."""
        return bool(self.by_particle or self.by_volume)

    def is_done(self, base: Path) -> bool:
        """Whether the stage's last file is there."""
        return self.path(base, self.last).exists()


SIMULATED = Stage(
    "simulated",
    "simulated",
    "truth.npz",
    files=("particles.star", "volumes.star", "model.cif", "truth.npz"),
)
VALIDATION = Stage(
    "validation", "validation", "validation.json", files=("validation.json", "validation.html")
)
PREPARED = Stage("prepared", "prepared", "store.yaml", files=("store.yaml", TABLE, "images.parquet"))
HOMOGENEOUS = Stage("homogeneous", "homogeneous", FSC, files=_HALF_MAPS)
DATASET_STAGES = (SIMULATED, VALIDATION, PREPARED, HOMOGENEOUS)

SUBSET = Stage(
    "subset",
    "subset",
    "indices.pkl",
    files=("indices.pkl", "summary.json", "particles.star", "volumes.star"),
    summary="summary.json",
)
HALF_MAPS = Stage("half maps", "subset", FSC, "Half maps", files=_HALF_MAPS, summary=RECONSTRUCTION)
SUPPORT = Stage(
    "support",
    "subset",
    "support.json",
    "Subset against control",
    files=("support.json",),
    summary="support.json",
)
LINEAR = Stage(
    "linear",
    "linear",
    "config.pkl",
    "Linear model",
    files=("weights.pkl", "held_out.npz", LATENTS, "config.pkl", "summary.json", TABLE, "poses.parquet"),
    summary="summary.json",
    by_particle=TABLE,
)
STATES = Stage("states", "states", TABLE, "States", summary="summary.json", by_particle=TABLE)
STATES_SUPPORT = Stage(
    "states support", "states", "support.json", "States against control", summary="support.json"
)
TRAIN_VAE = Stage(
    "train_vae",
    "train_vae",
    "weights.pkl",
    "Network",
    files=("weights.pkl", LATENTS),
    summary="summary.json",
)
CONVERGENCE = Stage(
    "convergence", "convergence", "convergence.json", "Convergence", summary="convergence.json"
)
ANALYZE = Stage(
    "analyze", "analyze", "summary.json", "Latent space", summary="summary.json", by_particle=TABLE
)
CLUSTERS_SUPPORT = Stage(
    "clusters support", "groups/clusters", "support.json", "Clusters against control", summary="support.json"
)
# volumes.json is there from the first decoded volume on, and complete with the last (`files.volume_list`).
VOLUMES = Stage("volumes", "volumes", "volumes.json", "Volumes", by_particle="assignment.parquet")
ANALYZE_VOLUMES = Stage(
    "analyze_volumes",
    "analyze_volumes",
    "summary.json",
    "Volume space",
    summary="summary.json",
    by_volume="volumes.parquet",
)
SIREN = Stage(
    "siren",
    "siren",
    "summary.json",
    "SIREn",
    summary="summary.json",
    by_particle=TABLE,
    by_volume="volumes.parquet",
)
MAVEN = Stage(
    "maven",
    "maven",
    "summary.json",
    "MAVEn",
    summary="summary.json",
    by_particle=TABLE,
    by_volume="volumes.parquet",
)
CLASSES_SUPPORT = Stage(
    "classes support", "groups/classes", "support.json", "Classes against control", summary="support.json"
)
PARTICLE_TABLE = Stage("table", "", TABLE, files=(TABLE,))
MAPBACK = Stage("mapback", "mapback", "")
ROUNDS = "rounds.yaml"  # proposed rounds, a configuration
PROPOSED = Stage(
    "proposed", "proposed", "proposal.json", files=(ROUNDS, "proposal.json"), summary="proposal.json"
)
TRUTH = Stage("truth", "truth", "truth.json", "Truth", summary="truth.json")
# In running order, up to the particle table and after it.
ROUND_STAGES = (
    SUBSET, HALF_MAPS, SUPPORT, LINEAR, STATES, STATES_SUPPORT, TRAIN_VAE, CONVERGENCE, ANALYZE,
    CLUSTERS_SUPPORT, VOLUMES, ANALYZE_VOLUMES, SIREN, MAVEN, CLASSES_SUPPORT, PARTICLE_TABLE,
)  # fmt: skip
HANDOVER = Stage("hand-over", "subset/handover", "README.txt")
AFTER_TABLE = (MAPBACK, HANDOVER, TRUTH)
ON_REQUEST = (PROPOSED,)


def block_map(number: object) -> str:
    """Return the name of the mask of one of SIREn's blocks; `*` for all."""
    return f"block_{number}.mrc"
