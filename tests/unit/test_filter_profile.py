"""A filter that no file states and no program is known for: read off the noise, and used by the models."""

from unittest import mock

import numpy as np
import pytest
import torch
from test_extraction_filter import TILTS, image_table, stating

from tomohet.particles.dialects import read_particles
from tomohet.particles.extraction_filter import ShellSums
from tomohet.particles.filter_profile import dose_groups, window_leak
from tomohet.particles.measured_filter import judged
from tomohet.particles.store import open_store
from tomohet.particles.store_writing import write_store
from tomohet.physics.fourier import cosine_window
from tomohet.physics.imaging import (
    MEASURED,
    ctf_of,
    extraction_dose_weight,
    image_parameters,
    physical_transfer,
)
from tomohet.physics.lattice import half_plane, images_to_half_planes
from tomohet.reconstruction.observations import Observations
from tomohet.simulation import projection
from tomohet.simulation.config import config_from
from tomohet.simulation.simulate import simulate

BOX, PIXEL_A = 32, 8.0


def low_pass(dose, s):
    """Amplitude (m, n) of a low-pass that sharpens with the dose."""
    return 1 / np.sqrt(1 + (s * (15 + dose / 5)) ** 8)


def exposure(dose, s):
    return np.exp(-dose / 2 / (0.24499 * s.clip(1e-3) ** -1.6649 + 2.8141))


def nothing(k, m):
    return 1.0


def smooth_low_pass(k, m):
    return (1 + (k.norm(dim=-1) / 0.35) ** 4) ** -0.6


def interpolated(k, m):
    """Each image on a grid of its own, between the pixels of which it was interpolated."""
    place = torch.rand(m, 1, 1, 2, generator=torch.Generator().manual_seed(5))
    return ((1 - place) + place * torch.exp(2j * torch.pi * k)).abs().prod(-1) * torch.sinc(k / 2).prod(-1)


def windowed_noise(images, of, before):
    """Half-planes of white noise in pixels, times what was done before, CTF and filter, windowed; and the
    window."""
    axes = torch.fft.fftfreq(BOX), torch.fft.rfftfreq(BOX)
    k = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    noise = torch.randn(len(images), BOX, BOX, generator=torch.Generator().manual_seed(0))
    dose = images["dose_e_A2"].to_numpy()[:, None]
    filter_ = of(dose, (k.norm(dim=-1).flatten() / PIXEL_A).numpy()).reshape(-1, *k.shape[:2])
    params, hp = image_parameters(images), half_plane(BOX)
    ctf = hp.scatter(ctf_of(params, hp).to(torch.complex64)).real
    noise = torch.fft.irfft2(
        torch.fft.rfft2(noise) * before(k, len(images)) * ctf * torch.as_tensor(filter_).float(), s=(BOX, BOX)
    )
    window = cosine_window(BOX, 0.8, 0.9)
    return images_to_half_planes(noise * window), window


def found_in(images, of, before):
    values, window = windowed_noise(images, of, before)
    particle = np.arange(len(images)) // TILTS
    chunks = [(np.arange(len(images)), values)]
    return judged(ShellSums.of(chunks, image_parameters(images), half_plane(BOX), particle, window))


def test_the_window_spreads_power_as_its_leak_says():
    window = cosine_window(BOX, 0.8, 0.9)
    leak, shell = window_leak(window), 11
    k = torch.fft.fftfreq(BOX) * BOX
    number = torch.ceil(torch.hypot(k[:, None], k) - 1e-4).long()
    noise = torch.randn(2000, BOX, BOX, generator=torch.Generator().manual_seed(0))
    only = torch.fft.ifft2(torch.fft.fft2(noise) * (number == shell)).real
    power = torch.fft.fft2(only * window).abs().square().mean(0) / (BOX**2 * window.square().mean())
    for one in (6, 9, 10, 11, 12, 14, 16):
        expected = power[number == one].mean() if one < 16 else power[number >= 16].mean()
        assert leak[one, shell] == pytest.approx(float(expected), rel=0.1)
    torch.testing.assert_close(leak.sum(1), torch.ones_like(leak[0]))


@pytest.mark.parametrize("before", [nothing, smooth_low_pass, interpolated])
def test_what_was_done_to_images_beforehand_does_not_hide_a_right_statement(before):
    images = stating(image_table(), "exposure")
    measured = found_in(images, exposure, before)
    assert measured.verdict == "right" and measured.corrected(images) is images, measured.message
    assert measured.scale_found is not True


