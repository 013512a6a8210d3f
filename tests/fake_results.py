"""A results folder as the workflow leaves it, with random but plausible numbers, for tests."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from tomohet.analysis.verdict import convergence_answer
from tomohet.answers import Answer, stated
from tomohet.files.atomic import write_pickle
from tomohet.files.mrc import write_volume
from tomohet.files.pickles import save_latents
from tomohet.particles.conditions import audit_answer
from tomohet.training.held_out import write_held_out

CLUSTERS, BOX, PIXEL_SIZE_A = 4, 24, 8.0
CENTRES = np.array([[0, 0], [6, 1], [1.5, 6], [7, 7]])
BLOCKS = {"A": (0.5, 0.5, 0.62), "B": (0.5, 0.68, 0.42), "C": (0.3, 0.5, 0.45)}
PRESENT = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 1], [1, 0, 0]])
CONFIG = {
    "dataset": "fake",
    "particles": None,
    "rounds": {
        "all": {},
        "bound": {"parent": "all", "select": "maven_B > 0.5"},
        "rest": {"parent": "all", "select": "maven_B <= 0.5 and kmeans in [2, 3]"},
        "classA": {"parent": "bound", "select": "kmeans == 0"},
    },
}


def blob(centre, radius: float) -> np.ndarray:
    """A Gaussian ball in a box of BOX voxels; centre (z, y, x) and radius are fractions of the box."""
    z, y, x = np.mgrid[:BOX, :BOX, :BOX] / BOX
    squared = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
    return np.exp(-squared / (2 * radius**2))


def assembly(present) -> np.ndarray:
    """A body with those of the three blocks that are present."""
    body = blob((0.5, 0.42, 0.5), 0.13)
    return body + sum(p * 0.8 * blob(c, 0.07) for p, c in zip(present, BLOCKS.values(), strict=True))


def in_mask() -> np.ndarray:
    """The voxels in which any assembly differs from the solvent."""
    return (assembly([1, 1, 1]) > 0.02).astype(np.float32)


def make_results(root: Path, n: int = 600, seed: int = 0, rounds=("all", "bound", "rest", "classA")) -> Path:
    """Write a dataset's folder with `rounds` and return it."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    (root / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    write_validation(root / "validation")
    write_store(root / "prepared", n)
    write_half_map_files(root / "homogeneous", assembly([1, 0.5, 0.5]), rng)
    table = particle_table(n, rng)
    for name in rounds:
        query = CONFIG["rounds"][name].get("select")
        chosen = table.query(query) if query else table
        write_round(root / name, name, query, chosen.reset_index(drop=True), n, rng)
    return root


def particle_table(n: int, rng) -> pd.DataFrame:
    """A particle table with clusters, components, embedding, occupancies and positions."""
    kmeans = rng.integers(0, CLUSTERS, n)
    plane = CENTRES[kmeans] + rng.normal(0, 0.7, (n, 2))
    table = pd.DataFrame({"particle": np.arange(n), "tomogram": rng.choice(["TS_01", "TS_02", "TS_03"], n)})
    for axis in "xyz":
        table[f"{axis}_A"] = rng.uniform(0, 4000, n)
    table["n_tilts"] = rng.integers(30, 42, n)
    table["kmeans"], table["gmm"] = kmeans, kmeans // 2
    for i, column in enumerate((plane - plane.mean(axis=0)).T, start=1):
        table[f"pc{i}"] = column
    table["umap1"], table["umap2"] = plane.T
    table["volume"] = kmeans
    for j, unit in enumerate(BLOCKS):
        table[f"maven_{unit}"] = np.clip(PRESENT[kmeans, j] + rng.normal(0, 0.12, n), -0.2, 1.3)
    return table


def write_validation(folder: Path) -> None:
    checks = [
        {"name": "stacks", "verdict": "pass", "message": "12 of 12 stacks found", "remedy": ""},
        {
            "name": "contrast",
            "verdict": "look",
            "message": "0.4 % of pixels beyond 8 SD",
            "remedy": "look at the stacks",
        },
    ]
    numbers = {"verdict": "look", "checks": checks, "counts": {"particles": 600, "images": 24000}}
    answer = Answer("Input", "look", "Contrast: 0.4 % of pixels beyond 8 SD.")
    write_json(folder / "validation.json", numbers | stated([answer]))


def write_store(folder: Path, n: int) -> None:
    folder.mkdir()
    store = {
        "box": 64,
        "pixel_size_A": 5.0,
        "n_particles": n,
        "n_images": 40 * n,
        "digest": "3f786850e387550f",
    }
    (folder / "store.yaml").write_text(yaml.safe_dump(store))


