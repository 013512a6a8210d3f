"""Whether `tomohet propose` finds the true tree of nested blocks, and leaves alone what is not discrete.

    python tests/benchmarks/bench_propose.py --folder DIR [--only SET ...] [--procedures NAME ...] [--seeds 3]

Simulates sets (`SETS`; box 24, poses off by 2 degrees and 2 Å) and fits the linear model. `states` proposes
rounds by the linear model's states. `units` decodes the linear model's volumes first and measures SIREn's
blocks and MAVEn's units, so that these can divide, too. `clusters` adds a dozen k-means clusters of the
latents, which divide particles of one structure by noise, and lets parts be as small as 15 particles.
Finished runs are kept in DIR/propose.json.

A division counts as a block's if the block's presence among the divided particles agrees with the two parts
for 90 % of them. The tree is true if all its divisions are the expected ones, in the expected places. The
adjusted Rand index compares the undivided rounds with the true combinations of the varying blocks.
"""

import argparse
import importlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from bench_states import block
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from states_scores import truth_of

from tomohet.cli import options_of
from tomohet.files.atomic import write_pickle, write_yaml
from tomohet.particles.store import open_store
from tomohet.rounds.select import fulfilling
from tomohet.simulation.assessment import RoundTruth

POSE_ERRORS = {"pose_error_deg": 2.0, "pose_error_A": 2.0}
GRID = ("--box", 24, "--pixel-size", 14)
AGREE = 0.9


@dataclass(frozen=True)
class SimulatedSet:
    """Blocks, number of particles, SNR, and the true tree: which block divides which particles.

    tree : by the blocks that the particles have been divided by, with their presence, such as "S1+"
    of_states : another tree with the same undivided rounds, which states alone may give: they do not know
        that the guest depends on its host
    """

    blocks: list[dict]
    tree: dict[str, str]
    of_states: dict[str, str] | None = None
    particles: int = 240
    snr: float = 0.05


SETS = {
    "nested": SimulatedSet(
        [block("S1", 0.09, 0.6), block("S2", 0.06, 0.5, host="S1")], {"": "S1", "S1+": "S2"}
    ),
    "nested, the guest is larger": SimulatedSet(
        [block("S1", 0.06, 0.6), block("S2", 0.09, 0.5, host="S1")],
        {"": "S1", "S1+": "S2"},
        {"": "S2", "S2-": "S1"},
    ),
    "one structure": SimulatedSet([block("S1", 0.09)], {}),
    "motion": SimulatedSet([block("S1", 0.11, hinge_deg=40.0)], {}),
}
PROCEDURES = ("states", "units", "clusters")
N_CLUSTERS, SMALL = 12, 15


def command(name: str, *arguments) -> float:
    """Run a command in this process, which imports the libraries once; return its CPU seconds."""
    started = time.process_time()
    options = options_of(name, list(map(str, arguments)))
    importlib.import_module(f"tomohet.commands.{name}").run(options)
    return time.process_time() - started


def finished_round(place: Path, what: SimulatedSet, procedure: str, seed: int) -> Path:
    """Simulate a set and run the stages that a proposal reads; return the round's folder."""
    store, folder = place / "prepared", place / procedure
    if not (store / "store.yaml").is_file():
        place.mkdir(parents=True, exist_ok=True)
        write_yaml(place / "simulation.yaml", {"blocks": what.blocks} | POSE_ERRORS)
        options = ("--snr", what.snr, "--particles", what.particles, "--seed", seed, "--dialect", "warp")
        command("simulate", "-o", place / "simulated", *options, *GRID, "--config", place / "simulation.yaml")
        command("prepare", place / "simulated" / "particles.star", "-o", store)
    linear, volumes = folder / "linear", folder / "volumes"
    if (folder / "particles.parquet").is_file():
        return folder
    folder.mkdir(exist_ok=True)
    if procedure == "clusters":
        return with_clusters(finished_round(place, what, "states", seed), folder)
    everyone = folder / "indices.pkl"
    write_pickle(everyone, np.arange(len(open_store(store).particles)))
    command("train_linear", store, "-o", linear)
    command("states", store, "--linear", linear, "-o", folder / "states")
    if procedure == "units":
        command("choose_volumes", linear, "--epoch", -1, "--count", 64, "-o", volumes)
        decoded = ("--workdir", linear, "--epoch", -1)
        command("eval_vol", *decoded, "--zfile", volumes / "z.pkl", "-o", volumes)
        of_volumes = ("--volumes", volumes, *decoded)
        command("siren", *of_volumes, "-o", folder / "siren")
        command("maven", *of_volumes, "--model", place / "simulated" / "model.cif", "-o", folder / "maven")
    joined = ("--ind-ptcls", everyone, "--round-dir", folder, "-o", folder / "particles.parquet")
    command("particle_table", store, *joined)
    return folder


