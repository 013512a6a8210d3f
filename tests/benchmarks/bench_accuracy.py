"""What a training's speed and settings do to its accuracy, over seeds: prints tables, keeps the runs.

    python tests/benchmarks/bench_accuracy.py --folder DIR [--test-set DIR] [--seeds 3] [--only NAME ...]

Every setting of `SETTINGS` is trained on every data set: `demo` (the demo's simulated particles, taught by
the linear model as there), `untaught` (the same assembly at a higher SNR, network alone) and, with --test-set
(the folder of tomoDRGN's test set), `10076` and `twin`: its real images, and images simulated from its two
maps whose tilts and noise say nothing of the class (those of the real ones do). Finished runs are not
repeated.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from simulated_sets import command, simulated
from sklearn.decomposition import PCA

from tomohet.files.mrc import read_volume
from tomohet.files.pickles import load_latents, load_pickles
from tomohet.model.load import load_model
from tomohet.particles.store import open_store
from tomohet.physics.fsc import correlation
from tomohet.physics.masks import sphere_mask
from tomohet.simulation.assessment import SPHERE, auc, read_out
from tomohet.simulation.truth import load_truth

EXACT, QUARTER = "--rows-per-image 1", "--rows-per-image 0.25"
SETTINGS = {
    "float32, all rows": f"{EXACT} --no-amp",
    "bfloat16, all rows": EXACT,
    "bfloat16, 25 % of rows": QUARTER,
    "bfloat16, 10 % of rows": "--rows-per-image 0.1",
    "25 %, lr 3e-4": f"{QUARTER} --lr 3e-4",
    "25 %, lr 1e-3": f"{QUARTER} --lr 1e-3",
    "25 %, lr 3e-4, cosine": f"{QUARTER} --lr 3e-4 --lr-schedule cosine",
    "25 %, lr 3e-4, warm-up 0.1": f"{QUARTER} --lr 3e-4 --lr-warmup 0.1",
    "25 %, lr 3e-4, cosine, warm-up 0.1": f"{QUARTER} --lr 3e-4 --lr-schedule cosine --lr-warmup 0.1",
    "25 %, lr 3e-4, noise by shell": f"{QUARTER} --lr 3e-4 --noise-model shells",
}
NETWORK = "--zdim 8 -b 8 --dec-dim 128 --enc-dim-A 128 --enc-dim-B 128 --l-dose-mask --checkpoint 1000"
PUBLISHED_WEIGHTS = "--recon-dose-weight --recon-tilt-weight"


@dataclass(frozen=True)
class DataSet:
    """How the particles come about, and how the network is trained on them besides the setting."""

    simulate: str = ""
    star: str = ""
    prepare: str = ""
    train: str = ""
    taught: bool = False


DATA_SETS = {
    "demo": DataSet("--particles 400 --snr 0.08", train="-b 16 -n 6", taught=True),
    "untaught": DataSet("--particles 300 --snr 1 --tilt-step 12", train=f"-n 30 {PUBLISHED_WEIGHTS}"),
    "10076": DataSet(
        star="10076_both_32_sim.star", prepare="--uninvert-data", train=f"-n 40 {PUBLISHED_WEIGHTS}"
    ),
    "twin": DataSet(
        "--particles 200 --snr 0.16 --tilt-step 12 "
        "--maps {set}/10076_classD_32.mrc {set}/10076_classE_32.mrc",
        train=f"-n 40 {PUBLISHED_WEIGHTS}",
    ),
}


def prepared(name: str, data: DataSet, folder: Path, test_set: Path | None, seed: int) -> Path:
    """The store of a data set, made once; simulated ones anew for each seed."""
    place = folder / (name if data.star else f"{name}.{seed}")
    if not data.star:
        simulated(place, "--seed", seed + 1, *data.simulate.format(set=test_set).split())
    elif not (place / "prepared" / "store.yaml").is_file():
        command("prepare", test_set / data.star, "-o", place / "prepared", *data.prepare.split())
    if data.taught and not (place / "linear" / "weights.pkl").is_file():
        command("train_linear", place / "prepared", "-o", place / "linear", "--zdim", 6)
    return place


def truth_of(place: Path, test_set: Path | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which blocks each particle has, (n, blocks), the blocks' true maps, and the blocks to look for."""
    source_id = open_store(place / "prepared").particles["source_id"].to_numpy()
    if (place / "simulated").is_dir():
        truth = load_truth(place / "simulated" / "truth.npz")
        presence = truth.presence[truth.rows_of(source_id)].astype(bool)
        still = np.arange(presence.shape[1]) != truth.moving_block
        varies = (presence.mean(0) > 0) & (presence.mean(0) < 1)
        return presence, truth.block_maps, np.flatnonzero(varies & still)
    is_e = np.asarray(load_pickles(test_set / "ptcl_labels_D0_E1.pkl")[0]).astype(bool)
    maps = [read_volume(test_set / f"10076_class{letter}_32.mrc")[0] for letter in "DE"]
    return np.stack([~is_e, is_e], axis=1), np.stack(maps), np.array([0])


