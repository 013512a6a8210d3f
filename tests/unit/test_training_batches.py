"""Batches, splits of the tilts and schedules."""

import numpy as np
import pytest
import torch
from training_runs import CPU

from tomohet.particles.store import open_store
from tomohet.training.batches import LossRows, ParticleImages, split_tilts
from tomohet.training.latents import gaussian_divergence
from tomohet.training.reading import Loading
from tomohet.training.schedules import beta_at, frequency_share, learning_rate_factor


@pytest.fixture(scope="module")
def store(tiny_store):
    return open_store(tiny_store)


# ---- batches


def test_batch_holds_the_images_of_its_particles(store):
    particles = np.array([1, 4, 5, 9])
    images = ParticleImages(store, particles, CPU, loss_rows=LossRows())
    batch = images.batch(np.array([2, 0]))
    rows = np.concatenate([store.images_of(np.array([5])), store.images_of(np.array([1]))])
    torch.testing.assert_close(batch.fourier, store.half_planes(rows))
    np.testing.assert_array_equal(batch.tilts, np.diff(store.offsets)[[5, 1]])
    np.testing.assert_allclose(
        batch.params.dose_e_A2, store.images["dose_e_A2"].iloc[rows].to_numpy(np.float32)
    )


def test_reading_ahead_gives_the_same_batches(store):
    particles = np.arange(8)
    groups = [np.array([3, 1]), np.array([0, 7, 2]), np.array([5])]
    resident = ParticleImages(store, particles, CPU, place="device")
    read = ParticleImages(store, particles, CPU, place="file", loading=Loading(workers=2, ahead=1))
    for ours, theirs in zip(resident.batches(groups), read.batches(groups), strict=True):
        assert torch.equal(ours.fourier, theirs.fourier)
        np.testing.assert_array_equal(ours.prefix, theirs.prefix)


def test_loss_rows_end_at_the_highest_frequency(store):
    images = ParticleImages(store, np.arange(3), CPU, loss_rows=LossRows(max_frequency=0.25))
    radius = store.half_plane.radius
    assert radius[images.prefix[0] - 1] <= 0.25 * store.box < radius[images.prefix[0]]


def test_a_limit_caps_the_rows_and_all_that_is_counted_from_them(store):
    images = ParticleImages(store, np.arange(6), CPU, loss_rows=LossRows(dose_mask=True))
    group = np.array([4, 0, 5])
    whole = images.batch(group)
    capped = images.limited(0.2).batch(group)
    most = int((store.half_plane.radius <= 0.2 * store.box).sum())
    np.testing.assert_array_equal(capped.prefix, np.minimum(whole.prefix, most))
    assert capped.prefix.sum() < whole.prefix.sum()
    per_particle = [part.sum() for part in np.split(capped.prefix, np.cumsum(capped.tilts)[:-1])]
    assert (capped.whole.rows, capped.whole.points) == (capped.prefix.sum(), 2 * max(per_particle))
    np.testing.assert_array_equal(images.batch(group).prefix, whole.prefix)


def test_dose_mask_ends_at_the_optimal_dose(store):
    params = ParticleImages(store, np.arange(1), CPU).params.take(slice(0, 3))
    params = params._replace(dose_e_A2=torch.tensor([0.0, 120.0, 400.0]))
    prefix = LossRows(dose_mask=True).prefix(params, store.half_plane)
    s_invA = store.half_plane.radius.double() / (store.pixel_size_A * store.box)
    optimal_dose = 2.51284 * (0.24499 * s_invA**-1.6649 + 2.8141)
    assert prefix.tolist() == [int((optimal_dose >= dose).sum()) for dose in params.dose_e_A2]
    assert prefix[0] == store.half_plane.n > prefix[2] > 0


def test_gain_undoes_each_images_own_normalisation(store):
    images = ParticleImages(store, np.arange(3), CPU)
    own = store.images.iloc[store.images_of(np.arange(3))]
    gain = images.batch(np.arange(3)).gain.numpy()
    np.testing.assert_allclose(gain * own["noise_scale"], own["grey_scale"], rtol=1e-6)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_split_leaves_tilts_on_both_sides(fraction):
    tilts = np.array([2, 41, 1, 7, 10])
    keep = split_tilts(tilts, fraction, np.random.default_rng(0))
    kept = np.add.reduceat(keep.astype(int), np.cumsum(tilts) - tilts)
    assert kept[2] == 1
    many = tilts > 1
    assert (kept[many] >= 1).all() and (kept[many] < tilts[many]).all()
    np.testing.assert_allclose(kept[[1]], fraction * 41, atol=0.5)
    assert not np.array_equal(keep, split_tilts(tilts, fraction, np.random.default_rng(1)))


# ---- schedules


def test_published_beta_schedules():
    assert [beta_at("b", seen, 0) for seen in (0, 500_000, 1_000_000)] == [5.0, 10.0, 15.0]
    assert [beta_at("e", seen, 1000) for seen in (0, 50, 125, 200, 250, 999)] == pytest.approx(
        [0, 0.4, 1, 1, 0, 1]
    )
    assert [beta_at("a", seen, 0) for seen in (0, 2_000_000)] == [0.001, 15.0]
    assert [beta_at("c", 800_000, 0), beta_at("d", 3_000_000, 0)] == [18.0, 11.5]
    assert beta_at(0.25, 77, 1000) == 0.25


def test_learning_rate_warms_up_and_falls():
    assert learning_rate_factor("constant", 0.0, 0.9) == 1
    assert learning_rate_factor("cosine", 0.2, 0.1) == pytest.approx(0.5)
    assert learning_rate_factor("cosine", 0.2, 0.6) == pytest.approx(0.5)
    assert learning_rate_factor("cosine", 0.0, 1.0) == pytest.approx(0)


def test_divergence_of_gaussians_agrees_with_torch():
    mu1, logvar1, mu2, logvar2 = np.random.default_rng(0).normal(size=(4, 5, 3))
    normals = [
        torch.distributions.Normal(torch.tensor(m), torch.tensor(np.exp(v / 2)))
        for m, v in ((mu1, logvar1), (mu2, logvar2))
    ]
    expected = torch.distributions.kl_divergence(*normals).sum(1)
    np.testing.assert_allclose(gaussian_divergence(mu1, logvar1, mu2, logvar2), expected)


def test_frequencies_march_to_the_highest():
    assert [frequency_share(0, epoch, 5) for epoch in range(5)] == [1.0] * 5
    found = [frequency_share(0.6, epoch, 5) for epoch in range(5)]
    np.testing.assert_allclose(found, [0.25, 0.5, 0.75, 1, 1])
    assert [frequency_share(0.99, epoch, 3) for epoch in range(3)] == [0.25, 0.625, 1.0]
    assert frequency_share(0.9, 0, 1) == 1.0
