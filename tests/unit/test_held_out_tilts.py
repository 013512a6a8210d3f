"""Cross-validation on held-out tilts: its statistics against loops and known answers."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from blob_store import blob_store
from scipy.stats import gumbel_r

from tomohet.linear import held_out
from tomohet.linear.explained import Explained
from tomohet.linear.held_out import (
    DRAWS,
    EVERY,
    HeldOut,
    _given_used,
    common_directions,
    gumbel,
    split_tilts,
    structural_directions,
    tilt_number,
)
from tomohet.linear.prediction import SplitLikelihood
from tomohet.linear.reliability import by_all_images, shared_variance
from tomohet.linear.significance import DIRECTION_P, FOUND_P


def looks(n=12, k=3, seed=0, source=None):
    """Likelihoods of random images: training images with all held-out images, and with each half."""
    rng = np.random.default_rng(seed)

    def tables():
        root = rng.normal(size=(n, 2 * k, k))
        return torch.tensor(root.transpose(0, 2, 1) @ root), torch.tensor(rng.normal(size=(n, k)))

    used, first, second = tables(), tables(), tables()
    both = tuple(one + other for one, other in zip(first, second, strict=True))
    return [SplitLikelihood(*used, *look, source) for look in (both, first, second)]


def largest(z, gradient):
    """The largest eigenvalue of the moment, particle by particle, and its vector."""
    moment = sum(np.outer(g, one) + np.outer(one, g) for g, one in zip(gradient, z, strict=True)) / 2
    values, vectors = np.linalg.eigh(moment)
    return values[-1], vectors[:, -1]


@pytest.mark.parametrize("source", [None, torch.arange(12) // 2])
def test_moments_and_their_null_are_eigenvalues_of_sums_over_particles(source):
    split, first, second = looks(source=source)
    found = common_directions(split, first, second, seed=4)
    z = split.used.numpy() - split.used.numpy().mean(0)
    b, a = split.new_b.numpy(), split.new_a.numpy()
    value, direction = largest(z, b)
    assert found.moment[0] == pytest.approx(value)
    tested = found.directions.numpy()
    assert abs(tested[:, 0] @ direction) == pytest.approx(1)
    np.testing.assert_allclose(tested.T @ tested, np.eye(3), atol=1e-9)
    # The prediction along the first direction is subtracted; the second is orthogonal to it.
    along = z @ np.outer(tested[:, 0], tested[:, 0])
    gradient = b - np.einsum("pij,pj->pi", a, along)
    rest = np.linalg.qr(np.column_stack([tested[:, 0], np.eye(3)[:, :2]])).Q[:, 1:]
    value, direction = largest(z @ rest, gradient @ rest)
    assert found.moment[1] == pytest.approx(value)
    assert abs(tested[:, 1] @ rest @ direction) == pytest.approx(1)
    draw = torch.Generator().manual_seed(4)
    count = 12 if source is None else 6
    for number in range(DRAWS):
        signs = 2 * torch.randint(2, (count,), generator=draw).numpy() - 1
        signs = signs if source is None else signs[source]
        assert found.null[number, 0] == pytest.approx(largest(z, signs[:, None] * b)[0])
    assert found.null.shape == (DRAWS, 3)
    shared, error = shared_variance(first.along(found.directions), second.along(found.directions))
    np.testing.assert_allclose(found.reliability, by_all_images(shared, EVERY))
    np.testing.assert_allclose(found.least_reliability, by_all_images(shared - error, EVERY))
    assert source is not None or (error > 0).any()
    nothing = common_directions(*(look.leading(0) for look in (split, first, second)), seed=0)
    assert nothing.moment.shape == (0,) and nothing.null.shape == (DRAWS, 0)


def test_the_gumbel_distribution_has_the_mean_and_variance_of_the_draws():
    draws = np.random.default_rng(0).normal(3, 2, (30, 2))
    fitted = gumbel(draws)
    np.testing.assert_allclose(fitted.mean(), draws.mean(0))
    np.testing.assert_allclose(fitted.var(), draws.var(0, ddof=1))


def result(moment, null=None, k=None, **options):
    k = len(moment) if k is None else k
    null = gumbel_r.rvs(size=(50, k), random_state=0) if null is None else null
    return HeldOut(np.array(moment, float), null, looks(k=k)[0], np.ones(k), np.ones(k), **options)


def test_p_values_are_tails_and_1_where_the_null_does_not_vary():
    null = gumbel_r.rvs(size=(50, 2), random_state=0) * [1, 0]
    found = result([3.0, 5.0], null)
    scale = null[:, 0].std(ddof=1) * np.sqrt(6) / np.pi
    expected = 1 - np.exp(-np.exp(-(3 - null[:, 0].mean()) / scale - np.euler_gamma))
    np.testing.assert_allclose(found.p_values, [expected, 1])
    assert found.p_value == pytest.approx(2 * expected)  # of two searches
    assert result([], np.zeros((50, 0)), 0).p_value == 1
    assert FOUND_P < DIRECTION_P
    assert result([50.0]).found and not result([-50.0]).found


def test_directions_are_clear_from_an_auc_of_098(monkeypatch):
    monkeypatch.setattr(held_out, "auc_of_halves", lambda reliability: reliability)
    found = replace(result([50.0, 50, 50, 0]), least_reliability=np.array([0.99, 0.98, 0.97, 1.0]))
    assert found.n_components == 3 and found.n_clear == 2


def test_random_latents_are_added_where_directions_are_too_few():
    nuisance = looks(k=1, seed=1)[0]
    found = result([50.0], k=1, nuisance=nuisance)
    for by, latents in (("latents", found.latents(3)), ("used", found.used_latents(3))):
        assert latents.shape == (12, 4)
        torch.testing.assert_close(latents.mean(0), torch.zeros(4).double(), rtol=0, atol=1e-9)
        torch.testing.assert_close(latents.T @ latents / 12, torch.eye(4).double(), rtol=0, atol=1e-9)
        kept = latents[:, [0, 3]]
        for own in (found.likelihood, nuisance):
            z = getattr(own, by)
            z = z - z.mean(0)
            explained = latents @ torch.linalg.lstsq(latents, z).solution
            torch.testing.assert_close(explained, z)
        first = getattr(found.likelihood, by)[:, 0]
        assert abs(np.corrcoef(kept[:, 0], first)[0, 1]) == pytest.approx(1)
    assert found.latents(1).shape == (12, 2)


def test_held_out_images_count_from_the_training_images_on():
    """What is integrated out together differs from the sum of what is integrated out apart."""
    rng = np.random.default_rng(0)
    a, b = torch.tensor(rng.random((3, 4, 2, 2))), torch.tensor(rng.random((3, 4, 2)))
    mean = SimpleNamespace(marginal=lambda a, b: (a.square(), b.square()))
    found = _given_used((a[0], b[0]), ((a[1], b[1]), (a[2], b[2])), mean)
    expected = a[0] ** 2, b[0] ** 2, a.sum(0) ** 2 - a[0] ** 2, b.sum(0) ** 2 - b[0] ** 2
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_every_third_image_is_held_out_by_turns_in_two_halves():
    store = blob_store(2, snr=1.0, n_tilts=9)
    numbers = [*range(9), *range(8)]  # the second particle lacks one
    assert tilt_number(store).tolist() == numbers
    used, first, second = split_tilts(store)
    assert used.images["tilt"].tolist() == [0, 1, 3, 4, 6, 7, 0, 2, 4, 5, 7, 8]
    assert first.images["tilt"].tolist() == [2, 8, 3] and second.images["tilt"].tolist() == [5, 6]


@pytest.fixture
def splits():
    """Likelihoods with two strong directions in common among four, the second of which is a condition's."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=(200, 4)) * [3.0, 2.0, 0, 0]

    def tables(information):
        b = information * true + np.sqrt(information) * rng.normal(size=true.shape)
        return information * torch.eye(4).double().expand(200, 4, 4), torch.tensor(b)

    used, first, second = tables(2.0), tables(1.0), tables(1.0)
    both = tuple(one + other for one, other in zip(first, second, strict=True))
    return [SplitLikelihood(*used, *look) for look in (both, first, second)], true


