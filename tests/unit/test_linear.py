"""The linear latent model: against dense algebra, and against known blocks."""

import numpy as np
import pytest
import torch
from blob_store import blob_store
from sklearn.metrics import roc_auc_score

from tomohet.linear.em import expectation
from tomohet.linear.fit import fit_linear_model
from tomohet.linear.likelihood import Latents, likelihood
from tomohet.linear.locality import local_variance
from tomohet.linear.parameter_expansion import expansion
from tomohet.linear.prior_power import shell_scales
from tomohet.linear.spectral import kernel_spectrum
from tomohet.linear.start import kernel_particles
from tomohet.physics.fourier_grids import pad_fourier
from tomohet.physics.fsc import correlation
from tomohet.physics.masks import sphere_mask
from tomohet.physics.shells import shell_power
from tomohet.physics.slicing import gather, transform
from tomohet.reconstruction.mean_map import MeanMap, mean_map
from tomohet.reconstruction.noise import Noise
from tomohet.reconstruction.observations import ROWS_PER_CHUNK, Observations
from tomohet.reconstruction.particle_maps import DifferenceMaps
from tomohet.reconstruction.pose_errors import PoseErrors, tangents
from tomohet.reconstruction.prior import SpectralPrior


@pytest.fixture(scope="module")
def store():
    return blob_store(120, snr=0.3)


@pytest.fixture(scope="module")
def model(store):
    return fit_linear_model(store, np.arange(120), zdim=3, iterations=6, max_frequency=0.4)


def test_posterior_equals_dense_linear_regression(store):
    observations = Observations(store, np.arange(6), max_frequency=0.4)
    mean = MeanMap(
        store.maps[0],
        torch.ones(16, 16, 16),
        Noise.same(torch.full((observations.n_rows,), 2.0), 1),
        shell_power(store.maps[0]),
    )
    latents, _ = expectation(observations, mean, store.maps[1:], accumulate=False)
    (chunk,) = observations.chunks()
    slices = gather(transform(store.maps), chunk.index, chunk.corner_weight).numpy()
    for particle in range(6):
        mine = (chunk.owner == particle).numpy()
        h = chunk.transfer[mine].numpy()[..., None]
        design = (h * slices[mine][..., 1:]).reshape(-1, 2)
        target = (chunk.data[mine].numpy() - h[..., 0] * slices[mine][..., 0]).reshape(-1)
        design, target = (
            np.concatenate([design.real, design.imag]),
            np.concatenate([target.real, target.imag]),
        )
        # Real and imaginary parts have unit variance: noise is the variance of the complex number, 2.
        precision = design.T @ design + np.eye(2)
        np.testing.assert_allclose(
            latents.covariance[particle], np.linalg.inv(precision), rtol=1e-3, atol=1e-5
        )
        np.testing.assert_allclose(
            latents.mean[particle], np.linalg.solve(precision, design.T @ target), rtol=1e-3, atol=1e-4
        )


def difference_maps(n_particles, box=4):
    """Random maps, with something in common and of different power; in half precision, and what they are."""
    draw = torch.Generator().manual_seed(0)
    unit = (0.3 + torch.randn(n_particles, box**3, generator=draw)).half()
    rms = 0.5 + torch.rand(n_particles, generator=draw)
    return DifferenceMaps(unit, rms), (rms[:, None] * unit).double().numpy()


def dense_kernel(maps):
    """K_pq of maps (N, voxels), written out."""
    maps = maps - maps.mean(0)
    kernel = maps @ maps.T
    np.fill_diagonal(kernel, 0)
    return kernel


@pytest.mark.parametrize("block_bytes", [1, 2**10, 2**23])
def test_kernel_spectrum_equals_dense_eigenvectors(block_bytes, monkeypatch):
    """One particle at a time, four, or all."""
    monkeypatch.setattr("tomohet.linear.spectral.BLOCK_BYTES", block_bytes)
    maps, written_out = difference_maps(20)
    values, vectors = kernel_spectrum(maps, 3)
    kernel = dense_kernel(written_out)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(kernel)[::-1][:3], rtol=1e-5)
    np.testing.assert_allclose(kernel @ vectors, vectors * values, atol=1e-3 * values[0])


