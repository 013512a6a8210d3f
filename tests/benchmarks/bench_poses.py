"""What the linear model says of particles whose stated poses are wrong, and what it makes of these poses.

    python tests/benchmarks/bench_poses.py [--degrees 0 2 3 5] [--snr 0.05] [--particles 300] [--seeds 5]
        [--homogeneous] [--surroundings] [--half-maps] [--tilts 0]

Shifts are off by as many Å along each axis as rotations by degrees (rms). Prints, for each data set, whether
heterogeneity is found, how many components, the errors of the poses as estimated and as they are, and what is
left of them after the correction (the share of the rms, each less its mean: all particles may turn together
with the mean map), beside what the posterior says that images leave ("expected"). "One direction" is the
share of the estimated errors' variance along the direction of most, "gain" what the likelihood gains by
allowing that (nats, `linear.pose_directions`). Without --homogeneous also the AUC of each block by a
cross-validated linear read-out of the latents. --surroundings: with neighbours and a structured background.
--tilts: shifts of single tilt images (Å rms along each axis), which "tilts A" estimates.

Of the map of all images, with the poses as stated and as refined: "Å" is where its FSC with the true mean map
falls below 0.5, "FSC" the mean over all shells. --half-maps: where the FSC of half maps falls below 0.143 and
0.5; each half set is refined by itself where poses have been found wrong, as the workflow does it. At the
simulator's 12 Å a pixel 0.143 is nearly at Nyquist (24 Å), where one shell decides: 0.5 says more.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation
from simulated_sets import simulated
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_predict

from tomohet.linear.fit import LinearModel, fit_linear_model, refined_alone
from tomohet.particles.store import Store, open_store
from tomohet.physics.fsc import fsc, resolution_at, shell_frequencies
from tomohet.reconstruction.half_maps import half_maps
from tomohet.simulation.assessment import auc
from tomohet.simulation.truth import Truth, load_truth

WEIGHTS = {"recon_dose_weight": True, "recon_tilt_weight": True}
SURROUNDINGS = ("neighbours", 1.0), ("background_ratio", 0.5)


def of_poses(model: LinearModel, truth: Truth, rows: np.ndarray, pixel_size_A: float) -> dict:
    """Errors of the poses: estimated, true, and the share that the correction leaves.

    The files state the rotation R exp([w]x) and a shift of the images that is R d too far: in the stated
    frame the particle is turned by -w and moved by d.
    """
    turned = Rotation.from_rotvec(np.radians(truth.pose_rotvec_deg[rows]))
    true = np.concatenate([-turned.as_rotvec(), turned.inv().apply(truth.pose_shift_A[rows])], axis=1)
    found = model.poses.error * np.repeat([1.0, pixel_size_A], 3)
    rotation_deg, shift_A = model.poses.spread(pixel_size_A)
    row = {"rotation": rotation_deg, "true": np.degrees(np.sqrt((true[:, :3] ** 2).sum(1).mean()))}
    row |= {"shift": shift_A, "true A": true[:, 3:].std()}
    # What the posterior expects to be left, as a share of the prior's standard deviation.
    expected = np.sqrt(np.square(model.poses.deviation).reshape(-1, 2, 3).mean((0, 2)))
    expected = expected / np.maximum(model.poses.prior, 1e-12) if model.poses.found else np.ones(2)
    row |= {"expected": expected[0], "expected A": expected[1]}
    direction = model.poses.direction
    both = (np.nan, np.nan) if direction is None else (direction.share, direction.gain)
    row |= dict(zip(("one direction", "gain"), both, strict=True))
    for name, part in (("left", slice(3)), ("left A", slice(3, None))):
        left = (found - true)[:, part]
        before = true[:, part] - true[:, part].mean(0)
        row[name] = np.sqrt(np.square(left - left.mean(0)).mean() / max(np.square(before).mean(), 1e-12))
    return row


def of_maps(store: Store, particles: np.ndarray, model: LinearModel, truth: Truth, rows: np.ndarray) -> dict:
    """How near the map of all images is to the true mean map, with poses as stated and as refined."""
    true = np.mean([truth.particle_volume(row) for row in rows], axis=0)
    frequency = shell_frequencies(store.box, store.pixel_size_A)
    row = {}
    for name, with_poses in (("stated", store), ("refined", model.poses.corrected(store, particles))):
        curve = fsc(half_maps(with_poses, particles, **WEIGHTS).map, true)
        row |= {f"{name} Å": resolution_at(curve, frequency, 0.5), f"{name} FSC": curve[1:].mean()}
    return row


def of_half_maps(store: Store, particles: np.ndarray, found_wrong: bool) -> dict:
    """Resolution of half maps with poses as stated, and refined in each half set by itself."""
    row = {}
    for name, refine in (("stated", None), ("refined", refined_alone if found_wrong else None)):
        result = half_maps(store, particles, refine=refine, **WEIGHTS)
        row |= {f"{name} 0.143": result.resolution_A, f"{name} 0.5": result.resolution_05_A}
    return row


def of_blocks(model: LinearModel, truth: Truth, rows: np.ndarray) -> dict:
    """AUC of each block that comes and goes, among particles that have its host."""
    present, z = truth.presence[rows].astype(bool), model.latents.mean.cpu().numpy()
    names, found = list(truth.block_names), {}
    for index, (name, host) in enumerate(zip(names, truth.block_host, strict=True)):
        among = present[:, names.index(host)] if host else np.ones(len(rows), bool)
        here = present[among, index]
        if here.any() and not here.all():
            read = cross_val_predict(LinearRegression(), z[among], here.astype(float), cv=5)
            found[name] = auc(here, read)
    return found


def main() -> None:
    """Simulate, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--degrees", type=float, nargs="+", default=[0, 2, 3, 5])
    parser.add_argument("--snr", type=float, nargs="+", default=[0.05])
    parser.add_argument("--particles", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--homogeneous", action="store_true", help="all particles alike")
    parser.add_argument("--half-maps", action="store_true", help="half maps as well")
    parser.add_argument("--tilts", type=float, default=0.0, help="shifts of single tilt images (Å)")
    parser.add_argument("--surroundings", action="store_true", help="with neighbours and background")
    args = parser.parse_args()
    rows = []
    for snr in args.snr:
        for degrees in args.degrees:
            for seed in range(args.seeds):
                settings = {"pose_error_deg": degrees, "pose_error_A": degrees}
                settings |= {"tilt_shift_A": args.tilts}
                settings |= dict(SURROUNDINGS) if args.surroundings else {}
                if args.homogeneous:
                    settings["blocks"] = [{"name": "S1", "mass": 0.08, "frequency": 1.0}]
                with tempfile.TemporaryDirectory() as folder:
                    place = Path(folder)
                    options = ("--snr", snr, "--particles", args.particles, "--seed", seed)
                    simulated(place, *options, "--dialect", "warp", settings=settings)
                    store, particles = open_store(place / "prepared"), np.arange(args.particles)
                    truth = load_truth(place / "simulated" / "truth.npz")
                    of_truth = truth.rows_of(store.particles["source_id"].to_numpy())
                    start = time.process_time()
                    model = fit_linear_model(store, particles)
                    seconds = time.process_time() - start
                    maps = of_maps(store, particles, model, truth, of_truth)
                    if args.half_maps:
                        maps |= of_half_maps(store, particles, model.poses.found)
                row = {"SNR": snr, "degrees": degrees, "seed": seed, "found": float(model.heterogeneous)}
                row["components"] = model.held_out.n_components if model.held_out.found else 0
                row["tilts A"] = model.maps.mean.tilt_shift_px * store.pixel_size_A
                row |= of_poses(model, truth, of_truth, store.pixel_size_A)
                row |= {} if args.homogeneous else of_blocks(model, truth, of_truth)
                rows.append(row | maps | {"CPU s": seconds})
                print(
                    {name: round(float(value), 3) for name, value in rows[-1].items()},
                    flush=True,
                )
    table = pd.DataFrame(rows).drop(columns="seed").groupby(["SNR", "degrees"], sort=False)
    print(table.mean().round(3).to_string())


if __name__ == "__main__":
    main()
