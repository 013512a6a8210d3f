"""How long the stages of a configuration will take, and how much memory and disk, from what was measured."""

from dataclasses import dataclass
from math import log

from tomohet.rounds import layout
from tomohet.rounds.host_memory import host_bytes
from tomohet.rounds.measured import Measurement, sections
from tomohet.rounds.progress import stages_of
from tomohet.rounds.sizes import Sizes, sizes_read
from tomohet.rounds.tree import parents_first
from tomohet.rounds.work import (
    DATASET,
    LAST,
    ON_DEVICE,
    SHARED_BY_GPUS,
    disk_bytes,
    memory_bytes,
    stages_of_round,
    work,
)

# By what factor the time may be longer or shorter than estimated.
OF_THIS_DATASET, OF_ANOTHER, SAME_DEVICE, OTHER_DEVICE = 1.5, 2.0, 3.0, 5.0
# A GPU over one thread of a processor, for stages that were not measured on a GPU. Those measured on both
# have 10 (`simulate`), 50 (`train_linear`) and 380 (`train_vae`).
GPU_OVER_THREAD = 10.0
# Other stages embed, cluster, draw.
MAINLY_ON_DEVICE = {
    "homogeneous", "reconstruct_subset", "support", "states", "volumes", "compare_clusters",
    "compare_classes",
}  # fmt: skip
PER_GPU = 0.8  # what each of several GPUs adds, of a single one's speed
MOST_THREADS = 8
PER_THREAD = 0.8  # exponent of the number of threads


@dataclass(frozen=True)
class Machine:
    """Name of the GPU or processor; kind of device, cuda or cpu; number of GPUs; threads of the processor."""

    device: str
    kind: str
    gpus: int
    threads: int


@dataclass(frozen=True)
class Estimate:
    """What one stage will take.

    round : "" for a stage of the dataset
    seconds, factor : the time lies between `seconds / factor` and `seconds * factor`
    host, memory, disk : bytes of the machine's memory, of a GPU's, and of files
    measured : in words, what the time is derived from
    """

    round: str
    stage: str
    seconds: float
    factor: float
    host: float
    memory: float
    disk: float
    measured: str


def estimates(
    config: dict, dataset: Sizes, rounds: dict[str, Sizes], known: list[Measurement], machine: Machine
) -> list[Estimate]:
    """Estimate every stage of a checked `config`, in running order.

    dataset, rounds : how many particles and images, of how many pixels (`sizes`)
    known : what stages have taken (`measured`)
    """
    first = DATASET if config["particles"] is None else DATASET[1:]

    def of(name: str, stage: str, sizes: Sizes) -> Estimate:
        return _stage(config, name, stage, sizes, dataset, known, machine)

    found = [of("", stage, dataset) for stage in first]
    for name in parents_first(config["rounds"]):
        own = stages_of(config, name)
        proposing = "auto" in config["rounds"][name]
        stages = stages_of_round(config, layout.MAVEN in own, layout.SUPPORT in own, proposing)
        found += [of(name, stage, sizes_read(stage, name, config, rounds)) for stage in stages]
    return [*found, *(of("", stage, dataset) for stage in LAST)]


def _stage(
    config: dict,
    name: str,
    stage: str,
    sizes: Sizes,
    dataset: Sizes,
    known: list[Measurement],
    machine: Machine,
) -> Estimate:
    options = sections(config, name or None)
    amount = work(stage, sizes, options)
    on_gpu = machine.kind == "cuda" and stage in ON_DEVICE
    nearest = _nearest(stage, amount, config["dataset"], known, machine, on_gpu)
    faster, factor, words = _compared(nearest, config["dataset"], machine, stage, on_gpu)
    return Estimate(
        name,
        stage,
        nearest.seconds_for(amount, faster),
        factor,
        host_bytes(stage, sizes, dataset, options, on_gpu),
        memory_bytes(stage, sizes, options) if on_gpu else 0,
        disk_bytes(stage, sizes, options),
        words,
    )


def _nearest(
    stage: str, amount: float, dataset: str, known: list[Measurement], machine: Machine, on_gpu: bool
) -> Measurement:
    """Return the measurement of a stage that tells most about `amount` of work.

    An own run on this kind of device comes first, of this dataset before others; then the table, with this
    device before others of its kind; a stage that no GPU has been measured in is taken from a processor.
    Among equals the nearest amount of work counts.
    """

    def rank(one: Measurement) -> tuple:
        return (
            (one.kind == "cuda") != on_gpu and stage in ON_DEVICE,
            not one.dataset,
            one.dataset != dataset,
            one.device != machine.device,
            abs(log(one.work / max(amount, 1e-9))),  # a round may be without particles
        )

    return min((one for one in known if one.stage == stage), key=rank)


def _compared(
    one: Measurement, dataset: str, machine: Machine, stage: str, on_gpu: bool
) -> tuple[float, float, str]:
    """Return how much faster than the measured machine this one is, the time's factor, and its source."""
    other_kind = on_gpu and one.kind != "cuda"
    other_speed = other_kind and stage in MAINLY_ON_DEVICE
    faster = GPU_OVER_THREAD / min(one.threads, MOST_THREADS) ** PER_THREAD if other_speed else 1.0
    if machine.kind == "cuda" and not other_kind and on_gpu and not one.dataset and stage in SHARED_BY_GPUS:
        faster = max(1.0, PER_GPU * machine.gpus)
    if not on_gpu and stage in ON_DEVICE:
        faster = (min(machine.threads, MOST_THREADS) / min(one.threads, MOST_THREADS)) ** PER_THREAD
    if one.dataset == dataset:
        return faster, OF_THIS_DATASET, f"your run {one.where}"
    if one.dataset:
        return faster, OF_ANOTHER, f"your run {one.where}"
    words = f"{one.device}, {one.where}"
    if other_kind:
        words += " (not measured on a GPU" + (
            f": taken as {GPU_OVER_THREAD:g} times as fast)" if other_speed else ")"
        )
    return faster, SAME_DEVICE if one.device == machine.device else OTHER_DEVICE, words
