"""The first screen of the report: what was found, whether it can be trusted, and what to do next.

Every sentence comes from the summary that a stage has written; nothing is computed here. A stage that has not
run says nothing.
"""

import json
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from tomohet.report.collect import Results, Round

Level = Literal["good", "look", "bad", "fact"]
RARE = 0.02  # a unit in fewer particles, or lacking in fewer, makes no round of its own
MOST_ROUNDS = 2  # rounds that are proposed
# Verdict of `convergence_vae` (`analysis.verdict`) -> level, sentence.
CONVERGENCE: dict[object, tuple[Level, str]] = {
    "converged": ("good", "The training of the network has converged."),
    "still changing": ("look", "The last epochs still changed the network."),
    "too few epochs to judge": ("look", "The training has too few epochs to judge its convergence."),
    "collapsed": ("bad", "The latents have collapsed: they do not tell particles apart."),
}
LEVEL_OF_INPUT: dict[object, Level] = {"pass": "good", "look": "look", "stop": "bad"}


class Answer(NamedTuple):
    """One line of the first screen.

    subject : what the sentence is about, in a word or two
    level : good, look or bad; fact for a sentence that is neither
    sentence : the answer
    text : what to copy, such as lines of the configuration; "" without any
    """

    subject: str
    level: Level
    sentence: str
    text: str = ""


def answers(found: Results) -> dict[str, list[Answer]]:
    """Return the answers of the first round under `found`, `trust` and `next`; {} without a round."""
    if not found.rounds:
        return {}
    first = found.rounds[0]
    return {
        "found": list(_found(first)),
        "trust": list(_trust(found, first)),
        "next": list(_next(found, first)),
    }


def _found(first: Round) -> Iterator[Answer]:
    linear, states, siren, maven = (first.summaries[name] for name in ("linear", "states", "siren", "maven"))
    if linear.get("verdict"):
        yield Answer("Particles", "fact", _sentence(linear["verdict"]))
    if linear.get("heterogeneity_found") is not False:
        yield from _parts(siren, maven)
    if states.get("verdict"):
        yield Answer("States", "fact", _sentence(states["verdict"]))


def _parts(siren: dict, maven: dict) -> Iterator[Answer]:
    """Tell which parts come and go, where the held-out tilt images confirm that particles differ."""
    for unit, numbers in _varying(maven).items():
        needs = [str(d.get("requires")) for d in _rows(maven, "dependencies") if d.get("unit") == unit]
        needed = f"; never there without {', '.join(needs)}" if needs else ""
        yield Answer(unit, "fact", f"Present in {numbers['present']:.0%} of the particles{needed}.")
    if not _varying(maven) and siren.get("n_blocks") is not None:
        yield Answer("Blocks", "fact", f"{siren['n_blocks']} blocks come and go together (SIREn).")


def _trust(found: Results, first: Round) -> Iterator[Answer]:
    validation, linear = found.validation, first.summaries["linear"]
    if validation.get("verdict") in LEVEL_OF_INPUT:
        checks = [check for check in _rows(validation, "checks") if check.get("verdict") != "pass"]
        raised = "; ".join(f"{check.get('name')}: {check.get('message')}" for check in checks[:2])
        level = LEVEL_OF_INPUT[validation["verdict"]]
        yield Answer("Input", level, _sentence(raised) if raised else "All checks of the input passed.")
    if "held_out_p_value" in linear and linear["held_out_p_value"] is None:
        sentence = "No particle has three tilt images, so none could be held out: nothing is confirmed."
        yield Answer("Held-out tilts", "look", sentence)
    if isinstance(linear.get("held_out_p_value"), int | float):
        p, there = linear["held_out_p_value"], linear.get("heterogeneity_found")
        sentence = (
            f"The latents {'predict' if there else 'do not predict'} held-out tilt images (p = {p:.1g})."
        )
        yield Answer("Held-out tilts", "good" if there else "look", sentence)
    if linear.get("poses"):
        errors = linear.get("pose_errors")
        one_direction = isinstance(errors, dict) and errors.get("one_direction")
        yield Answer("Poses", "look" if one_direction else "good", _sentence(linear["poses"]))
    leaks = _rows(linear, "leaks")
    raised = [leak for leak in leaks if leak.get("verdict") not in ("clean", None)]
    if leaks:
        worst: Level = "bad" if any(leak.get("verdict") == "leak" for leak in raised) else "look"
        names = ", ".join(dict.fromkeys(_name(leak) for leak in raised))
        sentence = (
            f"Latents may follow: {names}." if raised else "No latent follows how a particle was imaged."
        )
        yield Answer("Leak audit", worst if raised else "good", sentence)
    if first.summaries["train_vae"].get("verdict"):
        yield Answer("Network", "fact", _sentence(first.summaries["train_vae"]["verdict"]))
    convergence = first.summaries["convergence"].get("verdict")
    if isinstance(convergence, str) and convergence in CONVERGENCE:
        yield Answer("Convergence", *CONVERGENCE[convergence])


