"""What MAVEn answers, from the numbers in its summary."""

import re

from tomohet.analysis.maven.occupancy import LEAST_ALIGNMENT
from tomohet.answers import Answer, Step, sentence

RARE = 0.02  # a unit in fewer particles, or lacking in fewer, makes no round of its own


def unit_answers(numbers: dict) -> list[Answer]:
    """Say which units come and go, what they need, and whether the model fits the volumes.

    numbers : content of the stage's summary. A round is proposed for each unit that comes and goes, the most
    balanced unit first.
    """
    present = {unit: row["present"] for unit, row in numbers["units"].items() if row["present"] is not None}
    varying = [unit for unit, share in present.items() if RARE < share < 1 - RARE]
    varying.sort(key=lambda unit: abs(present[unit] - 0.5))
    answers = [_unit_answer(unit, present[unit], numbers) for unit in varying]
    if not answers:
        answers = [Answer("Units", "fact", "No unit of the model comes and goes (MAVEn).")]
    return [*answers, *_fit_answers(numbers)]


def _unit_answer(unit: str, share: float, numbers: dict) -> Answer:
    needed = [str(d["requires"]) for d in numbers["dependencies"] if d["unit"] == unit]
    needs = f"; never there without {', '.join(needed)}" if needed else ""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", str(unit))
    step = Step(
        f"Reconstruct the particles with {unit} by themselves: add this round to the configuration.",
        name=f"with_{name}",
        select=numbers["queries"][unit],
    )
    return Answer(unit, "fact", f"Present in {share:.0%} of particles{needs}.", (step,))


def _fit_answers(numbers: dict) -> list[Answer]:
    alignment, correlation = numbers["alignment"], numbers["model_map_correlation"]
    if alignment is None and numbers["resolution_A"] is None:  # masks were given, no model
        return []
    fits = correlation > LEAST_ALIGNMENT
    text = (
        sentence(alignment["verdict"])
        if alignment
        else f"Model and mean volume correlate by {correlation:.2f}."
    )
    step = Step("Check that the model is complete and lies in the volumes (maven/masks.png).")
    return [Answer("Atomic model", "good" if fits else "look", text, () if fits else (step,))]
