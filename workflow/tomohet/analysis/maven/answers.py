"""What MAVEn answers, from the numbers in its summary."""

import re

from tomohet.analysis.maven.occupancy import LEAST_ALIGNMENT
from tomohet.answers import Answer, Step, sentence

# Subjects of the units that are in all particles.
ALWAYS = "Always present"
MOVING = "Moving unit"
RARE = 0.02  # a unit in fewer particles, or lacking in fewer, makes no round of its own
BALANCED = 0.25  # a unit in this share of the particles to 1 - it: both sides are large
# A unit that is always there moves, or is partly disordered, where its occupancy varies by more than this
# (standard deviation) and by so many times more than that of the steadiest unit. Not calibrated.
LEAST_SPREAD, TIMES_STEADIEST = 0.03, 3.0
LEAST_CONFUSED = 5e-4  # share of particles; less is said to be none


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
    always = [unit for unit, share in present.items() if share >= 1 - RARE]
    return [*answers, *_always_answers(always, numbers["units"]), *_fit_answers(numbers)]


def _unit_answer(unit: str, share: float, numbers: dict) -> Answer:
    needed = [str(d["requires"]) for d in numbers["dependencies"] if d["unit"] == unit]
    needs = f"; never there without {', '.join(needed)}" if needed else ""
    n, confused = numbers.get("n_particles"), numbers["units"][unit].get("confused")
    sure = [f"± {100 * (share * (1 - share) / n) ** 0.5:.1g}%"] if n else []
    if confused is not None and confused > LEAST_CONFUSED:
        sure.append(f"{100 * confused:.1g}% confused")
    return Answer(
        unit,
        "fact",
        f"Present in {share:.0%} of particles{needs}.",
        (_round(unit, share, numbers),),
        ", ".join(sure),
    )


def _round(unit: str, share: float, numbers: dict) -> Step:
    """Propose the particles that differ most from those of this round; of two large sides, both."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", str(unit))
    sides = {
        "with": (f"with_{name}", numbers["queries"][unit]),
        "without": (f"without_{name}", numbers["queries"][unit].replace(" > ", " <= ")),
    }
    if BALANCED <= share <= 1 - BALANCED:
        text = (
            f"{unit}: reconstruct the particles with it ({share:.0%}) and those without. Both are many, so "
            "the difference of their maps tells most."
        )
        return Step(text, "", *sides["with"], *sides["without"])
    few, many = ("without", "with") if share > 0.5 else ("with", "without")
    text = (
        f"{unit}: reconstruct the {min(share, 1 - share):.0%} {few} it. Those {many} it are nearly all: "
        "their map would be this round's again."
    )
    return Step(text, "", *sides[few])


def _always_answers(always: list, units: dict) -> list[Answer]:
    """Name the units that are in all particles: no selection shows their changes, but their spread may."""
    spread = {unit: units[unit].get("sd") for unit in always if units[unit].get("sd") is not None}
    if not spread:
        return []
    steadiest = min(spread.values())
    moving = [u for u, sd in spread.items() if sd > LEAST_SPREAD and sd > TIMES_STEADIEST * steadiest]
    answers = []
    for unit in moving:
        text = (
            f"{unit} is always there, with varying occupancy ({units[unit]['mean']:.2f} ± "
            f"{spread[unit]:.2f}): it moves, or is partly disordered."
        )
        step = Step(
            f"{unit}: no particle lacks it, so no selection tells how it moves. Fit the linear model inside "
            "a mask around it (linear: {focus_mask: FILE}; maven/masks has masks)."
        )
        sure = f"steadiest unit ± {steadiest:.1g}"
        answers.append(Answer(MOVING, "fact", text, (step,), sure))
    steady = [str(unit) for unit in always if unit not in moving]
    if steady:
        step = Step(
            f"{', '.join(steady)}: in all particles. If it moved, the map of where particles differ "
            "would show a shell around it."
        )
        text = f"In all particles, with steady occupancy: {', '.join(steady)}."
        answers.append(Answer(ALWAYS, "fact", text, (step,)))
    return answers


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
