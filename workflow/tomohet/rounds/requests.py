"""The memory and time that each job asks for, from the sizes of the data (`estimate`).

A request is the estimate with room to spare, rounded up, at least `LEAST` and at most what the configuration
allows. It grows when a job is tried again. A dry run works it out once, within a second, from the beginning
of the particle file or from the prepared store; it changes no result and makes no job run again.
"""

from dataclasses import dataclass
from math import ceil
from pathlib import Path

from tomohet.errors import InputError
from tomohet.rounds.estimate import Estimate, Machine, estimates
from tomohet.rounds.measured import own_runs, table_of_devices
from tomohet.rounds.sizes import dataset_sizes, round_sizes

MEMORY_FACTOR = 1.5  # of the estimated memory
MEMORY_STEP_MB, TIME_STEP_MIN = 1000, 30
# Memory (MB) and time (min) that a job asks for at least.
LEAST = {
    "simulate": (4000, 60),
    "validate": (4000, 60),
    "prepare": (6000, 240),
    "homogeneous": (6000, 120),
    "select": (2000, 10),
    "export_subset": (4000, 30),
    "export_volume_series": (4000, 30),
    "reconstruct_subset": (6000, 120),
    "support": (6000, 120),
    "train_linear": (6000, 120),
    "states": (6000, 120),
    "train_vae": (6000, 720),
    "convergence": (4000, 60),
    "analyze": (6000, 120),
    "volumes": (6000, 240),
    "analyze_volumes": (6000, 120),
    "siren": (6000, 120),
    "maven": (4000, 120),
    "compare_clusters": (6000, 120),
    "compare_classes": (6000, 120),
    "particle_table": (4000, 30),
    "mapback": (2000, 30),
    "handover": (2000, 30),
    "propose": (6000, 120),
    "assess": (4000, 60),
    "lineage": (2000, 10),
    "report": (4000, 30),
}


@dataclass(frozen=True)
class Request:
    """What a job asks for: memory in MB and time in minutes."""

    mem_mb: int
    runtime: int


def request(
    stage: str,
    estimate: Estimate | None,
    most_mem_mb: int | None,
    most_runtime: int,
    attempt: int = 1,
    jobs: int = 1,
) -> Request:
    """Return the request for an estimate; `LEAST` where there is none.

    The time is the longest of the estimate's range, of one of the `jobs` that divide the stage. Memory is
    added with each attempt; time doubles.
    """
    mem_mb, runtime = LEAST[stage]
    if estimate is not None:
        mem_mb = _at_least(mem_mb, MEMORY_FACTOR * estimate.host / 1e6, MEMORY_STEP_MB)
        runtime = _at_least(runtime, estimate.seconds * estimate.factor / jobs / 60, TIME_STEP_MIN)
    mem_mb, runtime = mem_mb * attempt, runtime * 2 ** (attempt - 1)
    return Request(min(mem_mb, most_mem_mb or mem_mb), min(runtime, most_runtime))


def _at_least(least: int, value: float, step: int) -> int:
    return least if value <= least else ceil(value / step) * step


def estimated(config: dict, results: Path, benchmarks: Path, threads: int) -> dict[tuple[str, str], Estimate]:
    """Return the estimates of a checked `config` by round ("": the dataset) and stage.

    results, benchmarks : folders of the results, and of the workflow's notes of finished jobs
    threads : of a job; a stage without a GPU is faster with more

    There are none where the data cannot be counted; `validate` says what is wrong with them.
    """
    folder = results / config["dataset"]
    try:
        dataset = dataset_sizes(config, folder, read_all=False)
        rounds = round_sizes(config, folder, dataset)
    except (InputError, OSError):
        return {}
    # Which GPU or processor a job will get is not known here.
    machine = Machine("", "cuda" if config["gpus"] else "cpu", config["gpus"], threads)
    known = own_runs(results, benchmarks, "", 1) + table_of_devices()
    return {(one.round, one.stage): one for one in estimates(config, dataset, rounds, known, machine)}
