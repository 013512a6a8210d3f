"""How well the blocks of known ensembles are found, how many false ones in noise, and how fast.

    python tests/benchmarks/bench_siren.py blocks [--volumes 200 500] [--seeds 3] [--rules phi siren]
    python tests/benchmarks/bench_siren.py nulls [--count 20] [--volumes 300]
    python tests/benchmarks/bench_siren.py speed [--voxels 262144]

blocks: Jaccard index of every known block with the block found that is most like it, and what was found
beyond. nulls: false blocks in ensembles of noise, with the automatic level and, without a core, with every
voxel on in 16 % of the volumes. speed: pairs per second of both engines and of a Python loop, and the peak
memory.
"""

import argparse
import itertools
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from siren_ensembles import NULLS, known_ensemble, null_ensemble

from tomohet.analysis.ensemble import open_ensemble
from tomohet.analysis.siren.blocks import blocks_of_ensemble
from tomohet.analysis.siren.independence import latents_beside, sampling_of
from tomohet.analysis.siren.levels import read_levels


def found_in(stack: Path, rule: str, seed: int, level: str = "auto"):
    """The blocks of a stack of volumes."""
    ensemble = open_ensemble(stack)
    levels = read_levels(ensemble, level, ensemble.mean(), np.random.default_rng(seed))
    sampling = sampling_of(latents_beside(stack, ensemble.numbers), None, len(ensemble), seed)
    return blocks_of_ensemble(ensemble, levels.values, rule, seed, sampling), float(np.median(levels.values))


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
                found, level = found_in(known.stack, rule, seed)
                swept = known.swept(level)
                best, beyond = jaccards(known.masks(level), swept, found.labels)
                row = {"rule": rule, "noise": "smooth" if smooth else "white", "V": volumes, "seed": seed}
                row |= dict(zip(known.names, best.round(3), strict=True))
                row["motion"] = (found.labels[swept] > 0).mean().round(3)
                row |= {"blocks": len(found.table), "false": len(beyond), "n_eff": round(found.n_effective)}
                rows.append(row)
                if args.verbose:
                    print(found.noise_px, found.table.to_string(), found.relations.to_string(), sep="\n")
    table = pd.DataFrame(rows)
    print(table.to_markdown(index=False))
    means = table.drop(columns="seed").groupby(["rule", "noise", "V"]).mean().round(3)
    print(means.reset_index().to_markdown(index=False), flush=True)


def bench_nulls(args: argparse.Namespace) -> None:
    rows = []
    for kind in args.kinds or NULLS:
        for core in (True, False):
            counts = {rule: [] for rule in args.rules}
            tested = []
            for seed in range(args.count):
                with tempfile.TemporaryDirectory(dir=args.folder) as folder:
                    stack = null_ensemble(Path(folder), args.volumes[0], seed, kind, core=core)
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("blocks", "nulls", "speed"))
    parser.add_argument("--volumes", type=int, nargs="+", default=[200, 500])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--kinds", nargs="+")
    parser.add_argument("--rules", nargs="+", default=["phi", "siren"])
    parser.add_argument("--voxels", type=int, default=262_144)
    parser.add_argument("--folder", type=Path, help="for the volumes, while they are needed (the system's)")
    parser.add_argument("--verbose", action="store_true", help="print the tables of blocks")
    args = parser.parse_args()
    {"blocks": bench_blocks, "nulls": bench_nulls}[args.what](args)


if __name__ == "__main__":
    main()
