"""Whether there is heterogeneity, and how many basis maps: on data with and without it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from blob_store import blob_store

from tomohet.linear.detection import TILT_GROUPS, detect_heterogeneity
from tomohet.linear.fit import fit_linear_model, kernel_box
from tomohet.linear.held_out import HeldOut, predictive_gain
from tomohet.reconstruction.mean_map import mean_map
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.particle_maps import grouped_particle_maps, particle_maps

N, BOX = 120, 16


def detection(store, seed=0):
    observations = Observations(store, np.arange(N), max_frequency=0.4)
    small = Observations(store, np.arange(N), max_frequency=0.4, box=BOX)
    return detect_heterogeneity(grouped_particle_maps(small, mean_map(observations), TILT_GROUPS), seed=seed)


def test_maps_by_group_of_tilts_add_up_to_the_whole():
    store = blob_store(12, snr=0.3)
    mean = mean_map(Observations(store, np.arange(12), max_frequency=0.4))
    observations = Observations(store, np.arange(12), max_frequency=0.4, box=12)
    groups, whole = grouped_particle_maps(observations, mean, 4), particle_maps(observations, mean)
    torch.testing.assert_close(groups.sum(1), whole, rtol=1e-3, atol=1e-4 * float(whole.abs().max()))
    # The last particle has one tilt less: its groups hold 2 of its 8 tilts each.
    assert (groups.flatten(2).norm(dim=2) > 0).all()


def test_two_independent_blocks_are_two_components():
    found = detection(blob_store(N, snr=0.3))
    assert found.found and found.n_components == 2 and found.excess > 10


def test_homogeneous_particles_are_called_so():
    """At 1 % by chance: of ten data sets one at most. Each has another pose, noise and mean map."""
    verdicts = [detection(blob_store(N, snr=0.3, seed=seed, blocks=False)) for seed in range(10)]
    assert sum(verdict.found for verdict in verdicts) <= 1
    assert np.mean([verdict.p_value for verdict in verdicts]) > 0.2


def test_too_much_noise_hides_the_blocks():
    assert not detection(blob_store(N, snr=0.003)).found


def test_gain_of_prediction_equals_dense_gaussians():
    rng = np.random.default_rng(0)
    k, seen, new = 3, 7, 5
    design = rng.normal(size=(seen + new, k))
    y = rng.normal(size=seen + new)
    (d1, d2), (y1, y2) = np.split(design, [seen]), np.split(y, [seen])
    covariance = design @ design.T + np.eye(seen + new)

    def log_density(values, matrix):
        return -(np.linalg.slogdet(2 * np.pi * matrix)[1] + values @ np.linalg.solve(matrix, values)) / 2

    joint, first = log_density(y, covariance), log_density(y1, covariance[:seen, :seen])
    wanted = joint - first - log_density(y2, np.eye(new))
    arrays = (d1.T @ d1, d1.T @ y1, d2.T @ d2, d2.T @ y2)
    gain = predictive_gain(*(torch.tensor(x)[None] for x in arrays))
    assert gain.item() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    ("gains", "wanted"), [([1.0, 3.0, 3.003], 2), ([-1.0, -2.0, -3.0], 0), ([1.0, 2.0, 4.0], 3)]
)
def test_the_smallest_number_that_is_not_clearly_worse(gains, wanted):
    noise = np.random.default_rng(0).normal(size=(200, 1)) + 0.1 * np.random.default_rng(1).normal(
        size=(200, 3)
    )
    assert HeldOut(noise - noise.mean(0) + gains).n_components == wanted


def test_basis_maps_are_as_many_as_predict_held_out_tilts():
    model = fit_linear_model(blob_store(N, snr=0.3), np.arange(N), zdim=None, iterations=4, max_frequency=0.4)
    assert len(model.basis) == 2 == model.held_out.n_components
    assert model.held_out.found and "heterogeneity found: 2 components" in model.verdict
    same = blob_store(N, snr=0.3, blocks=False)
    model = fit_linear_model(same, np.arange(N), zdim=None, iterations=4, max_frequency=0.4)
    assert model.held_out.n_components == 0 and len(model.basis) == 1 and not model.heterogeneous
    assert "no heterogeneity found at this number of particles (120)" in model.verdict


def test_held_out_tilts_count_where_the_kernel_says_nothing():
    model = fit_linear_model(blob_store(N, snr=0.3), np.arange(N), zdim=None, iterations=4, max_frequency=0.4)
    model = replace(model, detection=replace(model.detection, p_value=0.5))
    assert model.heterogeneous and "weak" in model.verdict
    unlike = replace(model, held_out=HeldOut(-model.held_out.gain))
    assert not unlike.heterogeneous and unlike.held_out.n_components == 0


@pytest.mark.parametrize(
    ("box", "n_maps", "wanted"), [(96, 1600, 32), (24, 10, 24), (96, 80_000, 20), (96, 10**7, 12)]
)
def test_kernel_boxes_fit_in_memory(box, n_maps, wanted):
    assert kernel_box(box, n_maps) == wanted
