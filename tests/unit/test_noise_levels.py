"""Noise of tomograms and of single images: it is measured, and does not enter the latents."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from blob_store import blob_store
from sklearn.metrics import roc_auc_score

from tomohet.linear.em import expectation
from tomohet.particles.dialects import read_particles
from tomohet.particles.noise_levels import relative_noise, shrunk
from tomohet.particles.store import open_store
from tomohet.particles.store_writing import write_store
from tomohet.reconstruction.mean_map import mean_map
from tomohet.reconstruction.noise import Noise, residual_noise
from tomohet.reconstruction.observations import Observations

N = 120
WARPTOOLS = "data/tomodrgn-tests/warptools_test_4-tomos_10-ptcls_box-32_angpix-12_optimisation_set.star"


@pytest.fixture(scope="module")
def uneven():
    """Two tomograms, the noise of the second of four times the variance; blocks know nothing of it."""
    return blob_store(N, snr=0.1, noise=(1.0, 4.0))


@pytest.fixture(scope="module")
def observations(uneven):
    return Observations(uneven, np.arange(N), max_frequency=0.4)


@pytest.fixture(scope="module")
def mean(observations):
    return mean_map(observations)


def test_noise_of_each_tomogram_is_found(mean):
    first, second = mean.noise.by_tomogram
    assert first.mean() == pytest.approx(2, rel=0.05)
    assert second.mean() == pytest.approx(8, rel=0.05)
    # From images of both, each with its own number.
    assert (mean.noise.common > first).all() and (mean.noise.common < second).all()


def test_each_tomogram_has_a_spectrum_of_its_own():
    """Noise of real and imaginary part: 1 in one tomogram; 1 at the centre, 4 at the rim in the other."""
    store = blob_store(N, snr=1e-6, noise=(1.0, 1.0))
    radius = store.half_plane.radius
    rising = 1 + 3 * radius / radius.max()
    second = torch.tensor(store.tomogram[store.images.particle] == 1)[:, None]
    coloured = replace(store, values=store.values * torch.where(second, rising, 1).sqrt())
    coloured.noise_factor = np.ones(len(store.images), np.float32)
    observations = Observations(coloured, np.arange(N), max_frequency=0.4)
    noise = residual_noise(observations, torch.zeros(16, 16, 16))
    torch.testing.assert_close(
        noise.by_tomogram[0], torch.full((observations.n_rows,), 2.0), rtol=0.06, atol=0
    )
    expected = 2 * rising[: observations.n_rows]
    for shell in range(2, int(observations.shell.max()) + 1):
        here = observations.shell == shell
        assert float(noise.by_tomogram[1][here].mean()) == pytest.approx(
            float(expected[here].mean()), rel=0.06
        )


def test_each_dose_has_a_spectrum_of_its_own():
    """Noise of twice the variance at the rim of images of high dose, and of those alone."""
    store = blob_store(N, snr=1e-6)
    late = store.images["dose_e_A2"].to_numpy() >= 9
    rising = torch.where(store.half_plane.radius > 5, 2.0, 1.0)
    values = store.values * torch.where(torch.tensor(late)[:, None], rising, 1).sqrt()
    coloured = replace(store, values=values)
    coloured.noise_factor = np.ones(len(late), np.float32)
    observations = Observations(coloured, np.arange(N), max_frequency=0.4)
    noise = residual_noise(observations, torch.zeros(16, 16, 16))
    (chunk,) = observations.chunks()
    (whitened,) = noise.whitened(observations)
    row = int((observations.shell == 6).nonzero()[0])
    variance = (chunk.weight / whitened.weight)[:, [3, row]]
    expected = torch.stack([torch.full((len(late),), 2.0), torch.tensor(np.where(late, 4.0, 2.0))], 1)
    torch.testing.assert_close(variance, expected.float(), rtol=0.08, atol=0)


def test_doses_whose_noise_is_the_same_share_it():
    store = blob_store(N, snr=1e-6)
    noise = residual_noise(Observations(store, np.arange(N), max_frequency=0.4), torch.zeros(16, 16, 16))
    np.testing.assert_allclose(noise.by_dose, noise.by_dose.mean((0, 1)).expand_as(noise.by_dose), rtol=0.05)


def test_one_level_of_noise_is_one_number():
    store = blob_store(N, snr=0.1, noise=(1.0, 1.0, 1.0))
    noise = mean_map(Observations(store, np.arange(N), max_frequency=0.4)).noise
    np.testing.assert_allclose(noise.by_tomogram, noise.common.expand(3, -1), rtol=0.03)
    np.testing.assert_allclose(store.noise_factor, 1, atol=0.1)


def test_latents_are_better_with_the_noise_of_each_tomogram(uneven, observations, mean):
    """Under the true maps: with one variance for all, latents of the noisy tomogram are spread too far."""
    same = replace(mean, noise=Noise.same(mean.noise.common, 2))
    areas, spread = [], []
    noisy = uneven.tomogram == 1
    for case in (mean, same):
        latents, _ = expectation(observations, case, uneven.maps[1:], accumulate=False)
        areas.append(
            np.mean([roc_auc_score(uneven.presence[:, b], latents.mean[:, b].numpy()) for b in range(2)])
        )
        size = latents.mean.norm(dim=1).numpy()
        spread.append(abs(roc_auc_score(noisy, size) - 0.5))
    assert areas[0] > areas[1] and areas[0] > 0.9
    assert spread[0] < spread[1]


def test_latents_do_not_tell_the_noise(uneven, observations, mean):
    latents, _ = expectation(observations, mean, uneven.maps[1:], accumulate=False)
    for column in latents.mean.numpy().T:
        assert abs(roc_auc_score(uneven.tomogram == 1, column) - 0.5) < 0.12


def test_differences_by_chance_are_taken_back():
    generator = torch.Generator().manual_seed(0)
    count = torch.full((400,), 100.0)
    chance = 0.1 * torch.randn(400, generator=generator)
    assert shrunk(chance, count).std() < 0.25 * chance.std()
    true = torch.randn(400, generator=generator)
    torch.testing.assert_close(shrunk(true + chance, count), true + chance, rtol=0.02, atol=0)
    assert (shrunk(torch.ones(5), torch.zeros(5)) == 0).all()


def test_single_noisy_images_are_found():
    """The estimates are shrunk a little, according to the number of points of one image."""
    store = blob_store(N, snr=0.1, box=24)
    factor = np.where(np.arange(len(store.images)) % 5 == 0, 3.0, 1.0)
    noisy = replace(
        store, values=store.values * torch.as_tensor(np.sqrt(factor), dtype=torch.float32)[:, None]
    )
    found = relative_noise(noisy)
    assert np.median(found[factor == 3]) / np.median(found[factor == 1]) == pytest.approx(3, rel=0.1)
    assert np.corrcoef(np.log(found), np.log(factor))[0, 1] > 0.95


def test_images_divided_by_their_own_noise_are_left_alone(tiny_store):
    store = open_store(tiny_store)
    assert store.own_noise.all() and (store.noise_factor == 1).all()
    treated = replace(store, images=store.images.assign(ctf_premultiplied=True))
    assert not treated.own_noise.any()


def test_noise_of_real_warptools_images_is_explained(shared, tmp_path):
    """CTF, dose weight and rlnCtfScalefactor explain it: without the latter it goes as cos(tilt)^1.85."""
    store = write_store(tmp_path, read_particles(shared / WARPTOOLS), window=False)
    found = relative_noise(store)
    cosine = np.cos(np.radians(store.images["tilt_deg"]))
    assert abs(np.polyfit(np.log(cosine), np.log(found), 1)[0]) < 0.15
    np.testing.assert_allclose(np.percentile(found, [5, 50, 95]), 1, atol=0.15)


def test_empty_images_have_no_say(tmp_path, shared):
    """An excluded tilt that is marked visible has scale 0, so its images are 0 and have no weight."""
    store = write_store(tmp_path, read_particles(shared / WARPTOOLS), window=False)
    gone = np.arange(len(store.images)) % 7 == 0
    images = store.images.assign(scale_factor=np.where(gone, 0.0, store.images["scale_factor"]))
    np.load(tmp_path / "images.npy", mmap_mode="r+")[gone] = 0
    found = relative_noise(replace(store, images=images, checksums=None))
    assert (found[gone] == 1).all() and np.isfinite(found).all()
    np.testing.assert_allclose(np.percentile(found[~gone], [5, 50, 95]), 1, atol=0.15)


def test_tomograms_that_a_model_does_not_know_have_the_common_noise():
    noise = Noise(torch.tensor([2.0, 3.0]), torch.tensor([[1.0, 1.0], [4.0, 5.0]]))
    assert noise.of_tomograms(["a", "b"], ["b", "new", "a"]).by_tomogram.tolist() == [[4, 5], [2, 3], [1, 1]]
    by_dose = replace(noise, by_dose=torch.tensor([[[1.0, 1.0]], [[4.0, 9.0]]]))
    found = by_dose.of_tomograms(["a", "b"], ["b", "new"]).by_dose
    torch.testing.assert_close(found, torch.tensor([[[4.0, 9.0]], [[2.0, 3.0]]]))
    assert noise.of_tomograms([], ["a"]).by_tomogram.tolist() == [[2, 3]]
