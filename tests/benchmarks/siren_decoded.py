"""Ensembles decoded from a model that was trained on simulated tilt images, for the benchmark of SIREn."""

from pathlib import Path

import numpy as np
import pandas as pd
from simulated_sets import command, simulated

from tomohet.simulation.truth import load_truth

MASS = 0.06
BLOCKS = [
    {"name": "B10", "mass": MASS, "frequency": 0.1},
    {"name": "B30", "mass": MASS, "frequency": 0.3},
    {"name": "B50", "mass": MASS, "frequency": 0.5},
    {"name": "B70", "mass": MASS, "frequency": 0.7},
    {"name": "B90", "mass": MASS, "frequency": 0.9},
    {"name": "nested", "mass": MASS, "frequency": 0.5, "host": "B50"},
    {"name": "motion", "mass": MASS, "hinge_deg": 40.0},
]
SAME = [{"name": "always", "mass": 0.08}]
BASIS_MAPS = 10


def decoded_ensemble(folder: Path, volumes: int, seed: int, null: bool = False) -> Path:
    """Folder of volumes decoded from a linear model of ten basis maps, with z.pkl and assignment.parquet.

    null: all images are of one structure. Data and model are kept in `folder` for further calls.
    """
    place = folder / f"{'same' if null else 'blocks'}{seed}"
    particles = 300 if null else 600
    options = ("--snr", 0.1, "--particles", particles, "--seed", seed, "--dialect", "warp")
    simulated(place, *options, blocks=SAME if null else BLOCKS)
    linear, decoded = place / "linear", place / f"volumes{volumes}"
    if not (linear / "weights.pkl").is_file():
        command("train_linear", place / "prepared", "-o", linear, "--zdim", BASIS_MAPS, "--seed", seed)
    if not (decoded / "done").is_file():
        command("choose_volumes", linear, "--epoch", -1, "--count", volumes, "-o", decoded)
        command("eval_vol", "--workdir", linear, "--epoch", -1, "--zfile", decoded / "z.pkl", "-o", decoded)
        (decoded / "done").touch()
    return decoded


def known_masks(folder: Path, seed: int, level: float) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Names and masks (B, D, D, D) of the blocks at a level, and the voxels that the moving one sweeps.

    A block is where its own density is above the level and the core's is not.
    """
    truth = load_truth(folder / f"blocks{seed}" / "simulated" / "truth.npz")
    outside = truth.core_map < level
    names = tuple(block["name"] for block in BLOCKS)
    still = [number for number in range(len(names)) if number != truth.moving_block]
    angles = np.linspace(-truth.hinge_limit_deg, truth.hinge_limit_deg, 9)
    stages = np.stack([truth.moving_map(angle) for angle in angles]) > level
    swept = stages.any(axis=0) & ~stages.all(axis=0) & outside
    return tuple(names[b] for b in still), (truth.block_maps[still] > level) & outside, swept


def decoded_masks(folder: Path, decoded: Path, seed: int, on: np.ndarray) -> np.ndarray:
    """Where the model shows the blocks that stay in place, (B, D, D, D) bool: what can be found at all.

    on: (V, D, D, D) bool, above the level. A voxel is in the block whose presence makes the largest
    difference to how often it is on, over all particles, if that is at least one half.
    """
    truth = load_truth(folder / f"blocks{seed}" / "simulated" / "truth.npz")
    assignment = pd.read_parquet(decoded / "assignment.parquet")
    still = [number for number in range(len(BLOCKS)) if number != truth.moving_block]
    presence = truth.presence[assignment.particle][:, still]
    with_block, without = np.zeros((2, len(still), len(on)))
    np.add.at(with_block.T, assignment.volume, presence)
    np.add.at(without.T, assignment.volume, ~presence)
    flat = on.reshape(len(on), -1).astype(float)
    often, seldom = (w @ flat / w.sum(axis=1, keepdims=True) for w in (with_block, without))
    gain = often - seldom
    best = (gain == gain.max(axis=0)) & (gain >= 0.5)
    return best.reshape(len(still), *on.shape[1:])
