"""`make bench`: how fast the parts are that take the time, on this device, against its own peak.

    python tests/benchmarks/bench.py [--record] [--only TEXT]

Every measurement runs in a process of its own, so that peak memory is its own; ours and the textbook way of
the same work follow each other. See README.md in this folder.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import baselines
import bench_data
import bench_network
import torch
from bench_network import Amount, Place
from measure import Stopwatch, device_name, matrix_product_peak, peak_memory_MB
from workloads import Workload, workloads

from tomohet.device import device_of, fast_bfloat16

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "bench.json"
CPU = torch.device("cpu")
SLOWER = 0.85  # of the recorded ratio: worth a look


@dataclass(frozen=True)
class Task:
    """One kind of work, our way and the textbook's. on_gpu: where there is one; dtype: of the products."""

    unit: str
    ours: Callable[[Place], Amount]
    textbook: Callable[[Place], Amount]
    on_gpu: bool = True
    dtype: torch.dtype = torch.float32


def training(share: float, dtype: torch.dtype) -> Task:
    """Training on a share of the rows, beside the textbook's on all."""
    options = ["--no-amp"] if dtype == torch.float32 else []

    def ours(place: Place) -> Amount:
        return bench_network.train(place, *options, share=share)

    return Task("particles", ours, bench_network.train_textbook, dtype=dtype)


TASKS = {
    "train, float32": training(1, torch.float32),
    "train, float32, 25 % rows": training(0.25, torch.float32),
    "train, bfloat16": training(1, torch.bfloat16),
    "train, bfloat16, 25 % rows": training(0.25, torch.bfloat16),
    "encoder": Task("particles", bench_network.encode, bench_network.encode_textbook),
    "eval_vol": Task("volumes", bench_network.decode, bench_network.decode_textbook),
    "eval_vol, 16 bits": Task(
        "volumes",
        partial(bench_network.decode, amp=True),
        bench_network.decode_textbook,
        dtype=torch.bfloat16,
    ),
    "eval_vol, half box": Task(
        "volumes",
        partial(bench_network.decode, downsample=2),
        partial(bench_network.decode_textbook, downsample=2),
    ),
    "prepare": Task("images", bench_data.prepare, bench_data.prepare_textbook, on_gpu=False),
    "backproject": Task("images", bench_data.backproject, bench_data.backproject_textbook),
}


def tasks_of(load: Workload, device: torch.device) -> list[str]:
    """What is measured of a workload: the dose mask changes the training only.

    16 bits where the device is faster with them; training in float32 on CPUs and where there is no other.
    """
    fast = fast_bfloat16(device)

    def measured(what: str) -> bool:
        if not what.startswith("train") and load.dose_mask:
            return False
        if TASKS[what].dtype == torch.bfloat16:
            return fast
        return not what.startswith("train") or device.type == "cpu" or not fast

    return [what for what in TASKS if measured(what)]


def measured(load: Workload, what: str, side: str, folder: Path, device: torch.device, **limits) -> dict:
    """Measure one side ("ours" or "textbook") of a task in this process; `limits` as of `Stopwatch`."""
    task = TASKS[what]
    device = device if task.on_gpu else CPU
    peak = matrix_product_peak(device, task.dtype)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    watch = Stopwatch(device, **limits)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        amount = getattr(task, side)(Place(load, folder, Path(scratch), device, watch))
    if not watch.seconds:
        raise RuntimeError(f"{load.name}: {what} ended before it could be timed")
    rate = amount.flop / watch.seconds / 1e9 if amount.flop else None
    return {
        "seconds": watch.seconds / amount.units,
        "repetitions": watch.repetitions,
        "images_per_unit": amount.images / amount.units,
        "memory_MB": peak_memory_MB(device),
        "peak_gflop_per_s": peak,
        "share_of_peak": rate / peak if rate else None,
    }


