"""Pose errors as latents of the mean map's tangents: algebra against brute force, estimates against truth."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.stats import multivariate_normal

from tomohet.physics.geometry import corrected_poses
from tomohet.reconstruction.pose_errors import (
    LEAST,
    LEAST_GAIN,
    PoseErrors,
    composed,
    of_errors,
    prior_deviation,
    tangents,
)

BOX = 24


def blobs(centres_px: np.ndarray) -> torch.Tensor:
    """A map of Gaussian blobs at positions x, y, z (n, 3) in px from the voxel D//2."""
    z, y, x = np.indices((BOX,) * 3) - BOX // 2
    squares = sum((axis[..., None] - c) ** 2 for axis, c in zip((x, y, z), centres_px.T, strict=True))
    return torch.as_tensor(np.exp(-squares / (2 * 1.6**2)).sum(-1))


@pytest.mark.parametrize("index", range(6))
def test_tangents_are_derivatives_of_a_particle_that_turns_and_moves(index):
    centres = np.random.default_rng(0).uniform(-5, 5, (6, 3))
    step = 1e-3
    error = np.zeros(6)
    error[index] = step
    turned = Rotation.from_rotvec(error[:3]).apply(centres) + error[3:]
    difference = (blobs(turned) - blobs(centres)) / step
    found = tangents(blobs(centres))[index]
    assert torch.linalg.vector_norm(found - difference) < 0.01 * torch.linalg.vector_norm(difference)


def test_a_corrected_pose_projects_the_moved_particle_where_the_stated_pose_would_the_moved_map():
    """Points of the particle, turned by w and moved by d: the corrected pose and the shift undo both."""
    rng = np.random.default_rng(1)
    points, rotation = rng.normal(size=(20, 3)), Rotation.random(5, random_state=2).as_matrix()
    error = rng.normal(0, 0.3, (5, 6))
    turned, shift = corrected_poses(rotation, error)
    for r, e, new, s in zip(rotation, error, turned, shift, strict=True):
        moved = Rotation.from_rotvec(e[:3]).apply(points) + e[3:]
        seen = (r @ moved.T).T[:, :2] + s
        np.testing.assert_allclose(seen, (new @ points.T).T[:, :2], atol=1e-12)


def test_two_corrections_compose():
    rng = np.random.default_rng(3)
    first, second = rng.normal(0, 0.3, (2, 4, 6))
    rotation = Rotation.random(4, random_state=4).as_matrix()
    once, shift_once = corrected_poses(rotation, first)
    twice, shift_twice = corrected_poses(once, second)
    both = composed(composed(np.zeros((4, 6)), first), second)
    np.testing.assert_allclose(rotation @ Rotation.from_rotvec(both[:, :3]).as_matrix(), twice, atol=1e-12)
    # The shift is stated in the frame of the new pose.
    np.testing.assert_allclose(
        -np.einsum("mij,mj->mi", twice[:, :2], both[:, 3:]), shift_once + shift_twice, atol=1e-12
    )


def random_tables(n: int, k: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, 2 * k, k))
    return torch.as_tensor(root.transpose(0, 2, 1) @ root), torch.as_tensor(rng.normal(size=(n, k)))


def errors_of(offset: torch.Tensor) -> PoseErrors:
    return PoseErrors(torch.zeros(6, 2, 2, 2, dtype=torch.float64), np.array([0.3, 0.7]), offset)


def test_errors_are_integrated_out_of_the_latents():
    """Against the joint Gaussian: its marginal over the errors has the same mean and covariance."""
    a, b = random_tables(3, 8, seed=5)
    offset = torch.as_tensor(np.random.default_rng(6).normal(size=(3, 6)))
    errors = errors_of(offset)
    own_a, own_b = errors.marginal(a, b)
    for p in range(3):
        prior = np.diag(np.r_[1, 1, errors.precision.numpy()])
        precision = a[p].numpy() + prior
        projection = b[p].numpy() - prior @ np.r_[0, 0, offset[p].numpy()]
        covariance = np.linalg.inv(precision)
        expected = (covariance @ projection)[:2], covariance[:2, :2]
        found_covariance = np.linalg.inv(own_a[p].numpy() + np.eye(2))
        np.testing.assert_allclose(found_covariance, expected[1], rtol=1e-8)
        np.testing.assert_allclose(found_covariance @ own_b[p].numpy(), expected[0], rtol=1e-8)


def test_latents_are_integrated_out_of_the_errors():
    a, b = random_tables(2, 9, seed=7)
    own_a, own_b = of_errors(a, b)
    for p in range(2):
        precision = a[p].numpy() + np.diag(np.r_[np.ones(3), np.zeros(6)])
        covariance = np.linalg.inv(precision)
        np.testing.assert_allclose(np.linalg.inv(own_a[p].numpy()), covariance[3:, 3:], rtol=1e-7)
        np.testing.assert_allclose(
            np.linalg.solve(own_a[p].numpy(), own_b[p].numpy()), (covariance @ b[p].numpy())[3:], rtol=1e-7
        )


@pytest.mark.parametrize("corrected_by", [0.0, 0.8])
def test_the_variances_of_errors_follow_from_the_likelihood(corrected_by):
    """Data y = a + noise on each of six coordinates; poses corrected by a part of y state the same errors."""
    rng = np.random.default_rng(8)
    n, truth, noise = 4000, np.array([np.radians(3.0), 0.2]), np.array([np.radians(2.0), 0.3])
    error = rng.normal(size=(n, 6)) * np.repeat(truth, 3)
    seen = error + rng.normal(size=(n, 6)) * np.repeat(noise, 3)
    offset = corrected_by * seen
    precision = np.repeat(noise, 3) ** -2.0
    a = torch.as_tensor(np.broadcast_to(np.diag(precision), (n, 6, 6)).copy())
    b = torch.as_tensor(precision * (seen - offset))
    found, gain = prior_deviation(a, b, torch.as_tensor(offset))
    np.testing.assert_allclose(found, truth, rtol=0.05)
    # The gain is the logarithm of a ratio of Gaussian densities.
    wide, narrow = (
        multivariate_normal(cov=np.diag(np.repeat(d**2 + noise**2, 3))).logpdf(seen).sum()
        for d in (found, LEAST)
    )
    assert gain == pytest.approx(wide - narrow, rel=1e-3)


def test_right_poses_are_rarely_called_wrong():
    rng = np.random.default_rng(9)
    gains = []
    for _ in range(100):
        precision = 10.0 ** rng.uniform(1, 3, (100, 6))
        a = torch.as_tensor(np.einsum("ni,ij->nij", precision, np.eye(6)))
        b = torch.as_tensor(np.sqrt(precision) * rng.normal(size=(100, 6)))
        gains.append(prior_deviation(a, b, torch.zeros(100, 6))[1])
    assert np.mean(np.array(gains) > LEAST_GAIN) <= 0.02
