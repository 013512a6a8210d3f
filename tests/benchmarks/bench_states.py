"""Which procedure finds the states that an oracle finds, over data seeds: prints a table, keeps the runs.

    python tests/benchmarks/bench_states.py --folder DIR [--only SET ...] [--procedures NAME ...] [--seeds 5]
    python tests/benchmarks/bench_states.py --folder DIR --to-auc [--only SET ...] [--seeds 5]
    python tests/benchmarks/bench_states.py --folder DIR --snr-of-auc 0.98

Data sets (`DATA_SETS`) are simulated; tilt scheme, noise and gain say nothing of the state. Procedures
(`PROCEDURES`) run one after the other on each; one that follows the linear model costs its seconds as well.
The oracle knows all maps (`tomohet.simulation.oracle`); "labels known" learns a map from particles whose
states it is told (`known_labels`; sets of two states). Finished runs are not repeated.

--to-auc: CPU seconds at which the reference (100 epochs) first comes up to the linear model's read-out, over
the linear model's. --snr-of-auc: the SNR at which the oracle tells the two states of `two` with this AUC.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from bench_accuracy import EXACT, NETWORK, PUBLISHED_WEIGHTS
from known_labels import auc_with_known_labels
from simulated_sets import command, simulated
from states_scores import latent_scores, oracle_scores, scores, truth_of

from tomohet.files.pickles import load_latents
from tomohet.particles.store import open_store

# --snr-of-auc 0.98 --seeds 2
HARD_SNR = 0.005


def block(name: str, mass: float, frequency: float = 1.0, **more) -> dict:
    """A block as in the configuration of `simulate`."""
    return {"name": name, "mass": mass, "frequency": frequency, **more}


@dataclass(frozen=True)
class DataSet:
    """Blocks of the assembly, SNR and number of particles."""

    blocks: list[dict]
    snr: float = 0.05
    particles: int = 300

    def make(self, place: Path, seed: int) -> None:
        """Simulate and prepare, unless it is done."""
        options = ("--snr", self.snr, "--particles", self.particles, "--seed", seed)
        simulated(place, *options, "--dialect", "warp", blocks=self.blocks)


TWO = [block("S1", 0.08, 0.5)]
NESTED = [
    block("S1", 0.09, 0.6),
    block("S2", 0.06, 0.5, host="S1"),
    block("S3", 0.04, 0.88),
    block("S4", 0.07, 0.12),
]
MOTION = [block("S1", 0.11, hinge_deg=40.0)]
DATA_SETS = {
    "two": DataSet(TWO),
    "two-hard": DataSet(TWO, HARD_SNR),
    "nested": DataSet(NESTED),
    "motion": DataSet(MOTION),
    "motion-hard": DataSet(MOTION, 0.01),
    "same": DataSet([block("S1", 0.08)]),
}


@dataclass(frozen=True)
class Procedure:
    """A command and its options; `{linear}` in them is the linear model's folder, which is made first."""

    command: str
    options: str

    @property
    def after_linear(self) -> bool:
        return "{linear}" in self.options


ORACLE, KNOWN, LINEAR, STATES = "oracle", "labels known", "linear", "states"
REFERENCE, LONG_REFERENCE = "reference", "reference, 100 epochs"
# Without --zdim: as many latents as the linear model has.
TAUGHT = (
    f"{NETWORK.replace('--zdim 8 ', '')} --rows-per-image 0.25 --lr 3e-4 -b 16 -n 6 --init {{linear}} "
    "--seed {seed}"
)
PUBLISHED = f"{NETWORK} {PUBLISHED_WEIGHTS} {EXACT} --checkpoint 1 --seed {{seed}}"
PROCEDURES = {
    ORACLE: None,
    KNOWN: None,
    LINEAR: Procedure("train_linear", ""),
    "linear, 6 maps": Procedure("train_linear", "--zdim 6"),
    STATES: Procedure("states", "--linear {linear}"),
    REFERENCE: Procedure("train_vae", f"{PUBLISHED} -n 30"),
    LONG_REFERENCE: Procedure("train_vae", f"{PUBLISHED} -n 100"),
    "taught, tilts": Procedure("train_vae", f"{TAUGHT} --encoder tilts"),
    "taught, backprojected": Procedure("train_vae", f"{TAUGHT} --encoder backprojected"),
    "taught, free": Procedure("train_vae", f"{TAUGHT} --encoder free"),
}
# What a score is called in the table, and its digits. Scores per block count with their mean.
COLUMNS = {
    "auc_single": ("AUC, one latent", 3),
    "auc_read_out": ("AUC, read-out", 3),
    "ari_own": ("ARI, own states", 3),
    "ari_kmeans": ("ARI, k-means", 3),
    "ari_gmm": ("ARI, mixture", 3),
    "difference_cc": ("difference CC", 3),
    "rho_single": ("ρ, one latent", 3),
    "rho_pc1": ("ρ, PC 1", 3),
    "rho_read_out": ("ρ, read-out", 3),
    "angle_r2": ("R², linear read-out", 3),
    "share_in_tangents": ("share like a pose error", 3),
    "n_states": ("states", 1),
    "discrete": ("said to be discrete", 2),
    "continuous": ("continuous", 2),
    "found": ("said to vary", 2),
    "components": ("components", 1),
    "rotation_deg": ("rotations off by (°)", 2),
    "shift_A": ("shifts off by (Å)", 2),
    "p_value": ("p", 3),
    "cpu_s": ("CPU s", 0),
}
# A read-out that comes up to the linear model's less this has reached it.
TOLERANCE = 0.005