def with_clusters(done: Path, folder: Path) -> Path:
    """Make a copy of a round, with k-means clusters of its latents in the table; return its folder."""
    for stage in ("linear", "states"):
        (folder / stage).symlink_to((done / stage).resolve())
    table = pd.read_parquet(done / "particles.parquet")
    labels = KMeans(N_CLUSTERS, n_init=3, random_state=0).fit_predict(table.filter(like="linear_z"))
    table.assign(kmeans=labels).to_parquet(folder / "particles.parquet")
    return folder


def measured(folder: Path, name: str, procedure: str, seed: int, least: int) -> dict:
    """Propose rounds for a set; compare them with the truth."""
    what, place = SETS[name], folder / f"{name.replace(' ', '-').replace(',', '')}.{seed}"
    done = finished_round(place, what, procedure, seed)
    limits = ("--min-particles", SMALL if procedure == "clusters" else least, "--depth", 4)
    seconds = command("propose", done, "--store", place / "prepared", *limits)
    proposal = json.loads((done / "proposed" / "proposal.json").read_text())
    table, truth = pd.read_parquet(done / "particles.parquet"), truth_of(place)
    found = found_tree(proposal, table, truth)
    return {
        "set": name,
        "procedure": procedure,
        "seed": seed,
        "tree": ", ".join(f"{where or 'all'}: {by}" for where, by in found.items()) or "not divided",
        "true": found == what.tree or (procedure != "units" and found == what.of_states),
        "ari": leaves_ari(proposal, table, truth) if what.tree else None,
        "stop": next(node["stop"] for node in proposal["nodes"]),
        "cpu_s": round(seconds, 1),
    }


def found_tree(proposal: dict, table: pd.DataFrame, truth: RoundTruth) -> dict[str, str]:
    """Name the divisions of a proposal by the blocks that they follow; "?" follows none."""
    rounds = proposal["rounds"]
    place = {proposal["round"]: ""}
    found = {}
    for node in proposal["nodes"]:
        if not node["parts"]:
            continue
        first, second = (fulfilling(table, rounds[part]["select"]) for part in node["parts"])
        members = first | second
        agrees = {
            str(truth.truth.block_names[one]): float((truth.presence[members, one] == first[members]).mean())
            for one in truth.varying()
        }
        by = max(agrees, key=lambda name: abs(agrees[name] - 0.5), default="?")
        if by == "?" or max(agrees[by], 1 - agrees[by]) < AGREE:
            by, signs = "?", ("a", "b")
        else:
            signs = ("+", "-") if agrees[by] > 0.5 else ("-", "+")
        where = place[node["name"]]
        found[where] = by
        place |= {
            part: f"{where} {by}{sign}".strip() for part, sign in zip(node["parts"], signs, strict=True)
        }
    return found


def leaves_ari(proposal: dict, table: pd.DataFrame, truth: RoundTruth) -> float:
    """Adjusted Rand index of the undivided rounds and the true states; 0 without a division."""
    leaves = [node["name"] for node in proposal["nodes"] if not node["parts"]]
    if len(leaves) < 2:
        return 0.0
    label = np.full(len(table), -1)
    for number, name in enumerate(leaves):
        label[fulfilling(table, proposal["rounds"][name]["select"])] = number
    return float(adjusted_rand_score(truth.state, label))


def table_of(rows: list[dict]) -> str:
    """A Markdown table: how often the tree is true, and what was found instead."""
    lines = ["| set | by | true trees | adjusted Rand index | trees |", "|---|---|---|---|---|"]
    for (name, procedure), part in pd.DataFrame(rows).groupby(["set", "procedure"], sort=False):
        trees = "; ".join(f"{n} x {tree}" for tree, n in part["tree"].value_counts().items())
        rand = "" if part["ari"].isna().all() else f"{part['ari'].min():.2f} to {part['ari'].max():.2f}"
        true = f"{int(part['true'].sum())} of {len(part)}"
        lines.append(f"| {name} | {procedure} | {true} | {rand} | {trees} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing, print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--procedures", nargs="+", default=PROCEDURES, choices=PROCEDURES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--min-particles", type=int, default=40)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    file = args.folder / "propose.json"
    rows = json.loads(file.read_text()) if file.is_file() else []
    done = {(row["set"], row["procedure"], row["seed"]) for row in rows}
    for procedure in args.procedures:
        for seed in range(args.seeds):
            for name in args.only:
                if (name, procedure, seed) not in done:
                    rows.append(measured(args.folder, name, procedure, seed, args.min_particles))
                    file.write_text(json.dumps(rows, indent=1) + "\n")
                    print(rows[-1], flush=True)
    print(table_of(rows))


if __name__ == "__main__":
    main()
