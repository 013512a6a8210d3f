"""Parts of `measure.sh`: each prints rows of one table (what, size, value).

    python tests/gpu/gpu_table.py step BOX | taught | volumes | pairs

On a CPU, or with SMALL=1, sizes are small: the script can be tried without a GPU.
"""

import csv
import os
import re
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import bench_network
import torch
from bench_network import Place
from bench_siren import timed_pairs
from measure import Stopwatch, device_name, matrix_product_peak
from torch.profiler import ProfilerActivity, profile
from workloads import workloads

from tomohet.commands import prepare, simulate, train_linear, train_vae
from tomohet.device import device_of, fast_bfloat16
from tomohet.options import PrepareOptions, SimulateOptions, TrainLinearOptions, TrainVaeOptions
from tomohet.training import optimiser_step

DEVICE = device_of("auto")
SMALL = DEVICE.type == "cpu" or os.environ.get("SMALL") == "1"


def row(what: str, size: str, value: str) -> None:
    """Print one row."""
    print(f"| {what} | {size} | {value} |", flush=True)


def step(box: int) -> None:
    """Time of a training step against the peak of matrix products, its kernel launches, how busy they are."""
    load = next(one for one in workloads(DEVICE) if one.box == box and one.dose_mask)
    if SMALL:
        load = replace(load, box=24, tilts=5, particles=8, width=32, layers=2, batch=2)
    dtype = torch.bfloat16 if fast_bfloat16(DEVICE) else torch.float32
    peak = matrix_product_peak(DEVICE, dtype)
    row("device", device_name(DEVICE), f"{peak / 1e3:.3g} TFLOP/s, {str(dtype).removeprefix('torch.')}")
    with tempfile.TemporaryDirectory() as folder:
        load.write(Path(folder))
        for share in (1.0, 0.25):
            size = f"D={load.box}, {share:.0%} of the Fourier points"
            watch, amount = _train(load, folder, share, Stopwatch(DEVICE, budget_s=5))
            reached = amount.flop / watch.seconds / 1e9 / peak
            row("particles/s", size, f"{load.batch / watch.seconds:.4g}, {reached:.1%} of the peak")
            with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as record:
                begun = time.perf_counter()
                watch, _ = _train(load, folder, share, Stopwatch(DEVICE, budget_s=1, most=10))
                wall = time.perf_counter() - begun
            _launches(record, watch, wall, size)
            row("without CUDA graphs, particles/s", size, _without_graphs(load, folder, share))


def _train(load, folder: str, share: float, watch: Stopwatch):
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        place = Place(load, Path(folder), Path(scratch), DEVICE, watch)
        return watch, bench_network.train(place, share=share)


def _without_graphs(load, folder: str, share: float) -> str:
    with mock.patch.object(optimiser_step, "graphs_on", lambda device: None):
        watch, _ = _train(load, folder, share, Stopwatch(DEVICE, budget_s=2))
    return f"{load.batch / watch.seconds:.4g}"


def _launches(record: profile, watch: Stopwatch, wall: float, size: str) -> None:
    steps = watch.repetitions + watch._warm_up
    kernels = [one for one in record.events() if one.device_type == torch.autograd.DeviceType.CUDA]
    if not kernels:
        calls = sum(one.count for one in record.key_averages() if one.key.startswith("aten::"))
        row("operations a step (CPU)", size, f"{calls / steps:.0f}")
        return
    busy = sum(one.time_range.elapsed_us() for one in kernels) / 1e6
    row("kernels a step", size, f"{len(kernels) / steps:.0f}")
    calls = [one.name for one in record.events() if one.device_type == torch.autograd.DeviceType.CPU]
    for what, pattern in (("kernel launches", "LaunchKernel"), ("graph launches", "GraphLaunch")):
        row(f"{what} a step", size, f"{sum(pattern in name for name in calls) / steps:.3g}")
    row("busy", size, f"{busy / wall:.0%} of the time, start included; {1e3 * busy / steps:.3g} ms a step")
    products = [one for one in kernels if re.search("gemm|cutlass|xmma|sm90", one.name)]
    share = sum(one.time_range.elapsed_us() for one in products) / 1e6 / busy
    row("matrix products", size, f"{share:.0%} of the busy time")


def taught() -> None:
    """A round from images to the verdict: seconds of each stage, and the part of judging in an epoch."""
    n, box = (40, 24) if SMALL else (2000, 64)
    size = f"{n} particles, D={box}"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        particles = {"n_particles": n, "box": box, "pixel_size": 320 / box, "snr": 0.05, "tilt_step": 3.0}
        simulate.run(SimulateOptions(outdir=folder / "simulated", dialect="warp", **particles))
        star, store = folder / "simulated" / "particles.star", folder / "prepared"
        took = {"prepare": _seconds(prepare.run, PrepareOptions(particles=star, outdir=store))}
        options = TrainLinearOptions(particles=store, outdir=folder / "linear")
        took["train_linear"] = _seconds(train_linear.run, options)
        width = 64 if SMALL else 512
        network = {"batch_size": 8, "rows_per_image": 0.25, "l_dose_mask": True, "dec_dim": width}
        options = TrainVaeOptions(
            particles=store, outdir=folder / "vae", init=folder / "linear", num_epochs=3, **network
        )
        took["train_vae, 3 epochs"] = _seconds(train_vae.run, options)
        with (folder / "vae" / "loss.csv").open() as file:
            training = sum(float(line["seconds"]) for line in csv.DictReader(file))
    for stage, seconds in took.items():
        row(stage, size, f"{seconds:.3g} s")
    rest = took["train_vae, 3 epochs"] - training
    row("judging, saving, start", size, f"{rest / 3:.3g} s an epoch, training {training / 3:.3g} s")


def _seconds(run, options) -> float:
    begun = time.perf_counter()
    run(options)
    return time.perf_counter() - begun


def volumes() -> None:
    """Maps decoded and written in a second, in 32 and in 16 bits, as files of their own and as one stack."""
    load = next(one for one in workloads(DEVICE) if one.box == 96 and not one.dose_mask)
    if SMALL:
        load = replace(load, box=24, width=32, layers=2)
    many = 4 if SMALL else 500
    for stack, amp in ((many, True), (many, False), (None, True)):
        with tempfile.TemporaryDirectory() as folder:
            watch = Stopwatch(DEVICE, budget_s=4, most=3)
            place = Place(load, Path(folder), Path(folder), DEVICE, watch)
            amount = bench_network.decode(place, amp=amp, stack=stack)
            size = f"D={load.box}, {16 if amp else 32} bits, {'one stack' if stack else 'files'}"
            row("eval_vol, maps/s", size, f"{amount.units / watch.seconds:.4g}")


def pairs() -> None:
    """Pairs of voxels that SIREn examines in a second, by matrix products."""
    volumes, voxels = (200, 2000) if SMALL else (500, 131_072)
    for rule in ("phi", "siren"):
        found = timed_pairs(f"matrix-{DEVICE.type}", rule, volumes, voxels)
        rate = voxels * (voxels - 1) / 2 / max(found["s"], 0.1)
        row("siren, pairs/s", f"{voxels:,} voxels, {volumes} volumes, {rule}", f"{rate:.3g}")


if __name__ == "__main__":
    PARTS = {"step": step, "taught": taught, "volumes": volumes, "pairs": pairs}
    PARTS[sys.argv[1]](*map(int, sys.argv[2:]))
