"""How often the number of states and its range are right, on simulated images whose states are known.

    python tests/benchmarks/bench_number_of_states.py --folder DIR [--only SET ...] [--seeds 3]

Simulates sets (`SETS`; box 24), fits the linear model, and finds the states as `tomohet states` does. Blocks
of a set stand one on another, so that b varying blocks make b + 1 nested states. A motion has no true number:
its particles lie on a continuum, and what counts is whether the verdict says so.

The second table compares clusters with the true states by the adjusted Rand index: the states themselves; of
the latents k-means with as many clusters as there are states, the Gaussian mixture of `analyze`, and HDBSCAN
(Campello et al. 2013, PAKDD 7819:160), whose noise is one further label. Its least cluster has 5 particles,
as scikit-learn sets it, or a twentieth of the particles. Finished runs are kept in
DIR/number_of_states.json.
"""

import argparse
import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from bench_propose import GRID, command
from bench_states import block
from sklearn.cluster import HDBSCAN
from sklearn.metrics import adjusted_rand_score
from states_scores import truth_of

from tomohet.analysis.clusters import gaussian_mixture, kmeans
from tomohet.analysis.latent import principal_components
from tomohet.files.atomic import write_yaml
from tomohet.files.pickles import load_latents
from tomohet.linear.saved_model import SavedModel
from tomohet.linear.state_choice import choose_states
from tomohet.linear.state_stability import state_stability
from tomohet.linear.states import MOST_STATES
from tomohet.particles.store import open_store

STRUCTURES = {
    "one structure": [block("S1", 0.09)],
    "two states": [block("S1", 0.09, 0.5)],
    "three nested states": [block("S1", 0.09, 0.6), block("S2", 0.06, 0.5, host="S1")],
    "four nested states": [
        block("S1", 0.09, 0.75),
        block("S2", 0.07, 0.67, host="S1"),
        block("S3", 0.06, 0.5, host="S2"),
    ],
    "motion": [block("S1", 0.11, hinge_deg=40.0)],
}
MOTION = "motion"
# Particles, SNR, errors of rotations (degrees rms) and of shifts (Å along each axis).
CONDITIONS = ((120, 0.05, 0.0), (240, 0.05, 2.0), (240, 0.01, 2.0))


@dataclass(frozen=True)
class SimulatedSet:
    """Blocks of STRUCTURES, number of particles, SNR, size of the errors of poses."""

    structure: str
    particles: int
    snr: float
    error: float

    @property
    def name(self) -> str:
        """The name in tables and on the command line."""
        poses = f"poses off by {self.error:g}°" if self.error else "right poses"
        return f"{self.structure}, {self.particles} particles, SNR {self.snr:g}, {poses}"

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return re.sub(r"[^A-Za-z0-9.]+", "-", self.name).strip("-")

    def make(self, place: Path, seed: int) -> None:
        """Simulate, prepare and fit the linear model, unless it is done."""
        if (place / "linear" / "summary.json").is_file():
            return
        place.mkdir(parents=True, exist_ok=True)
        errors = {"pose_error_deg": self.error, "pose_error_A": self.error}
        write_yaml(place / "simulation.yaml", {"blocks": STRUCTURES[self.structure]} | errors)
        options = ("--snr", self.snr, "--particles", self.particles, "--seed", seed, "--dialect", "warp")
        command("simulate", "-o", place / "simulated", *options, *GRID, "--config", place / "simulation.yaml")
        command("prepare", place / "simulated" / "particles.star", "-o", place / "prepared")
        command("train_linear", place / "prepared", "-o", place / "linear")


SETS = [SimulatedSet(structure, *condition) for condition in CONDITIONS for structure in STRUCTURES]


def measured(place: Path, what: SimulatedSet, seed: int) -> dict:
    """Find the states of a set in the folder `place`, and compare their number and labels with the truth."""
    what.make(place, seed)
    store = open_store(place / "prepared")
    model = SavedModel.read(place / "linear", store.box)
    split = model.held_out(store, np.arange(len(store.particles)), "cpu")
    choice, states = choose_states(split, MOST_STATES, seed=0)
    stability = state_stability(split, choice, states, MOST_STATES, seed=0)
    latents = load_latents(place / "linear" / "z.train.pkl")[0]
    labels = {"states": states.log_responsibility(*split.all_images).argmax(1).numpy()}
    labels |= clusterings(latents, choice.n_states)
    true = truth_of(place).state
    return {
        "set": what.name,
        "structure": what.structure,
        "seed": seed,
        "true": None if what.structure == MOTION else len(np.unique(true)),
        "found": choice.n_states,
        "range": stability.range,
        "lower_bound": stability.lower_bound,
        "certainty": stability.certainty,
        "in_bootstraps": stability.numbers.tolist(),
        "agreement": float(np.median(stability.agreement)),
        "verdict": choice.verdict,
        "components": split.b.shape[1],
        "clusters": {name: len(np.unique(of[of >= 0])) for name, of in labels.items()},
        "unassigned": {name: float((of < 0).mean()) for name, of in labels.items()},
        "ari": {name: float(adjusted_rand_score(true, of)) for name, of in labels.items()},
    }


