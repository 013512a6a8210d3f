"""How sure the number of states is: bootstraps and halves of simulated likelihoods with known states."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tomohet.linear.answers import state_answers
from tomohet.linear.prediction import SplitLikelihood
from tomohet.linear.state_choice import choose_states
from tomohet.linear.state_stability import StateStability, _members, _rows, state_stability

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


def test_the_range_holds_nine_tenths_of_the_bootstraps_and_the_number():
    numbers = np.array([1, *[3] * 9, *[4] * 9, 6])
    found = StateStability(3, numbers, np.ones(3), 12, 0.99)
    assert found.range == (3, 4) and found.sure == "3 to 4 in 90 % of bootstraps"
    assert replace(found, number=5).range == (3, 5) and replace(found, number=2).range == (2, 4)
    assert not found.lower_bound and replace(found, most=3).sure == "3 or more in 90 % of bootstraps"
    assert "the most that were tried" in replace(found, most=3).sentence
    one = StateStability(1, np.ones(20, int), np.ones(3), 12, 0.5)
    assert not one.doubtful and one.sentence == "1 state" and one.sure == "1 in 90 % of bootstraps"
    assert replace(found, certainty=0.5).doubtful


def test_rows_of_a_source_are_drawn_together():
    assert [rows.tolist() for rows in _members(np.array([0, 2, 1, 0]), 3)] == [[0, 3], [2], [1]]
    split = split_of(THREE, 4, 30)
    found = _rows(split, torch.tensor([0, 7, 5, 0]), np.array([2, 0, 3, 2]))
    assert found.source.tolist() == [1, 0, 0, 1]
    for name in ("a", "b", "new_a", "new_b"):
        assert torch.equal(getattr(found, name), getattr(split, name)[[2, 0, 3, 2]])


BY_SIGN = SimpleNamespace(  # two states, by the sign of b along the first latent
    log_responsibility=lambda a, b: torch.log_softmax(torch.stack([b[:, 0], -b[:, 0]], 1) / 50, 1)
)


WITH_A_THIRD = SimpleNamespace(  # and a third, to which no particle belongs
    log_responsibility=lambda a, b: torch.nn.functional.pad(
        BY_SIGN.log_responsibility(a, b), (0, 1), value=-1e3
    )
)


@pytest.mark.parametrize(("n", "sources", "drawn"), [(30, 30, 10), (100, 100, 6), (5, 5, 20), (8, 4, 20)])
def test_bootstraps_draw_as_many_particles_as_there_are(monkeypatch, n, sources, drawn):
    seen = []

    def chosen(split, most, seed):
        seen.append((split, most))
        return SimpleNamespace(n_states=2), BY_SIGN if len(seen) % 2 else WITH_A_THIRD

    monkeypatch.setattr("tomohet.linear.state_stability.choose_states", chosen)
    monkeypatch.setattr("tomohet.linear.state_stability.PARTICLES_IN_ALL", 300)
    split = split_of(THREE, n, 30)
    split = replace(split, source=torch.arange(n) % sources) if sources < n else split
    found = state_stability(split, SimpleNamespace(n_states=2), BY_SIGN, 12, 0)
    assert found.numbers.tolist() == [2] * drawn and found.agreement.tolist() == [1, 1, 1]
    assert [len(rows.b) for rows, _ in seen[:drawn]] == [n] * drawn
    halves = [len(rows.b) for rows, _ in seen[drawn:]]
    assert sorted(halves) == sorted([n // 2, n - n // 2] * 3)
    assert [most for _, most in seen] == [min(12, len(rows.b)) for rows, _ in seen]
    both = [torch.cat([rows.b for rows, _ in seen[drawn + 2 * i : drawn + 2 * i + 2]]) for i in range(3)]
    assert all(torch.equal(rows.sort(0).values, split.b.sort(0).values) for rows in both)
    certainty = 1 / (1 + np.exp(-2 * np.abs(split.all_images[1][:, 0].numpy()) / 50))
    assert 0.6 < found.certainty < 0.95 and found.certainty == pytest.approx(certainty.mean())


def test_three_particles_have_no_bootstraps():
    split = split_of(THREE, 3, 30)
    found = state_stability(split, SimpleNamespace(n_states=2), BY_SIGN, 12, 0)
    assert found.numbers.tolist() == [2] and found.agreement.tolist() == [1]


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