def scores(run: Path, place: Path, test_set: Path | None) -> dict:
    """AUC of a linear read-out of the latents, of their first component, difference-map CC: block means."""
    presence, maps, blocks = truth_of(place, test_set)
    mu, _ = load_latents(run / "z.train.pkl")
    decoded = decoded_maps(run, mu)
    first = PCA(1, random_state=0).fit_transform(mu)[:, 0]
    found = {"auc": [], "auc_pc1": [], "difference_cc": []}
    for has in presence.T[blocks]:
        found["auc"].append(auc(has, read_out(mu, has, 0)))
        found["auc_pc1"].append(auc(has, first))
        found["difference_cc"].append(difference_cc(decoded, has, presence, maps))
    return {name: float(np.mean(values)) for name, values in found.items()}


def decoded_maps(run: Path, latents: np.ndarray) -> np.ndarray:
    """Maps (n, D, D, D) of latents (n, zdim), decoded by a run's model."""
    volumes = load_model(run / "weights.pkl", run / "config.pkl")
    return torch.cat([volumes.volumes(part) for part in torch.from_numpy(latents).split(50)]).numpy()


def difference_cc(decoded: np.ndarray, has: np.ndarray, presence: np.ndarray, maps: np.ndarray) -> float:
    """Correlation of the mean decoded map (n, D, D, D) with less without a block with the true difference.

    has (n,): who has the block; presence (n, blocks), maps (blocks, D, D, D): other blocks that go along with
    it are in the true difference as well.
    """
    box = decoded.shape[-1]
    share = presence[has].mean(0) - presence[~has].mean(0)
    true = np.tensordot(share, maps, axes=1).astype(np.float32)
    difference = decoded[has].mean(0) - decoded[~has].mean(0)
    return correlation(difference, true, sphere_mask(box, SPHERE * box / 2, edge_px=2))


def main() -> None:
    """Train what is missing, print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--test-set", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=list(DATA_SETS))
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS))
    args = parser.parse_args()
    file = args.folder / "accuracy.json"
    runs = json.loads(file.read_text()) if file.is_file() else []
    chosen = [
        n for n in args.only if args.test_set or not (DATA_SETS[n].star or "{set}" in DATA_SETS[n].simulate)
    ]
    for setting in args.settings:
        for name in chosen:
            for seed in range(args.seeds):
                key = {"data": name, "setting": setting, "seed": seed}
                if not any(key.items() <= run.items() for run in runs):
                    runs.append(key | one_run(name, setting, seed, args.folder, args.test_set))
                    file.write_text(json.dumps(runs, indent=1) + "\n")
                    print(runs[-1], flush=True)
    table = pd.DataFrame(runs).groupby(["data", "setting"], sort=False).agg(["mean", "std"])
    for figure in ("auc", "auc_pc1", "difference_cc", "cpu_s"):
        mean, deviation = table[figure]["mean"].unstack(0), table[figure]["std"].unstack(0)
        digits = 0 if figure == "cpu_s" else 3
        cells = mean.map(f"{{:.{digits}f}}".format) + " ± " + deviation.map(f"{{:.{digits}f}}".format)
        print(f"\n{figure}\n{cells.to_string()}")


def one_run(name: str, setting: str, seed: int, folder: Path, test_set: Path | None) -> dict:
    """Train once; returns scores and CPU seconds."""
    data = DATA_SETS[name]
    place = prepared(name, data, folder, test_set, seed)
    run = folder / "runs" / f"{name}.{list(SETTINGS).index(setting)}.{seed}"
    options = [*NETWORK.split(), *data.train.split(), *SETTINGS[setting].split()]
    if data.taught:
        options += ["--init", place / "linear", "--encoder", "tilts"]
        options += [] if "--lr" in options else ["--lr", "3e-4"]
    seconds = command("train_vae", place / "prepared", "-o", run, "--seed", seed, *options)
    return scores(run, place, test_set) | {"cpu_s": round(seconds, 1)}


if __name__ == "__main__":
    main()
