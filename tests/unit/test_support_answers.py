"""What the comparison of a subset says: verdicts, reasons, coverage, decoded volume."""

import pytest

from tomohet.linear.support_answers import (
    CONTROL,
    NO_CONTROL,
    NO_DIFFERENCE,
    PERHAPS_NOISE,
    group_answers,
    subset_answers,
)
from tomohet.reconstruction.support import Difference

SUPPORTED = {
    "verdict": "supported",
    "n_members": 218,
    "n_others": 182,
    "p_value": 0.002,
    "p_random": 0.002,
    "p_held_out": 1e-6,
    "p_supported": 0.01,
    "controls_matched": True,
    "share_exchangeable": 0.97,
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
        "Supported: the difference to the other 182 particles exceeds that of random subsets that were "
        "imaged alike (p = 0.002), and held-out tilts confirm it (p < 1e-05); 5.1 sigma at most, 6 % of the "
        "mask's voxels above 4 sigma."
    )
    (answer,) = subset_answers(SUPPORTED | {"p_held_out": None})
    assert "held-out" not in answer.sentence


@pytest.mark.parametrize(
    ("numbers", "level", "said"),
    [
        (doubtful(p_random=0.3, p_value=0.3), "bad", "no difference is found in the maps, because random"),
        (doubtful(p_random=0.3, p_value=0.3), "bad", "218 particles that were imaged alike differ"),
        (doubtful("weak", p_random=0.03, p_value=0.03), "look", "a few random subsets of 218 particles"),
        (doubtful(p_held_out=0.4, p_value=0.4), "bad", "but held-out tilts do not confirm it (p = 0.4): the"),
        (doubtful("weak", p_held_out=0.03, p_value=0.03), "look", "tilts hardly confirm it (p = 0.03): the"),
        (doubtful(p_held_out=1.0, p_value=1.0, directions_confirmed=0), "bad", "confirm no direction"),
        (doubtful(p_held_out=1.0, p_value=1.0, directions_confirmed=0), "bad", "made it, or it is true"),
        (
            doubtful(p_random=1.0, p_value=1.0, controls_matched=False, share_exchangeable=0.08),
            "bad",
            "dose decide 92 % of the membership, so that no random subset was imaged alike",
        ),
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


def test_the_step_says_whether_maps_differ():
    """A difference that chosen images may have made is not the same as no difference."""
    (alike,) = subset_answers(doubtful(p_random=0.3, p_value=0.3))
    (chosen,) = subset_answers(doubtful(p_held_out=0.4, p_value=0.4))
    (other,) = subset_answers(doubtful(p_random=1.0, p_value=1.0, controls_matched=False))
    assert [one.next for one in (alike, chosen, other)] == [(NO_DIFFERENCE,), (PERHAPS_NOISE,), (NO_CONTROL,)]


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
    assert "State 4: not supported, no difference is found in the maps" in answer.sentence
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
    assert Difference(10, 20, p_random, p_held_out, 3.0, None, 1.0).verdict == verdict
