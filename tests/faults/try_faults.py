"""Faults on the small workflow, drawn by a seed: each must end in identical results or in one clear line.

    python tests/faults/try_faults.py --count 200 --seed 0       # single commands
    python tests/faults/try_faults.py --count 40 --snakemake     # by Snakemake: ten times slower
    python tests/faults/try_faults.py --count 20 --kinds "full disk"

The table is printed, and written to the file of --table.

Undisturbed results are made first, in a few minutes, and kept in --folder. Full and read-only disks need a
user who may mount (root); without one they are left out, and the table says so. Ends with status 1 when any
fault does harm.
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import forked
import of_snakemake
from disturbed import BOTH_ROUNDS, FIRST_ROUND, Bench, Fault, Outcome
from drawing import acts, drawn, tried


def table(results: Sequence[tuple[Fault, Outcome]]) -> str:
    """Counts of every kind and stage as a table of Markdown."""
    kinds = dict.fromkeys(fault.kind for fault, _ in results)
    lines = ["| fault | tried | identical | one line | harm | stages |", "|---|---|---|---|---|---|"]
    for kind in kinds:
        own = [(fault, outcome) for fault, outcome in results if fault.kind == kind]
        bad = sum(not outcome.good for _, outcome in own)
        refused = sum(outcome.good and "one line" in outcome.said for _, outcome in own)
        stages = Counter(fault.stage.split()[0] for fault, _ in own)
        named = ", ".join(f"{stage} {n}" for stage, n in sorted(stages.items()))
        lines.append(f"| {kind} | {len(own)} | {len(own) - bad - refused} | {refused} | {bad} | {named} |")
    harm = [(fault, outcome) for fault, outcome in results if not outcome.good]
    lines += ["", f"{len(results)} faults, {len(harm)} did harm.", ""]
    lines += [f"- {f.kind}, {f.stage} {f.file} (seed {f.seed}): {o.said[:300]}" for f, o in harm]
    return "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("build/faults"))
    parser.add_argument("--kinds", nargs="*", help="only kinds that contain one of these words")
    parser.add_argument("--snakemake", action="store_true", help="faults of the whole workflow")
    parser.add_argument("--table", type=Path, help="file for the table")
    parser.add_argument("--stages", nargs="*", default=[], help="only these stages, such as 'prepare'")
    given = parser.parse_args(words)
    if not given.snakemake:
        forked.load()
    rounds = BOTH_ROUNDS if given.snakemake else FIRST_ROUND
    bench = Bench(given.folder.resolve(), given.stages, rounds)
    if given.snakemake:
        bench.make_by_snakemake()
    else:
        bench.make()
    kinds = [kind for kind in acts() if (kind in of_snakemake.KINDS) == given.snakemake]
    kinds = [k for k in kinds if not given.kinds or any(word in k for word in given.kinds)]
    results = []
    for fault, _ in zip(drawn(bench, kinds, given.seed), range(given.count), strict=False):
        began = time.monotonic()
        outcome = tried(bench, fault)
        results.append((fault, outcome))
        mark = "ok  " if outcome.good else "HARM"
        where = f"{fault.kind}: {fault.stage} {fault.file}"
        print(
            f"{mark} {time.monotonic() - began:5.1f} s  {where}: {' '.join(outcome.said.split())}", flush=True
        )
    text = table(results)
    print(text)
    if given.table:
        given.table.write_text(text)
    return int(any(not outcome.good for _, outcome in results))


if __name__ == "__main__":
    raise SystemExit(main())