@pytest.mark.parametrize("before", [nothing, smooth_low_pass, interpolated])
def test_an_unknown_filter_is_measured_whatever_was_done_before(before):
    images = stating(image_table(), "exposure")
    measured = found_in(images, low_pass, before)
    assert measured.verdict == "unknown", measured.message
    corrected, hp = measured.corrected(images), half_plane(BOX)
    weight = extraction_dose_weight(image_parameters(corrected), hp).double().numpy()
    dose = images["dose_e_A2"].to_numpy()
    true = low_pass(dose[:, None], hp.radius.double().numpy() / (BOX * PIXEL_A))
    stated = extraction_dose_weight(image_parameters(images), hp).double().numpy()
    first = np.sqrt(np.square(true[dose < 10]).mean(0))  # what is left of the first tilts is the map's blur
    off = np.log(weight * first / true)
    assert np.sqrt(np.square(off).mean()) < 0.15
    assert np.sqrt(np.square(np.log(stated / true)).mean()) > 0.5
    assert (np.diff(weight, axis=1) <= 1e-6).all()  # points are sorted by |k|


def test_of_few_images_the_statement_stands():
    images = stating(image_table(2), "exposure")
    measured = found_in(images, low_pass, nothing)
    assert measured.profile is None and measured.corrected(images) is images


def test_groups_of_dose_are_of_many_tilts_or_of_few():
    dose = torch.arange(60.0).repeat(3)
    group, mean = dose_groups(dose)
    np.testing.assert_allclose(mean, np.arange(12) * 5 + 2)
    assert (group == (dose // 5)).all()
    group, mean = dose_groups(torch.tensor([7.0, 3.0, 7.0]))
    assert group.tolist() == [1, 0, 1] and mean.tolist() == [3, 7]


def test_a_measured_weight_is_linear_between_its_frequencies_and_leaves_other_images_alone():
    images = image_table(1)
    images["dose_b_factor_A2"] = np.where(np.arange(TILTS) % 3, 0.0, 4.0)
    values = np.linspace(0.95, 0.05, len(MEASURED), dtype=np.float32)
    columns = {name: np.where(images.index == 5, v, np.nan) for name, v in zip(MEASURED, values, strict=True)}
    hp = half_plane(BOX)
    plain, with_one = (
        extraction_dose_weight(image_parameters(table), hp) for table in (images, images.assign(**columns))
    )
    others = np.arange(TILTS) != 5
    assert torch.equal(plain[others], with_one[others])
    expected = np.interp(hp.radius / BOX, np.arange(len(MEASURED) + 1) / 40, np.r_[1, values])
    np.testing.assert_allclose(with_one[5], expected, atol=1e-6)
    # What the weight is decides nothing but the scale of the data.
    h, g = physical_transfer(image_parameters(images.assign(**columns)), hp, dose=True, tilt=True)
    again, other = physical_transfer(image_parameters(images), hp, dose=True, tilt=True)
    torch.testing.assert_close(h * g, again * other, rtol=1e-4, atol=1e-6)


def test_a_store_keeps_the_measured_filter(tmp_path, caplog):
    def weight(params, radius_cpp):
        s = (radius_cpp / params.pixel_size_A.double()[:, None]).numpy()
        return torch.as_tensor(low_pass(params.dose_e_A2.double().numpy()[:, None], s)).float()

    settings = {"n_particles": 60, "snr": 0.01, "pixel_size": PIXEL_A, "total_dose": 150.0, "seed": 1}
    with mock.patch.object(projection, "dose_weight_at", weight):
        simulate(
            config_from(settings | {"extraction": ["premultiplied", "dose_weighted", "scaled"]}), tmp_path
        )
    particle_set = read_particles(tmp_path / "warptools/particles_optimisation_set.star")
    write_store(tmp_path / "store", particle_set)
    assert "follows no known filter" in caplog.text
    store = open_store(tmp_path / "store")
    assert store.description["extraction"]["verdict"] == "unknown"
    keep = np.arange(len(store.images)) % 2 == 0
    half = store.restricted(keep)
    used = extraction_dose_weight(image_parameters(store.images), store.half_plane)
    assert torch.equal(
        used[torch.as_tensor(keep)], extraction_dose_weight(image_parameters(half.images), half.half_plane)
    )
    true = weight(image_parameters(store.images), store.half_plane.radius.double() / store.box)
    inner = store.half_plane.radius < 0.7 * store.box / 2
    off = torch.log(used / true)[:, inner]
    assert off.square().mean().sqrt() < 0.2
    # Noise that the filter left is what the models expect of it: white, up to the end of the images.
    assert np.median(store.noise_factor) == pytest.approx(1, abs=0.2)
    observations = Observations(half, np.arange(len(half.particles)), max_frequency=0.4)
    for chunk in observations.chunks():
        assert torch.isfinite(chunk.numerator).all() and torch.isfinite(chunk.weight).all()