def _next(found: Results, first: Round) -> Iterator[Answer]:
    if found.validation.get("verdict") in ("look", "stop"):
        yield Answer("Input", "fact", "Read what the check of the input says: validation/validation.html.")
    linear, maven = first.summaries["linear"], first.summaries["maven"]
    if linear.get("heterogeneity_found") is False:
        yield Answer(
            "Particles", "fact", "Add particles or tilt images: at this number nothing is confirmed."
        )
    asked = {round_.query for round_ in found.rounds}
    queries = maven.get("queries") if isinstance(maven.get("queries"), dict) else {}
    confirmed = linear.get("heterogeneity_found") is not False
    varying = [unit for unit in _varying(maven) if isinstance(queries.get(unit), str)] if confirmed else []
    new = [unit for unit in varying if not _is_asked(queries[unit], asked)]
    for unit in new[:MOST_ROUNDS]:
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", str(unit))
        line = f"with_{name}: {{parent: {json.dumps(first.name)}, select: {json.dumps(queries[unit])}}}"
        yield Answer(
            "A round",
            "fact",
            f"Reconstruct the particles with {unit} by themselves, as an entry of rounds.",
            line,
        )
    if first.summaries["convergence"].get("verdict") == "still changing":
        epochs = first.summaries["convergence"].get("epoch")
        longer = f"train: {{epochs: {2 * (epochs + 1)}}}" if isinstance(epochs, int) and epochs >= 0 else ""
        yield Answer("Training", "fact", "Train longer: the last epochs still changed the network.", longer)


def _varying(maven: dict) -> dict[str, dict]:
    """Return the units that come and go, the most balanced first."""
    units = maven.get("units") if isinstance(maven.get("units"), dict) else {}
    share = {
        name: numbers["present"]
        for name, numbers in units.items()
        if isinstance(numbers, dict) and isinstance(numbers.get("present"), int | float)
    }
    varying = [name for name in share if RARE < share[name] < 1 - RARE]
    return {name: units[name] for name in sorted(varying, key=lambda name: abs(share[name] - 0.5))}


def _is_asked(query: str, asked: set[str | None]) -> bool:
    """Tell whether a round asks for the same unit already."""
    if not query.split():
        return True
    return any(text is not None and query.split(maxsplit=1)[0] in text.split() for text in asked)


def _rows(summary: dict, key: str) -> list[dict]:
    """Return the entries of a list that are mappings; [] without the list."""
    entries = summary.get(key)
    return [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []


def _name(leak: dict) -> str:
    """Return the condition of imaging that a leak is about, without its explanation."""
    return str(leak.get("meaning", leak.get("nuisance"))).split(":", maxsplit=1)[0]


def _sentence(text: object) -> str:
    words = str(text).strip()
    return f"{words[:1].upper()}{words[1:]}{'' if words.endswith('.') else '.'}"
