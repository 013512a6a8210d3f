"""How sure the number of states is: bootstraps and halves of simulated likelihoods with known states."""

import numpy as np
import pytest
import torch

from tomohet.linear.answers import state_answers
from tomohet.linear.prediction import SplitLikelihood
from tomohet.linear.state_choice import choose_states
from tomohet.linear.state_stability import StateStability, state_stability

MOST = 4


def split_of(points: np.ndarray, n: int, information: float, seed: int = 0) -> SplitLikelihood:
    """Likelihoods of n particles at `points` (S, K); a quarter of each particle's images is held out."""
    rng = np.random.default_rng(seed)
    z = points[rng.integers(len(points), size=n)]

    def tables(share):
        precision = information * share * rng.uniform(0.5, 1.5, (n, 1, 1)) * np.eye(z.shape[1])
        noise = np.sqrt(np.diagonal(precision, axis1=1, axis2=2)) * rng.standard_normal(z.shape)
        b = (precision @ z[..., None])[..., 0] + noise
        return torch.as_tensor(precision, dtype=torch.float32), torch.as_tensor(b, dtype=torch.float32)

    return SplitLikelihood(*tables(0.75), *tables(0.25))


def stability(split: SplitLikelihood, seed: int = 0) -> StateStability:
    """Its number of states and how sure it is."""
    choice, states = choose_states(split, MOST, seed)
    return state_stability(split, choice, states, MOST, seed)


THREE = np.array([[-1.5, 0.0], [1.0, 1.2], [1.0, -1.2]])


@pytest.fixture(scope="module")
def clear():
    return stability(split_of(THREE, 100, 30))


def test_clear_states_have_a_narrow_range_and_halves_that_agree(clear):
    assert clear.number == 3
    assert clear.range == (3, 3)
    assert (clear.agreement > 0.95).all()
    assert clear.sentence.startswith("3 states; states found in either half")
    assert clear.sure == "3 in 90 % of bootstraps"


def test_faint_states_have_a_wide_range(clear):
    faint = stability(split_of(THREE, 100, 1.5, seed=3))
    assert np.ptp(faint.range) > np.ptp(clear.range)
    assert np.median(faint.agreement) < 0.9


def test_where_particles_are_assigned_with_doubt_the_number_is_a_lower_bound(clear):
    faint = stability(split_of(THREE, 200, 2))
    assert clear.certainty > 0.99 and not clear.lower_bound
    assert faint.number > 1 and faint.certainty < 0.95 and faint.lower_bound
    assert faint.sure == f"{faint.range[0]} or more in 90 % of bootstraps"
    assert f"assigned with a mean probability of only {faint.certainty:.2f};" in faint.sentence


def test_identical_particles_are_one_state_in_bootstraps_too():
    """A particle that a bootstrap draws twice is no second witness: its copies share their noise."""
    found = [stability(split_of(np.zeros((1, 2)), 80, 10, seed), seed) for seed in range(2)]
    assert [one.range[0] for one in found] == [1, 1]
    assert np.mean(np.concatenate([one.numbers for one in found]) > 1) <= 0.1


def test_copies_of_a_particle_stay_together():
    split = split_of(THREE, 80, 30)
    twice = SplitLikelihood(
        *(torch.cat([table, table]) for table in (split.a, split.b, split.new_a, split.new_b)),
        torch.arange(80).repeat(2),
    )
    assert stability(twice).range == (3, 3)


def test_same_seed_same_range():
    split = split_of(THREE, 50, 6)
    one, other = stability(split, 5), stability(split, 5)
    np.testing.assert_array_equal(one.numbers, other.numbers)
    np.testing.assert_array_equal(one.agreement, other.agreement)


def test_without_directions_there_is_one_state():
    found = stability(split_of(np.zeros((1, 0)), 20, 1.0))
    assert (found.number, found.range) == (1, (1, 1))


@pytest.mark.parametrize(
    ("kind", "n_states", "n_components", "words"),
    [
        ("discrete", 3, 2, "3 states"),
        ("discrete", 6, 2, "combine to many states"),
        ("discrete", 2, 4, "without distinct states"),
        ("continuous", 6, 2, "a stretch of a continuum"),
        ("undecided", 2, 1, "may be stretches of a continuum"),
    ],
)
def test_answer_tells_number_and_why_it_differs_from_the_components(kind, n_states, n_components, words):
    numbers = {
        "verdict": "a verdict",
        "kind": kind,
        "n_states": n_states,
        "n_components": n_components,
        "number_of_states": f"{n_states} states",
        "number_of_states_sure": "2 to 7 in 90 % of bootstraps",
    }
    answer = state_answers(numbers)[1]
    assert (answer.subject, answer.sure) == ("Number of states", "2 to 7 in 90 % of bootstraps")
    assert words in answer.sentence


@pytest.mark.parametrize("missed", [False, True])
def test_more_particles_are_asked_for_where_finer_states_are_missed(missed):
    numbers = {
        "verdict": "a verdict",
        "kind": "discrete",
        "n_states": 2,
        "n_components": 1,
        "number_of_states": "2 states",
        "number_of_states_sure": "2 or more in 90 % of bootstraps",
        "finer_states_missed": missed,
    }
    steps = state_answers(numbers)[1].next
    assert [step.sentence for step in steps] == (
        ["Add particles or tilt images to tell finer states apart."] if missed else []
    )


def test_no_heterogeneity_has_no_number_of_states():
    assert len(state_answers({"verdict": "none", "kind": "no heterogeneity", "number_of_states": "1"})) == 1
