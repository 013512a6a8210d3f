"""What the linear model finds, and when it says that there is something: over noise, numbers and data seeds.

    python tests/benchmarks/bench_linear.py [--snr 0.1 0.01 ...] [--particles 100 400] [--seeds 5]

For each SNR and number of particles, data sets with two states (one block of 8 % of the mass in half of the
particles) or, with --homogeneous, data sets without any difference. Tilt scheme, noise and dose say nothing
of the state. Prints how often held-out tilts confirm heterogeneity and calls it clear, the AUC that
held-out tilts let one expect of two equal halves, the basis maps that they confirm, CPU seconds of the fit,
and the AUC of the best single latent: beside that of the oracle, who knows both maps, and beside what can be
learnt from these particles if states of others are known (`known_labels`).
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from known_labels import auc_with_known_labels
from simulated_sets import simulated

from tomohet.linear.fit import fit_linear_model
from tomohet.linear.reliability import auc_of_halves
from tomohet.particles.store import Store, open_store
from tomohet.simulation.assessment import auc
from tomohet.simulation.oracle import block_log_odds
from tomohet.simulation.truth import Truth, load_truth


def found(store: Store, truth: Truth, zdim: int | None) -> dict:
    """Fit and compare."""
    start = time.process_time()
    model = fit_linear_model(store, np.arange(len(store.particles)), zdim=zdim)
    row = {
        "found": float(model.heterogeneous),
        "clear": float(model.held_out.found and model.held_out.n_clear > 0),
        "expected": float(auc_of_halves(model.held_out.reliability)[0]),
        "basis maps": len(model.maps.basis) if zdim else model.held_out.n_components,
        "CPU s": time.process_time() - start,
    }
    present = truth.presence[truth.rows_of(store.particles["source_id"].to_numpy()), 0].astype(bool)
    if present.all():
        return row
    latents = model.latents.mean.cpu().numpy()
    return row | {
        "AUC": max(auc(present, column) for column in latents.T),
        "labels known": auc_with_known_labels(store, present),
        "oracle": auc(present, block_log_odds(store, truth)[:, 0]),
    }


def main() -> None:
    """Simulate, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--snr", type=float, nargs="+", default=[0.1, 0.03, 0.01, 0.003])
    parser.add_argument("--particles", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--zdim", type=int, help="this many basis maps, instead of asking held-out tilts")
    parser.add_argument("--homogeneous", action="store_true", help="all particles alike")
    args = parser.parse_args()
    blocks = [{"name": "S1", "mass": 0.08, "frequency": 1.0 if args.homogeneous else 0.5}]
    rows = []
    for snr in args.snr:
        for particles in args.particles:
            for seed in range(args.seeds):
                with tempfile.TemporaryDirectory() as folder:
                    place = Path(folder)
                    simulated(place, "--snr", snr, "--particles", particles, "--seed", seed, blocks=blocks)
                    store, truth = (
                        open_store(place / "prepared"),
                        load_truth(place / "simulated" / "truth.npz"),
                    )
                    row = found(store, truth, args.zdim)
                rows.append({"SNR": snr, "particles": particles, "seed": seed} | row)
                print({name: round(value, 3) for name, value in rows[-1].items()}, flush=True)
    table = pd.DataFrame(rows).drop(columns="seed").groupby(["SNR", "particles"], sort=False)
    print(pd.concat({"mean": table.mean(), "sd": table.std()}, axis=1).round(3).to_string())


if __name__ == "__main__":
    main()
