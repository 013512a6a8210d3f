"""How often a subset is called supported: random, selected by noise, or truly different.

    python tests/benchmarks/bench_support.py --folder DIR [--only SET ...] [--seeds 20] [--first-seed 0]
    python tests/benchmarks/bench_support.py --folder DIR --views 50
    python tests/benchmarks/bench_support.py --tables 1000

Simulates sets of one structure and of two states (`SETS`; 120 particles, 13 tilts, box 24, poses off by 2
degrees and 2 Å), fits the linear model with four basis maps, so that latents of pure noise are there, and
compares subsets with the other particles (`reconstruction.support`). Latents are from all tilt images, as in
a round.

random: a third of the particles. true: the particles that have the block. "by view": half of the particles by
the beam direction at the lowest tilt, or each with a probability of 0.8 on one side and of 0.2 on the other;
these are no selection by images, and random subsets alone decide. Each p-value of random subsets is
measured twice, among those that were imaged alike (the verdict) and among all (`p_unmatched`). In sets that
are "wrong by view", the defocus of the particles of one side is wrong by 3 µm, so that particles of one
structure differ by their orientation alone. The others are selected by
latents: half or a fifth of the particles along the first latent (as a round would), half along the last
latent, and the largest of four clusters. In sets of one structure these are selected by noise and by errors
of poses. In sets of two states only the last latent is, provided that the truth does not correlate with it.
Finished sets are kept in DIR/support.json; a table is printed at the end.

--views: random subsets alone, without a linear model, on the sets that are in DIR. Of each set so many
subsets are drawn at random, by view as above, and with a probability that rises smoothly with the view.

--tables: the control by held-out tilts alone, on many sets without images: normally distributed likelihoods
of ten latents (200 particles), from training and held-out tilts, of which none or one is structure.
Directions are confirmed as in `linear.held_out`. Subsets are selected by latents of all tilts, which have the
noise of the held-out tilts, too. "last confirmed, half": along the last of two or more confirmed directions,
which is noise; sets with fewer count as p = 1.
"""

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import torch
from bench_states import block
from sklearn.cluster import KMeans
from states_scores import truth_of
from torch import Tensor

from tomohet.commands import prepare
from tomohet.files.star import read_star, write_star
from tomohet.linear.fit import fit_linear_model
from tomohet.linear.held_out import common_directions
from tomohet.linear.prediction import SplitLikelihood
from tomohet.linear.subset_evidence import held_out_tilts
from tomohet.options import PrepareOptions
from tomohet.particles.conditions import imaging_conditions
from tomohet.particles.store import open_store
from tomohet.reconstruction import support
from tomohet.reconstruction.controls import DRAWS, control_labels
from tomohet.reconstruction.support import SUPPORTED_P, WEAK_P, differences_of, p_of_held_out
from tomohet.simulation.config import config_from
from tomohet.simulation.simulate import simulate

