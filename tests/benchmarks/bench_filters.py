"""Images of one set of particles, raw and multiplied by each of the filters that extraction programs multiply
in: what the linear model makes of them, and what `validate` says of the filter.

    python tests/benchmarks/bench_filters.py [--seeds 2] [--first-seed 0] [--snr 0.005] [--particles 1000]
        [--filters ...] [--homogeneous] [--only-validate] [--true-maps]

Prints for each filter the verdict on what the file states and on wrong statements (dose weights left out or
put in, scale factor likewise), whether heterogeneity is found, the number of components, and for each block
the AUC of a cross-validated linear read-out of the latents, those of the true maps (which show what the
images' weights are worth, whatever maps are found) and those of the fitted ones; then each filter's
difference from raw images of the same particles. Pixels of 8 Å and a dose of 150 e-/Å^2: the optimal dose
lies below Nyquist in half of the tilts.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from bench_poses import of_blocks

from tomohet.linear.em import expectation
from tomohet.linear.fit import fit_linear_model
from tomohet.linear.likelihood import Latents
from tomohet.particles.dialects import read_particles
from tomohet.particles.measured_filter import judged, sampled
from tomohet.particles.preparation import Preparation
from tomohet.particles.rescaling import common_grid
from tomohet.particles.store import Store
from tomohet.particles.store_writing import write_store
from tomohet.particles.table import ParticleSet
from tomohet.physics.lattice import half_plane
from tomohet.reconstruction.mean_map import mean_map
from tomohet.reconstruction.observations import Observations
from tomohet.simulation.config import config_from
from tomohet.simulation.simulate import simulate
from tomohet.simulation.truth import Truth, load_truth

TREATED = ["premultiplied", "inverted"]
FILTERS = {
    "WarpTools": {"extraction": [*TREATED, "dose_weighted", "scaled"]},
    "RELION 5": {"extraction": [*TREATED, "dose_weighted"]},
    "RELION B-factor": {"extraction": [*TREATED, "dose_weighted"], "dose_b_factor_A2": 6.0},
    "cut off": {"extraction": [*TREATED, "dose_weighted", "scaled", "cut_off"]},
    "CTF only": {"extraction": TREATED},
}
RAW = "raw"
IMAGING = {"pixel_size": 8.0, "total_dose": 150.0}
SET, SERIES = "warptools/particles_optimisation_set.star", "particles.star"


def statements(stated: ParticleSet):
    """Yield (what is wrong, the set with this statement)."""
    images = stated.images
    yield "nothing", stated
    weights = images.assign(dose_weighted=~images["dose_weighted"], dose_b_factor_A2=0.0)
    yield "dose weights", replace(stated, images=weights)
    cosine = np.cos(np.radians(images["tilt_deg"]))
    scale = cosine if images["scale_factor"].std() < 0.01 else 1.0
    yield "scale factor", replace(stated, images=images.assign(scale_factor=scale))


def verdicts(particle_set: ParticleSet) -> dict:
    """The verdict on each statement."""
    hp, grids = half_plane(particle_set.box), common_grid(particle_set, None, None)
    return {
        wrong: judged(sampled(one, Preparation(), hp, grids)).verdict
        for wrong, one in statements(particle_set)
    }


def main() -> None:
    """Simulate, look, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--snr", type=float, nargs="+", default=[0.005])
    parser.add_argument("--particles", type=int, default=1000)
    parser.add_argument("--filters", nargs="+", choices=FILTERS, default=list(FILTERS))
    parser.add_argument("--homogeneous", action="store_true", help="all particles alike")
    parser.add_argument("--only-validate", action="store_true", help="without fits")
    parser.add_argument("--true-maps", action="store_true", help="without fits, but with the true maps")
    args = parser.parse_args()
    rows = []
    for snr in args.snr:
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            for name in ([] if args.only_validate else [RAW]) + args.filters:
                with tempfile.TemporaryDirectory() as folder:
                    row = {"SNR": snr, "seed": seed, "images": name}
                    rows.append(row | measured(Path(folder), name, snr, seed, args))
                print(
                    {k: round(v, 4) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True
                )
    table = pd.DataFrame(rows)
    print(table.groupby(["SNR", "images"], sort=False).mean(numeric_only=True).round(4).to_string())
    for column in table.columns[table.columns.str.startswith("wrong: ")]:
        print(table.groupby(["SNR", "images"], sort=False)[column].value_counts().to_string())
    if not args.only_validate:
        areas = [column for column in table if column.startswith("AUC")]
        for (snr, seed), group in table.set_index("images").groupby(["SNR", "seed"]):
            apart = group[areas] - group.loc[RAW, areas]
            print(f"AUC beside raw images', SNR {snr}, seed {seed}\n{apart.round(4).to_string()}")


def measured(place: Path, name: str, snr: float, seed: int, args: argparse.Namespace) -> dict:
    """Simulate one set into a folder; what is said of it."""
    settings = IMAGING | FILTERS.get(name, {"dialect": "warp"})
    settings |= {"n_particles": args.particles, "snr": snr, "seed": seed}
    if args.homogeneous:
        settings["blocks"] = [{"name": "S1", "mass": 0.08, "frequency": 1.0}]
    simulate(config_from(settings), place)
    particle_set = read_particles(place / (SERIES if name == RAW else SET))
    row = {}
    if name != RAW:
        row |= {f"wrong: {wrong}": verdict for wrong, verdict in verdicts(particle_set).items()}
    if args.only_validate:
        return row
    store, truth = write_store(place / "store", particle_set), load_truth(place / "truth.npz")
    of_truth = truth.rows_of(store.particles["source_id"].to_numpy())
    if not args.homogeneous:
        latents = latents_of_true_maps(store, truth, of_truth)
        areas = of_blocks(SimpleNamespace(latents=latents), truth, of_truth)
        row |= {f"AUC {block}, true maps": area for block, area in areas.items()}
    if args.true_maps:
        return row
    start = time.process_time()
    model = fit_linear_model(store, np.arange(len(store.particles)))
    row |= {"CPU s": time.process_time() - start, "found": float(model.heterogeneous)}
    row["components"] = float(model.held_out.n_components if model.held_out.found else 0)
    areas = {} if args.homogeneous else of_blocks(model, truth, of_truth)
    return row | {f"AUC {block}": area for block, area in areas.items()}


def latents_of_true_maps(store: Store, truth: Truth, rows: np.ndarray) -> Latents:
    """Posterior of the blocks that come and go, with the noise that the mean map leaves."""
    observations = Observations(store, np.arange(len(store.particles)), max_frequency=0.4)
    mean = mean_map(observations)
    present = truth.presence[rows].mean(0)
    whole = truth.core_map + np.tensordot(present, truth.block_maps, 1)
    whole = torch.as_tensor(whole, dtype=torch.float32)
    scale = (mean.volume * whole).sum() / whole.square().sum()
    varying = truth.block_maps[(present > 0) & (present < 1)]
    blocks = scale * torch.as_tensor(varying, dtype=torch.float32)
    return expectation(observations, replace(mean, volume=scale * whole), blocks, accumulate=False)[0]


if __name__ == "__main__":
    main()
