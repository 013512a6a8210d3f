"""What the linear model finds inside of a focus mask, with what varies outside as nuisance or merely masked.

    python tests/benchmarks/bench_focus.py [--snr 0.05] [--particles 300] [--seeds 5] [--place DIR]
        [--pose-error 0] [--masses 0.06 0.06] [--preferred 0]

Two blocks come and go, each by itself. Fits of each data set: of the whole particle; with the focus on
either block; on two pieces of the core, where nothing varies: one far from the blocks ("quiet"), one beside
the second ("beside"); and all but the second block with the maps merely confined to the mask ("masked").
Prints whether heterogeneity is found, how many components, and the AUC of both blocks by a cross-validated
linear read-out of the latents.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import torch
from bench_poses import of_blocks
from scipy.ndimage import distance_transform_edt
from simulated_sets import simulated

from tomohet.linear.fit import LinearModel, fit_linear_model
from tomohet.particles.store import open_store
from tomohet.simulation.truth import Truth, load_truth

EDGE_PX = 2.0


def soft(inside: np.ndarray, grown_px: float) -> np.ndarray:
    """Mask (D, D, D) of a region grown by some pixels, with a soft edge."""
    return np.clip(1 + (grown_px - distance_transform_edt(~inside)) / EDGE_PX, 0, 1).astype(np.float32)


def quiet_place(truth: Truth, radius_px: float) -> np.ndarray:
    """bool (D, D, D): a ball in the core, as far from both blocks as it can be."""
    far = distance_transform_edt(~truth.block_masks.any(0))
    core = truth.core_map > 0.3 * truth.core_map.max()
    return around(np.argmax(np.where(core, far, 0)), core.shape, radius_px)


def place_beside(truth: Truth, block: int, radius_px: float) -> np.ndarray:
    """bool (D, D, D): a ball that touches a block's mask, in the densest place of the core."""
    distance = distance_transform_edt(~truth.block_masks[block])
    touching = np.abs(distance - radius_px - 1) < 1
    return around(np.argmax(np.where(touching, truth.core_map, 0)), distance.shape, radius_px)


def around(voxel: int, shape: tuple[int, ...], radius_px: float) -> np.ndarray:
    """bool (D, D, D): a ball about a voxel, by its flat index."""
    centre = np.unravel_index(voxel, shape)
    away = np.ones(shape, bool)
    away[centre] = False
    return distance_transform_edt(away) < radius_px


def masked(focus: np.ndarray):
    """In place of the nuisance: basis maps confined to the mask, everything else as ever."""

    def confined(mean, _):
        return replace(mean, mask=mean.mask * torch.as_tensor(focus, dtype=mean.mask.dtype))

    return mock.patch("tomohet.linear.fit.focused", confined)


def row_of(model: LinearModel, truth: Truth, rows: np.ndarray, started: float) -> dict:
    """What is said of one fit."""
    found = {"p": model.held_out.p_value, "components": model.held_out.n_components}
    return found | of_blocks(model, truth, rows) | {"CPU s": time.process_time() - started}


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--snr", type=float, nargs="+", default=[0.05])
    parser.add_argument("--particles", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--pose-error", type=float, default=0.0)
    parser.add_argument("--masses", type=float, nargs=2, default=[0.06, 0.06], help="of the blocks")
    parser.add_argument("--preferred", type=float, default=0.0, help="`preferred_orientation` of simulate")
    parser.add_argument("--place", type=Path, help="keep the simulated sets here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for snr in args.snr:
            for seed in range(args.first_seed, args.first_seed + args.seeds):
                first, second = args.masses
                name = f"{snr:g}_{args.particles}_{args.pose_error:g}_{first:g}_{second:g}_{args.preferred:g}"
                name = f"{name}_{seed}"
                compare(args, snr, seed, (args.place or Path(temporary)) / name)


def compare(args: argparse.Namespace, snr: float, seed: int, place: Path) -> None:
    """All fits of one data set."""
    options = ("--particles", args.particles, "--box", 32, "--pixel-size", 12, "--snr", snr, "--seed", seed)
    settings = {"pose_error_deg": args.pose_error, "pose_error_A": args.pose_error}
    settings |= {"preferred_orientation": args.preferred}
    blocks = [
        {"name": name, "mass": mass, "frequency": frequency}
        for name, mass, frequency in zip(("S1", "S2"), args.masses, (0.5, 0.4), strict=True)
    ]
    simulated(place, *options, blocks=blocks, settings=settings)
    store, truth = open_store(place / "prepared"), load_truth(place / "simulated" / "truth.npz")
    particles = np.arange(len(store.particles))
    rows = truth.rows_of(store.particles["source_id"].to_numpy())
    focuses = {name: soft(own, 2.0) for name, own in zip(truth.block_names, truth.block_masks, strict=True)}
    focuses["quiet"] = soft(quiet_place(truth, 3.0), 2.0)
    focuses["beside"] = soft(place_beside(truth, 1, 3.0), 2.0)
    table = {}

    def fit(name: str, focus: np.ndarray | None) -> None:
        started = time.process_time()
        model = fit_linear_model(store, particles, focus=focus, seed=seed)
        table[name] = row_of(model, truth, rows, started)

    fit("whole", None)
    for name, focus in focuses.items():
        fit(name, focus)
    for name in (truth.block_names[0], "quiet", "beside"):
        with masked(focuses[name]):
            fit(f"{name} masked", focuses[name])
    print(f"SNR {snr:g}, seed {seed}\n{pd.DataFrame(table).T.to_string(float_format='%.3g')}", flush=True)


if __name__ == "__main__":
    main()
