"""Faults on the small workflow, drawn by a seed: each must end in identical results or in one clear line.

    python tests/faults/run.py --count 200 --seed 0       # single commands
    python tests/faults/run.py --count 40 --snakemake     # the whole workflow, by Snakemake: ten times slower
    python tests/faults/run.py --count 20 --kinds "full disk"

The table is printed, and written to the file of --table.

Undisturbed results are made first, in a few minutes, and kept in --folder. Full and read-only disks need a
user who may mount (root); without one they are left out, and the table says so. Ends with status 1 when any
fault does harm.
"""

import argparse
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import forked
import of_commands
import of_snakemake
import small_workflow as small
from bench import BOTH_ROUNDS, FIRST_ROUND, Bench, Fault, Outcome
from comparing import files_of

MOUNTS = ("full disk", "read-only results")


def acts() -> dict[str, of_commands.Act]:
    """All kinds of faults, and what each does."""
    found = (
        of_snakemake.KINDS
        | of_commands.SIGNALS
        | of_commands.DISKS
        | of_commands.OF_FILES
        | of_commands.OF_INPUTS
    )
    if os.geteuid():
        found = {kind: act for kind, act in found.items() if kind not in MOUNTS}
    return found


def drawn(bench: Bench, kinds: Sequence[str], seed: int) -> Iterator[Fault]:
    """Faults of all kinds in turn, each kind's stages and files in a random order, without end."""
    while True:
        turns = [_of_kind(bench, kind, seed) for kind in kinds]
        for faults in zip(*turns, strict=False):
            yield from faults
        seed += 1


def _of_kind(bench: Bench, kind: str, seed: int) -> list[Fault]:
    if kind in of_commands.OF_FILES:
        places = [(job.name, name) for job in bench.jobs for name in _read_by(bench, job)]
    elif kind in of_commands.OF_INPUTS:
        places = [(job.name, name) for job in bench.jobs for name in _inputs_of(bench, job)]
    else:
        places = [(job.name, "") for job in bench.jobs]
    order = small.generator(kind, seed).permutation(len(places))
    return [Fault(kind, *places[i], seed) for i in order]


def _read_by(bench: Bench, job: small.Stage) -> list[str]:
    """The result files that a stage may read."""
    parts = [part for before in bench.before(job) for part in before.own]
    names = files_of(bench.undisturbed, dict.fromkeys(parts))
    return [name for name in names if job.reads(name) and not name.endswith((".png", ".html"))]


def _inputs_of(bench: Bench, job: small.Stage) -> list[str]:
    given = [name for name in job.inputs if name.startswith("inputs/")]
    stacks = files_of(bench.undisturbed, ["inputs/stacks"])
    return [*given, *sorted(stacks)[:2]] if job.rule in ("prepare", "validate") else given


def tried(bench: Bench, fault: Fault) -> Outcome:
    """What comes of a fault; an exception of the harness is a bad outcome as well."""
    try:
        return acts()[fault.kind](bench, fault)
    except Exception as error:
        return Outcome(False, f"the harness failed: {type(error).__name__}: {error}")


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
