"""The first screen of the report: what was found, whether it can be trusted, and what to do next.

Every sentence, its level and every proposed step come from the summary that a stage has written
(`tomohet.answers`); this module sorts them. A stage that has not run says nothing.
"""

import json
from collections.abc import Iterator
from typing import NamedTuple

from tomohet.analysis.maven.answers import ALWAYS
from tomohet.answers import SEVERITY, Level
from tomohet.report.collect import Results, Round

MOST_ROUNDS = 3  # rounds that are proposed, each with the one that it is compared with
# Stages in the order of their answers. Stages that are not named here follow, so that a new stage is heard.
FINDERS = ("linear", "maven", "siren", "states", "proposed")
JUDGED = (
    "subset", "half maps", "support", "linear", "states support", "train_vae", "convergence", "siren",
    "maven", "proposed",
)  # fmt: skip
# What they say is not for the first screen. The leak audit is that of the linear model's latents.
UNHEARD = ("analyze", "clusters support", "classes support", "analyze_volumes", "truth")
SUPPORT = "Subset against control"
AFTER_DETECTION = ("maven", "siren")  # what they find means something only where particles differ


class Line(NamedTuple):
    """One line of the first screen.

    subject, level, sentence : of the answer
    text : to copy; "" without any
    sure : how sure the answer is, and `sure_level`, which tints it
    """

    subject: str
    level: Level
    sentence: str
    text: str = ""
    sure: str = ""
    sure_level: Level = "fact"


def answers(found: Results) -> dict[str, list[Line]]:
    """Return the lines of the first round under `found`, `trust` and `next`; {} without a round."""
    if not found.rounds:
        return {}
    first = found.rounds[0]
    differ = first.summaries["linear"].get("heterogeneity_found") is not False
    return {
        "found": list(_found(first, differ)),
        "trust": list(_trust(found, first)),
        "next": list(_next(found, first, differ)),
    }


def verdict(round_: Round) -> Line | None:
    """Return the round's verdict for the tree: whether its particles differ, as the linear model says."""
    said = list(lines(round_.summaries["linear"]))
    held_out = next((line.level for line in said if line.subject == "Held-out tilts"), None)
    return said[0]._replace(level=held_out) if held_out else None


def support(round_: Round) -> Line | None:
    """Return the verdict of the round's subset against random subsets, once a stage has written one."""
    said = (line for summary in round_.summaries.values() for line in lines(summary))
    return next((line for line in said if line.subject == SUPPORT), None)


def _in_order(first: Round, known: tuple[str, ...], left_out: tuple[str, ...] = ()) -> list[str]:
    """List stages: the known ones in their order, then the others that have left a summary."""
    return [*known, *(name for name in first.summaries if name not in (*known, *left_out, *UNHEARD))]


def _found(first: Round, differ: bool) -> Iterator[Line]:
    detection = verdict(first)
    for stage in _in_order(first, FINDERS, JUDGED):
        if not differ and stage in AFTER_DETECTION:
            continue
        for line in lines(first.summaries[stage]):
            if line.level == "fact" and line.subject != ALWAYS:
                tint = detection.level if detection and line.subject == detection.subject else "fact"
                yield line._replace(sure_level=tint)


def _trust(found: Results, first: Round) -> Iterator[Line]:
    """Return the judged lines, the worst first, and the network's line at any level."""
    said = [*_judged(found.validation)]
    for stage in _in_order(first, JUDGED):
        said += lines(first.summaries[stage]) if stage == "train_vae" else _judged(first.summaries[stage])
    yield from sorted(said, key=lambda line: -SEVERITY.index(line.level))


def _next(found: Results, first: Round, differ: bool) -> Iterator[Line]:
    asked = {round_.query for round_ in found.rounds}
    proposed = 0
    for stage in ("validation", *_in_order(first, JUDGED)):
        summary = found.validation if stage == "validation" else first.summaries[stage]
        for step in _mappings(summary.get("next")):
            line, select = _step(step, first), step.get("select")
            if line is None:
                continue
            if isinstance(select, str):
                if not differ or _is_asked(select, asked) or proposed == MOST_ROUNDS:
                    continue
                proposed += 1
            yield line


def _step(step: dict, first: Round) -> Line | None:
    """Write a step with the text to copy; a proposed round as an entry of `rounds`."""
    said, text = step.get("sentence"), step.get("text", "")
    if not isinstance(said, str) or not isinstance(text, str):
        return None
    entries = [
        f"{step.get(name, 'selected')}: {{parent: {json.dumps(first.name)}, select: "
        f"{json.dumps(step[select])}}}"
        for name, select in (("name", "select"), ("other_name", "other_select"))
        if isinstance(step.get(select), str)
    ]
    return Line("", "fact", said, "\n".join(entries) or text)


def _judged(summary: dict) -> Iterator[Line]:
    return (line for line in lines(summary) if line.level != "fact")


def lines(summary: dict) -> Iterator[Line]:
    """Return the answers of a summary; summaries of earlier versions and of another shape have none."""
    for answer in _mappings(summary.get("answers")):
        line = Line(*(answer.get(key) for key in ("subject", "level", "sentence")))
        if line.level in SEVERITY and isinstance(line.subject, str) and isinstance(line.sentence, str):
            sure = answer.get("sure")
            yield line._replace(sure=sure) if isinstance(sure, str) else line


def _mappings(entries: object) -> list[dict]:
    return [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []


def _is_asked(query: str, asked: set[str | None]) -> bool:
    """Tell whether a round asks for the same unit already."""
    if not query.split():
        return True
    return any(text is not None and query.split(maxsplit=1)[0] in text.split() for text in asked)
