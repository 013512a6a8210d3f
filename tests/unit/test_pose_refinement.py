"""The linear model on particles whose stated poses are wrong: what it says, and what becomes of the poses."""

import numpy as np
import pytest
import torch
from blob_store import blob_store
from scipy.spatial.transform import Rotation

from tomohet.linear.fit import fit_linear_model, refined_alone
from tomohet.particles.store import open_store
from tomohet.physics.geometry import corrected_poses
from tomohet.physics.lattice import shift_half_planes

N = 120
ROTATION_DEG, SHIFT_PX = 4.0, 0.25


def misplaced(store, seed=0):
    """The store with one wrong pose for each particle; the errors (n, 6) that take the stated poses back."""
    rng = np.random.default_rng(seed)
    n = len(store.particles)
    error = rng.normal(size=(n, 6)) * np.repeat([np.radians(ROTATION_DEG) / np.sqrt(3), SHIFT_PX], 3)
    owner = store.images["particle"].to_numpy()
    wrong = store.with_poses(*corrected_poses(store.rotations(), error[owner]))
    back = Rotation.from_rotvec(-error[:, :3])
    # Undone in the frame of the wrong pose.
    return wrong, np.concatenate([back.as_rotvec(), -back.apply(error[:, 3:])], axis=1)


@pytest.fixture(scope="module")
def same_particles():
    wrong, truth = misplaced(blob_store(N, snr=1.0, blocks=False))
    return fit_linear_model(wrong, np.arange(N), max_frequency=0.4), truth


def test_wrong_poses_are_no_heterogeneity(same_particles):
    model, _ = same_particles
    assert not model.heterogeneous and model.held_out.p_value > 0.01


def test_the_size_of_the_errors_is_found(same_particles):
    model, truth = same_particles
    rotation_deg, shift_px = model.poses.spread(1.0)
    assert rotation_deg == pytest.approx(np.degrees(np.sqrt((truth[:, :3] ** 2).sum(1).mean())), rel=0.2)
    assert shift_px == pytest.approx(truth[:, 3:].std(), rel=0.2)


def test_the_estimates_take_the_stated_poses_to_the_true_ones(same_particles):
    model, truth = same_particles
    for part in (slice(3), slice(3, None)):
        left = (model.poses.error - truth)[:, part]
        left = left - left.mean(0)  # all particles together may turn and move with the mean map
        assert np.square(left).mean() < 0.7 * np.square(truth[:, part]).mean()
        expected = np.square(model.poses.deviation[:, part]).mean()
        assert 0.5 < np.square(left).mean() / expected < 2, "the posterior knows how wrong it is"


def test_right_poses_stay_and_cost_nothing():
    model = fit_linear_model(blob_store(N, snr=1.0), np.arange(N), max_frequency=0.4)
    assert not model.poses.found and not model.poses.error.any()
    assert model.held_out.n_components == 2


def test_particles_refined_alone_come_nearer_their_true_poses():
    """Two blobs come and go, which the model of these particles does not take for errors of poses."""
    right = blob_store(N, snr=1.0)
    wrong, _ = misplaced(right)
    refined = refined_alone(wrong, np.arange(N), max_frequency=0.4)
    first = right.offsets[:-1]

    def off(store):
        between = np.einsum("nji,njk->nik", right.rotations()[first], store.rotations()[first])
        turned = Rotation.from_matrix(between).as_rotvec()
        return np.square(turned - turned.mean(0)).mean()

    assert off(refined) < 0.85 * off(wrong)


def test_a_store_with_other_poses_reads_shifted_images(tiny_store):
    store = open_store(tiny_store)
    rng = np.random.default_rng(1)
    shifts = rng.normal(size=(len(store.images), 2))
    rows = np.array([5, 0, 17])
    moved = store.with_poses(store.rotations(), shifts)
    expected = shift_half_planes(
        store.half_planes(rows), torch.as_tensor(shifts[rows], dtype=torch.float32), store.half_plane
    )
    torch.testing.assert_close(moved.half_planes(rows), expected)
    twice = moved.with_poses(store.rotations(), -shifts)
    torch.testing.assert_close(twice.half_planes(rows), store.half_planes(rows), rtol=0, atol=1e-4)
    part = np.arange(len(store.images)) % 2 == 1
    torch.testing.assert_close(moved.restricted(part).half_planes([2]), moved.half_planes([5]))
