"""What SIREn answers, from the numbers in its summary."""

from tomohet.answers import Answer, Step


def block_answers(numbers: dict) -> list[Answer]:
    """Say how many blocks there are, and whether volumes of independent voxels would give blocks too.

    numbers : content of the stage's summary; `randomised` is None where the blocks were given
    """
    n, randomised = numbers["n_blocks"], numbers["randomised"]
    text = {
        0: "No block of voxels comes and goes together (SIREn).",
        1: "One block of voxels comes and goes (SIREn).",
    }.get(n, f"{n} blocks of voxels come and go (SIREn). A part that moves gives several.")
    answers = [Answer("Blocks", "fact", text)]
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
