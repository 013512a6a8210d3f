"""States that held-out images confirm: points of a latent space whose truth is known."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from tomohet.linear.latent_states import STARTS, LatentStates, fit_latent_states, k_means_states
from tomohet.linear.prediction import SplitLikelihood
from tomohet.linear.state_choice import StateChoice, choose_states, standard_error
from tomohet.linear.state_merging import held_out_distance, merged_states, states_of_number

INFORMATION = 9.0


def images(place: np.ndarray, information: float, draw: np.random.Generator) -> tuple[torch.Tensor, ...]:
    """A and b of particles at `place` (N, K), each with its own precision, of this mean."""
    n, k = place.shape
    root = draw.normal(size=(n, k, 4 * k)) * np.sqrt(information / (4 * k))
    a = root @ root.transpose(0, 2, 1)
    noise = (root @ draw.normal(size=(n, 4 * k, 1)))[..., 0]
    return torch.as_tensor(a).float(), torch.as_tensor(np.einsum("pkl,pl->pk", a, place) + noise).float()


def seen(place: np.ndarray, information: float = INFORMATION, seed: int = 0) -> SplitLikelihood:
    """Images used, and half as many held out."""
    draw = np.random.default_rng(seed)
    return SplitLikelihood(*images(place, information, draw), *images(place, information / 2, draw))


def nested(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Places (N, 3) and numbers of six states: the second block needs the first, the third 12 % lack."""
    draw = np.random.default_rng(seed)
    first = draw.random(n) < 0.6
    second, third = first & (draw.random(n) < 0.6), draw.random(n) < 0.88
    has = np.column_stack([first, second, third])
    return (has - has.mean(0)) / has.std(0), has @ [1, 2, 4]


def test_distance_is_that_of_two_weighted_means():
    """In one dimension: estimates b / a of each particle's place, weighted by their information a."""
    draw = np.random.default_rng(0)
    place = draw.choice([-1.0, 1.0], 40)[:, None]
    split = seen(place)
    label = torch.as_tensor(draw.integers(0, 2, 40))
    distance = held_out_distance(torch.tensor([[0.3], [2.0]]).double(), label, split)
    a, b, of_one = split.new_a[:, 0, 0].numpy(), split.new_b[:, 0].numpy(), label.numpy() == 1
    means = [np.average((b / a)[own], weights=a[own]) for own in (~of_one, of_one)]
    chi_square = (a * (b / a - np.where(of_one, means[1], means[0])) ** 2).sum()
    variance = (1 / a[of_one].sum() + 1 / a[~of_one].sum()) * max(1, chi_square / 38)
    assert distance[0, 1].item() == pytest.approx((means[1] - means[0]) / np.sqrt(variance), rel=1e-4)
    assert distance[0, 1] == distance[1, 0] and torch.isinf(distance.diagonal()).all()


def test_distance_of_one_state_cut_in_two_is_standard_normal():
    """By images used, which are noise, and wherever the cut has put the two points."""
    draw = np.random.default_rng(1)
    found = []
    for seed in range(300):
        split = seen(np.zeros((60, 2)), seed=seed)
        label = (split.b[:, 0] > 0).long()
        points = torch.as_tensor(draw.normal(size=(2, 2)))
        found.append(held_out_distance(points, label, split)[0, 1].item())
    # An excess of the scatter of at least 1 makes them a little smaller.
    assert np.std(found) == pytest.approx(0.95, abs=0.07)
    assert kstest(found, "norm").pvalue > 0.01


def test_particles_that_differ_within_their_states_confirm_less():
    place = np.repeat([-1.0, 1.0], 50)[:, None]
    label = torch.arange(100) // 50
    points = torch.tensor([[-1.0], [1.0]]).double()
    alike = held_out_distance(points, label, seen(place))[0, 1]
    spread = place + np.random.default_rng(2).normal(size=place.shape)
    assert 5 < held_out_distance(points, label, seen(spread))[0, 1] < 0.6 * alike


def test_states_without_particles_or_in_one_place_are_confirmed_by_nothing():
    label = torch.arange(100) // 50
    points = torch.tensor([[-1.0], [1.0], [1.0]]).double()
    distance = held_out_distance(points, label, seen(np.repeat([-1.0, 1.0], 50)[:, None]))
    assert distance[0, 1] > 5
    assert distance[0, 2] == distance[1, 2] == -torch.inf


