"""What a stage answers: sentences with a level, and what to do next.

A stage writes its answers into its summary (`stated`); the report and other readers sort and show them.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

Level = Literal["good", "look", "bad", "fact"]
SEVERITY: tuple[Level, ...] = ("fact", "good", "look", "bad")
STATED = ("level", "sentence", "next", "answers")  # entries of a summary


class Step(NamedTuple):
    """Something worth doing next.

    sentence : what to do
    text : lines of the configuration, or a command, to copy; "" without any
    name, select : of a proposed round of the particles for which the query `select` is true
    other_name, other_select : of a second round to compare the first with; "" without any
    """

    sentence: str
    text: str = ""
    name: str = ""
    select: str = ""
    other_name: str = ""
    other_select: str = ""


class Answer(NamedTuple):
    """One sentence of a stage.

    subject : what the sentence is about, in a word or two
    level : good, look or bad; fact for a finding, which is neither
    next : what to do about it
    sure : how sure it is, in a few words: a p value, an error; "" where the sentence says it
    """

    subject: str
    level: Level
    sentence: str
    next: tuple[Step, ...] = ()
    sure: str = ""


def stated(answers: Sequence[Answer]) -> dict:
    """Return the entries of a stage's summary: level, sentence, next, answers.

    The level is the worst of all answers, the sentence that of the first answer. `next` has the steps of all
    answers in their order, each with the keys of `Step` that it has.
    """
    if not answers:
        return {}
    return {
        "level": max((answer.level for answer in answers), key=SEVERITY.index),
        "sentence": answers[0].sentence,
        "next": [_filled(step) for answer in answers for step in answer.next],
        "answers": [
            {"subject": answer.subject, "level": answer.level, "sentence": answer.sentence}
            | ({"sure": answer.sure} if answer.sure else {})
            for answer in answers
        ],
    }


def sentence(text: object) -> str:
    """Write a text as a sentence: with a capital letter and a full stop."""
    words = str(text).strip()
    return f"{words[:1].upper()}{words[1:]}{'' if words.endswith('.') else '.'}"


def _filled(step: Step) -> dict[str, str]:
    return {key: value for key, value in step._asdict().items() if value}
