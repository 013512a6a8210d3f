"""Proposed rounds as text of the configuration, with the evidence in comments, and as answers."""

import json
import textwrap

from tomohet.answers import Answer, Step
from tomohet.rounds.propose import Limits, Node
from tomohet.rounds.propose_evidence import Evidence

WIDTH = 110


def configuration_text(tree: Node, source: str) -> str:
    """Write the rounds of a tree as YAML, one line each, the evidence above the two parts.

    source : what the rounds are proposed from, for the first comment

    All rounds select from the root's table, in which the columns of their queries stand: labels of states
    and clusters have another meaning in the table of another round.
    """
    lines = [f"# Proposed from {source}."]
    if not tree.parts:
        return "\n".join([*lines, *_comment(f"No division: {tree.stop}."), "rounds: {}", ""])
    lines.append("rounds:")
    for node in tree.all():
        if node.split is None:
            continue
        lines += _comment(
            f"{node.name}, {node.n_particles} particles, is divided. {node.split.sentence}.", "  "
        )
        for part in node.parts:
            lines.append(round_line(part, tree.name, comment=True))
            if part.stop:
                lines += _comment(f"Not divided: {part.stop}.", "  ")
    return "\n".join([*lines, ""])


def round_line(node: Node, parent: str, comment: bool = False) -> str:
    """Write one round as a line below `rounds:`."""
    note = f"  # {node.n_particles} particles" if comment else ""
    return f"  {node.name}: {{parent: {json.dumps(parent)}, select: {json.dumps(node.query)}}}{note}"


def proposal_answers(tree: Node) -> list[Answer]:
    """Say which rounds are proposed, or why none is."""
    if not tree.parts:
        return [Answer("Proposed rounds", "fact", f"No rounds are proposed: {tree.stop}.")]
    below = [node for node in tree.all() if node is not tree]
    divided = [f"{node.name} by {node.split.candidate.subject}" for node in tree.all() if node.split]
    text = "\n".join(["rounds:", *(round_line(node, tree.name) for node in below)])
    step = Step("Add the proposed rounds to the configuration.", text=text)
    return [
        Answer("Proposed rounds", "fact", f"{len(below)} rounds are proposed: {', '.join(divided)}.", (step,))
    ]


def proposal_numbers(tree: Node, limits: Limits, seed: int) -> dict:
    """Return the rounds and all evidence as plain values."""
    below = [node for node in tree.all() if node is not tree]
    return {
        "round": tree.name,
        "n_particles": tree.n_particles,
        "depth": limits.depth,
        "min_particles": limits.min_particles,
        "seed": seed,
        "rounds": {
            node.name: {"parent": tree.name, "select": node.query, "n_particles": node.n_particles}
            for node in below
        },
        "nodes": [
            {
                "name": node.name,
                "n_particles": node.n_particles,
                "divided_by": node.split.candidate.subject if node.split else None,
                "parts": [part.name for part in node.parts],
                "stop": node.stop,
                "tested": [_tested(one) for one in node.tested],
            }
            for node in tree.all()
        ],
    }


def _tested(one: Evidence) -> dict:
    return {
        "subject": one.candidate.subject,
        "queries": list(one.candidate.queries),
        "n_particles": list(one.n),
        "p_value": one.p_value,
        "p_random": one.difference.p_random,
        "p_held_out": one.difference.p_held_out,
        "power_to_random": one.difference.ratio,
        "agreement": one.agreement,
        "kappa": one.kappa,
        "valley": one.valley,
        "supported": one.supported,
        "stable": one.stable,
    }


def _comment(text: str, indent: str = "") -> list[str]:
    prefix = f"{indent}# "
    return textwrap.wrap(text, WIDTH, initial_indent=prefix, subsequent_indent=prefix)
