"""What the comparison of a subset with the other particles answers, from the numbers of its summary."""

from tomohet.answers import Answer, Step, sentence
from tomohet.linear.explained import CONDITIONS
from tomohet.reconstruction.controls import LEAST_P
from tomohet.reconstruction.subset_maps import HIGH_SIGMA
from tomohet.reconstruction.support import WEAK_P

LEVELS = {"supported": "good", "weak": "look", "not supported": "bad"}
LEAST_SAMPLING = 0.5  # of uniform orientations, in the direction sampled least
MOST_ANISOTROPIC = 1.5  # worst resolution over the median one
MAP_TO_MAP = 1.3  # FSC = 0.5 with the decoded volume, over the same of the half maps
CONTROL, COVERAGE, DECODED = "Subset against control", "Orientation coverage", "Map and decoded volume"
NO_DIFFERENCE = Step(
    "Read no structure into the subset: at this number of particles its map differs from that of the others "
    "no more than the map of a random subset does."
)
PERHAPS_NOISE = Step(
    "Read no structure into the difference before new images confirm it: fit the linear model to more "
    "particles, or select the subset by another criterion."
)
NO_CONTROL = Step("Compare particles of the same viewing directions, number of tilts and dose.")
MORE = Step("Add particles, or select the subset by another criterion, and see whether the difference stays.")


def subset_answers(numbers: dict) -> list[Answer]:
    """Return the answers about one subset: control, orientation coverage, decoded volume."""
    if "verdict" not in numbers:
        return [Answer(CONTROL, "fact", numbers["reason"])]
    answers = [Answer(CONTROL, LEVELS[numbers["verdict"]], sentence_of(numbers), steps_of(numbers))]
    if "coverage" in numbers:
        answers.append(_coverage(numbers["coverage"]))
    if "decoded_fsc05_A" in numbers:
        answers.append(_decoded(numbers))
    return answers


def group_answers(numbers: dict) -> list[Answer]:
    """Return the answer about several groups, each against all others."""
    groups, column = numbers["groups"], numbers["column"]
    compared = [one for one in groups if "verdict" in one]
    if not compared:
        return [Answer(CONTROL, "fact", f"Column {column} has no two groups that could be compared.")]
    doubtful = [one for one in compared if one["verdict"] != "supported"]
    supported = len(compared) - len(doubtful)
    text = f"{supported} of {len(compared)} groups of {column} are supported against the others."
    if not doubtful:
        return [Answer(CONTROL, "good", text)]
    named = "; ".join(f"{column} {one['group']}: {one['verdict']}, {_reason(one)}" for one in doubtful[:3])
    worst = "bad" if any(one["verdict"] == "not supported" for one in doubtful) else "look"
    steps = dict.fromkeys(step for one in doubtful[:3] for step in steps_of(one))
    return [Answer(CONTROL, worst, sentence(f"{text} {sentence(named)}"), tuple(steps))]


def sentence_of(numbers: dict) -> str:
    """Say the verdict on one subset, with its reason."""
    return f"{numbers['verdict'].capitalize()}: {_reason(numbers)}."


def steps_of(numbers: dict) -> tuple[Step, ...]:
    """Return what to do about a doubtful subset; nothing about a supported one."""
    if numbers["verdict"] == "supported":
        return ()
    if not numbers["controls_matched"]:
        return (NO_CONTROL,)
    if numbers["verdict"] == "weak":
        return (MORE,)
    return (PERHAPS_NOISE,) if maps_differ(numbers) else (NO_DIFFERENCE,)


def maps_differ(numbers: dict) -> bool:
    """Whether the map differs more than the maps of random subsets do, whatever has made the difference."""
    return numbers["p_random"] <= WEAK_P


def _reason(numbers: dict) -> str:
    random, held_out = numbers["p_random"], numbers["p_held_out"]
    if not numbers["controls_matched"]:
        decided = 100 * (1 - numbers["share_exchangeable"])
        return (
            f"viewing direction, number of tilts or dose decide {decided:.0f} % of the membership, so that "
            "no random subset was imaged alike, and the difference cannot be tested"
        )
    like_chance = (
        f"random subsets of {numbers['n_members']:,} particles that were imaged alike differ as much "
        f"({_p(random)})"
    )
    if not maps_differ(numbers):
        return f"no difference is found in the maps, because {like_chance}"
    differs = (
        f"the difference to the other {numbers['n_others']:,} particles exceeds that of random subsets that "
        f"were imaged alike ({_p(random)})"
    )
    if held_out is not None and held_out > numbers["p_supported"]:
        return f"{differs}, but {_unconfirmed(numbers)}"
    if random > numbers["p_supported"]:
        return f"a few {like_chance}"
    if numbers["followed_condition"]:
        meaning, share = CONDITIONS[numbers["followed_condition"]], 100 * numbers["followed_share"]
        return f"{meaning} explains {share:.0f} % of the membership, and may explain the difference"
    confirmed = "" if held_out is None else f", and held-out tilts confirm it ({_p(held_out)})"
    return (
        f"{differs}{confirmed}; {numbers['difference_sigma_most']:.1f} sigma at most, "
        f"{100 * numbers['difference_share_high']:.0f} % of the mask's voxels above {HIGH_SIGMA:g} sigma"
    )


def _unconfirmed(numbers: dict) -> str:
    """Say that chosen images may have made a difference of the maps, and why held-out tilts do not tell."""
    if numbers["directions_confirmed"] == 0:
        why = "held-out tilts confirm no direction along which particles differ"
    else:
        hardly = "do not confirm" if numbers["p_held_out"] > WEAK_P else "hardly confirm"
        why = f"held-out tilts {hardly} it ({_p(numbers['p_held_out'])})"
    return (
        f"{why}: the choice of images with like noise may have made it, or it is true and the linear model "
        "does not find it"
    )


def _coverage(coverage: dict) -> Answer:
    worst, median = coverage["resolution_worst_A"], coverage["resolution_median_A"]
    even = coverage["sampling_least"] >= LEAST_SAMPLING and worst <= MOST_ANISOTROPIC * median
    text = (
        f"The direction with the fewest images has {coverage['sampling_least']:.2f} times as many as uniform "
        f"orientations give; the 3-D FSC reaches {coverage['resolution_best_A']:.1f} to {worst:.1f} Å, "
        "depending on the direction."
    )
    return Answer(COVERAGE, "good" if even else "look", text)


def _decoded(numbers: dict) -> Answer:
    found, expected = numbers["decoded_fsc05_A"], numbers["half_maps_fsc05_A"]
    text = (
        f"The volume decoded at the subset's mean latent agrees with its map to {found:.1f} Å (FSC = 0.5); "
        f"half maps do to {expected:.1f} Å."
    )
    return Answer(DECODED, "good" if found <= MAP_TO_MAP * expected else "look", text)


def _p(value: float) -> str:
    return f"p < {10 * LEAST_P:.0e}" if value < 10 * LEAST_P else f"p = {value:.1g}"