def write_half_map_files(folder: Path, volume: np.ndarray, rng) -> None:
    """map.mrc, its halves, mask.mrc and fsc.csv as backproject_voxel leaves them."""
    folder.mkdir(parents=True, exist_ok=True)
    halves = volume + rng.normal(0, 0.014, (2, *volume.shape))
    write_volume(folder / "map.mrc", halves.mean(axis=0), PIXEL_SIZE_A)
    for number, half in enumerate(halves, start=1):
        write_volume(folder / f"half{number}.mrc", half, PIXEL_SIZE_A)
    write_volume(folder / "mask.mrc", in_mask(), PIXEL_SIZE_A)
    shell = np.arange(33)
    frequency = shell / (64 * 5.0)
    curve = 1 / (1 + np.exp((shell - 16) / 2.2))
    noise = rng.normal(0, 0.015, (3, 33))
    pd.DataFrame(
        {
            "shell": shell,
            "frequency_1_A": frequency,
            "resolution_A": 1 / np.maximum(frequency, 1e-6),
            "unmasked": 0.9 * curve + noise[0],
            "masked": curve + noise[1],
            "randomised": np.where(shell < 12, np.nan, 0.06 + noise[2]),
            "corrected": curve + noise[1] - 0.02,
        }
    ).to_csv(folder / "fsc.csv", index=False)


def write_round(folder: Path, name: str, query, table: pd.DataFrame, n_parent: int, rng) -> None:
    """Every stage of one round."""
    folder.mkdir()
    table.to_parquet(folder / "particles.parquet")
    parent = CONFIG["rounds"][name].get("parent")
    subset = {"parent": parent, "query": query, "n_particles": len(table), "n_parent": n_parent}
    write_json(folder / "subset" / "summary.json", subset)
    write_half_map_files(folder / "subset", assembly([1, 1, 0.5]), rng)
    write_stages(folder, rng)
    write_volumes(folder, rng)
    write_linear_model(folder / "linear", table)
    for state, present in enumerate(PRESENT[:2]):
        write_volume(folder / "states" / f"state_{state}.mrc", assembly(present), PIXEL_SIZE_A)


def write_linear_model(folder: Path, table: pd.DataFrame) -> None:
    """A linear model whose latents are the presence of two of the blocks, less its mean."""
    latents = table[[f"maven_{unit}" for unit in ("B", "C")]].to_numpy(np.float32)
    mean, middle = assembly([1, *latents.mean(axis=0)]), latents.mean(axis=0)
    basis = np.stack([0.8 * blob(BLOCKS[unit], 0.07) for unit in ("B", "C")])
    state = {"mean": torch.tensor(mean).float(), "basis": torch.tensor(basis).float()}
    torch.save({"epoch": 0, "model_state_dict": state}, folder / "weights.pkl")
    config = {
        "lattice_args": {"boxsize": BOX + 1, "extent": 0.5, "ignore_DC": True},
        "model_args": {"kind": "linear", "zdim": 2},
        "angpix": PIXEL_SIZE_A,
        "scale": 1.0,
    }
    write_pickle(folder / "config.pkl", config)
    save_latents(folder / "z.train.pkl", latents - middle, np.zeros_like(latents))
    write_volume(folder / "mask.mrc", in_mask(), PIXEL_SIZE_A)


def write_stages(folder: Path, rng) -> None:
    """Numbers of the linear model, training, convergence, latent analysis and truth."""
    write_json(
        folder / "linear" / "summary.json",
        {
            "zdim": 2,
            "heterogeneity_found": True,
            "held_out_reliability": [0.9, 0.7],
            "power_relative_to_mean": [0.02, 0.01],
            "held_out_moments": [91.0, 53.0, 1.4, -0.3],
            "components_confirmed": 2,
        }
        | stated(
            [
                Answer("Heterogeneity", "fact", "Particles differ: two components."),
                Answer("Held-out tilts", "good", "The latents predict held-out tilt images."),
            ]
        ),
    )
    differences = sum(blob(centre, 0.07) for centre in list(BLOCKS.values())[1:])
    write_volume(folder / "linear" / "variability.mrc", 0.4 * differences, PIXEL_SIZE_A)
    write_json(
        folder / "states" / "summary.json",
        {
            "n_states": 2,
            "sizes": [400, 200],
            "verdict": "discrete: 2 states predict better",
            "kind": "discrete",
        },
    )
    epochs = np.arange(20)
    loss = pd.DataFrame(
        {"epoch": epochs, "gen": 0.99 + 0.02 * np.exp(-epochs / 5), "kld": 3 - 2 * np.exp(-epochs / 8)}
    )
    (folder / "train_vae").mkdir()
    loss.assign(total=loss["gen"] + 1e-3 * loss["kld"]).to_csv(folder / "train_vae" / "loss.csv", index=False)
    write_held_out(folder / "train_vae", held_out_history(epochs, rng))
    log = "2026-01-02 10:00:00     command: tomohet train_vae prepared -o train_vae --zdim 8\n"
    (folder / "train_vae" / "run.log").write_text(log)
    write_json(
        folder / "convergence" / "convergence.json",
        {"epoch": 19, "verdict": "converged", "metrics": {"latent_shift": 0.02}}
        | stated([convergence_answer("converged", 19, best=19)]),
    )
    leaks = [
        {
            "nuisance": "n_tilts",
            "meaning": "number of tilt images",
            "verdict": "clean",
            "pc": 1,
            "auc": 0.53,
            "explained": 0.004,
            "p": 0.3,
        },
        {
            "nuisance": "tomogram",
            "meaning": "tomogram",
            "verdict": "look",
            "pc": 2,
            "auc": None,
            "explained": 0.14,
            "p": 1e-8,
        },
    ]
    write_json(
        folder / "analyze" / "summary.json",
        {"epoch": 19, "explained_variance": [0.6, 0.3, 0.04], "leaks": leaks} | stated([audit_answer(leaks)]),
    )
    write_json(folder / "truth" / "truth.json", truth())