COMMON = {
    "n_particles": 120,
    "box": 24,
    "pixel_size": 14.0,
    "tilt_step": 10.0,
    "pose_error_deg": 2.0,
    "pose_error_A": 2.0,
    "dialect": "warp",
}
BASIS_MAPS = 4
# Of sets of which only likelihoods are drawn.
N_DRAWN, LATENTS, STRUCTURES = 200, 10, (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class SimulatedSet:
    """Mass fraction of the block, its frequency, the SNR, and the error of the defocus of one side."""

    mass: float
    frequency: float
    snr: float = 0.05
    wrong_defocus_A: float = 0.0

    def make(self, place: Path, seed: int) -> None:
        """Simulate and prepare."""
        blocks = [block("S1", self.mass, self.frequency)]
        config = config_from(COMMON | {"blocks": blocks, "snr": self.snr, "seed": seed})
        simulate(config, place / "simulated")
        star = place / "simulated" / "particles.star"
        if self.wrong_defocus_A:
            spoil_defocus_by_view(star, self.wrong_defocus_A)
        prepare.run(PrepareOptions(particles=star, outdir=place / "prepared"))


def spoil_defocus_by_view(star: Path, error_A: float) -> None:
    """Add an error to the defocus of all particles whose beam at the lowest tilt has a positive z."""
    blocks = read_star(star)
    table = next(iter(blocks.values()))
    lowest = table.loc[table["rlnCtfScalefactor"].groupby(table["rlnGroupName"]).idxmax()]
    chosen = lowest.loc[lowest["rlnAngleTilt"] < 90, "rlnGroupName"]
    defocus = ["rlnDefocusU", "rlnDefocusV"]
    table.loc[table["rlnGroupName"].isin(chosen), defocus] += error_A
    write_star(star, blocks)


SETS = {
    "one structure": SimulatedSet(0.08, 1.0),
    "one structure, SNR 0.01": SimulatedSet(0.08, 1.0, 0.01),
    "two states, 8 %": SimulatedSet(0.08, 0.5),
    "two states, 4 %": SimulatedSet(0.04, 0.5),
    "two states, 2 %": SimulatedSet(0.02, 0.5),
    "two states, 8 %, SNR 0.01": SimulatedSet(0.08, 0.5, 0.01),
    "rare state, 8 %": SimulatedSet(0.08, 0.15),
    "one structure, wrong by view": SimulatedSet(0.08, 1.0, wrong_defocus_A=30_000.0),
    "two states, 8 %, wrong by view": SimulatedSet(0.08, 0.5, wrong_defocus_A=30_000.0),
}


def measured(folder: Path, name: str, seed: int) -> list[dict]:
    """Simulate a set, fit, compare its subsets; a row per subset."""
    what, place = SETS[name], folder / f"{name.replace(' ', '-').replace(',', '')}.{seed}"
    what.make(place, seed)
    store = open_store(place / "prepared")
    particles = np.arange(len(store.particles))
    started = time.process_time()
    model = fit_linear_model(store, particles, zdim=BASIS_MAPS, seed=seed)
    fitted = time.process_time()
    held_out = held_out_tilts(model.split)
    present = truth_of(place).presence[:, 0].astype(bool)
    subsets = selected(model.latents.mean.numpy(), present, seed)
    moved = model.poses.corrected(store, particles)
    subsets |= selected_by_view(imaging_conditions(store, particles), seed)
    given = (moved, particles, np.stack(list(subsets.values())))
    found = differences_of(*given, held_out=held_out, mean=model.maps.mean, seed=seed)
    with mock.patch.object(support, "strata_of", one_stratum):
        unmatched = differences_of(*given, held_out=held_out, mean=model.maps.mean, seed=seed)
    found = [
        replace(one, p_held_out=None) if "view" in name else one
        for name, one in zip(subsets, found, strict=True)
    ]
    seconds = {"fit_s": fitted - started, "support_s": time.process_time() - fitted}
    return [
        {"set": name, "seed": seed, "subset": subset, "directions": held_out.latents.shape[1]}
        | {"verdict": one.verdict, "p_random": one.p_random, "p_held_out": one.p_held_out, "ratio": one.ratio}
        | {"exchangeable": one.exchangeable, "p_unmatched": before.p_random}
        | {"with_truth": float(abs(np.corrcoef(members, present)[0, 1])) if "true" in subsets else 0.0}
        | seconds
        for (subset, members), one, before in zip(subsets.items(), found, unmatched, strict=True)
    ]


def selected(z: np.ndarray, present: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Subsets by name, (N,) bool, from latents (N, K) and the truth (N,)."""
    first, last = z[:, 0], z[:, -1]
    label = KMeans(4, n_init=4, random_state=seed).fit_predict(z)
    subsets = {
        "random": np.random.default_rng(seed).permutation(len(z)) < len(z) // 3,
        "first latent, half": first > np.median(first),
        "first latent, fifth": first > np.quantile(first, 0.8),
        "last latent, half": last > np.median(last),
        "largest cluster": label == np.bincount(label).argmax(),
    }
    return subsets | ({"true": present} if present.any() and not present.all() else {})


def selected_by_view(conditions: pd.DataFrame, seed: int) -> dict[str, np.ndarray]:
    """Subsets by name, (N,) bool, by the direction of the beam at the lowest tilt (`imaging_conditions`)."""
    side = (conditions["view_z"] > conditions["view_z"].median()).to_numpy()
    chance = np.random.default_rng(seed).random(len(side))
    return {"by view, half": side, "by view, 80 %": chance < np.where(side, 0.8, 0.2)}


def of_views(place: Path, draws: int) -> list[dict]:
    """Compare subsets that are drawn by view from a finished set; a row per subset."""
    store = open_store(place / "prepared")
    particles = np.arange(len(store.particles))
    conditions, rng = imaging_conditions(store, particles), np.random.default_rng(0)
    drawn = [selected_by_view(conditions, seed)["by view, 80 %"] for seed in range(draws)]
    for strength in (0.0, 4.0):
        chance = 1 / (1 + np.exp(-strength * conditions["view_z"].to_numpy()))
        drawn += list(rng.random((draws, len(chance))) < chance)
    given = (store, particles, np.stack(drawn))
    found = differences_of(*given, held_out=None)
    with mock.patch.object(support, "strata_of", one_stratum):
        unmatched = differences_of(*given, held_out=None)
    names = np.repeat(["by view, 80 %", "random", "by view, smoothly"], draws)
    return [
        {"set": place.name, "subset": name, "p": one.p_random, "p_unmatched": before.p_random}
        for name, one, before in zip(names, found, unmatched, strict=True)
    ]


def table_of_views(folder: Path, draws: int) -> str:
    """A Markdown table of p-values of random subsets, matched and not, on all sets in a folder."""
    places = sorted(path.parent for path in folder.glob("*/prepared"))
    rows = pd.DataFrame(row for place in places for row in of_views(place, draws))
    lines = [
        "| set | subset | subsets | all: p up to 0.01 | up to 0.05 | alike: p up to 0.01 | up to 0.05 |",
        "|---|---|---|---|---|---|---|",
    ]
    for (name, subset), part in rows.groupby(["set", "subset"], sort=False):
        rates = [
            f"{100 * (part[which] <= level).mean():.0f} %"
            for which in ("p_unmatched", "p")
            for level in (SUPPORTED_P, WEAK_P)
        ]
        lines.append(f"| {name} | {subset} | {len(part)} | {' | '.join(rates)} |")
    return "\n".join(lines)


def one_stratum(conditions: np.ndarray, *_) -> np.ndarray:
    """Put all particles (N,) into one stratum, as if they were imaged alike."""
    return np.zeros(len(conditions), int)


def of_tables(structure: float, seed: int) -> list[dict]:
    """Compare subsets of particles of which only likelihoods are drawn; a row per subset.

    structure : standard deviation of the first latent, in units of its prior; the particles are in two states
    """
    rng = np.random.default_rng(seed)
    z = np.zeros((N_DRAWN, LATENTS))
    z[:, 0] = structure * rng.choice([-1.0, 1.0], N_DRAWN)
    information = rng.uniform(0.5, 1.5, N_DRAWN)

    def likelihood(share: float) -> tuple[Tensor, Tensor]:
        a = (share * information)[:, None, None] * np.eye(LATENTS)
        noise = np.sqrt(share * information)[:, None] * rng.normal(size=z.shape)
        return torch.as_tensor(a), torch.as_tensor((share * information)[:, None] * z + noise)

    used, first, second = likelihood(2.0), likelihood(0.5), likelihood(0.5)
    both = tuple(one + other for one, other in zip(first, second, strict=True))
    split = SplitLikelihood(*used, *both)
    found = common_directions(split, SplitLikelihood(*used, *first), SplitLikelihood(*used, *second), seed)
    tables, source = held_out_tilts(found.confirmed), np.arange(N_DRAWN)
    subsets = selected(principal_components(split.latents.numpy()), z[:, 0] > 0, seed)
    p_values = dict.fromkeys([*subsets, "last confirmed, half"], 1.0)
    count = tables.latents.shape[1]
    if count > 1:
        last = split.along(found.directions).latents[:, count - 1].numpy()
        subsets["last confirmed, half"] = last > np.median(last)
    for name, members in subsets.items() if count else ():
        p_values[name] = p_of_held_out(tables, control_labels(members, source, DRAWS, seed), source, seed)
    return [{"structure": structure, "subset": name, "p": p} for name, p in p_values.items()]


def principal_components(latents: np.ndarray) -> np.ndarray:
    """Latents (N, K) along their principal components, the largest first."""
    centred = latents - latents.mean(0)
    return centred @ np.linalg.svd(centred, full_matrices=False)[2].T


def table_of_tables(sets: int) -> str:
    """A Markdown table of the control by held-out tilts on `sets` drawn sets of each size of structure."""
    rows = pd.DataFrame(row for size in STRUCTURES for seed in range(sets) for row in of_tables(size, seed))
    lines = ["| structure | subset | sets | p up to 0.01 | up to 0.05 |", "|---|---|---|---|---|"]
    for (size, subset), part in rows.groupby(["structure", "subset"], sort=False):
        rates = " | ".join(f"{100 * (part['p'] <= level).mean():.1f} %" for level in (SUPPORTED_P, WEAK_P))
        lines.append(f"| {size:g} | {subset} | {len(part)} | {rates} |")
    return "\n".join(lines)


def table(rows: list[dict]) -> str:
    """A Markdown table: how often each kind of subset has each verdict."""
    lines = [
        "| set | subset | sets | supported | weak | not supported | p < 0.01, random subsets not matched |",
        "|---|---|---|---|---|---|---|",
    ]
    for (name, subset), part in pd.DataFrame(rows).groupby(["set", "subset"], sort=False):
        counts = [(part["verdict"] == verdict).sum() for verdict in ("supported", "weak", "not supported")]
        alone = (part["p_unmatched"] <= 0.01).sum()
        lines.append(f"| {name} | {subset} | {len(part)} | {' | '.join(map(str, counts))} | {alone} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing, print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--folder", type=Path)
    what.add_argument("--tables", type=int, metavar="SETS")
    parser.add_argument("--views", type=int, metavar="SUBSETS")
    parser.add_argument("--only", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    args = parser.parse_args()
    if args.tables:
        print(table_of_tables(args.tables))
        return
    if args.views:
        print(table_of_views(args.folder, args.views))
        return
    file = args.folder / "support.json"
    rows = json.loads(file.read_text()) if file.is_file() else []
    done = {(row["set"], row["seed"]) for row in rows}
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for name in args.only:
            if (name, seed) not in done:
                rows += measured(args.folder, name, seed)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(rows, indent=1) + "\n")
    print(table([row for row in rows if row["set"] in args.only]))
    print(pd.DataFrame(rows)[["fit_s", "support_s"]].mean().round(2).to_string())


if __name__ == "__main__":
    main()