def clusterings(latents: np.ndarray, n_states: int) -> dict[str, np.ndarray]:
    """Cluster latents (N, K) in four ways; labels (N,) of each, -1 for noise."""
    twentieth = max(5, len(latents) // 20)
    return {
        "k-means": kmeans(latents, n_states, seed=0).labels,
        "mixture": gaussian_mixture(principal_components(latents).scores, seed=0).labels,
        "HDBSCAN, 5": HDBSCAN(copy=True).fit_predict(latents),
        "HDBSCAN, N / 20": HDBSCAN(twentieth, copy=True).fit_predict(latents),
    }


def table_of(rows: list[dict]) -> str:
    """Write a Markdown table of numbers of states: one row per set, its seeds side by side."""
    lines = [
        "| set (seeds) | true number | found | range | lower bound | truth within range | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, part in pd.DataFrame(rows).groupby("set", sort=False):
        true = part["true"].iloc[0]
        cells = [
            f"{name} ({len(part)})",
            "continuum" if pd.isna(true) else f"{true:.0f}",
            ", ".join(map(str, part.found)),
            ", ".join(f"{low} to {high}" for low, high in part.range),
            f"{part.lower_bound.sum()} of {len(part)}",
            "" if pd.isna(true) else f"{_with_truth(part, true)} of {len(part)}",
            ", ".join(f"{count} {verdict}" for verdict, count in part.verdict.value_counts().items()),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _with_truth(part: pd.DataFrame, true: float) -> int:
    """Count the sets whose range has the true number; a lower bound has no upper end."""
    ranges = zip(part.range, part.lower_bound, strict=True)
    return sum(low <= true and (beyond or true <= high) for (low, high), beyond in ranges)


def cluster_table(rows: list[dict]) -> str:
    """Write a Markdown table of clusters: their numbers, share of noise, and mean Rand index of each way."""
    ways = list(rows[0]["clusters"])
    lines = ["| set (seeds) | " + " | ".join(ways) + " |", "|---" * (1 + len(ways)) + "|"]
    for name, part in pd.DataFrame(rows).groupby("set", sort=False):
        cells = [f"{name} ({len(part)})"]
        states = part.structure.iloc[0] not in (MOTION, "one structure")
        for way in ways:
            cell = ", ".join(str(of[way]) for of in part.clusters)
            if any(of[way] for of in part.unassigned):
                cell += f"; {100 * np.mean([of[way] for of in part.unassigned]):.0f} % noise"
            if states:
                cell += f"; {np.mean([of[way] for of in part.ari]):.2f}"
            cells.append(cell)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def rates_of(rows: list[dict]) -> str:
    """Say how often each kind of structure is called what it is not."""
    lines = []
    for structure, part in pd.DataFrame(rows).groupby("structure", sort=False):
        count = len(part)
        if structure == MOTION:
            discrete = (part.verdict == "discrete").sum()
            lines.append(f"{structure}: discrete said of {discrete} of {count} sets")
            continue
        true = part.true.iloc[0]
        within = _with_truth(part, true)
        lines.append(
            f"{structure}: number right in {(part.found == true).sum()}, too high in "
            f"{(part.found > true).sum()}, too low in {(part.found < true).sum()} of {count} sets; truth "
            f"within the range in {within}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing, print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", nargs="+", metavar="SET", choices=[one.name for one in SETS])
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    file = args.folder / "number_of_states.json"
    rows = json.loads(file.read_text()) if file.is_file() else []
    done = {(row["set"], row["seed"]) for row in rows}
    for seed, one in itertools.product(range(args.seeds), SETS):
        if (one.name, seed) in done or (args.only and one.name not in args.only):
            continue
        rows.append(measured(args.folder / f"{one.folder}.{seed}", one, seed))
        file.write_text(json.dumps(rows, indent=1) + "\n")
        print(rows[-1], flush=True)
    print(table_of(rows))
    print(cluster_table(rows))
    print(rates_of(rows))


if __name__ == "__main__":
    main()
