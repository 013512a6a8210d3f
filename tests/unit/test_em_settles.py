"""EM runs until it converges: the end point depends on the data, not on the start."""

import logging

import numpy as np
import pytest
import torch
from blob_store import blob_store

from tomohet.linear.basis_maps import SETTLED, SHARE_OF_POWER, expectation_maximisation
from tomohet.linear.em import expectation
from tomohet.linear.fit import fit_linear_model
from tomohet.linear.likelihood import Latents
from tomohet.linear.parameter_expansion import missing_information, out_of_span, shared_with_errors
from tomohet.linear.search import FEW_BASIS, MOST_BASIS
from tomohet.reconstruction.mean_map import MeanMap, mean_map
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.pose_errors import PoseErrors

N = 120
EVERYONE = np.arange(N)


@pytest.fixture(scope="module")
def weak_store():
    """One block that comes and goes, so faint that EM is slow."""
    return blob_store(N, snr=0.03, frequencies=(0.5, 1.0), seed=1)


@pytest.fixture(scope="module")
def weak(weak_store):
    return fit_linear_model(weak_store, EVERYONE, max_frequency=0.4)


def from_the_truth(store) -> np.ndarray:
    """(N,) latents where EM ends that starts with who has the block."""
    observations = Observations(store, EVERYONE, max_frequency=0.4)
    mean, has = mean_map(observations), torch.tensor(store.presence[:, :1], dtype=torch.float32)
    start = (has - has.mean()) / has.std()
    fitted = expectation_maximisation(observations, mean, observations, start, 40, SHARE_OF_POWER)
    maps = fitted.fine_basis(store.box), fitted.basis_variance
    return expectation(observations, mean, *maps, accumulate=False)[0].mean[:, 0].numpy()


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return abs(np.corrcoef(a, b)[0, 1])


def test_a_faint_block_is_found_as_if_it_had_been_known(weak_store, weak):
    few = fit_linear_model(weak_store, EVERYONE, max_frequency=0.4, iterations=6)
    known = from_the_truth(weak_store)
    assert correlation(weak.latents.mean[:, 0].numpy(), known) > 0.99
    assert correlation(few.latents.mean[:, 0].numpy(), known) < 0.8


def test_where_there_is_much_signal_em_ends_soon(caplog):
    store = blob_store(N, snr=0.3)
    observations = Observations(store, EVERYONE, max_frequency=0.4)
    start = torch.randn(N, 2, generator=torch.Generator().manual_seed(0))
    with caplog.at_level(logging.INFO, "tomohet.linear.basis_maps"):
        expectation_maximisation(observations, mean_map(observations), observations, start, 40)
    moved = [record.args[2] for record in caplog.records if record.msg.startswith("EM iteration")]
    assert len(moved) < 20 and moved[-1] < SETTLED and min(moved[:-1]) >= SETTLED


def test_where_nothing_is_found_a_second_search_takes_fewer_maps(weak):
    strong = fit_linear_model(blob_store(N, snr=0.3), EVERYONE, max_frequency=0.4)
    assert strong.held_out.found and len(strong.held_out.moment) == MOST_BASIS
    assert not weak.held_out.found and len(weak.held_out.moment) == FEW_BASIS


def test_latents_move_by_what_others_do_not_explain():
    known = torch.linalg.qr(torch.randn(50, 5, generator=torch.Generator().manual_seed(0)))[0]
    z, apart = known[:, :2], known[:, 2:4]
    assert out_of_span(z @ torch.tensor([[1.0, 2], [3, 1]]), z) == pytest.approx(0, abs=1e-6)
    assert out_of_span(apart, z) == pytest.approx(1, abs=1e-6)
    assert out_of_span(z + 0.5 * apart, z) == pytest.approx(0.2, abs=1e-6)
    # Latents that are the same twice span no more than once.
    twice = z[:, :1].expand(-1, 2)
    assert out_of_span(z, twice) == pytest.approx(0.5, abs=1e-6)


def test_missing_information_is_the_posterior_variance():
    covariance = torch.diag_embed(torch.tensor([[0.2, 0.9], [0.4, 0.7]]))
    latents = Latents(torch.zeros(2, 2), covariance)
    torch.testing.assert_close(missing_information(latents), torch.tensor([0.3, 0.8]))


def test_pose_errors_that_follow_a_latent_are_told_from_the_others():
    """Errors a = B z + e: B, and the size of e, the same whatever part of a the poses are corrected by."""
    n, rng = 3000, np.random.default_rng(0)
    size, own = np.repeat([0.04, 0.3], 3), np.repeat([0.03, 0.2], 3)
    z, follows = rng.normal(size=(n, 2)), rng.normal(size=(6, 2)) * size[:, None]
    whole = np.column_stack([z, z @ follows.T + own * rng.normal(size=(n, 6))])
    # Images tell each coordinate with a small part of the variance of what is to be told.
    precision = 30 / np.concatenate([[1, 1], own**2])
    b = precision * whole + np.sqrt(precision) * rng.normal(size=whole.shape)
    prior = np.concatenate([[1, 1], np.repeat([0.05, 0.4], 3) ** -2.0])
    covariance = torch.diag(torch.tensor(1 / (precision + prior))).repeat(n, 1, 1)
    deviations = []
    for corrected_by in (0.0, 1.0):
        posterior = b / (precision + prior)
        offset = corrected_by * (posterior[:, 2:] + 0.1 * own)
        posterior[:, 2:] -= offset
        errors = PoseErrors(torch.zeros(6, 2, 2, 2), np.array([0.05, 0.4]), torch.tensor(offset))
        mean = MeanMap(*(torch.zeros(2, 2, 2),) * 2, noise=None, power=torch.zeros(2), errors=errors)
        shared, left = shared_with_errors(Latents(torch.tensor(posterior), covariance), mean)
        np.testing.assert_allclose(shared.numpy() / size[:, None], follows / size[:, None], atol=0.15)
        np.testing.assert_allclose(left.deviation, [0.03, 0.2], rtol=0.05)
        deviations.append(left.deviation)
    np.testing.assert_allclose(*deviations, rtol=1e-3)
