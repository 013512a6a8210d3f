"""Occupancies of every particle: how right they are, and what they cost.

    python tests/benchmarks/bench_maven.py --truth --folder DIR [--seeds 3]
    python tests/benchmarks/bench_maven.py --example DIR
    python tests/benchmarks/bench_maven.py --speed [--particles 10000 --units 30 --box 64 --width 256]

--truth: four nested blocks, simulated, fitted by the linear model and by the network that it taught
(`bench_states`, whose folder this takes and whose finished runs are not repeated); 100 volumes stand for the
300 particles. AUC of the occupancy of each block, of every particle's own and of its volume's, beside the
oracle's; the mean occupancy of particles that have the block and of those that do not; the error of its
frequency; what it was found to need.

--example: the folder of MAVEn's example (aligned/, model/, expected/). Densities, masks and occupancies
against those expected of 13 chains; and the model as it is, shifted, mirrored and turned: its correlation as
given, what was made of it, how far its atoms then are from where they belong, and the seconds that took.

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
from scipy.spatial.transform import Rotation
from simulated_sets import command

from tomohet.analysis.ensemble import open_ensemble
from tomohet.analysis.maven import alignment
from tomohet.files.grids import read_grid
from tomohet.files.mrc import read_volume
from tomohet.model.decoder import Decoder
from tomohet.model.mask_sums import mask_sums
from tomohet.model.volumes import TrainedVolumes, VolumeForm, write_volumes
from tomohet.particles.store import open_store
from tomohet.physics.model_match import Placement
from tomohet.physics.molmap import read_model
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


def parity(example: Path) -> pd.Series:
    """The command's densities, masks and occupancies beside those expected: the worst of 13 chains."""
    volumes = {f.stem: read_volume(f)[0].astype(float) for f in sorted((example / "aligned").glob("*.mrc"))}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        out, model = Path(folder), example / "model" / "prots1.pdb"
        command("maven", "--volumes", example / "aligned", "--model", model, "--resolution", 10, "-o", out)
        table = pd.read_csv(out / "occupancies.csv", header=[0, 1], index_col=0)
        for chain in "abcdefghijklm":
            name = f"prots1_chain{chain.upper()}.mrc"
            density, mask = (
                read_volume(example / "expected" / f"{k}_chain_{chain}.mrc")[0] for k in ("density", "mask")
            )
            found = read_volume(out / "densities" / name)[0]
            direct = [(mask * volume).sum() / density.sum(dtype=float) for volume in volumes.values()]
            rows.append(
                {
                    "density CC": np.corrcoef(found.ravel(), density.ravel())[0, 1],
                    "mask voxels that differ": (read_volume(out / "masks" / f"Mask_{name}")[0] != mask).sum(),
                    "occupancy, largest difference": np.abs(
                        table["prots1", chain.upper()].to_numpy() - direct
                    ).max(),
                }
            )
    return pd.DataFrame(rows).agg(dict(zip(rows[0], ("min", "sum", "max"), strict=True)))


def placements(example: Path) -> list[dict]:
    """What `maven --align auto` makes of the model, wherever it was put."""
    mean = open_ensemble(example / "aligned").mean()
    grid = read_grid(next((example / "aligned").glob("*.mrc")))
    model = read_model(sorted((example / "model").glob("*.pdb")))
    xyz_A = model[["x_A", "y_A", "z_A"]].to_numpy()
    mirror = np.diag([1.0, 1.0, -1.0])
    odd = Rotation.from_rotvec(np.radians(140) * np.array([0.6, -0.64, 0.48])).as_matrix()
    shift_A, middle_A = np.array([12.0, -12.8, 9.6]), grid.box // 2 * grid.pixel_size_A
    cases = {
        "as it is": (np.eye(3), np.zeros(3)),
        "shifted by 20 Å": (np.eye(3), shift_A),
        "wrong hand": (mirror, np.array([0, 0, 2 * middle_A])),
        "turned by 140°, shifted": (odd, np.array([90.0, -300.0, 50.0])),
        "the same, wrong hand": (odd @ mirror, np.array([90.0, -300.0, 50.0])),
    }
    rows = []
    for name, case in cases.items():
        given = alignment.moved(model, Placement(*case))
        start = time.perf_counter()
        found = alignment.align(given, mean, grid)
        seconds = time.perf_counter() - start
        placed = found.used.placement.move(given[["x_A", "y_A", "z_A"]].to_numpy())
        rows.append(
            {
                "model": name,
                "correlation as given": found.tried[0].correlation,
                "by chance": found.chance,
                "used": found.used.name,
                "correlation": found.used.correlation,
                "RMSD (Å)": np.sqrt(((placed - xyz_A) ** 2).sum(axis=1).mean()),
                "seconds": seconds,
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
    from tomohet.physics.lattice import half_ball

    return half_ball(box).n


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--truth", action="store_true")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--example", type=Path)
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
    if args.example:
        print(parity(args.example).to_string(float_format="{:.9f}".format))
        print(pd.DataFrame(placements(args.example)).round(3).to_string(index=False))
    if args.speed:
        sizes = (args.particles, args.units, args.box, args.width)
        print(pd.DataFrame([speed(*sizes, n_basis) for n_basis in (4, 0)]).round(4).to_string(index=False))


if __name__ == "__main__":
    main()