def held_out_history(epochs, rng) -> list[dict]:
    """Rows of held_out.csv as a training without an encoder leaves them: latents judged three times."""
    rows = []
    for epoch in epochs.tolist():
        gain = 1200 * (1 - np.exp(-epoch / 4)) + rng.normal(0, 20)
        row = {"epoch": epoch, "share_of_network": 0.8, "share_of_latents": 1.0}
        row |= {"gain_of_decoder": gain, "error_of_decoder": 76.0}
        if epoch in (6, 13, 19):
            row |= {"gain_of_latents": 100.0 + 8 * epoch, "error_of_latents": 31.0, "components_of_prior": 4}
        rows.append(row)
    return rows


def truth() -> dict:
    """truth.json as `assess` leaves it."""
    found = {unit: {"auc": 0.97, "auc_single": 0.91} for unit in BLOCKS}
    return {
        "n_particles": 600,
        "snr": 0.08,
        "frequency": dict.fromkeys(BLOCKS, 0.5),
        "mass_share": dict.fromkeys(BLOCKS, 0.07),
        "oracle": dict.fromkeys(BLOCKS, 0.999),
        "latents": {
            "linear": {"blocks": found, "angle_r2": None},
            "train_vae": {"blocks": found, "angle_r2": 0.8},
        },
        "clusters": {"ari_kmeans": 0.88, "blocks": {unit: {"auc_kmeans": 0.95} for unit in BLOCKS}},
        "siren": {"A": {"block": "siren_1", "auc": 0.94}},
        "maven": {"A": {"auc": 0.96, "mean_absolute_error": 0.1, "share_over_half": 0.5}},
        "maps": {
            "blocks": {unit: {"difference_cc": 0.91} for unit in BLOCKS},
            "states": {"A+B": {"particles": 150, "cc": 0.98, "fsc_half_A": 21.0}},
            "pixel_size_A": 8.0,
        },
    }


def write_volumes(folder: Path, rng) -> None:
    """Centroid volumes, blocks and occupancies."""
    centroids = folder / "analyze" / f"kmeans{CLUSTERS}"
    for i, present in enumerate(PRESENT):
        volume = assembly(present) + rng.normal(0, 0.01, (BOX,) * 3)
        write_volume(centroids / f"vol_{i:03d}.mrc", volume, PIXEL_SIZE_A)
    occupancies = PRESENT + rng.normal(0, 0.05, PRESENT.shape)
    table = pd.DataFrame(occupancies, columns=[f"maven_{unit}" for unit in BLOCKS])
    space = pd.DataFrame(PRESENT @ rng.normal(size=(3, 2)), columns=["vumap1", "vumap2"])
    (folder / "analyze_volumes").mkdir()
    space.assign(vkmeans=[0, 0, 1, 1]).rename_axis("volume").reset_index().to_parquet(
        folder / "analyze_volumes" / "volumes.parquet"
    )
    (folder / "maven").mkdir()
    table.rename_axis("volume").reset_index().to_parquet(folder / "maven" / "volumes.parquet")
    (folder / "siren").mkdir()
    for number, centre in enumerate(BLOCKS.values()):
        write_volume(
            folder / "siren" / f"block_{number}.mrc", (blob(centre, 0.07) > 0.5).astype("f4"), PIXEL_SIZE_A
        )
    blocks = pd.DataFrame({"block": range(3), "voxels": [120, 130, 90], "mean_occupancy": [1.0, 0.5, 0.5]})
    blocks.to_parquet(folder / "siren" / "blocks.parquet")
    siren = pd.DataFrame(occupancies, columns=[f"siren_{i}" for i in range(3)])
    siren.rename_axis("volume").reset_index().to_parquet(folder / "siren" / "volumes.parquet")


def write_json(path: Path, value: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