class Runs:
    """The runs of a folder, kept in states.json; `get` runs what is missing."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "states.json"
        folder.mkdir(parents=True, exist_ok=True)
        self.rows = json.loads(self.file.read_text()) if self.file.is_file() else []

    def place(self, data: str, seed: int) -> Path:
        """Folder of a data set."""
        return self.folder / f"{data}.{seed}"

    def run_folder(self, data: str, procedure: str, seed: int) -> Path:
        """Output folder of a procedure's run."""
        return self.place(data, seed) / procedure.replace(", ", "-").replace(" ", "-")

    def get(self, data: str, procedure: str, seed: int) -> dict:
        """Scores and CPU seconds of a run."""
        key = {"data": data, "procedure": procedure, "seed": seed}
        done = [row for row in self.rows if key.items() <= row.items()]
        if done:
            return done[0]
        row = key | self._run(data, procedure, seed)
        self.rows.append(row)
        self.file.write_text(json.dumps(self.rows, indent=1) + "\n")
        print(row, flush=True)
        return row

    def _run(self, data: str, procedure: str, seed: int) -> dict:
        place = self.place(data, seed)
        DATA_SETS[data].make(place, seed)
        if procedure == ORACLE:
            return oracle_scores(place)
        if procedure == KNOWN:
            return known_scores(place)
        what, run = PROCEDURES[procedure], self.run_folder(data, procedure, seed)
        seconds = self.get(data, LINEAR, seed)["cpu_s"] if what.after_linear else 0.0
        options = what.options.format(linear=self.run_folder(data, LINEAR, seed), seed=seed).split()
        seconds += command(what.command, place / "prepared", "-o", run, *options)
        return scores(run, place) | {"cpu_s": round(seconds, 1)}


def known_scores(place: Path) -> dict:
    """AUC by a map from known labels, of a set of two states; nothing of others."""
    truth = truth_of(place)
    blocks = truth.varying()
    if len(blocks) != 1:
        return {}
    present = truth.presence[:, blocks[0]].astype(bool)
    value = auc_with_known_labels(open_store(place / "prepared"), present)
    return {"auc_read_out": {str(truth.truth.block_names[blocks[0]]): value}}


def tables(rows: list[dict]) -> str:
    """A Markdown table per data set: mean ± standard deviation over seeds, a row per procedure."""
    flat = pd.DataFrame(
        {name: np.mean(list(v.values())) if isinstance(v, dict) else v for name, v in row.items()}
        for row in rows
    )
    parts = []
    for data, of_data in flat.groupby("data", sort=False):
        shown = [name for name in COLUMNS if name in of_data and of_data[name].notna().any()]
        parts += [f"\n{data}\n", "| procedure (seeds) | " + " | ".join(COLUMNS[n][0] for n in shown) + " |"]
        parts.append("|" + "---|" * (1 + len(shown)))
        for procedure, of_procedure in of_data.groupby("procedure", sort=False):
            cells = [_cell(of_procedure[name], COLUMNS[name][1]) for name in shown]
            parts.append(f"| {procedure} ({len(of_procedure)}) | " + " | ".join(cells) + " |")
    return "\n".join(parts)