def test_what_is_not_known_of_basis_maps_makes_latents_smaller(store):
    """Basis maps drawn from their posterior: A is the mean of theirs, b that of the mean map."""
    observations = Observations(store, np.arange(3), max_frequency=0.4)
    noise = Noise.same(torch.full((observations.n_rows,), 2.0), 1)
    mean = MeanMap(store.maps[0], torch.ones(16, 16, 16), noise, shell_power(store.maps[0]))
    basis, power = store.maps[1:], torch.tensor([[1.0], [4.0]]).expand(2, 9)
    mask = torch.as_tensor(sphere_mask(16, 6, edge_px=3.0), dtype=torch.float32)
    variance = power * mask.square().mean()
    a, b = likelihood(observations, mean, basis, variance)
    draw = torch.Generator().manual_seed(0)
    priors = [SpectralPrior(mask, one) for one in power]
    drawn = [
        torch.stack([prior.colour(torch.randn(16, 16, 16, generator=draw)) for prior in priors])
        for _ in range(200)
    ]
    sampled = torch.stack([likelihood(observations, mean, basis + one)[0] for one in drawn]).mean(0)
    plain, same_b = likelihood(observations, mean, basis)
    torch.testing.assert_close(b, same_b)
    added = (a - plain).diagonal(dim1=1, dim2=2)
    torch.testing.assert_close((sampled - plain).diagonal(dim1=1, dim2=2), added, rtol=0.1, atol=0)
    latents, _ = expectation(observations, mean, basis, variance, accumulate=False)
    known, _ = expectation(observations, mean, basis, accumulate=False)
    assert latents.mean.norm() < known.mean.norm()


def test_a_coarse_grid_gives_the_same_likelihood(store):
    """Maps of the coarse grid, and the same padded to the fine one, show the same in the images."""
    fine = Observations(store, np.arange(20), max_frequency=0.25)
    coarse = fine.alike(np.arange(20), 12)
    mask = torch.as_tensor(sphere_mask(16, 6, edge_px=3.0), dtype=torch.float32)
    noise = Noise.same(torch.full((fine.n_rows,), 2.0), 1)
    mean = MeanMap(store.maps[0] * mask, mask, noise, shell_power(store.maps[0]))
    small = mean.cropped(12)
    assert len(small.power) == 7 and small.mask.max() <= 1
    basis = MeanMap(store.maps[1] * mask, mask, noise, mean.power).cropped(12).volume[None]
    padded = (12 / 16) ** 3 * pad_fourier(basis, 16)
    for found, wanted in zip(likelihood(coarse, small, basis), likelihood(fine, mean, padded), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0.02 * float(wanted.abs().max()))


def test_expansion_changes_no_map_and_gives_unit_latents():
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(3, 4, 4, 4, generator=generator)
    z = torch.randn(50, 3, generator=generator) @ torch.tensor([[2.0, 0.5, 0], [0, 0.3, 0], [0, 1, 4.0]])
    root = torch.randn(50, 3, 3, generator=generator)
    covariance = root @ root.transpose(1, 2)
    mixing = expansion(basis, Latents(z, covariance))
    inverse = torch.linalg.inv(mixing)
    new_basis = torch.einsum("lj,lzyx->jzyx", mixing, basis)
    new = Latents(z @ inverse.T, inverse @ covariance @ inverse.T)
    before = torch.einsum("pj,jzyx->pzyx", z, basis)
    after = torch.einsum("pj,jzyx->pzyx", new.mean, new_basis)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)
    second = (new.mean.T @ new.mean + new.covariance.sum(0)) / 50
    torch.testing.assert_close(second, torch.eye(3), rtol=1e-3, atol=1e-3)
    gram = new_basis.flatten(1) @ new_basis.flatten(1).T
    assert (gram - torch.diag(gram.diagonal())).abs().max() < 1e-3 * gram.max()
    assert (gram.diagonal().diff() < 0).all()


