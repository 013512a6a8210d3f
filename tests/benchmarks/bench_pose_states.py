"""What wrong poses cost in states and motions: the linear model beside the oracle and an older version.

    python tests/benchmarks/bench_pose_states.py --folder DIR [--only nested two motion] [--degrees 0 2 3]
        [--snr 0.05] [--seeds 5] [--procedures NAME ...] [--old CHECKOUT]

The sets of `bench_states`, with stated rotations off by so many degrees (rms) and shifts by as many Å along
each axis. Finished runs are kept in DIR/states.json and not repeated; tables are printed at the end.

"oracle, poses unknown" knows all maps and the size of the errors, and integrates them out to first order
about the stated poses; "oracle" takes these for right. "older": `prepare` and `train_linear` of another
checkout of the program (--old), on the same STAR file. "share like a pose error" is the part of the true
differences between particles, in squared voxels, that the tangents of the true mean map span. The last table
is of the moved arm: R² of its angle by a linear read-out of the latents, of the estimated pose errors, and of
both together, which tells what of the motion was taken for errors of poses.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from bench_states import DATA_SETS, LINEAR, ORACLE, STATES, Runs, block_table, tables
from simulated_sets import command, simulated
from states_scores import oracle_scores, scores, truth_of

from tomohet.files.pickles import load_latents
from tomohet.linear.saved_model import POSES
from tomohet.particles.refined_poses import POSE_COLUMNS
from tomohet.reconstruction.pose_errors import N_TANGENTS, tangents
from tomohet.simulation.assessment import latents_against_truth
from tomohet.simulation.truth import Truth

SETS = ("nested", "two", "motion")
UNKNOWN, OLDER, STATED = "oracle, poses unknown", "older", "states, poses as stated"
PROCEDURES = (LINEAR, ORACLE, UNKNOWN, OLDER, STATES, STATED)


def name_of(data: str, snr: float, degrees: float) -> str:
    """A data set's name in tables and folders."""
    return f"{data} at SNR {snr:g}, off by {degrees:g}"


class PoseRuns(Runs):
    """Runs on data sets with wrong poses; `old` is the checkout of the older version."""

    def __init__(self, folder: Path, old: Path | None) -> None:
        super().__init__(folder)
        self.old = old

    def _run(self, data: str, procedure: str, seed: int) -> dict:
        place, run = self.place(data, seed), self.run_folder(data, procedure, seed)
        simulate(place, data, seed)
        if procedure in (ORACLE, UNKNOWN):
            return oracle_scores(place, poses_known=procedure == ORACLE)
        if procedure == OLDER:
            seconds = self._older(place, run)
        elif procedure == LINEAR:
            seconds = command("train_linear", place / "prepared", "-o", run)
        else:
            seconds = self._states(data, seed, run, procedure == STATES)
        found = scores(run, place) | {"cpu_s": round(seconds, 1)}
        truth = truth_of(place).truth
        return found | ({"share_in_tangents": like_pose_errors(truth)} if procedure == LINEAR else {})

    def _older(self, place: Path, run: Path) -> float:
        """The older version's fit; CPU seconds of `train_linear`."""
        scripts, store = self.old / "workflow" / "scripts", place / "prepared-older"
        command("prepare", place / "simulated" / "particles.star", "-o", store, scripts=scripts)
        return command("train_linear", store, "-o", run, scripts=scripts)

    def _states(self, data: str, seed: int, run: Path, refined: bool) -> float:
        """States after the linear model, with the poses that it has refined or those that the files state."""
        place = self.place(data, seed)
        linear = self.run_folder(data, LINEAR, seed)
        seconds = self.get(data, LINEAR, seed)["cpu_s"]
        if not refined:
            linear = linear.with_name("linear-poses-as-stated")
            seconds = command("train_linear", place / "prepared", "-o", linear, "--no-refine-poses")
        return seconds + command("states", place / "prepared", "-o", run, "--linear", linear)


def simulate(place: Path, data: str, seed: int) -> None:
    """Simulate and prepare a data set, known by its name, unless it is done."""
    name, snr, degrees = data.replace(" at SNR ", ",").replace(", off by ", ",").split(",")
    errors = {"pose_error_deg": float(degrees), "pose_error_A": float(degrees)}
    options = ("--snr", snr, "--particles", DATA_SETS[name].particles, "--seed", seed, "--dialect", "warp")
    simulated(place, *options, blocks=DATA_SETS[name].blocks, settings=errors)


def like_pose_errors(truth: Truth) -> float:
    """Share of the power of the true differences between particles that lies in the tangents' span."""
    maps = np.stack([truth.particle_volume(row) for row in range(len(truth.state))])
    mean = maps.mean(0)
    differences = (maps - mean).reshape(len(maps), -1)
    of_poses = tangents(torch.as_tensor(mean, dtype=torch.float32)).reshape(N_TANGENTS, -1).numpy()
    directions = np.linalg.qr(of_poses.T)[0]
    return float(np.square(differences @ directions).sum() / np.square(differences).sum())


def taken_for_poses(runs: PoseRuns, data: str, seed: int) -> dict:
    """R² of the angle from the linear model's latents, its estimated pose errors, both, and the true ones."""
    place, run = runs.place(data, seed), runs.run_folder(data, LINEAR, seed)
    truth, latents = truth_of(place), load_latents(run / "z.train.pkl")[0]
    found = pd.read_parquet(run / POSES).sort_values("particle")[list(POSE_COLUMNS)].to_numpy()
    true = np.concatenate([truth.truth.pose_rotvec_deg, truth.truth.pose_shift_A], axis=1)[truth.rows]
    read_from = {"latents": latents, "poses": found, "both": np.concatenate([latents, found], axis=1)}
    r2 = {
        name: latents_against_truth(truth, columns)["angle_r2"]
        for name, columns in (read_from | {"true errors": true}).items()
    }
    return {"data": data, "seed": seed} | r2


def main() -> None:
    """Run what is missing, print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--degrees", type=float, nargs="+", default=[0, 2, 3])
    parser.add_argument("--snr", type=float, nargs="+", default=[0.05])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--procedures", nargs="+", default=PROCEDURES[:3], choices=PROCEDURES)
    parser.add_argument("--old", type=Path, metavar="CHECKOUT", help="folder of the older version")
    args = parser.parse_args()
    if OLDER in args.procedures and args.old is None:
        parser.error(f"the procedure {OLDER} needs --old")
    runs = PoseRuns(args.folder, args.old)
    wanted = [
        runs.get(name_of(data, snr, degrees), procedure, seed)
        for snr in args.snr
        for data in args.only
        for degrees in args.degrees
        for procedure in args.procedures
        for seed in range(args.seeds)
    ]
    print(tables(wanted))
    print(block_table(wanted))
    fits = [(row["data"], row["seed"]) for row in wanted if row["procedure"] == LINEAR and "angle_r2" in row]
    if fits:
        shares = pd.DataFrame([taken_for_poses(runs, *fit) for fit in fits]).drop(columns="seed")
        print(shares.groupby("data", sort=False).mean().round(3).to_string())


if __name__ == "__main__":
    main()
