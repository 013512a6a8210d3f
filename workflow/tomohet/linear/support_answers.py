"""What the comparison of a subset with the other particles answers, from the numbers of its summary."""

from tomohet.answers import Answer, Step, sentence
from tomohet.linear.explained import CONDITIONS
from tomohet.reconstruction.controls import LEAST_P
from tomohet.reconstruction.subset_maps import HIGH_SIGMA

LEVELS = {"supported": "good", "weak": "look", "not supported": "bad"}
LEAST_SAMPLING = 0.5  # of uniform orientations, in the direction sampled least
MOST_ANISOTROPIC = 1.5  # worst resolution over the median one
MAP_TO_MAP = 1.3  # FSC = 0.5 with the decoded volume, over the same of the half maps
CONTROL, COVERAGE, DECODED = "Subset against control", "Orientation coverage", "Map and decoded volume"
NOT_PROVEN = Step(
    "Read no structure into the subset: at this number of particles it is no more than a random one, or one "
    "selected by noise."
)
MORE = Step("Add particles, or select the subset by another criterion, and see whether the difference stays.")


def subset_answers(numbers: dict) -> list[Answer]:
    """Return the answers about one subset: control, orientation coverage, decoded volume."""
    if "verdict" not in numbers:
        return [Answer(CONTROL, "fact", numbers["reason"])]
    verdict = numbers["verdict"]
    steps = {"supported": (), "weak": (MORE,), "not supported": (NOT_PROVEN,)}[verdict]
    answers = [Answer(CONTROL, LEVELS[verdict], sentence_of(numbers), steps)]
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
    return [Answer(CONTROL, worst, sentence(f"{text} {sentence(named)}"), (NOT_PROVEN,))]


def sentence_of(numbers: dict) -> str:
    """Say the verdict on one subset, with its reason."""
    return f"{numbers['verdict'].capitalize()}: {_reason(numbers)}."


def _reason(numbers: dict) -> str:
    random, held_out = numbers["p_random"], numbers["p_held_out"]
    if numbers["directions_confirmed"] == 0:
        return (
            "held-out tilts confirm no difference between these particles, and a subset selected by its "
            "noise would differ as much"
        )
    if numbers["p_value"] > numbers["p_supported"]:
        doubt = "may" if numbers["verdict"] == "not supported" else "could"
        if held_out is None or random >= held_out:
            return (
                f"random subsets of {numbers['n_members']:,} particles {doubt} differ as much ({_p(random)})"
            )
        return (
            f"held-out tilts hardly confirm the difference ({_p(held_out)}), and a subset selected by its "
            f"noise {doubt} differ as much"
        )
    if numbers["followed_condition"]:
        meaning, share = CONDITIONS[numbers["followed_condition"]], 100 * numbers["followed_share"]
        return f"{meaning} explains {share:.0f} % of the membership, and may explain the difference"
    confirmed = "" if held_out is None else f", and held-out tilts confirm it ({_p(held_out)})"
    return (
        f"the difference to the other {numbers['n_others']:,} particles exceeds that of random subsets "
        f"({_p(random)}){confirmed}; {numbers['difference_sigma_most']:.1f} sigma at most, "
        f"{100 * numbers['difference_share_high']:.0f} % of the mask's voxels above {HIGH_SIGMA:g} sigma"
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
