"""How well the blocks of known ensembles are found, how many false ones in noise, and how fast.

    python tests/benchmarks/bench_siren.py blocks [--volumes 200 500] [--seeds 3] [--rules phi siren]
    python tests/benchmarks/bench_siren.py decoded --folder DIR [--volumes 200 500] [--seeds 3]
    python tests/benchmarks/bench_siren.py nulls [--count 20] [--volumes 300]
    python tests/benchmarks/bench_siren.py parity [--volumes 200 500] [--seeds 3]
    python tests/benchmarks/bench_siren.py speed [--voxels 262144]

blocks: Jaccard index of every known block with the block found that is most like it, and what was found
beyond. decoded: the same of volumes decoded from a linear model, trained in DIR and kept there. nulls:
false blocks in ensembles of noise, with the automatic level and, without a core, with every voxel on in
16 % of the volumes. parity: edges of the published rule by a loop and by both engines. speed: pairs per
second of both engines and of a Python loop, and the peak memory.
"""

import argparse
import itertools
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from siren_decoded import decoded_ensemble, decoded_masks, known_masks
from siren_ensembles import NULLS, known_ensemble, null_ensemble

from tomohet.analysis.ensemble import open_ensemble
from tomohet.analysis.siren.bits import pack, totals, unpack
from tomohet.analysis.siren.blocks import Blocks, Task, blocks_of_ensemble, tested_voxels
from tomohet.analysis.siren.extent import Noise
from tomohet.analysis.siren.independence import equal_sampling, latents_beside, population_beside, sampling_of
from tomohet.analysis.siren.levels import read_levels
from tomohet.analysis.siren.pairs import Voxels, partners_by_phi, partners_by_siren
from tomohet.analysis.siren.statistics import binomial_cutoffs

FEWEST_VISIBLE = 6  # voxels that a decoded block must show


def found_in(stack: Path, rule: str, seed: int, level: str = "auto"):
    """The blocks of a stack of volumes."""
    ensemble = open_ensemble(stack)
    levels = read_levels(ensemble, level, ensemble.mean(), np.random.default_rng(seed))
    population = population_beside(stack, ensemble.numbers)
    sampling = sampling_of(latents_beside(stack, ensemble.numbers), population, len(ensemble), seed)
    return blocks_of_ensemble(ensemble, levels.values, rule, seed, sampling), levels