def measured_apart(load: Workload, what: str, side: str, folder: Path) -> dict:
    """`measured` in a process of its own; {"failed": why} where memory does not suffice."""
    command = [sys.executable, __file__, "--child", load.name, what, side, str(folder)]
    # As the command line has it, before PyTorch is loaded.
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode == -9:
        return {"failed": "out of memory"}
    if done.returncode:
        raise RuntimeError(f"{load.name}, {what}, {side}:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def child(name: str, what: str, side: str, folder: str) -> None:
    """What `measured_apart` starts."""
    device = device_of("auto")
    load = next(load for load in workloads(device) if load.name == name)
    try:
        found = measured(load, what, side, Path(folder), device)
    except torch.OutOfMemoryError:
        found = {"failed": "out of memory"}
    print(json.dumps(found))


def rows(
    loads: list[Workload], device: torch.device, only: str, measure: Callable[..., dict]
) -> Iterator[dict]:
    """Measure all rows of the table, one after another; `only` those whose name contains this."""
    with tempfile.TemporaryDirectory(prefix="bench_") as temporary:
        textbooks = {}
        for load in loads:
            for what in tasks_of(load, device):
                if only not in baselines.key_of({"workload": load.name, "what": what}):
                    continue
                folder = Path(temporary) / f"{load.box}_{load.tilts}"
                if not folder.exists():
                    load.write(folder)
                ours = measure(load, what, "ours", folder)
                same = load.name, TASKS[what].textbook
                if same not in textbooks:
                    textbooks[same] = measure(load, what, "textbook", folder)
                yield row_of(load, what, ours, textbooks[same])


def row_of(load: Workload, what: str, ours: dict, textbook: dict) -> dict:
    """A row of the table from what was measured of both sides."""
    if "failed" in ours:
        raise RuntimeError(f"{load.name}, {what}: {ours['failed']}")
    per_second = 1 / ours["seconds"]
    return {
        "workload": load.name,
        "what": what,
        "unit": TASKS[what].unit,
        "per_second": per_second,
        "images_per_second": per_second * ours["images_per_unit"] or None,
        "share_of_peak": ours["share_of_peak"],
        "memory_MB": ours["memory_MB"],
        "times_textbook": textbook["seconds"] / ours["seconds"] if "seconds" in textbook else None,
        "ours": ours,
        "textbook": textbook,
    }


HEADER = (
    f"{'workload':21} {'what':26} {'per second':>16} {'images/s':>9} {'of peak':>8} {'MB':>7} "
    f"{'textbook MB':>12} {'x textbook':>11}"
)


def line(row: dict, against: dict[str, float]) -> str:
    """A row as text; `against`: its ratios over the recorded ones."""
    images, share, times = (row[key] for key in ("images_per_second", "share_of_peak", "times_textbook"))
    other_memory = row["textbook"].get("memory_MB")
    text = (
        f"{row['workload']:21} {row['what']:26} {row['per_second']:>6.4g} {row['unit']:9} "
        f"{f'{images:.4g}' if images else '':>9} {f'{share:.0%}' if share else '':>8} "
        f"{row['memory_MB']:>7.0f} {f'{other_memory:.0f}' if other_memory else '':>12} "
        f"{f'{times:.1f}' if times else row['textbook']['failed']:>11}"
    )
    names = {"times_textbook": "textbook", "share_of_peak": "peak"}
    return text + "".join(f"  {names[ratio]} {change:.2f}" for ratio, change in against.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--record", action="store_true", help="keep this run's ratios as the device's baseline"
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="rows whose `workload: what` contains TEXT"
    )
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(*args.child)
        return
    if args.record and args.only:
        parser.error("a baseline holds all rows: --record and --only exclude each other")
    device = device_of("auto")
    name = device_name(device)
    path = baselines.path_of(name)
    baseline = baselines.read(path)
    print(f"{name}, PyTorch {torch.__version__}\n\n{HEADER}{'  over the baseline' if baseline else ''}")
    found = {"device": name, "torch": torch.__version__, "rows": []}
    slower = []
    for row in rows(workloads(device), device, args.only, measured_apart):
        row["over_baseline"] = baselines.compared(row, baseline)
        print(line(row, row["over_baseline"]), flush=True)
        found["rows"].append(row)
        if min(row["over_baseline"].values(), default=1.0) < SLOWER:
            slower.append(baselines.key_of(row))
    peaks = [row["ours"]["peak_gflop_per_s"] for row in found["rows"]]
    print(f"\nmatrix product: {min(peaks):.4g} to {max(peaks):.4g} GFLOP/s, measured beside each row")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"all figures: {RESULTS}")
    if slower:
        print(f"below {SLOWER:.0%} of the baseline: {'; '.join(slower)}")
    if args.record:
        baselines.write(path, found)
        print(f"recorded as the baseline of this device: {path}")
    elif not baseline:
        print(f"no baseline of this device in {path.parent}; `make bench RECORD=1` records one")


if __name__ == "__main__":
    main()
