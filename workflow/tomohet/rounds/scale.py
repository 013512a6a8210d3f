"""docs/scale.md: what three sizes of dataset take, from the estimates and the requests of jobs.

`python -m tomohet.rounds.scale` prints the tables.
"""

from pathlib import Path

from tomohet.rounds.estimate import Estimate, Machine, estimates
from tomohet.rounds.measured import table_of_devices
from tomohet.rounds.requests import request
from tomohet.rounds.schema import with_defaults
from tomohet.rounds.sizes import Sizes

PAGE = Path(__file__).resolve().parents[3] / "docs" / "scale.md"
PARTICLES = {"22 thousand": 22_000, "1 million": 1_000_000, "10 million": 10_000_000}
TILTS, BOX = 41, 64
DEVICE = Machine("NVIDIA H100 80GB HBM3", "cuda", 1, 16)
STAGES = (
    "validate", "prepare", "homogeneous", "train_linear", "states", "train_vae", "convergence", "analyze",
    "volumes", "siren", "particle_table", "report",
)  # fmt: skip
GIVEN = {"dataset": "scale", "particles": "particles.star", "gpus": 1, "rounds": {"all": {}}}


def sizes_of(particles: int) -> Sizes:
    """Return the sizes of a dataset of so many particles, of 41 tilts and 64 px."""
    return Sizes(particles, particles * TILTS, BOX, BOX)


def of_size(particles: int, **changes) -> list[Estimate]:
    """Estimate one round of so many particles with the defaults of the workflow, on an H100.

    changes : keys of the configuration that differ
    """
    sizes = sizes_of(particles)
    config = with_defaults(GIVEN | changes)
    return estimates(config, sizes, {"all": sizes}, table_of_devices(), DEVICE)


def tables() -> str:
    """Return the tables of the page as Markdown text."""
    found = {name: of_size(count) for name, count in PARTICLES.items()}
    return "\n".join([_of_the_whole(found), "", _of_the_stages(found)])


def _of_the_whole(found: dict[str, list[Estimate]]) -> str:
    rows = {
        "tilt images": [f"{sizes_of(count).images / 1e6:,.1f} million" for count in PARTICLES.values()],
        "image stacks (float32)": [_size(4 * sizes_of(n).images * BOX**2) for n in PARTICLES.values()],
        "prepared store (float32)": [_size(_of(stages, "prepare").disk) for stages in found.values()],
        "the round's files": [
            _size(sum(one.disk for one in stages if one.round)) for stages in found.values()
        ],
        "stages on a GPU, one H100": [
            _hours(sum(one.seconds for one in stages if one.memory)) for stages in found.values()
        ],
        "stages on the processor": [
            _hours(sum(one.seconds for one in stages if not one.memory)) for stages in found.values()
        ],
    }
    return _table(["", *PARTICLES], [[name, *cells] for name, cells in rows.items()])


def _of_the_stages(found: dict[str, list[Estimate]]) -> str:
    rows = []
    for stage in STAGES:
        cells = []
        for stages in found.values():
            one = _of(stages, stage)
            asked = request(stage, one, None, 1440)
            cells.append(f"{_hours(one.seconds)}, {asked.mem_mb / 1000:,.0f} GB")
        rows.append([f"`{stage}`", *cells])
    return _table(["time, memory asked for", *PARTICLES], rows)


def _of(stages: list[Estimate], name: str) -> Estimate:
    return next(one for one in stages if one.stage == name)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _size(n_bytes: float) -> str:
    if n_bytes >= 1e12:
        return f"{n_bytes / 1e12:.1f} TB"
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes < 1e10 else f"{n_bytes / 1e9:.0f} GB"


def _hours(seconds: float) -> str:
    if seconds >= 10 * 86_400:
        return f"{seconds / 86_400:,.0f} d"
    if seconds >= 2 * 86_400:
        return f"{seconds / 86_400:.1f} d"
    return f"{seconds / 3600:.2g} h" if seconds >= 5400 else f"{seconds / 60:.2g} min"


if __name__ == "__main__":
    print(tables())
