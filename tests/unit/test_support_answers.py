"""What the comparison of a subset says: verdicts, reasons, coverage, decoded volume."""

import pytest

from tomohet.linear.support_answers import CONTROL, group_answers, subset_answers
from tomohet.reconstruction.support import Difference

SUPPORTED = {
    "verdict": "supported",
    "n_members": 218,
    "n_others": 182,
    "p_value": 0.002,
    "p_random": 0.002,
    "p_held_out": 1e-6,
    "p_supported": 0.01,
    "directions_confirmed": 2,
    "difference_sigma_most": 5.13,
    "difference_share_high": 0.061,
    "followed_condition": None,
    "followed_share": None,
}
COVERAGE = {
    "sampling_least": 0.8,
    "sampling_median": 1.0,
    "resolution_best_A": 9.0,
    "resolution_median_A": 10.0,
    "resolution_worst_A": 12.0,
}


def doubtful(verdict="not supported", **values):
    return SUPPORTED | {"verdict": verdict} | values


def test_a_supported_subset():
    (answer,) = subset_answers(SUPPORTED)
    assert (answer.subject, answer.level, answer.next) == (CONTROL, "good", ())
    assert answer.sentence == (
        "Supported: the difference to the other 182 particles exceeds that of random subsets (p = 0.002), "
        "and held-out tilts confirm it (p < 1e-05); 5.1 sigma at most, 6 % of the mask's voxels above 4 "
        "sigma."
    )
    (answer,) = subset_answers(SUPPORTED | {"p_held_out": None})
    assert "held-out" not in answer.sentence


@pytest.mark.parametrize(
    ("numbers", "level", "said"),
    [
        (doubtful(p_random=0.3, p_value=0.3), "bad", "subsets of 218 particles may differ as much (p = 0.3)"),
        (doubtful(p_held_out=0.4, p_value=0.4), "bad", "tilts hardly confirm the difference (p = 0.4)"),
        (doubtful("weak", p_held_out=0.03, p_value=0.03), "look", "noise could differ as much"),
        (doubtful(p_held_out=1.0, p_value=1.0, directions_confirmed=0), "bad", "confirm no difference"),
        (
            doubtful("weak", followed_condition="tomogram", followed_share=0.8),
            "look",
            "the tomogram explains 80 % of the membership",
        ),
    ],
)  # fmt: skip
def test_doubtful_subsets_have_a_reason_and_a_next_step(numbers, level, said):
    (answer,) = subset_answers(numbers)
    assert answer.level == level and said in answer.sentence and len(answer.next) == 1
    assert answer.sentence.startswith(f"{numbers['verdict'].capitalize()}: ")


@pytest.mark.parametrize(
    ("changed", "level"),
    [({}, "good"), ({"sampling_least": 0.2}, "look"), ({"resolution_worst_A": 16.0}, "look")],
)
def test_coverage(changed, level):
    answer = subset_answers(SUPPORTED | {"coverage": COVERAGE | changed})[1]
    assert answer.level == level and f"{(COVERAGE | changed)['sampling_least']:.2f} times" in answer.sentence


@pytest.mark.parametrize(("found", "level"), [(11.0, "good"), (20.0, "look")])
def test_decoded_volume(found, level):
    answer = subset_answers(SUPPORTED | {"decoded_fsc05_A": found, "half_maps_fsc05_A": 10.0})[1]
    assert answer.level == level and f"agrees with its map to {found:.1f} Å" in answer.sentence


def test_groups():
    groups = [SUPPORTED | {"group": 0}, {"group": 1, "n_members": 3}]
    (answer,) = group_answers({"column": "state", "groups": groups})
    assert (answer.level, answer.sentence) == (
        "good",
        "1 of 1 groups of state are supported against the others.",
    )
    groups.append(doubtful(group=4, p_random=0.3, p_value=0.3))
    (answer,) = group_answers({"column": "state", "groups": groups})
    assert answer.level == "bad" and "1 of 2 groups" in answer.sentence
    assert "State 4: not supported, random subsets of 218 particles may differ" in answer.sentence
    (answer,) = group_answers({"column": "state", "groups": groups[1:2]})
    assert answer.level == "fact"


@pytest.mark.parametrize(
    ("p_random", "p_held_out", "verdict"),
    [
        (0.001, None, "supported"),
        (0.01, 0.01, "supported"),
        (0.001, 0.02, "weak"),
        (0.05, 0.001, "weak"),
        (0.06, 0.001, "not supported"),
        (0.001, 1.0, "not supported"),
    ],
)
def test_the_larger_p_value_counts(p_random, p_held_out, verdict):
    assert Difference(10, 20, p_random, p_held_out, 3.0, None).verdict == verdict
