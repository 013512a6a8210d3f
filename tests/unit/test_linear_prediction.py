"""What images say of others under the linear model: against multivariate normal densities."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from tomohet.linear.prediction import SplitLikelihood

K, USED, NEW = 3, 7, 4


@pytest.fixture(scope="module")
def recordings():
    """Two particles: designs X (2, USED + NEW, K) of all images, and y = X z + noise of variance 1."""
    rng = np.random.default_rng(0)
    design = rng.normal(size=(2, USED + NEW, K))
    y = np.einsum("pnk,pk->pn", design, rng.normal(size=(2, K))) + rng.normal(size=(2, USED + NEW))
    return design, y


@pytest.fixture(scope="module")
def likelihood(recordings):
    design, y = recordings
    used, new = slice(0, USED), slice(USED, None)
    tables = (table for part in (used, new) for table in (
        np.einsum("pnj,pnk->pjk", design[:, part], design[:, part]),
        np.einsum("pnk,pn->pk", design[:, part], y[:, part]),
    ))  # fmt: skip
    return SplitLikelihood(*(torch.tensor(table) for table in tables))


def test_gain_is_the_log_ratio_of_two_normal_densities(recordings, likelihood):
    """Held-out images given those used are normal, about X' z with noise 1; else normal about 0."""
    for (design, y), gain in zip(zip(*recordings, strict=True), likelihood.gain, strict=True):
        together = design @ design.T + np.eye(USED + NEW)
        of_used = multivariate_normal(cov=together[:USED, :USED]).logpdf(y[:USED])
        conditional = multivariate_normal(cov=together).logpdf(y) - of_used
        without = multivariate_normal(cov=np.eye(NEW)).logpdf(y[USED:])
        assert float(gain) == pytest.approx(conditional - without, rel=1e-9)


def test_latents_are_ridge_regression(recordings, likelihood):
    for particle, (design, y) in enumerate(zip(*recordings, strict=True)):
        for n, found in ((USED, likelihood.used), (USED + NEW, likelihood.latents)):
            padded = np.concatenate([design[:n], np.eye(K)])
            expected = np.linalg.lstsq(padded, np.concatenate([y[:n], np.zeros(K)]), rcond=None)[0]
            np.testing.assert_allclose(found[particle], expected)


def test_fewer_latents_and_other_directions(recordings, likelihood):
    """Leading latents: the design's first columns; along directions d: its products with them."""
    design, y = recordings
    directions = np.linalg.qr(np.random.default_rng(1).normal(size=(K, 2)))[0]
    for found, columns in (
        (likelihood.leading(2), design[..., :2]),
        (likelihood.along(torch.tensor(directions)), design @ directions),
    ):
        part = columns[:, USED:]
        np.testing.assert_allclose(found.new_a, np.einsum("pnj,pnk->pjk", part, part))
        np.testing.assert_allclose(found.new_b, np.einsum("pnk,pn->pk", part, y[:, USED:]))
        everything = np.einsum("pnj,pnk->pjk", columns, columns), np.einsum("pnk,pn->pk", columns, y)
        for one, expected in zip(found.all_images, everything, strict=True):
            np.testing.assert_allclose(one, expected)


def test_a_latent_integrated_out_adds_its_covariance_to_the_noise(recordings, likelihood):
    """Without d, y is normal about X Q u with covariance 1 + (X d)(X d)': Q completes d to all directions."""
    design, y = recordings
    complete = np.linalg.qr(np.random.default_rng(2).normal(size=(K, K)))[0]
    dropped, kept = complete[:, :1], complete[:, 1:]
    found = likelihood.without(torch.tensor(dropped))
    everything = found.all_images
    for particle in range(2):
        for n, (a, b) in ((USED, (found.a, found.b)), (USED + NEW, everything)):
            part = design[particle, :n]
            inverse = np.linalg.inv(np.eye(n) + part @ dropped @ dropped.T @ part.T)
            information = kept.T @ part.T @ inverse @ part @ kept
            score = kept.T @ part.T @ inverse @ y[particle, :n]
            own = a[particle].numpy(), b[particle].numpy()
            # What does not depend on the choice of the two directions that are kept.
            np.testing.assert_allclose(np.linalg.eigvalsh(own[0]), np.linalg.eigvalsh(information))
            np.testing.assert_allclose(own[1] @ own[1], score @ score)
            np.testing.assert_allclose(own[1] @ own[0] @ own[1], score @ information @ score)