def _cell(values: pd.Series, digits: int) -> str:
    values = values.dropna()
    if values.empty:
        return ""
    deviation = values.std() if len(values) > 1 else 0.0
    return f"{values.mean():.{digits}f} ± {deviation:.{digits}f}"


def block_table(rows: list[dict]) -> str:
    """A Markdown table of AUC (read-out) and difference CC of every block, where there are several."""
    found = [
        {"data": row["data"], "procedure": row["procedure"], "block": name, "auc": value}
        | {"cc": row.get("difference_cc", {}).get(name, np.nan)}
        for row in rows
        for name, value in row.get("auc_read_out", {}).items()
        if len(row["auc_read_out"]) > 1
    ]
    if not found:
        return ""
    parts = ["\n| data, procedure, block | AUC, read-out | difference CC |", "|---|---|---|"]
    for key, part in pd.DataFrame(found).groupby(["data", "procedure", "block"], sort=False):
        parts.append(f"| {', '.join(key)} | {_cell(part['auc'], 3)} | {_cell(part['cc'], 3)} |")
    return "\n".join(parts)


def to_auc(runs: Runs, data: str, seed: int) -> dict:
    """Where the reference's latents, epoch by epoch, first tell as much as the linear model's."""
    linear, reference = runs.get(data, LINEAR, seed), runs.get(data, LONG_REFERENCE, seed)
    truth, run = truth_of(runs.place(data, seed)), runs.run_folder(data, LONG_REFERENCE, seed)
    files = sorted(run.glob("z.*.train.pkl"), key=lambda path: int(path.name.split(".")[1]))
    curve = np.array([_told(latent_scores(load_latents(file)[0], truth)) for file in files])
    reached = np.flatnonzero(curve >= _told(linear) - TOLERANCE)
    share = (reached[0] + 1) / len(files) if len(reached) else 1.0
    return {
        "data": data,
        "seed": seed,
        "linear": _told(linear),
        "reference, best": curve.max(),
        "epoch": int(reached[0]) + 1 if len(reached) else f"> {len(files)}",
        "CPU ratio": ("" if len(reached) else "> ") + f"{share * reference['cpu_s'] / linear['cpu_s']:.1f}",
    }


def _told(row: dict) -> float:
    """Mean AUC of the read-out over blocks; of the angle its |rho|."""
    return (
        float(np.mean(list(row["auc_read_out"].values()))) if "auc_read_out" in row else row["rho_read_out"]
    )


def snr_of_auc(runs: Runs, wanted: float, seeds: int, steps: int = 7) -> float:
    """The SNR at which the oracle's mean AUC on `two` is `wanted`, by bisection of its logarithm."""
    low, high = np.log(1e-4), np.log(0.05)
    for _ in range(steps):
        middle = (low + high) / 2
        found = []
        for seed in range(seeds):
            place = runs.folder / f"bisection.{np.exp(middle):.6f}.{seed}"
            DataSet(TWO, float(np.exp(middle))).make(place, seed)
            found += oracle_scores(place)["auc_read_out"].values()
        print(f"SNR {np.exp(middle):.5f}: AUC {np.mean(found):.4f}", flush=True)
        low, high = (middle, high) if np.mean(found) < wanted else (low, middle)
    return float(np.exp((low + high) / 2))


def main() -> None:
    """Run what is missing, print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=list(DATA_SETS), choices=DATA_SETS)
    parser.add_argument(
        "--procedures",
        nargs="+",
        default=[name for name in PROCEDURES if name != LONG_REFERENCE],
        choices=PROCEDURES,
    )
    parser.add_argument("--to-auc", action="store_true")
    parser.add_argument("--snr-of-auc", type=float, metavar="AUC")
    args = parser.parse_args()
    runs = Runs(args.folder)
    if args.snr_of_auc:
        print(f"{snr_of_auc(runs, args.snr_of_auc, args.seeds):.5f}")
        return
    if args.to_auc:
        varying = [data for data in args.only if data != "same"]
        found = [to_auc(runs, data, seed) for data in varying for seed in range(args.seeds)]
        print(pd.DataFrame(found).round(3).to_string(index=False))
        return
    wanted = [
        runs.get(data, procedure, seed)
        for data in args.only
        for procedure in args.procedures
        for seed in range(args.seeds)
    ]
    print(tables(wanted))
    print(block_table(wanted))


if __name__ == "__main__":
    main()
