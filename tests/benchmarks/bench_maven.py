"""Occupancies of every particle: how right they are, and what they cost.

    python tests/benchmarks/bench_maven.py --truth --folder DIR [--seeds 3]
    python tests/benchmarks/bench_maven.py --speed [--particles 10000 --units 30 --box 64 --width 256]

--truth: four nested blocks, simulated, fitted by the linear model and by the network that it taught
(`bench_states`, whose folder this takes and whose finished runs are not repeated); 100 volumes stand for the
300 particles. AUC of the occupancy of each block, of every particle's own and of its volume's, beside the
oracle's; the mean occupancy of particles that have the block and of those that do not; the error of its
frequency; what it was found to need.

--speed: a network with random weights, the least smooth there is, so that the most volumes are decoded in
full; and the same over a linear base, as a taught network starts. Against decoding, writing, reading and
multiplying, measured on a few volumes in the same process.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from bench_states import LINEAR, Runs, truth_of
from simulated_sets import command

from tomohet.files.mrc import read_volume
from tomohet.model.decoder import Decoder
from tomohet.model.mask_sums import mask_sums
from tomohet.model.volumes import TrainedVolumes, VolumeForm, write_volumes
from tomohet.particles.store import open_store
from tomohet.simulation.assessment import auc
from tomohet.simulation.oracle import block_log_odds

DATA, VOLUMES = "nested", 100
WRITTEN = 12  # volumes that the plain way is measured on


def against_truth(runs: Runs, procedure: str, seed: int) -> list[dict]:
    """One row per block of a run."""
    runs.get(DATA, procedure, seed)
    place, run = runs.place(DATA, seed), runs.run_folder(DATA, procedure, seed)
    out = run / "occupancies"
    if not (out / "particles.parquet").is_file():
        command("choose_volumes", run, "--count", VOLUMES, "-o", out / "volumes")
        decode = ("--workdir", run, "--zfile", out / "volumes" / "z.pkl", "-o", out / "volumes")
        command("eval_vol", *decode)
        model = place / "simulated" / "model.cif"
        measure = ("--volumes", out / "volumes", "--model", model, "--workdir", run, "-o", out)
        command("maven", *measure)
    truth, store = truth_of(place), open_store(place / "prepared")
    odds = block_log_odds(store, truth.truth)
    own = pd.read_parquet(out / "particles.parquet")
    assignment = pd.read_parquet(out / "volumes" / "assignment.parquet")
    by_volume = assignment.merge(pd.read_parquet(out / "volumes.parquet"), on="volume").sort_values(
        "particle"
    )
    required = pd.read_csv(out / "dependencies.csv")
    rows = []
    for block in truth.varying():
        name, there = str(truth.truth.block_names[block]), truth.presence[:, block].astype(bool)
        values = own[f"maven_{name}"].to_numpy()
        rows.append(
            {
                "procedure": procedure,
                "block": name,
                "AUC, particle": auc(there, values),
                "AUC, volume": auc(there, by_volume[f"maven_{name}"].to_numpy()),
                "AUC, oracle": auc(there, odds[:, block]),
                "absent": values[~there].mean(),
                "present": values[there].mean(),
                "frequency error": (values > 0.5).mean() - there.mean(),
                "needs": ", ".join(required.requires[required.unit == name]),
            }
        )
    return rows


def speed(particles: int, units: int, box: int, width: int, n_basis: int) -> dict:
    """Seconds per particle of both ways, on one machine in one process."""
    zdim, generator = 8, np.random.default_rng(0)
    model = Decoder(box, zdim, 3, width, n_basis=n_basis).eval()
    if n_basis:
        model.base.fill(torch.randn(box, box, box), torch.randn(n_basis, box, box, box))
    decoder = TrainedVolumes(model, 6.0, 1.0, torch.device("cpu"))
    z = generator.normal(size=(particles, zdim)).astype(np.float32)
    masks = np.zeros((units, box, box, box), np.float32)
    for mask in masks:
        z0, y0, x0 = generator.integers(box // 4, 3 * box // 4 - 5, 3)
        mask[z0 : z0 + 5, y0 : y0 + 5, x0 : x0 + 5] = 1
    form = VolumeForm.of(decoder, None, None, False, False)
    with tempfile.TemporaryDirectory() as folder:
        write_volumes(decoder, z[:2], folder)  # warms up
        start = time.perf_counter()
        write_volumes(decoder, z[:WRITTEN], folder)
        flat = masks.reshape(units, -1).T
        plain = np.stack(
            [read_volume(Path(folder) / f"vol_{i:03d}.mrc")[0].ravel() @ flat for i in range(WRITTEN)]
        )
        plain_s = (time.perf_counter() - start) / WRITTEN
    start = time.perf_counter()
    found = mask_sums(decoder, z, masks, form, np.full(units, 1e-3 * plain.std()))
    ours_s = (time.perf_counter() - start) / particles
    spread = found.sums.std(axis=0)
    return {
        "network": f"3x{width}" + (f" over {n_basis} maps" if n_basis else ""),
        "decoded in full": found.decoded,
        "Fourier points": found.points,
        "of": model_points(box),
        "rms error / sd": (found.error / spread).max(),
        "plain / ours": plain_s / ours_s,
        "seconds": ours_s * particles,
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def model_points(box: int) -> int:
    """Fourier values that make one volume."""
    from tomohet.physics.fourier import half_ball

    return half_ball(box).n


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--truth", action="store_true")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--particles", type=int, default=10_000)
    parser.add_argument("--units", type=int, default=30)
    parser.add_argument("--box", type=int, default=64)
    parser.add_argument("--width", type=int, default=256)
    args = parser.parse_args()
    if args.truth:
        runs = Runs(args.folder)
        rows = [
            row
            for procedure in (LINEAR, "taught, free")
            for seed in range(args.seeds)
            for row in against_truth(runs, procedure, seed)
        ]
        table = pd.DataFrame(rows)
        print(table.groupby(["procedure", "block"]).mean(numeric_only=True).round(3).to_string())
        print(table.groupby(["procedure", "block"]).needs.agg(list).to_string())
    if args.speed:
        sizes = (args.particles, args.units, args.box, args.width)
        print(pd.DataFrame([speed(*sizes, n_basis) for n_basis in (4, 0)]).round(4).to_string(index=False))


if __name__ == "__main__":
    main()
