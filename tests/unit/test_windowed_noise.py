"""Noise of windowed images, and its effect on sums over their Fourier coefficients."""

from dataclasses import replace

import pytest
import torch
from blob_store import blob_store

from tomohet.particles.store import open_store
from tomohet.physics.fourier import cosine_window
from tomohet.reconstruction.noise import residual_noise
from tomohet.reconstruction.observations import Observations

BOX = 32
WINDOW = cosine_window(BOX, 0.8, 0.9)


def test_sums_over_coefficients_hold_more_than_independent_noise_would():
    """The value in the middle of an image is such a sum; noise of variance 1 stays what it was there."""
    images = torch.randn(4000, BOX, BOX, generator=torch.Generator().manual_seed(0)) * WINDOW
    spectra = torch.fft.fft2(torch.fft.ifftshift(images, dim=(-2, -1)))
    middle = spectra.real.mean((-2, -1))
    independent = spectra.abs().square().mean().item() / BOX**2
    power = WINDOW.square().mean().item()
    assert power == pytest.approx(0.55, abs=0.01)
    assert middle.var().item() == pytest.approx(1, abs=0.07)
    assert independent == pytest.approx(power, rel=0.01)


def test_a_store_knows_its_window(tiny_store):
    store = open_store(tiny_store)
    radii = store.description["preparation"]["window"]
    assert store.window_power == pytest.approx(cosine_window(store.box, *radii).square().mean().item())
    open_images = store.description | {"preparation": store.description["preparation"] | {"window": None}}
    assert replace(store, description=open_images).window_power == 1


def test_the_noise_is_that_of_images_without_a_window():
    """Half the variance in the images, where half of each is empty, is the whole where the particle is."""
    store = blob_store(20, snr=0.01)
    half = replace(store, window_power=0.5)
    found, windowed = (
        residual_noise(Observations(one, range(20), max_frequency=0.4), torch.zeros(16, 16, 16))
        for one in (store, half)
    )
    torch.testing.assert_close(windowed.common, 2 * found.common)
    torch.testing.assert_close(windowed.by_tomogram, 2 * found.by_tomogram)
