"""Print how long every stage of a configuration will take, and how much memory and disk."""

import os

from tomohet.device import device_of
from tomohet.options import EstimateOptions
from tomohet.rounds.config import read_config
from tomohet.rounds.estimate import Estimate, Machine, estimates
from tomohet.rounds.measured import own_runs, table_of_devices
from tomohet.rounds.sizes import dataset_sizes, round_sizes
from tomohet.rounds.units import duration, size
from tomohet.running.machine import processor
from tomohet.running.work import command

HEAD = ("round", "stage", "time", "range", "memory", "GPU memory", "disk", "measured on")


@command
def run(options: EstimateOptions) -> list[Estimate]:
    """Print a line for each stage and for all together; return the estimates."""
    config = read_config(options.configfile)
    machine = machine_of(options.device, config["gpus"])
    folder = options.results / config["dataset"]
    dataset = dataset_sizes(config, folder)
    rounds = round_sizes(config, folder, dataset)
    own = own_runs(options.results, options.benchmarks, machine.device, machine.threads)
    found = estimates(config, dataset, rounds, own + table_of_devices(), machine)
    print(
        f"{config['dataset']} on {machine.device}: {dataset.particles:,} particles, {dataset.images:,} tilt "
        f"images of {dataset.box} px"
    )
    for name, sizes in rounds.items():
        print(f"round {name}: {'at most ' if sizes.most else ''}{sizes.particles:,} particles")
    print()
    rows = [
        ("round", "stage", "time", "range", "memory", "GPU memory", "disk", "measured on"),
        *map(_row, found),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        print("  ".join([*(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)), row[-1]]))
    print()
    shortest, longest = (sum(one.seconds * one.factor**sign for one in found) for sign in (-1, 1))
    print(
        f"all stages, one after another: {duration(sum(one.seconds for one in found))} "
        f"({duration(shortest)} to {duration(longest)}), {size(sum(one.disk for one in found))} on disk"
    )
    print(
        "A stage's time is the measured time, scaled with the work: images, Fourier points, multiplications "
        "of the network. Measured in your own finished runs where there are any, else in the program's table."
    )
    return found


def machine_of(device_name: str, gpus: int) -> Machine:
    """Describe the device that stages will use; `gpus`: those that the configuration asks for."""
    import torch

    device, threads = device_of(device_name), len(os.sched_getaffinity(0))
    if device.type == "cuda":
        count = min(max(gpus, 1), torch.cuda.device_count())
        return Machine(torch.cuda.get_device_name(device), "cuda", count, threads)
    return Machine(processor(), "cpu", 0, threads)


def _row(one: Estimate) -> tuple[str, ...]:
    between = f"{duration(one.seconds / one.factor)} to {duration(one.seconds * one.factor)}"
    return (
        one.round or "dataset",
        one.stage,
        duration(one.seconds),
        between,
        size(one.host),
        size(one.memory),
        size(one.disk),
        one.measured,
    )