def test_a_direction_that_a_condition_explains_is_integrated_out(splits):
    splits, true = splits
    noise = np.random.default_rng(1).uniform(0.99, 1.01, 200)
    conditions = pd.DataFrame({"noise_scale": true[:, 1] + noise})
    plain = structural_directions(splits, conditions, [], 0)
    assert plain.n_components == 2 and plain.explained == () and plain.nuisance is None
    found = structural_directions(splits, conditions, ["noise"], 0)
    assert [one.condition for one in found.explained] == ["noise"] and found.n_components == 1
    assert np.corrcoef(found.nuisance.used[:, 0], true[:, 1])[0, 1] ** 2 > 0.85
    assert np.corrcoef(found.likelihood.used[:, 0], true[:, 0])[0, 1] ** 2 > 0.85
    again = found.measured_by(splits, 0)
    np.testing.assert_array_equal(again.moment, found.moment)
    np.testing.assert_array_equal(again.null, found.null)
    assert again.explained == found.explained
    assert np.corrcoef(again.nuisance.used[:, 0], true[:, 1])[0, 1] ** 2 > 0.85
    assert np.corrcoef(again.likelihood.used[:, 0], true[:, 0])[0, 1] ** 2 > 0.85
    assert plain.measured_by(splits, 0).nuisance is None


def test_without_images_held_out_nothing_is_possible():
    split = looks()[0]
    none = SplitLikelihood(split.a, split.b, 0 * split.new_a, 0 * split.new_b)
    assert not replace(result([1.0]), likelihood=none).possible
    assert replace(result([1.0]), likelihood=none, explained=(Explained("view", 1.0),)).possible
