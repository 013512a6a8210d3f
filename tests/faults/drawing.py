"""Which faults there are, in which order they are tried, and what came of each."""

import os
from collections.abc import Iterator, Sequence

import of_commands
import of_snakemake
import small_workflow as small
from comparing import files_of
from disturbed import Bench, Fault, Outcome

MOUNTS = ("full disk", "read-only results")
UNREAD = (".png", ".html", ".cxc", ".mrc")  # by later stages; of maps, see `_read_by`


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
        if not any(turns):
            raise ValueError(f"no stage of {[job.name for job in bench.jobs]} can have a fault of {kinds}")
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
    """The result files that a stage may read; of maps only volumes, and two of each folder."""
    parts = [part for before in bench.before(job) for part in before.own]
    names = [name for name in files_of(bench.undisturbed, dict.fromkeys(parts)) if job.reads(name)]
    maps = [name for name in names if name.endswith("_000.mrc") or name.endswith("_001.mrc")]
    return [name for name in names if not name.endswith(UNREAD)] + [m for m in maps if "/volumes/" in m]


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
