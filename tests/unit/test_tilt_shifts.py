"""Shifts of single tilt images as low-rank noise: the algebra, the estimate, and the fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from blob_store import blob_store

from tomohet.linear.em import expectation
from tomohet.linear.fit import fit_linear_model
from tomohet.linear.likelihood import latent_likelihood, residual_shift
from tomohet.physics.lattice import half_plane, shift_half_planes
from tomohet.physics.shells import shell_power
from tomohet.physics.slicing import gather, transform
from tomohet.reconstruction.mean_map import MeanMap, mean_map
from tomohet.reconstruction.noise import Noise
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.tilt_shifts import (
    DEVIATIONS,
    ShiftLikelihood,
    log_likelihoods,
    most_likely,
    tangents,
)

N, FREQUENCY = 120, 0.4


def drawn(m=50, n_rows=40, k=3, t=0.3, seed=0):
    """Real designs of latents (m, n, k) and shifts (m, n, 2), data (m, n) with unit noise; t: of shifts."""
    rng = torch.Generator().manual_seed(seed)
    of_latents, of_shifts, noise = (
        torch.randn(m, n_rows, size, generator=rng, dtype=torch.float64) for size in (k, 2, 1)
    )
    z, d = torch.randn(m, k, 1, generator=rng).double(), t * torch.randn(m, 2, 1, generator=rng).double()
    data = of_latents @ z + of_shifts @ d + noise
    return of_latents, of_shifts, data[..., 0]


def seen(of_latents, of_shifts, data):
    """The tables of images whose points are real and of unit noise."""
    adjoint = of_shifts.transpose(1, 2)
    projection = (adjoint @ data[..., None])[..., 0]
    return ShiftLikelihood(of_shifts, adjoint @ of_shifts, adjoint @ of_latents, projection)


def test_shifts_integrated_out_are_noise_of_their_covariance():
    t = 0.3
    of_latents, of_shifts, data = drawn(t=t)
    adjoint = of_latents.transpose(1, 2)
    plain = adjoint @ of_latents, (adjoint @ data[..., None])[..., 0]
    a, b = seen(of_latents, of_shifts, data).integrated_out(*plain, t)
    noise = torch.eye(of_shifts.shape[1]).double() + t**2 * of_shifts @ of_shifts.transpose(1, 2)
    whitened = torch.linalg.solve(noise, torch.cat([of_latents, data[..., None]], dim=2))
    torch.testing.assert_close(a, adjoint @ whitened[..., :-1])
    torch.testing.assert_close(b, (adjoint @ whitened[..., -1:])[..., 0])


def test_expected_products_are_those_of_the_joint_posterior():
    t = 0.3
    of_latents, of_shifts, data = drawn(t=t)
    k = of_latents.shape[2]
    both = torch.cat([of_latents, of_shifts], dim=2)
    prior = torch.diag(torch.tensor([1.0] * k + [t**-2] * 2).double())
    covariance = torch.linalg.inv(both.transpose(1, 2) @ both + prior)
    mean = (covariance @ both.transpose(1, 2) @ data[..., None])[..., 0]
    second = mean[:, :, None] * mean[:, None] + covariance
    found = seen(of_latents, of_shifts, data).moments(t, mean[:, :k], second[:, :k, :k])
    torch.testing.assert_close(found, second[:, k:, :k])


@pytest.mark.parametrize("t", [0.0, 0.1, 0.3])
def test_deviation_is_found(t):
    of_latents, of_shifts, data = drawn(m=2000, t=t)
    tables = seen(of_latents, of_shifts, data)
    covariance = torch.linalg.inv(of_latents.transpose(1, 2) @ of_latents + torch.eye(3).double())
    mean = (covariance @ of_latents.transpose(1, 2) @ data[..., None])[..., 0]
    found = most_likely(log_likelihoods(*tables.residual(mean, covariance)).numpy())
    assert found == pytest.approx(t, abs=0.012)


def test_copies_have_to_say_it_more_often():
    gain = np.where(np.arange(len(DEVIATIONS)) == 5, 10.0, 0.0)
    assert most_likely(gain) == pytest.approx(DEVIATIONS[5])
    assert most_likely(gain, copies=2) == 0


def test_tangents_are_the_change_of_a_shifted_image():
    hp = half_plane(16)
    slices = torch.randn(3, hp.n, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    small = 1e-3
    for axis in range(2):
        moved = torch.zeros(3, 2)
        moved[:, axis] = small
        change = (shift_half_planes(slices, moved, hp) - slices) / small
        sign = 1 if (change * tangents(hp, slices)[..., axis].conj()).real.sum() > 0 else -1
        torch.testing.assert_close(change, sign * tangents(hp, slices)[..., axis], atol=2e-2, rtol=2e-2)


def misaligned(deviation_px, snr=1.0, seed=0, **options):
    """Images that are moved, each by itself."""
    store = blob_store(N, snr=snr, seed=seed, **options)
    rng = np.random.default_rng(seed)
    shifts = torch.as_tensor(rng.normal(0, deviation_px, (len(store.images), 2)), dtype=torch.float32)
    return replace(store, values=shift_half_planes(store.values, shifts, store.half_plane))


@pytest.mark.parametrize("deviation_px", [0.0, 0.3])
def test_fit_says_how_far_images_are_off(deviation_px):
    model = fit_linear_model(misaligned(deviation_px), np.arange(N), max_frequency=FREQUENCY)
    assert model.maps.mean.tilt_shift_px == pytest.approx(deviation_px, abs=0.06)
    said = model.tilts_sentence(10.0)
    assert ("off by" in said) == (deviation_px > 0)


def test_images_that_are_off_count_for_less():
    observations = Observations(misaligned(0.3), np.arange(N), max_frequency=FREQUENCY)
    mean = mean_map(observations)
    basis = torch.as_tensor(observations.store.maps[1:])
    assert residual_shift(observations, mean, basis) > 0.1
    plain, _ = latent_likelihood(observations, mean, basis)
    less, _ = latent_likelihood(observations, replace(mean, tilt_shift_px=0.3), basis)
    assert (torch.linalg.eigvalsh(plain - less) > -1e-3 * plain.amax()).all()
    assert less.diagonal(dim1=1, dim2=2).sum() < 0.99 * plain.diagonal(dim1=1, dim2=2).sum()
    latents, equations = expectation(observations, replace(mean, tilt_shift_px=0.3), basis, accumulate=True)
    assert torch.isfinite(latents.mean).all() and torch.isfinite(equations.data.abs()).all()


def test_data_of_the_m_step_lose_what_shifts_explain():
    """Summed over the grid: E[z_j (r - w D d)], with the shift d of each image given z, point by point."""
    observations = Observations(misaligned(0.3), np.arange(4), max_frequency=FREQUENCY)
    maps = torch.as_tensor(observations.store.maps)
    noise = Noise.same(torch.full((observations.n_rows,), 2.0), 1)
    mean = MeanMap(maps[0], torch.ones(maps[0].shape), noise, shell_power(maps[0]), tilt_shift_px=0.3)
    latents, equations = expectation(observations, mean, maps[1:], accumulate=True)
    frequency = observations.half_plane.frequency.numpy()
    expected, lost = np.zeros(2, complex), np.zeros(2, complex)
    for chunk in noise.whitened(observations):
        slices = gather(transform(maps), chunk.index, chunk.corner_weight).numpy()
        for image, particle in enumerate(chunk.owner + chunk.part.start):
            z, covariance = latents.mean[particle].numpy(), latents.covariance[particle].numpy()
            weight, own = chunk.weight[image, :, None].numpy(), slices[image]
            residual = chunk.numerator[image].numpy() - weight[:, 0] * own[:, 0]
            change = -2j * np.pi * frequency * own[:, :1]
            # p(d | z) has the precision P and the projection p - c z.
            precision = 2 * (change.conj().T @ (weight * change)).real + np.eye(2) / 0.3**2
            projection = 2 * (change.conj().T @ residual).real
            cross = 2 * (change.conj().T @ (weight * own[:, 1:])).real
            both = np.outer(projection, z) - cross @ (covariance + np.outer(z, z))
            points = chunk.corner_weight[image].sum(-1).numpy()
            expected += points @ np.outer(residual, z)
            lost += points @ (weight * (change @ np.linalg.solve(precision, both)))
    assert np.abs(lost).min() > 0.01 * np.abs(expected).max()
    np.testing.assert_allclose(equations.data.sum(0).numpy(), expected - lost, rtol=1e-3)
