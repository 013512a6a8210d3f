"""Errors of poses that lie along one direction are told from those that do not."""

import numpy as np
import pytest
import torch
from blob_store import blob_store

from tomohet.linear.fit import fit_linear_model
from tomohet.linear.likelihood import Latents
from tomohet.linear.pose_directions import LEAST_GAIN, direction_of_errors
from tomohet.linear.poses import PoseEstimates, Poses
from tomohet.physics.geometry import corrected_poses
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.pose_errors import PoseErrors

DEVIATION = np.array([np.radians(2.0), 0.15])
N = 300


def tables(rng, covariance, information):
    """A (N, 6, 6) and b (N, 6) of errors drawn with a covariance in units of DEVIATION, of images that hold
    so much information in these units, more of moves than of turns."""
    unit = np.repeat(DEVIATION, 3)
    factor = rng.normal(size=(N, 6, 6)) * np.sqrt(information / 6) * np.repeat([1.0, 1.5], 3)
    a = np.einsum("nij,nik->njk", factor, factor)
    errors = rng.multivariate_normal(np.zeros(6), covariance, size=N)
    noise = np.einsum("nij,ni->nj", factor, rng.normal(size=(N, 6)))
    b = np.einsum("nij,nj->ni", a, errors) + noise
    return torch.as_tensor(a / unit[:, None] / unit), torch.as_tensor(b / unit)


@pytest.mark.parametrize("information", [0.5, 5.0])
def test_errors_without_preference_are_called_so(information):
    rng = np.random.default_rng(0)
    found = [direction_of_errors(*tables(rng, np.eye(6), information), DEVIATION) for _ in range(40)]
    assert not any(one.preferred for one in found)
    gains = [one.gain for one in found]
    assert 4 < np.mean(gains) < 16 and max(gains) < LEAST_GAIN, "half of 19 is expected"


@pytest.mark.parametrize("information", [0.5, 5.0])
def test_a_direction_is_found(information):
    rng = np.random.default_rng(1)
    way = np.array([1.0, 0, 0, 0, 1.0, 0])
    found = direction_of_errors(
        *tables(rng, 0.1 * np.eye(6) + 3 * np.outer(way, way), information), DEVIATION
    )
    assert found.preferred and found.share > 0.7


def test_turns_of_another_size_than_moves_are_no_direction():
    rng = np.random.default_rng(2)
    found = direction_of_errors(*tables(rng, np.diag([9.0] * 3 + [0.3] * 3), 5.0), DEVIATION)
    assert not found.preferred


@pytest.mark.parametrize("corrected_by", [0.0, 0.8])
def test_estimates_are_those_of_the_whole_errors(corrected_by):
    """Estimates do not depend on how much of the errors the poses were corrected by before."""
    rng = np.random.default_rng(4)
    a, b = tables(rng, np.diag([1.0, 1, 1, 6, 0.1, 0.1]), 5.0)
    a, b = (table.clone() for table in (a, b))
    a[:, :3, 3:], a[:, 3:, :3], b[:, :3] = 0, 0, 0
    covariance = torch.linalg.inv(a + torch.diag(torch.as_tensor(np.repeat(DEVIATION, 3) ** -2.0)))
    whole = (covariance @ b[..., None])[..., 0]
    offset = (corrected_by * whole).numpy()
    errors = PoseErrors(torch.zeros(6, 4, 4, 4), DEVIATION, torch.as_tensor(offset))
    mean = MeanMap(*(torch.zeros(4, 4, 4),) * 2, noise=None, power=torch.zeros(3), errors=errors)
    # One latent before the pose errors: it is left out.
    latents = Latents(torch.zeros(N, 7), torch.eye(7).repeat(N, 1, 1))
    latents.mean[:, 1:], latents.covariance[:, 1:, 1:] = whole - torch.as_tensor(offset), covariance
    found = PoseEstimates.of(Poses(None, np.arange(N), offset), mean, latents)
    np.testing.assert_allclose(found.error, whole, atol=1e-6)
    np.testing.assert_allclose(found.deviation, covariance.diagonal(dim1=1, dim2=2).sqrt(), rtol=1e-5)
    direction = direction_of_errors(a, b, DEVIATION)
    assert found.direction.share == pytest.approx(direction.share, rel=1e-3) and direction.gain > LEAST_GAIN
    assert found.direction.gain == pytest.approx(direction.gain, rel=1e-3)


def test_poses_two_degrees_off_have_no_direction():
    store, rng = blob_store(N, snr=2.0), np.random.default_rng(3)
    errors = rng.normal(size=(N, 6)) * np.repeat(DEVIATION, 3)
    owner = np.repeat(np.arange(N), np.diff(store.offsets))
    store = store.with_poses(*corrected_poses(store.rotations(), errors[owner]))
    poses = fit_linear_model(store, np.arange(N), max_frequency=0.4).poses
    assert poses.found and poses.direction.share < 0.5
    assert "one direction" not in poses.sentence(10.0)
