"""What surrounds particles: whether it is seen, and that it is not taken for structure."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from blob_store import blob_store, expanded_by_c2

from tomohet.linear.basis_maps import expectation_maximisation
from tomohet.linear.fit import fit_linear_model
from tomohet.linear.likelihood import likelihoods
from tomohet.linear.significance import SURROUNDINGS_SE
from tomohet.linear.surroundings import SAME_PX, alike_beyond, wedges
from tomohet.reconstruction.mean_map import mean_map
from tomohet.reconstruction.observations import APART_PX, Observations

N, FREQUENCY = 200, 0.4


def left_over(store, basis_maps=0):
    """`alike_beyond` of the mean map and so many basis maps fitted from random latents."""
    observations = Observations(store, np.arange(N), max_frequency=FREQUENCY)
    mean = mean_map(observations)
    if not basis_maps:
        return alike_beyond(observations, mean, torch.zeros(0, *mean.volume.shape))
    start = torch.randn(N, basis_maps, generator=torch.Generator().manual_seed(0))
    fitted = expectation_maximisation(observations, mean, observations, start, 10)
    there = observations.alike(observations.everyone, len(fitted.mean.volume))
    return alike_beyond(there, fitted.mean, fitted.basis, fitted.basis_variance)


def test_noise_leaves_a_standard_normal_number():
    found = [left_over(blob_store(N, snr=0.3, blocks=False, seed=seed)) for seed in range(20)]
    assert abs(np.mean(found)) < 0.8 and 0.4 < np.std(found) < 1.6
    assert max(found) < SURROUNDINGS_SE


@pytest.mark.parametrize("copied", [False, True])
def test_the_excess_is_that_of_a_loop_over_pairs_of_images(copied):
    """Images in any order; neighbours in tilt angle are compared where their slices meet."""
    store = blob_store(4, snr=0.5, n_tilts=5)
    rng, owner = np.random.default_rng(0), store.images["particle"].to_numpy()
    order = np.lexsort((rng.random(len(owner)), owner))
    images = store.images.iloc[order].reset_index(drop=True)
    store = replace(store, images=images, values=store.values[order])
    store = expanded_by_c2(store) if copied else store
    everyone = np.arange(len(store.offsets) - 1)
    observations = Observations(store, everyone, max_frequency=FREQUENCY)
    mean, basis = mean_map(observations, rounds=1), store.maps[1:]
    excess, chance = np.zeros((2, observations.n_shells))
    k, shell = observations.half_plane.k.double().numpy(), observations.shell.numpy()
    (seen,) = likelihoods(observations, mean, basis, None)
    weight = seen.chunk.weight.double().numpy()
    residual, slices = (table.numpy().astype(complex) for table in (seen.residual, seen.slices))
    rotation, tilt = store.rotations(), store.images["tilt_deg"].to_numpy()
    for particle in everyone:
        rows = store.images_of([particle])
        own, e, w = (table[rows] for table in (slices, residual, weight))
        a = 2 * np.einsum("mn,mnj,mnl->jl", w, own.conj(), own).real
        covariance = np.linalg.inv(a + np.eye(2))
        z = covariance @ (2 * np.einsum("mnj,mn->j", own.conj(), e).real)
        second = np.outer(z, z) + covariance
        by_angle = rows[np.argsort(tilt[rows])]
        for i, j in pairwise(by_angle):
            apart = np.linalg.norm(k @ (rotation[i] - rotation[j])[:2], axis=1)
            for n in np.flatnonzero(apart < SAME_PX):
                expected = weight[i, n] * weight[j, n] * slices[i, n].conj() @ second @ slices[j, n]
                excess[shell[n]] += (residual[i, n].conj() * residual[j, n] - expected).real
                chance[shell[n]] += weight[i, n] * weight[j, n] / 2
    known = chance > 0
    expected = (excess[known] / np.sqrt(chance[known])).sum() / np.sqrt(known.sum() * (1 + copied))
    assert known.sum() >= 3
    assert alike_beyond(observations, mean, basis) == pytest.approx(expected, rel=1e-3)


def test_every_image_is_in_one_wedge():
    """Of three images of a particle, one lies exactly where the second held-out half begins."""
    store = blob_store(6, snr=1.0, n_tilts=3)
    parts = wedges(store)
    assert sum(len(part.images) for part in parts) == len(store.images)
    of_first = [part.images["tilt"][part.images["particle"] == 0].tolist() for part in parts]
    assert of_first == [[0, 1], [], [2]]


def test_what_surrounds_particles_is_seen():
    assert left_over(blob_store(N, snr=0.3, blocks=False, surroundings=0.5)) > 2 * SURROUNDINGS_SE


def test_structure_that_the_model_explains_is_none():
    store = blob_store(N, snr=1.0)
    assert left_over(store) > SURROUNDINGS_SE, "not explained, it is alike in neighbouring tilts as well"
    assert left_over(store, basis_maps=2) < SURROUNDINGS_SE


def test_wedges_divide_each_particles_tilts_by_angle():
    store = blob_store(12, snr=1.0, n_tilts=12)
    parts = wedges(store)
    angle = [part.images["tilt_deg"].to_numpy() for part in parts]
    for particle in range(12):
        used, first, second = (
            own[slice(*part.offsets[particle : particle + 2])] for own, part in zip(angle, parts, strict=True)
        )
        assert len(used) + len(first) + len(second) == np.diff(store.offsets)[particle]
        assert 0.55 < len(used) / (len(used) + len(first) + len(second)) < 0.75 and len(first) and len(second)
        side = -1 if particle % 2 else 1
        assert max(side * used) < min(side * first) and max(side * first) < min(side * second)


def test_images_apart_have_no_weight_near_the_others_slices():
    store = blob_store(8, snr=1.0, n_tilts=12)
    used, first, second = wedges(store)
    whole = Observations(second, np.arange(8), max_frequency=FREQUENCY)
    apart = Observations(second, np.arange(8), max_frequency=FREQUENCY, apart_from=(used, first))
    images, others = second.images, [used.images, first.images]
    rotation = images[[f"r{i}{j}" for i in range(3) for j in range(3)]].to_numpy().reshape(-1, 3, 3)
    k = whole.half_plane.k.numpy().astype(float)
    kept = 0
    for chunk, all_of_it in zip(apart.chunks(), whole.chunks(), strict=True):
        for image in range(len(images)):
            points = k @ rotation[image][:2]
            own = [other[other["particle"] == images["particle"][image]] for other in others]
            normals = np.concatenate([other[["r20", "r21", "r22"]].to_numpy() for other in own])
            nearest = np.abs(points @ normals.T).min(1)
            clear = np.abs(nearest - APART_PX) > 1e-4
            far = torch.as_tensor(nearest > APART_PX)
            expected = all_of_it.weight[image] * far
            np.testing.assert_allclose(chunk.weight[image][clear], expected[clear], rtol=1e-6)
            expected = all_of_it.numerator[image] * far
            np.testing.assert_allclose(chunk.numerator[image][clear], expected[clear], rtol=1e-6)
            kept += int(far.sum())
    assert 0 < kept < len(images) * len(k)


@pytest.mark.parametrize("seed", range(3))
def test_identical_particles_with_surroundings_are_identical(seed):
    store = blob_store(N, snr=1.0, blocks=False, surroundings=1.0, seed=seed)
    model = fit_linear_model(store, np.arange(N), max_frequency=FREQUENCY)
    assert not model.heterogeneous and not model.poses.found
    assert model.apart is (model.surroundings is not None)


def test_structure_among_surroundings_is_found():
    store = blob_store(N, snr=1.0, surroundings=1.0)
    model = fit_linear_model(store, np.arange(N), max_frequency=FREQUENCY)
    assert model.apart and model.surroundings > SURROUNDINGS_SE
    assert model.held_out.n_components == 2
    assert "neighbours or background are seen (z = " in model.verdict
