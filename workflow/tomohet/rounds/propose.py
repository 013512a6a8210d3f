"""Proposed rounds: a tree of divisions of a round's particles, each with its evidence or the reason to stop.

At each node all candidates that leave enough particles on both sides are tested together. Of those whose maps
differ beyond noise and whose labels are stable, the one with the most reproducible power divides the node:
power counts the number of particles on both sides and the size of the difference. A unit that never occurs
without another waits until the other has divided. Of candidates that draw nearly the same line, the best
understood is taken (`propose_candidates.SOURCES`). The parts are divided in the same way, by the latents and
labels of the root, so that the whole tree is known at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomohet.rounds.propose_candidates import (
    SOURCES,
    Candidate,
    fixed_candidates,
    grouped_candidates,
    states_kind,
)
from tomohet.rounds.propose_evidence import LEAST_KAPPA, Evidence, RoundData, evidence_of

SAME = 0.9  # correlation of labels from which two candidates draw the same line


@dataclass(frozen=True)
class Limits:
    """How far the tree may grow: divisions on a path, and particles of a part."""

    depth: int
    min_particles: int


@dataclass(frozen=True)
class Node:
    """Particles that belong together.

    name : of the proposed round; that of the finished round for the root
    conditions : on the root's particle table, all of which the particles fulfil
    n_particles : number of particles
    tested : evidence of every candidate
    split : what divides the particles; None where they stay together
    stop : the reason why they stay together, a sentence; "" where they are divided
    parts : the two parts; none where they stay together
    """

    name: str
    conditions: tuple[str, ...]
    n_particles: int
    tested: tuple[Evidence, ...]
    split: Evidence | None
    stop: str
    parts: tuple["Node", ...] = ()

    def all(self) -> Iterator["Node"]:
        """Yield the node, then all nodes below, each before its parts."""
        yield self
        for part in self.parts:
            yield from part.all()

    @property
    def query(self) -> str:
        """The conditions as one query."""
        return " and ".join(self.conditions)


@dataclass(frozen=True)
class _Task:
    """What a tree grows from: a round, the candidates of any of its particles, the kind of its states."""

    data: RoundData
    fixed: list[Candidate]
    kind: str
    limits: Limits
    seed: int


def proposed_tree(data: RoundData, round_dir: Path, limits: Limits, seed: int) -> Node:
    """Grow the tree of a finished round, whose folder is `round_dir`."""
    task = _Task(data, fixed_candidates(round_dir, data.table), states_kind(round_dir), limits, seed)
    return _grown(task, round_dir.name, (), np.ones(len(data.table), bool))


def _grown(task: _Task, name: str, conditions: tuple[str, ...], members: np.ndarray) -> Node:
    """Divide members (N,) bool of the round, which fulfil the conditions, as far as the evidence goes."""
    n, tested = int(members.sum()), ()
    if stop := _end(task, len(conditions)):
        return Node(name, conditions, n, tested, None, stop)
    candidates = _candidates(task, members)
    if not candidates:
        least = task.limits.min_particles
        stop = f"nothing known divides the {n} particles clearly into parts of {least} or more"
        return Node(name, conditions, n, tested, None, stop)
    tested = tuple(evidence_of(task.data, members, candidates, task.seed))
    best = best_of(tested, members)
    if best is None:
        return Node(name, conditions, n, tested, None, _reason(tested))
    sides = zip(
        best.candidate.names, best.candidate.queries, (best.first, members & ~best.first), strict=True
    )
    parts = tuple(_grown(task, f"{name}_{word}", (*conditions, query), part) for word, query, part in sides)
    return Node(name, conditions, n, tested, best, "", parts)


def _end(task: _Task, depth: int) -> str:
    """Say why nothing is tested any more; "" if candidates are to be tested."""
    if not task.data.heterogeneous:
        return "held-out tilts confirm no difference between the particles"
    return f"the largest depth, {depth}, is reached" if depth == task.limits.depth else ""


def _candidates(task: _Task, members: np.ndarray) -> list[Candidate]:
    """List the candidates that divide the members into two parts of enough particles."""
    table, least = task.data.table, task.limits.min_particles

    def divides(one: Candidate) -> bool:
        first = int((one.first(table) & members).sum())
        return min(first, members.sum() - first) >= least and one.divides(table[members])

    grouped = grouped_candidates(table, task.data.points, members, task.kind, task.seed)
    return [one for one in (*task.fixed, *grouped) if divides(one)]


def best_of(tested: tuple[Evidence, ...], members: np.ndarray) -> Evidence | None:
    """Choose what divides the members (N,) bool; None if no candidate is supported and stable."""
    passing = [one for one in tested if one.supported and one.stable]
    subjects = {one.candidate.subject for one in passing}
    waiting = [one for one in passing if subjects.intersection(one.candidate.requires)]
    ready = [one for one in passing if not any(_same_line(one, other, members) for other in waiting)]
    if not ready:
        return None
    strongest = max(ready, key=lambda one: one.difference.ratio)
    alike = [one for one in ready if _same_line(one, strongest, members)]
    return min(alike, key=lambda one: (SOURCES.index(one.candidate.source), -one.difference.ratio))


def _same_line(one: Evidence, other: Evidence, members: np.ndarray) -> bool:
    if one is other:
        return True
    return bool(abs(np.corrcoef(one.first[members], other.first[members])[0, 1]) >= SAME)


def _reason(tested: tuple[Evidence, ...]) -> str:
    """Say why no candidate divides the particles, with the best of them."""
    best = min(tested, key=lambda one: (not one.supported, one.kappa < LEAST_KAPPA, one.p_value, one.valley))
    if not best.supported:
        why = "its maps do not differ beyond noise"
    elif best.kappa < LEAST_KAPPA:
        why = "separate tilts do not agree on the sides"
    else:
        why = "no valley lies between the sides, as in a continuum"
    of = f"the best of {len(tested)} candidates" if len(tested) > 1 else "the only candidate"
    return f"{of}, {best.candidate.subject}, is refused: {why} ({_figures(best)})"


def _figures(one: Evidence) -> str:
    figures = f"{one.n[0]} and {one.n[1]} particles, p = {one.p_value:.1g}, kappa {one.kappa:.2f}"
    return f"{figures}, valley {one.valley:.2f}"