def jaccards(masks: np.ndarray, swept: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Best Jaccard index of every known block, and the blocks found that are neither known nor in motion."""
    best, beyond = np.zeros(len(masks)), []
    for number in range(1, labels.max() + 1):
        block = labels == number
        overlap = np.array([(block & mask).sum() / (block | mask).sum() for mask in masks])
        best = np.maximum(best, overlap)
        if overlap.max() < 0.2 and (block & swept).sum() < 0.3 * block.sum():
            beyond.append(number)
    return best, beyond


def bench_blocks(args: argparse.Namespace) -> None:
    """Jaccard index of every known block over volumes, seeds, rules and kinds of noise."""
    rows = []
    for volumes, seed, smooth in itertools.product(args.volumes, range(args.seeds), (False, True)):
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            known = known_ensemble(Path(folder), volumes, seed, smooth_noise=smooth)
            for rule in args.rules:
                found, levels = found_in(known.stack, rule, seed)
                level = float(np.median(levels.values))
                row = {"rule": rule, "volumes": "smooth noise" if smooth else "white noise"}
                row |= scored(found, known.names, known.masks(level), known.swept(level))
                rows.append(row | {"V": volumes, "seed": seed})
                if args.verbose:
                    print(found.noise_px, found.table.to_string(), found.relations.to_string(), sep="\n")
    show_blocks(rows)


def bench_decoded(args: argparse.Namespace) -> None:
    """The same for volumes decoded from a trained model, and false blocks where all images are alike."""
    rows, shown, nulls = [], [], []
    for volumes, seed in itertools.product(args.volumes, range(args.seeds)):
        decoded = decoded_ensemble(args.folder, volumes, seed)
        for rule in args.rules:
            found, levels = found_in(decoded, rule, seed)
            height = float(np.median(levels.values - levels.solvent))
            names, masks, swept = known_masks(args.folder, seed, height)
            run = {"rule": rule, "V": volumes, "seed": seed}
            rows.append(run | scored(found, names, masks, swept))
            on = np.concatenate(
                [v > levels.values[r, None, None, None] for r, v in open_ensemble(decoded).batches("on")]
            )
            visible = decoded_masks(args.folder, decoded, seed, on)
            best = jaccards(visible, swept, found.labels)[0]
            enough = visible.sum(axis=(1, 2, 3)) >= FEWEST_VISIBLE
            shown.append(run | dict(zip(names, np.where(enough, best, np.nan).round(3), strict=True)))
            if args.verbose:
                print(found.noise_px, found.table.to_string(), found.relations.to_string(), sep="\n")
    show_blocks(rows)
    show_blocks(shown)
    for seed in range(args.seeds):
        decoded = decoded_ensemble(args.folder, 300, seed, null=True)
        for rule in args.rules:
            found, _ = found_in(decoded, rule, seed)
            row = {"rule": rule, "seed": seed, "voxels": found.n_voxels_tested}
            nulls.append(row | {"n_eff": round(found.n_effective, 1), "false": len(found.table)})
            if args.verbose:
                print(found.noise_px, found.table.to_string(), sep="\n")
    print(pd.DataFrame(nulls).to_markdown(index=False), flush=True)


def scored(found: Blocks, names: tuple[str, ...], masks: np.ndarray, swept: np.ndarray) -> dict:
    """Jaccard index of every known block, share of the swept voxels in blocks, and numbers of blocks."""
    best, beyond = jaccards(masks, swept, found.labels)
    row = dict(zip(names, best.round(3), strict=True))
    row["motion"] = float((found.labels[swept] > 0).mean().round(3)) if swept.any() else np.nan
    return row | {"blocks": len(found.table), "false": len(beyond), "n_eff": round(found.n_effective)}


def show_blocks(rows: list[dict]) -> None:
    """All rows, and their means over seeds."""
    table = pd.DataFrame(rows)
    print(table.to_markdown(index=False))
    keys = [key for key in ("rule", "volumes", "V") if key in table]
    means = table.drop(columns="seed").groupby(keys).mean().round(3)
    print(means.reset_index().to_markdown(index=False), flush=True)


def bench_nulls(args: argparse.Namespace) -> None:
    rows = []
    for kind in args.kinds or NULLS:
        for core in (True, False):
            counts = {rule: [] for rule in args.rules}
            tested = []
            for seed in range(args.count):
                with tempfile.TemporaryDirectory(dir=args.folder) as folder:
                    stack = null_ensemble(Path(folder), args.volumes[0], seed, kind, 32 if core else 24, core)
                    for rule in args.rules:
                        found, _ = found_in(stack, rule, seed, "auto" if core else "1.0")
                        counts[rule].append(len(found.table))
                        if args.verbose and len(found.table):
                            print(found.n_effective, found.noise_px, "\n", found.table.to_string())
                    tested.append(found.n_voxels_tested)
            row = {"null": kind, "core": core, "ensembles": args.count, "voxels": int(np.mean(tested))}
            for rule, numbers in counts.items():
                row |= {
                    f"{rule}: blocks": sum(numbers),
                    f"{rule}: ensembles with any": sum(map(bool, numbers)),
                }
            rows.append(row)
            print(row, flush=True)
    print(pd.DataFrame(rows).to_markdown(index=False))


def drawn_cutoffs(volumes: int, pairs: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cut-offs (V + 1, V + 1) as published: percentiles of 1,000 draws for every pair of totals."""
    on = np.arange(volumes + 1) / volumes
    tables = []
    for level, fraction in ((0.01, on), (0.05, 1 - on)):
        percentile = 100 * (1 - level / pairs)
        rows = []
        for one in fraction:
            draws = rng.binomial(volumes, one * fraction, (1000, volumes + 1))
            rows.append(np.percentile(draws, percentile, axis=0))
        table = np.triu(np.array(rows))
        tables.append(table + np.triu(table, 1).T)
    return tuple(tables)


def edges_by_loop(on: np.ndarray, xyz_A: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> set:
    """Edges (i, j), i > j, of the published rule, pair after pair; on (N, V) bool."""
    volumes, edges = on.shape[1], set()
    for i in range(len(on)):
        for j in range(i):
            n_i, n_j = on[i].sum(), on[j].sum()
            n11, n00 = (on[i] & on[j]).sum(), (~on[i] & ~on[j]).sum()
            distance = np.linalg.norm(xyz_A[i] - xyz_A[j])
            factor = max(1.25, 0.02 * distance + 0.95) if distance < 40 else 1.75
            present = n11 > min(factor * positive[n_i, n_j], n_i, n_j)
            if present and n00 > min(negative[n_i, n_j], volumes - max(n_i, n_j)):
                edges.add((i, j))
    return edges


def bench_parity(args: argparse.Namespace) -> None:
    """Edges of the published rule with cut-offs drawn as published: a loop, popcounts and matrix products."""
    rows = []
    for volumes, seed in itertools.product(args.volumes, range(args.seeds)):
        rng = np.random.default_rng(seed)
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            known = known_ensemble(Path(folder), volumes, seed)
            ensemble = open_ensemble(known.stack)
            levels = read_levels(ensemble, "auto", ensemble.mean(), rng)
            task = Task(ensemble, equal_sampling(volumes), Noise(0.0, np.zeros(ensemble.grid.shape, bool)))
            bits, tested = tested_voxels(levels.values, task)
        drawn = np.sort(rng.choice(len(tested), 600, replace=False))
        z, y, x = np.unravel_index(tested[drawn], ensemble.grid.shape)
        xyz_A = (np.column_stack([x, y, z]) * ensemble.grid.pixel_size_A).astype(np.float32)
        positive, negative = drawn_cutoffs(volumes, len(drawn) * (len(drawn) - 1) // 2, rng)
        expected = edges_by_loop(unpack(bits[drawn], volumes), xyz_A.astype(float), positive, negative)
        voxels = Voxels(bits[drawn], totals(bits[drawn]), xyz_A, volumes)
        row = {"V": volumes, "seed": seed, "voxels": len(drawn), "loop: edges": len(expected)}
        for engine in ("popcount", "matrix-cpu"):
            found = partners_by_siren(voxels, positive, negative, keep=len(drawn), engine=engine)
            first, slot = np.nonzero(found.index >= 0)
            edges = {(i, j) for i, j in zip(first, found.index[first, slot], strict=True) if i > j}
            row |= {f"{engine}: edges": len(edges), f"{engine}: difference": len(edges ^ expected)}
        rows.append(row)
    print(pd.DataFrame(rows).to_markdown(index=False), flush=True)


def timed_pairs(engine: str, rule: str, volumes: int, count: int) -> dict:
    """Time and peak memory of one engine on `count` voxels, a tenth of them in 26 blocks."""
    rng = np.random.default_rng(0)
    bits = np.concatenate([packed_states(rng, volumes, min(4096, count - i)) for i in range(0, count, 4096)])
    xyz_A = rng.uniform(0, 400, (count, 3)).astype(np.float32)
    voxels = Voxels(bits, totals(bits), xyz_A, volumes)
    few = Voxels(bits[:500], totals(bits[:500]), xyz_A[:500], volumes)
    search = {
        "phi": lambda some: partners_by_phi(some, np.random.default_rng(0), engine=engine),
        "siren": lambda some: partners_by_siren(some, engine=engine),
    }[rule]
    search(few)  # compiles
    began, cpu = time.perf_counter(), time.process_time()
    found = search(voxels)
    return speed_row(engine, rule, volumes, count, found.pairs, began, cpu)


def packed_states(rng: np.random.Generator, volumes: int, count: int) -> np.ndarray:
    """Words of `count` voxels of various occupancies, a tenth of them in 26 blocks."""
    on = rng.uniform(size=(volumes, count)) < rng.uniform(0.02, 0.98, count)
    blocks = np.random.default_rng(1).uniform(size=(volumes, 26)) < np.linspace(0.1, 0.9, 26)
    members = np.arange(0, count, 10)
    on[:, members] = blocks[:, members % 26] ^ (rng.uniform(size=(volumes, len(members))) < 0.05)
    return pack(on)


def timed_loop(volumes: int, count: int) -> dict:
    """A loop over pairs in Python with the counts of each by numpy, as the published program has it."""
    rng = np.random.default_rng(0)
    on = unpack(packed_states(rng, volumes, count), volumes)
    xyz_A = rng.uniform(0, 400, (count, 3))
    positive, negative = binomial_cutoffs(np.arange(volumes + 1), volumes, 7e-4, 7e-4)
    began, cpu = time.perf_counter(), time.process_time()
    edges_by_loop(on, xyz_A, positive, negative)
    return speed_row("Python loop", "siren", volumes, count, count * (count - 1) // 2, began, cpu)


def timed_ensemble(volumes: int, box: int, folder: Path | None) -> dict:
    """The command's search, from volumes to blocks, when every voxel of the box comes and goes.

    In white noise, where the rule `phi` would stop before it looks at all pairs: no pair is significant.
    """
    with tempfile.TemporaryDirectory(dir=folder) as place:
        stack = null_ensemble(Path(place), volumes, 0, "independent", box, core=False)
        began, cpu = time.perf_counter(), time.process_time()
        found, _ = found_in(stack, "siren", 0, "1.0")
        pairs = found.partners.pairs
        return speed_row("volumes to blocks", "siren", volumes, found.n_voxels_tested, pairs, began, cpu)


def speed_row(engine: str, rule: str, volumes: int, count: int, pairs: int, began: float, cpu: float) -> dict:
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "engine": engine, "rule": rule, "V": volumes, "voxels": count, "s": round(seconds, 1),
        "CPU s": round(cpu_s, 1), "Mpair per CPU s": round(pairs / cpu_s / 1e6, 4), "MB": round(megabytes),
    }  # fmt: skip


def bench_speed(args: argparse.Namespace) -> None:
    """Each measurement in a process of its own, so that its peak memory is its own."""
    jobs = [(timed_loop, (volumes, 400)) for volumes in args.volumes]
    for volumes, rule in itertools.product(args.volumes, args.rules):
        jobs += [(timed_pairs, (engine, rule, volumes, 20_000)) for engine in ("popcount", "matrix-cpu")]
    if torch.cuda.is_available():
        jobs += [(timed_pairs, ("matrix-cuda", rule, 500, args.voxels)) for rule in args.rules]
    jobs += [(timed_pairs, ("popcount", "phi", 500, args.voxels)), (timed_ensemble, (500, 64, args.folder))]
    rows = []
    for work, arguments in jobs:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            rows.append(process.submit(work, *arguments).result())
        print(rows[-1], flush=True)
    print(pd.DataFrame(rows).to_markdown(index=False))


WORK = {
    "blocks": bench_blocks, "decoded": bench_decoded, "nulls": bench_nulls, "parity": bench_parity,
    "speed": bench_speed,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=tuple(WORK))
    parser.add_argument("--volumes", type=int, nargs="+", default=[200, 500])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--kinds", nargs="+")
    parser.add_argument("--rules", nargs="+", default=["phi", "siren"])
    parser.add_argument("--voxels", type=int, default=262_144)
    parser.add_argument("--folder", type=Path, help="for the volumes, while they are needed (the system's)")
    parser.add_argument("--verbose", action="store_true", help="print the tables of blocks")
    args = parser.parse_args()
    if args.what == "decoded" and args.folder is None:
        parser.error("decoded needs --folder, where the models are trained and kept")
    WORK[args.what](args)


if __name__ == "__main__":
    main()
