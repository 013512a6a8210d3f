"""The distribution of latents, learnt from noisy measurements of each."""

import numpy as np
import pytest
import torch

from tomohet.model.latent_prior import (
    LEAST_VARIANCE,
    LatentPrior,
    _fit,
    _updated,
    fit_latent_prior,
    standard_prior,
)

N, K = 300, 2


def measured(z, precision, seed=0):
    """A (N, K, K), different in every particle, and b = A z + noise of that covariance."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(len(z), 6, z.shape[1])) * np.sqrt(precision / 6)
    a = np.einsum("nrk,nrl->nkl", factor, factor)
    b = np.einsum("nkl,nl->nk", a, z) + np.einsum("nrk,nr->nk", factor, rng.normal(size=(len(z), 6)))
    return torch.tensor(a, dtype=torch.float32), torch.tensor(b, dtype=torch.float32)


def two_states(n=N, seed=1):
    """Two narrow clusters of different sizes; the whole has about unit variance along the first latent."""
    rng = np.random.default_rng(seed)
    centre = np.where(rng.random(n) < 0.6, 0.8, -1.2)
    return np.stack([centre, np.zeros(n)], axis=1) + 0.15 * rng.normal(size=(n, K))


def test_under_the_standard_prior_the_posterior_is_the_linear_models():
    a, b = measured(np.random.default_rng(0).normal(size=(5, 3)), precision=4.0)
    mean, covariance = standard_prior(3).posterior(a, b)
    expected = torch.linalg.inv(a + torch.eye(3))
    torch.testing.assert_close(covariance, expected)
    torch.testing.assert_close(mean, (expected @ b[..., None])[..., 0])


def test_a_mixtures_posterior_is_that_of_bayes_rule():
    """In one dimension, by a sum over a fine grid."""
    prior = LatentPrior(
        torch.tensor([0.3, 0.7]).double(),
        torch.tensor([[-1.0], [2.0]]).double(),
        torch.tensor([[[0.2]], [[0.5]]]).double(),
    )
    a, b = torch.tensor([[[1.5]], [[0.4]]]).double(), torch.tensor([[0.9], [-0.7]]).double()
    grid = torch.linspace(-8, 8, 4001).double()
    log_prior = -prior.minus_log(grid[:, None])
    mean, covariance = prior.posterior(a, b)
    for number in range(2):
        weight = torch.softmax(b[number, 0] * grid - a[number, 0, 0] * grid**2 / 2 + log_prior, 0)
        expected = (weight * grid).sum()
        assert mean[number, 0].item() == pytest.approx(expected.item(), abs=1e-5)
        spread = (weight * (grid - expected) ** 2).sum()
        assert covariance[number, 0, 0].item() == pytest.approx(spread.item(), abs=1e-5)


def test_density_is_that_of_the_components():
    prior = fit_latent_prior(*measured(two_states(), 8.0), seed=0)
    z = torch.tensor(two_states(5), dtype=torch.float64)
    components = torch.distributions.MultivariateNormal(prior.mean, prior.covariance)
    mixture = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(prior.weight), components)
    difference = prior.minus_log(z) + mixture.log_prob(z)
    torch.testing.assert_close(difference, difference[:1].expand(5))


def test_two_states_are_found():
    prior = fit_latent_prior(*measured(two_states(), 8.0), seed=0)
    assert len(prior.weight) == 2
    order = prior.mean[:, 0].argsort()
    torch.testing.assert_close(
        prior.mean[order], torch.tensor([[-1.2, 0], [0.8, 0]]).double(), atol=0.12, rtol=0
    )
    assert prior.weight[order].tolist() == pytest.approx([0.4, 0.6], abs=0.08)


def test_normal_latents_need_one_component():
    z = np.random.default_rng(2).normal(size=(N, K))
    prior = fit_latent_prior(*measured(z, 8.0), seed=0)
    assert len(prior.weight) == 1
    torch.testing.assert_close(prior.covariance[0], torch.eye(K).double(), atol=0.3, rtol=0)


def test_few_particles_have_the_standard_prior():
    prior = fit_latent_prior(*measured(two_states(3), 8.0), seed=0)
    assert torch.equal(prior.covariance[0], torch.eye(K).double())


def test_evidence_never_falls():
    """With what a component is given besides the data: one more particle's variance (an inverse Wishart)."""
    a, b = (x.double() for x in measured(two_states(), 2.0))
    prior = LatentPrior(
        torch.full((3,), 1 / 3).double(),
        torch.tensor([[-0.2, 0.1], [0.0, 0.0], [0.3, -0.1]]).double(),
        torch.eye(K).double().expand(3, K, K),
    )
    values = []
    for _ in range(30):
        evidence, mean, covariance = prior._by_component(a, b)
        trace = torch.linalg.inv(prior.covariance).diagonal(dim1=1, dim2=2).sum()
        regular = -(torch.logdet(prior.covariance).sum() + LEAST_VARIANCE * trace) / 2
        values.append((torch.logsumexp(evidence, 1).sum() + regular).item())
        prior = _updated(torch.softmax(evidence, 1), mean, covariance)
    steps = np.diff(values)
    assert steps.min() > -1e-7
    assert values[-1] > values[0] + 5


def test_states_bring_latents_nearer_to_the_truth():
    truth = two_states()
    a, b = measured(truth, 3.0)
    mean, _ = fit_latent_prior(a, b, seed=0).posterior(a, b)
    under_normal, _ = standard_prior(K).posterior(a, b)
    errors = [np.square(found.numpy() - truth).mean() for found in (mean, under_normal)]
    assert errors[0] < 0.7 * errors[1]


def test_the_same_seed_finds_the_same():
    a, b = measured(two_states(), 8.0)
    one, other = (fit_latent_prior(a, b, seed=3) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(vars(one).values(), vars(other).values(), strict=True))
    prior, evidence = _fit(a.double(), b.double(), 2, seed=3)
    assert np.isfinite(evidence) and prior.weight.sum().item() == pytest.approx(1)
