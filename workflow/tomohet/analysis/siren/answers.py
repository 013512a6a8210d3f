"""What SIREn answers, from the numbers in its summary."""

from itertools import combinations
from math import dist

from tomohet.answers import Answer, Step

MOST_MOVING = 2  # pairs of blocks that are named as a part in two places


def block_answers(numbers: dict) -> list[Answer]:
    """Say how many blocks there are, and whether volumes of independent voxels would give blocks too.

    numbers : content of the stage's summary; `randomised` is None where the blocks were given
    """
    n, randomised = numbers["n_blocks"], numbers["randomised"]
    text = {
        0: "No block of voxels comes and goes together (SIREn).",
        1: "One block of voxels comes and goes (SIREn).",
    }.get(n, f"{n} blocks of voxels come and go (SIREn). A part that moves gives several.")
    sure = f"{randomised['n_blocks']} by chance" if randomised is not None and n else ""
    answers = [Answer("Blocks", "fact", text, sure=sure), *moving_parts(numbers.get("blocks") or [])]
    if randomised is not None and n:
        by_chance = randomised["n_blocks"]
        text = f"Volumes of the same smoothness, randomised, give {by_chance} blocks."
        answers.append(Answer("Randomised volumes", "look" if by_chance else "good", text))
    outlying = len(numbers["outlying_volumes"])
    if outlying:
        step = Step("Look at the outlying volumes, or give them levels of their own (siren: {level: ...}).")
        text = f"{outlying} volumes enclose far more or less than the others at their level."
        answers.append(Answer("Volumes", "look", text, (step,)))
    return answers


def moving_parts(blocks: list[dict]) -> list[Answer]:
    """Name pairs of blocks that exclude each other: one part in two places, or two parts for one place.

    blocks : rows of blocks.parquet. Of several pairs, the nearest `MOST_MOVING` are named, with the
    distance (Å) of their centres of mass.
    """
    pairs = [
        (dist(*([row[axis] for axis in ("x_A", "y_A", "z_A")] for row in pair)), *(row["id"] for row in pair))
        for pair in combinations(blocks, 2)
        if str(pair[1]["id"]) in str(pair[0]["excludes"]).replace(",", " ").split()
    ]
    return [_moving_part(*pair) for pair in sorted(pairs)[:MOST_MOVING]]


def _moving_part(distance_A: float, first: int, second: int) -> Answer:
    text = (
        f"Blocks {first} and {second} exclude each other, {distance_A:.0f} Å apart: one part that moves "
        "from one to the other, or two parts that compete."
    )
    step = Step(
        f"Blocks {first} and {second}: reconstruct the particles of each. The same density in two places is "
        "one part that moves: fit the linear model inside a mask around both to follow it (linear: "
        "{focus_mask: FILE}).",
        name=f"block_{first}",
        select=f"siren_{first} > 0.5",
        other_name=f"block_{second}",
        other_select=f"siren_{second} > 0.5",
    )
    return Answer("Moving part", "fact", text, (step,))