def test_mean_map_is_the_mean_of_the_particles(store):
    mean = mean_map(Observations(store, np.arange(120), max_frequency=0.4))
    truth = store.maps[0] + torch.einsum(
        "j,jzyx->zyx", torch.tensor(store.presence.mean(0), dtype=torch.float32), store.maps[1:]
    )
    assert correlation(mean.volume, truth, mean.mask) > 0.95
    # The noise of the simulation has variance 1 + 1; what varies between particles adds a little.
    assert 1.9 < mean.noise.common.mean() < 2.4


def test_latents_tell_which_blocks_a_particle_has(store, model):
    for block in range(2):
        present = store.presence[:, block]
        areas = [roc_auc_score(present, column) for column in model.latents.mean.numpy().T]
        assert max(max(area, 1 - area) for area in areas) > 0.95


def test_difference_of_decoded_maps_is_the_block(store, model):
    decoded = torch.einsum("pj,jzyx->pzyx", model.latents.mean, model.maps.basis)
    for block in range(2):
        present = torch.as_tensor(store.presence[:, block])
        difference = decoded[present].mean(0) - decoded[~present].mean(0)
        assert correlation(difference, store.maps[block + 1]) > 0.7


def test_the_prior_learns_where_particles_differ(store, model):
    """Voxels of the blobs that come and go have more variance than others inside the mask."""
    blobs = (store.maps[1:] > 0.3 * store.maps[1:].amax((1, 2, 3), keepdim=True)).any(0)
    elsewhere = (store.maps[1:] < 0.02 * store.maps[1:].amax((1, 2, 3), keepdim=True)).all(0)
    inside = model.maps.mean.mask > 0.5
    assert (
        model.maps.local_variance[blobs & inside].mean()
        > 3 * model.maps.local_variance[elsewhere & inside].mean()
    )
    mask = model.maps.mean.mask.square()
    assert (model.maps.local_variance * mask).sum() / mask.sum() == pytest.approx(1, abs=0.1)


def test_the_local_variance_of_homogeneous_maps_stays_even():
    """Maps that are what the prior expects leave it as it is."""
    box, power = 24, torch.ones(13)
    mask = torch.as_tensor(sphere_mask(box, 9, edge_px=2.0), dtype=torch.float32)
    prior = SpectralPrior(mask, 0.5 * power)
    draw = torch.Generator().manual_seed(0)
    basis = prior.colour(torch.randn(40, box, box, box, generator=draw))
    mean = MeanMap(torch.zeros(box, box, box), mask, torch.ones(1), power)
    scales, precise = torch.full((40, 13), 0.5), torch.full((40, 13), 1e6)
    found = local_variance(basis, mean, scales, precise, torch.ones(40, box, box, box), 2.0).mean(0)
    inside = mask > 0.9
    assert found[inside].mean() == pytest.approx(1, abs=0.05)
    assert found[inside].std() < 0.15
    # Without any data the maps say nothing, and the prior stays.
    blind = local_variance(0 * basis, mean, scales, 0 * precise, torch.ones(40, box, box, box), 2.0).mean(0)
    assert blind[inside].std() < 0.01


def test_the_prior_learns_the_spectrum_of_the_differences():
    """Small pieces have more power at high frequencies, relative to the whole: a hundredfold here."""
    box, n_shells = 24, 13
    power = torch.exp(-torch.arange(n_shells) / 3.0)
    true = 0.003 * torch.exp(torch.arange(n_shells) * 0.4)
    mask = torch.as_tensor(sphere_mask(box, 9, edge_px=2.0), dtype=torch.float32)
    draw = torch.Generator().manual_seed(0)
    basis = SpectralPrior(mask, true * power).colour(torch.randn(6, box, box, box, generator=draw))
    mean = MeanMap(torch.zeros(box, box, box), mask, torch.ones(1), power)
    precise, even = torch.full((6, n_shells), 1e6), torch.ones(6, box, box, box)
    scales = shell_scales(basis, mean, precise, torch.full((6, n_shells), 0.3), even)
    # The first shells hold few coefficients, and what the mask's edge takes from one it gives to the next.
    error = (scales.log().mean(0) - true.log())[2:-1]
    assert error.abs().max() < 0.5
    # Without data it stays what it was.
    old = torch.full((6, n_shells), 0.3)
    torch.testing.assert_close(shell_scales(0 * basis, mean, 0 * precise, old, even), old, rtol=1e-4, atol=0)