def test_images_held_out_that_say_nothing_of_a_particle_do_no_harm():
    split = seen(np.repeat([-1.0, 1.0], 50)[:, None])
    split.new_a[::7], split.new_b[::7] = 0, 0
    distance = held_out_distance(torch.tensor([[-1.0], [1.0]]).double(), torch.arange(100) // 50, split)
    assert 5 < distance[0, 1] < 100


@pytest.mark.parametrize("seed", range(3))
def test_as_many_states_as_there_are(seed):
    place, state = nested(seed=seed)
    split = seen(place, seed=seed)
    choice, states = choose_states(split, 12, 0)
    assert choice.n_states == len(np.unique(state)) == 6
    label = states.log_responsibility(*split.all_images).argmax(1)
    assert adjusted_rand_score(state, label) > 0.95
    assert choice.verdict == "discrete"


def choice_of(states, spread, linear, distance=(np.inf, 9.0, 2.0)):
    """A choice among 1, 2 and 3 states, of which 2 are told apart."""
    return StateChoice(*(np.array(of, float) for of in (states, spread, distance, linear)))


def test_the_advantage_is_over_the_better_continuum():
    rng = np.random.default_rng(0)
    states, spread, linear = rng.normal([[[0, 9, 5]], [[9, 1, 9]], [[2, 3, 1]]], size=(3, 40, 3))
    found = choice_of(states, spread, linear)
    assert found.n_states == 2
    gain = states[:, 1] - linear[:, 1]
    assert found.advantage == pytest.approx(gain.sum())
    assert found.error == pytest.approx(np.sqrt(40 * gain.var(ddof=1))) == standard_error(gain)
    assert found.verdict == "discrete"
    assert f"(by {gain.sum():.0f} ± {found.error:.0f} nats)" in found.sentence
    slow = choice_of(states, np.add(spread, [0, 4, 0]), linear)  # the states, spread out
    assert slow.advantage == pytest.approx((states[:, 1] - spread[:, 1] - 4).sum())
    better = choice_of(states - 9, spread, linear)
    assert better.verdict == "continuous"
    assert f"than 2 states (by {-better.advantage:.0f} ± {better.error:.0f} nats)" in better.sentence


def test_undecided_within_three_standard_errors():
    gain = np.random.default_rng(1).normal(size=(50, 1))
    gain = (gain - gain.mean()) / gain.std(ddof=1)
    three, none = np.repeat(gain, 3, 1), np.zeros((50, 3))
    for errors, verdict in ((2.9, "undecided"), (3.1, "discrete"), (-2.9, "undecided"), (-3.1, "continuous")):
        found = choice_of(three + errors / np.sqrt(50), none, none)
        assert found.advantage == pytest.approx(errors * np.sqrt(50))
        assert found.error == pytest.approx(np.sqrt(50)) and found.verdict == verdict
    words = choice_of(three - 1 / np.sqrt(50), none, none).sentence
    assert "do not tell 2 states and a continuum apart (the continuum better by 7 ± 7 nats)" in words
    alone = choice_of(three, none, none, (np.inf, 2.0, 2.0))
    assert alone.n_states == 1 and alone.verdict == "no heterogeneity"
    seen = choice_of(none, none, three + 3.1 / np.sqrt(50), (np.inf, 2.0, 2.0))
    assert seen.found and "than 1 state (by" in seen.sentence
    unseen = choice_of(none, none, three + 2.9 / np.sqrt(50), (np.inf, 2.0, 2.0))
    assert not unseen.found


def test_gains_of_states_are_those_of_held_out_images_given_the_others():
    split = seen(nested(40)[0])
    choice, states = choose_states(split, 2, 0)
    a, b, new_a, new_b = (table.double().numpy() for table in (split.a, split.b, split.new_a, split.new_b))
    assert choice.linear.shape == (40, 3) and choice.states.shape == choice.spread.shape == (40, 2)
    np.testing.assert_allclose(choice.linear[:, 2], split.gain, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(choice.linear[:, 0], split.leading(1).gain, rtol=1e-4, atol=1e-4)

    def log_p(a, b):
        scores = [b @ m - np.einsum("k,pkl,l->p", m, a, m) / 2 for m in states.point.numpy()]
        return np.log((states.share.numpy() * np.exp(np.stack(scores, 1))).sum(1))

    assert choice.n_states == 2
    np.testing.assert_allclose(choice.states[:, 1], log_p(a + new_a, b + new_b) - log_p(a, b), atol=1e-4)


def test_points_of_states_are_where_em_leaves_them():
    """Shares and points are those of the responsibilities, and the value is the log posterior."""
    place, state = nested(60)
    split = seen(place)
    start = torch.nn.functional.one_hot(torch.as_tensor(state > 2).long(), 2)
    found = fit_latent_states(split.a, split.b, start)
    known = found.log_responsibility(split.a, split.b).exp()
    torch.testing.assert_close(known.sum(1), torch.ones(60).double())
    a, b = split.a.double(), split.b.double()
    for number, point in enumerate(found.point):
        own = known[:, number]
        left = (own[:, None, None] * a).sum(0) + torch.eye(3)
        expected = torch.linalg.solve(left, (own[:, None] * b).sum(0))
        torch.testing.assert_close(point, expected, rtol=0, atol=1e-2)
        torch.testing.assert_close(found.share[number], own.mean(), rtol=0, atol=1e-3)
    scores = found.scores(a, b)
    likelihood = torch.log((found.share * scores.exp()).sum(1))
    torch.testing.assert_close(found.log_likelihood(scores), likelihood)
    assert found.value == pytest.approx(float(likelihood.mean() - found.point.square().sum() / 120))


def test_the_likeliest_of_several_starts_is_taken(monkeypatch):
    split = seen(nested(60)[0])
    values, clustered = [], []

    class Recorded(KMeans):
        def fit_predict(self, latents):
            clustered.append((latents, self.random_state))
            return super().fit_predict(latents)

    def recorded(*arguments):
        found = fit_latent_states(*arguments)
        values.append(found.value)
        return found

    monkeypatch.setattr("tomohet.linear.latent_states.fit_latent_states", recorded)
    monkeypatch.setattr("tomohet.linear.latent_states.KMeans", Recorded)
    found = k_means_states(split.a, split.b, 6, seed=5)
    assert [seed for _, seed in clustered] == list(range(5, 5 + STARTS))
    np.testing.assert_allclose(clustered[0][0], split.used, rtol=1e-3, atol=1e-4)
    assert len(values) == STARTS and found.value == max(values) > min(values)


def test_no_more_than_asked_for():
    place, _state = nested()
    choice, states = choose_states(seen(place), 4, 0)
    assert choice.n_states == 4 == len(states.share) == choice.states.shape[1]


def test_one_state_where_all_particles_are_alike():
    chosen = [choose_states(seen(np.zeros((200, 2)), seed=seed), 8, 0)[0] for seed in range(20)]
    assert sum(choice.n_states == 1 for choice in chosen) >= 19
    assert sum(choice.verdict == "no heterogeneity" for choice in chosen) >= 19


def test_one_state_where_no_direction_is_confirmed():
    split = seen(np.zeros((50, 2))).leading(0)
    choice, states = choose_states(split, 8, 0)
    assert choice.n_states == 1 and choice.verdict == "no heterogeneity"
    assert states.log_responsibility(*split.all_images).exp().tolist() == [[1.0]] * 50


def test_scores_of_spread_states_are_integrals_over_the_line_to_the_neighbour():
    point = torch.tensor([[-1.0, 0.5], [0.5, 0.0], [3.0, 1.0]]).double()
    states = LatentStates(torch.full((3,), 1 / 3).double(), point, 0.0)
    a, b = images(np.array([[-0.5, 0.2], [2.0, 1.0]]), 3.0, np.random.default_rng(0))
    step = np.linspace(-12, 12, 20001)
    weight = norm.pdf(step) * (step[1] - step[0])
    found = states.spread_scores(a, b)
    for state, neighbour in ((0, 1), (1, 0), (2, 1)):
        line = (point[neighbour] - point[state]).numpy() / np.sqrt(12)
        places = point[state].numpy() + step[:, None] * line
        for particle in range(2):
            precision, projection = a[particle].double().numpy(), b[particle].double().numpy()
            score = places @ projection - np.einsum("ik,kl,il->i", places, precision, places) / 2
            expected = np.log((weight * np.exp(score - score.max())).sum()) + score.max()
            assert found[particle, state].item() == pytest.approx(expected, rel=1e-4)


def test_an_arc_is_not_called_discrete_however_many_states_follow_it():
    """Neither is one Gaussian an arc: states may predict better than it without being there."""
    angle = np.random.default_rng(4).uniform(-1.5, 1.5, 400)
    place = np.column_stack([2 * np.sin(angle), 3 * np.cos(angle)])
    choice, _ = choose_states(seen((place - place.mean(0)) / place.std(0), 20), 12, 0)
    assert choice.n_states > 4 and choice.verdict != "discrete"


def test_a_continuum_is_not_called_discrete():
    angle = np.random.default_rng(3).uniform(-2, 2, 600)
    choice, _ = choose_states(seen(np.column_stack([1.4 * np.sin(angle), angle]), 30), 4, 0)
    assert choice.verdict == "continuous"


def test_pairs_become_one_until_one_is_left():
    place, _ = nested(60)
    found = list(merged_states(seen(place), 5, 0))
    assert [len(step.states.share) for step in found] == list(range(10, 0, -1))
    assert all(step.states.share.sum().item() == pytest.approx(1) for step in found)
    assert states_of_number(seen(place), 3, 0).point.equal(
        next(s for s in merged_states(seen(place), 3, 0) if len(s.states.share) == 3).states.point
    )


def test_fewer_particles_than_states_wanted():
    found = list(merged_states(seen(np.array([[-1.0], [1.0], [1.0]])), 12, 0))
    assert [len(step.states.share) for step in found] == [3, 2, 1]