def test_a_fit_is_repeatable(store, model):
    again = fit_linear_model(store, np.arange(120), zdim=3, iterations=6, max_frequency=0.4)
    torch.testing.assert_close(again.latents.mean, model.latents.mean, rtol=0, atol=0)


def test_a_fit_does_not_depend_on_the_size_of_chunks(store, model, monkeypatch):
    monkeypatch.setitem(ROWS_PER_CHUNK, "cpu", 5_000)
    small = fit_linear_model(store, np.arange(120), zdim=3, iterations=6, max_frequency=0.4)
    # The first guess of the noise is that of the first chunk. Of three latents two stand for something.
    torch.testing.assert_close(small.latents.mean[:, :2], model.latents.mean[:, :2], rtol=0, atol=0.1)


def test_of_many_particles_some_are_compared_and_all_are_fitted(store, model, monkeypatch):
    monkeypatch.setattr("tomohet.linear.start.KERNEL_PARTICLES", 60)
    compared = kernel_particles(np.arange(120), seed=0)
    assert len(set(compared)) == 60 and (np.diff(compared) > 0).all()
    few = fit_linear_model(store, np.arange(120), zdim=3, iterations=6, max_frequency=0.4)
    assert few.latents.mean.shape == (120, 3)
    for block in range(2):
        present = store.presence[:, block]
        areas = [roc_auc_score(present, column) for column in few.latents.mean.numpy().T]
        assert max(max(area, 1 - area) for area in areas) > 0.95


def test_weights_of_the_m_step_are_those_of_images_times_second_moments(store):
    """Summed over the grid: each image's weight times E[z_j z_l] of its particle, with posterior variance."""
    observations = Observations(store, np.arange(6), max_frequency=0.4)
    mean = mean_map(observations)
    latents, equations = expectation(observations, mean, store.maps[1:], accumulate=True)
    expected = torch.zeros(3)
    for chunk in mean.noise.whitened(observations):
        own = Latents(latents.mean[chunk.part], latents.covariance[chunk.part])
        moment = torch.einsum("pj,pl->pjl", own.mean, own.mean) + own.covariance
        of_image = (chunk.weight[..., None] * chunk.corner_weight).sum((1, 2))
        first, other = equations.pairs
        expected += of_image @ moment[chunk.owner][:, first, other]
    torch.testing.assert_close(equations.weight.sum(0), expected, rtol=1e-4, atol=0)


def test_data_of_the_m_step_lose_what_pose_errors_explain(store):
    """Summed over the grid: E[z_j (r - w T a)] of each image, where z and a depend on each other."""
    observations = Observations(store, np.arange(4), max_frequency=0.4)
    noise = Noise.same(torch.full((observations.n_rows,), 2.0), 1)
    maps = tangents(store.maps[0])
    errors = PoseErrors(maps, np.array([0.1, 0.5]), torch.full((4, 6), 0.02))
    mean = MeanMap(store.maps[0], torch.ones(16, 16, 16), noise, shell_power(store.maps[0]), errors)
    latents, equations = expectation(observations, mean, store.maps[1:], accumulate=True)
    expected = np.zeros(2, complex)
    for chunk in noise.whitened(observations):
        slices = gather(
            transform(torch.cat([store.maps[:1], maps])), chunk.index, chunk.corner_weight
        ).numpy()
        for image, particle in enumerate(chunk.owner + chunk.part.start):
            z, covariance = latents.mean[particle].numpy(), latents.covariance[particle].numpy()
            numerator, weight = chunk.numerator[image].numpy(), chunk.weight[image].numpy()
            residual = numerator - weight * slices[image, :, 0]
            points = chunk.corner_weight[image].sum(-1).numpy()
            for j in range(2):
                both = covariance[j, 2:] + z[j] * z[2:]
                expected[j] += points @ (z[j] * residual - weight * (slices[image, :, 1:] @ both))
    assert latents.covariance[:, :2, 2:].abs().max() > 1e-3
    np.testing.assert_allclose(equations.data.sum(0).numpy(), expected, rtol=1e-3)
