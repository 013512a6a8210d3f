"""CTF, dose, geometry and the forward model: independent derivations and properties."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.transform import Rotation

from tomohet.physics import imaging
from tomohet.physics.ctf import contrast_transfer, electron_wavelength_A
from tomohet.physics.dose import (
    attenuation,
    critical_dose,
    dose_weight,
    optimal_dose_prefix,
    optimal_frequency,
)
from tomohet.physics.geometry import euler_to_matrix, matrix_to_euler, random_rotations
from tomohet.physics.lattice import half_plane


def table(n=6, seed=0, **columns):
    """A table of images with plausible values."""
    rng = np.random.default_rng(seed)
    rotation = random_rotations(n, rng)
    frame = {f"r{i}{j}": rotation[:, i, j] for i in range(3) for j in range(3)}
    frame |= {
        "pixel_size_A": np.full(n, 5.0),
        "defocus_u_A": rng.uniform(15000, 40000, n),
        "defocus_v_A": rng.uniform(15000, 40000, n),
        "defocus_angle_deg": rng.uniform(0, 180, n),
        "voltage_kV": np.full(n, 300.0),
        "cs_mm": np.full(n, 2.7),
        "amplitude_contrast": np.full(n, 0.07),
        "phase_shift_deg": np.zeros(n),
        "dose_e_A2": np.linspace(0, 100, n),
        "tilt_deg": np.linspace(0, 60, n),
        "ctf_premultiplied": np.zeros(n, bool),
        "dose_weighted": np.zeros(n, bool),
        "scale_factor": np.ones(n),
        "dose_b_factor_A2": np.zeros(n),
    }
    return pd.DataFrame(frame | columns)


def ctf_one_by_one(k, box, row):
    """The CTF of one image at integer k, by the textbook formula in plain Python."""
    volts = row.voltage_kV * 1e3
    wavelength = 12.2639 / math.sqrt(volts + 0.97845e-6 * volts**2)
    values = []
    for kx, ky in k:
        s2 = (kx**2 + ky**2) / (box * row.pixel_size_A) ** 2
        azimuth = math.atan2(ky, kx) - math.radians(row.defocus_angle_deg)
        mean, half = (
            (row.defocus_u_A + row.defocus_v_A) / 2,
            (row.defocus_u_A - row.defocus_v_A) / 2,
        )
        defocus = mean + half * math.cos(2 * azimuth)
        phase = math.pi * wavelength * s2 * (defocus - 0.5 * row.cs_mm * 1e7 * wavelength**2 * s2)
        values.append(
            -math.sin(phase + math.radians(row.phase_shift_deg) + math.asin(row.amplitude_contrast))
        )
    return values


def test_ctf_equals_the_textbook_even_at_high_defocus_and_resolution():
    images = table(
        defocus_u_A=np.full(6, 60000.0),
        pixel_size_A=np.linspace(1.0, 3.0, 6),
        phase_shift_deg=np.linspace(0, 100, 6),
    )
    hp = half_plane(32)
    found = imaging.ctf_of(imaging.image_parameters(images), hp)
    # The parameters are float32, so the reference starts from the same rounded values.
    expected = [ctf_one_by_one(hp.k.tolist(), 32, row) for row in images.astype("float32").itertuples()]
    assert np.abs(found.numpy() - expected).max() < 2e-6


def test_ctf_limits():
    hp = half_plane(16)
    values = [torch.tensor([v]) for v in (2.0, 20000.0, 20000.0, 0.0, 300.0, 2.7, 0.1, 0.0)]
    at_zero = contrast_transfer(torch.zeros(1, 2), *values)
    assert float(at_zero) == pytest.approx(-0.1)  # negative for underfocus
    plus = contrast_transfer(hp.frequency, *values)
    assert torch.equal(plus, contrast_transfer(-hp.frequency, *values))
    values[2] = torch.tensor([18000.0])
    u_along_x = contrast_transfer(hp.frequency, *values)
    values[3] = torch.tensor([90.0])
    u_along_y = contrast_transfer(hp.frequency.flip(-1), *values)
    assert torch.allclose(u_along_x, u_along_y, atol=1e-5)


def test_wavelengths():
    found = electron_wavelength_A(torch.tensor([300.0, 200.0]))
    assert np.allclose(found, [0.019687, 0.0250787], rtol=2e-5)


def test_dose_attenuation_is_one_at_zero_frequency_and_zero_dose():
    s_invA = torch.linspace(0, 0.25, 20)
    voltage = torch.full((3,), 300.0)
    faded = attenuation(s_invA, torch.tensor([0.0, 10.0, 100.0]), voltage)
    assert (faded[0] == 1).all()
    assert (faded[:, 0] == 1).all()
    assert (torch.diff(faded[1:], dim=1) <= 0).all()
    assert (torch.diff(faded, dim=0)[:, 1:] < 0).all()


@pytest.mark.parametrize("voltage", [100.0, 120.0, 200.0, 300.0])
def test_the_cut_lies_at_the_optimal_dose(voltage):
    dose, voltages = torch.tensor([20.0]), torch.tensor([voltage])
    limit = optimal_frequency(dose, voltages)
    assert float(2.51284 * critical_dose(limit, voltages)) == pytest.approx(20.0, rel=1e-9)
    weight = dose_weight(torch.stack([0.999 * limit[0], 1.001 * limit[0]]), dose, voltages)
    assert float(weight[0, 0]) == pytest.approx(math.exp(-0.5 * 2.51284), rel=1e-2)
    assert float(weight[0, 1]) == 0


def test_damage_per_dose_rises_as_the_voltage_falls():
    voltage = torch.tensor([300.0, 299.0, 200.0, 199.0, 120.0, 100.0])
    critical = critical_dose(torch.tensor([0.1]), voltage)[:, 0]
    assert (torch.diff(critical) < 0).all()
    ratio = critical / critical[0]
    assert float(ratio[2]) == pytest.approx(0.8)
    assert torch.diff(ratio).abs()[[0, 2]].max() < 0.01  # no jump beside the published voltages


def test_voltages_that_differ_by_rounding_damage_alike():
    for voltage in (200.0, 300.0):
        critical = critical_dose(torch.tensor([0.1]), torch.tensor([voltage, voltage - 0.4, voltage + 0.4]))
        assert (critical == critical[0]).all()


def test_dose_prefix_counts_the_points_that_the_cut_keeps():
    hp = half_plane(32)
    dose = torch.linspace(0, 150, 40)
    voltage = torch.full_like(dose, 300.0)
    prefix = optimal_dose_prefix(hp, torch.full_like(dose, 3.0), dose, voltage)
    weight = dose_weight(hp.radius.double() / (32 * 3.0), dose, voltage)
    assert torch.equal(prefix, (weight > 0).sum(1))
    kept = torch.arange(hp.n) < prefix[:, None]
    assert torch.equal(kept, weight > 0)


def test_points_on_the_rim_of_the_useful_disc_are_kept():
    """At a pixel size where the cut lies at |k| = 5 to the last bit; (3, 4) and (5, 0) are on that circle."""
    voltage = torch.tensor([300.0])
    for dose in torch.arange(10.0, 60.0).split(1):
        limit = optimal_frequency(dose, voltage)
        pixel_size_A = 5 / (16 * limit)
        if float(limit * pixel_size_A * 16) == 5:
            break
    else:
        pytest.fail("no dose puts the cut exactly on a circle")
    inside = sum(x * x + y * y <= 25 for x in range(9) for y in range(-8, 9) if x > 0 or (x == 0 and y > 0))
    assert optimal_dose_prefix(half_plane(16), pixel_size_A, dose, voltage).tolist() == [inside]


def test_euler_matrix_is_the_transposed_intrinsic_zyz_rotation():
    angles = np.random.default_rng(0).uniform(-180, 180, (50, 3))
    expected = Rotation.from_euler("ZYZ", angles, degrees=True).inv().as_matrix()
    assert np.abs(euler_to_matrix(*angles.T) - expected).max() < 1e-12


def test_euler_angles_of_any_shape():
    angles = np.random.default_rng(0).uniform(-180, 180, (3, 2, 5))
    matrices = euler_to_matrix(*angles)
    assert matrices.shape == (2, 5, 3, 3)
    np.testing.assert_array_equal(matrices[1, 2], euler_to_matrix(*angles[:, 1, 2]))


def test_euler_angles_come_back():
    rng = np.random.default_rng(0)
    rotation = random_rotations(200, rng)
    assert np.abs(euler_to_matrix(*matrix_to_euler(rotation).T) - rotation).max() < 1e-12
    for tilt in (0.0, 180.0):
        poles = euler_to_matrix(np.linspace(-170, 170, 9), tilt, 35.0)
        assert np.abs(euler_to_matrix(*matrix_to_euler(poles).T) - poles).max() < 1e-9


def test_random_rotations_are_uniform_and_seeded():
    first = random_rotations(4000, np.random.default_rng(1))
    assert np.array_equal(first, random_rotations(4000, np.random.default_rng(1)))
    assert np.abs(first.mean(0)).max() < 0.04
    assert np.allclose(first[:, 2, 2] ** 2, first[:, 2, 2] ** 2)
    assert (first[:, 2, 2] ** 2).mean() == pytest.approx(1 / 3, abs=0.02)
    assert np.allclose(np.linalg.det(first), 1)


@pytest.fixture
def hp():
    return half_plane(24)


@pytest.mark.parametrize("premultiplied", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_transfer_follows_the_flags(hp, premultiplied, weighted):
    images = table(ctf_premultiplied=np.full(6, premultiplied), dose_weighted=np.full(6, weighted))
    params = imaging.image_parameters(images)
    ctf, fade = imaging.ctf_of(params, hp), imaging.dose_attenuation(params, hp)
    expected = ctf * (ctf if premultiplied else 1) * (fade if weighted else 1)
    assert torch.allclose(imaging.transfer(params, hp), expected)


def test_flags_may_differ_between_images(hp):
    flags = np.array([False, True, False, True, False, True])
    mixed = imaging.transfer(imaging.image_parameters(table(ctf_premultiplied=flags)), hp)
    plain, squared = (
        imaging.transfer(imaging.image_parameters(table(ctf_premultiplied=np.full(6, flag))), hp)
        for flag in (False, True)
    )
    assert torch.equal(mixed[0::2], plain[0::2])
    assert torch.equal(mixed[1::2], squared[1::2])


def test_loss_weights(hp):
    params = imaging.image_parameters(table())
    assert (imaging.loss_weight(params, hp, False, False) == 1).all()
    tilt = imaging.loss_weight(params, hp, False, True)
    assert np.allclose(tilt[:, 0], np.cos(np.deg2rad(np.linspace(0, 60, 6))), atol=1e-6)
    dose = imaging.loss_weight(params, hp, True, False)
    s_invA = hp.radius.double() / (24 * 5.0)
    assert torch.allclose(dose, dose_weight(s_invA, params.dose_e_A2, params.voltage_kV), atol=1e-6)
    assert torch.allclose(imaging.loss_weight(params, hp, True, True), dose * tilt)


def test_encoder_view_makes_raw_images_alike(hp):
    """Images C V all become |C| V; premultiplied ones C^2 V stay as they are."""
    flags = np.array([False, True] * 3)
    params = imaging.image_parameters(table(ctf_premultiplied=flags))
    ctf = imaging.ctf_of(params, hp)
    signal = torch.randn(6, hp.n, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    view = imaging.encoder_view(signal * imaging.transfer(params, hp), params, hp)
    expected = torch.where(torch.tensor(flags)[:, None], ctf.square(), ctf.abs())
    assert torch.allclose(view, signal * expected, atol=1e-5)


@pytest.mark.parametrize("dose", [False, True])
@pytest.mark.parametrize("tilt", [False, True])
def test_least_squares_gives_one_map_from_all_kinds_of_data(hp, dose, tilt):
    """The same recordings, raw or treated on extraction, give the same slice; with dose, equal weights."""
    truth = torch.randn(1, hp.n, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    raw = imaging.image_parameters(table())
    recorded = imaging.physical_transfer(raw, hp, dose, tilt)[0] * truth
    ctf, fade = imaging.ctf_of(raw, hp), imaging.dose_attenuation(raw, hp)
    weights = []
    for premultiplied in (False, True):
        for weighted in (False, True):
            params = imaging.image_parameters(
                table(ctf_premultiplied=np.full(6, premultiplied), dose_weighted=np.full(6, weighted))
            )
            data = recorded * (ctf if premultiplied else 1) * (fade if weighted else 1)
            h, g = imaging.physical_transfer(params, hp, dose, tilt)
            estimate = (g * data).sum(0) / (g * h).sum(0)
            assert torch.allclose(estimate, truth[0], rtol=1e-3, atol=1e-3)
            weights.append(g * h)
    if dose:
        for weight in weights[1:]:
            assert torch.allclose(weight, weights[0], rtol=1e-3, atol=1e-6)


EXTRACTED = dict(ctf_premultiplied=np.ones(6, bool), dose_weighted=np.ones(6, bool))


def by_hand(images, hp):
    """p of each image: CTF times dose weight times scale, by the formulas of RELION's damage.cpp."""
    params = imaging.image_parameters(images)
    weights = []
    for row in images.itertuples():
        k = hp.radius.double().numpy() / (hp.box * row.pixel_size_A)
        critical = 0.24499 * k**-1.6649 + 2.8141
        exponent = 0.5 * row.dose_e_A2 / critical
        if row.dose_b_factor_A2 > 0:
            exponent = row.dose_b_factor_A2 * row.dose_e_A2 * k**2 / 4
        weights.append(np.exp(-exponent) * row.scale_factor)
    return imaging.ctf_of(params, hp) * torch.tensor(np.array(weights), dtype=torch.float32)


@pytest.mark.parametrize("b_factor", [0.0, 4.0])
@pytest.mark.parametrize("voltage", [200.0, 300.0])
def test_what_was_multiplied_in_is_in_both_models(hp, b_factor, voltage):
    """p = C W s: h = p C by the published rule, h = p q and g = q / p by the physical one."""
    images = table(
        **EXTRACTED,
        scale_factor=np.linspace(1, 0.4, 6),
        dose_b_factor_A2=np.full(6, b_factor),
        voltage_kV=np.full(6, voltage),
    )
    params = imaging.image_parameters(images)
    ctf, p = imaging.ctf_of(params, hp), by_hand(images, hp)
    torch.testing.assert_close(imaging.transfer(params, hp), p * ctf, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(imaging.transfer(params, hp, True), p * ctf, rtol=1e-4, atol=1e-7)
    q = ctf * imaging.dose_attenuation(params, hp) * imaging.tilt_attenuation(params)
    h, g = imaging.physical_transfer(params, hp, dose=True, tilt=True)
    torch.testing.assert_close(h, p * q, rtol=1e-4, atol=1e-9)
    known = (p.abs() > 1e-3) & (ctf.abs() > 1e-3)
    torch.testing.assert_close(g[known], (q / p)[known], rtol=1e-3, atol=1e-6)


def test_images_scaled_to_nothing_have_no_weight(hp):
    """Tilts that were excluded but not hidden: s = 0 gives h = g = 0, a negative s a negative sign."""
    params = imaging.image_parameters(table(**EXTRACTED, scale_factor=np.array([1, 0, -0.5, 1e-4, 1, 1])))
    for dose in (False, True):
        h, g = imaging.physical_transfer(params, hp, dose=dose, tilt=True)
        assert torch.isfinite(h).all() and torch.isfinite(g).all()
        assert (h[1] == 0).all() and (g[1] == 0).all()
        assert (g[2] <= 0).all() and (h[2] * g[2] >= 0).all()


def test_images_that_end_at_the_optimal_dose_have_no_weight_beyond(hp):
    images = table(**EXTRACTED, scale_factor=1.0)
    whole, cut = (imaging.image_parameters(images.assign(cut_off=value)) for value in (False, True))
    s = hp.radius.double() / hp.box / whole.pixel_size_A[:, None]
    critical = 0.24499 * s**-1.6649 + 2.8141
    useful = whole.dose_e_A2[:, None] <= 2.51284 * critical
    assert 0.05 < useful.float().mean() < 0.95
    beside = zip(*(imaging.physical_transfer(p, hp, dose=True, tilt=True) for p in (whole, cut)), strict=True)
    for one, other in beside:
        torch.testing.assert_close(other, one * useful)
    torch.testing.assert_close(imaging.transfer(cut, hp), imaging.transfer(whole, hp) * useful)


def test_high_doses_do_not_overflow(hp):
    b_factor = np.array([0.0, 0.0, 0.0, 9.0, 90.0, 900.0])
    images = table(**EXTRACTED, dose_e_A2=np.full(6, 3000.0), dose_b_factor_A2=b_factor)
    for value in imaging.physical_transfer(imaging.image_parameters(images), hp, dose=True, tilt=True):
        assert torch.isfinite(value).all()


@pytest.mark.parametrize("dose", [False, True])
@pytest.mark.parametrize("tilt", [False, True])
@pytest.mark.parametrize("premultiplied", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_transfer_and_weight_of_recordings_with_white_noise(hp, dose, tilt, premultiplied, weighted):
    """F = p (q V + noise): h = p q; g = q / p is the best weight, by Gauss and Markov."""
    images = table(ctf_premultiplied=np.full(6, premultiplied), dose_weighted=np.full(6, weighted))
    ctf = np.array([ctf_one_by_one(hp.k.tolist(), 24, row) for row in images.itertuples()])
    s_invA = hp.radius.numpy() / (24 * 5.0)
    fade = np.exp(-images.dose_e_A2.to_numpy()[:, None] / (2 * (0.24499 * s_invA**-1.6649 + 2.8141)))
    q = ctf * (fade if dose else 1) * (np.cos(np.deg2rad(images.tilt_deg.to_numpy()))[:, None] if tilt else 1)
    by_ctf = ctf if premultiplied else np.ones_like(ctf)
    p = by_ctf * (fade if weighted else 1)
    h, g = imaging.physical_transfer(imaging.image_parameters(images), hp, dose, tilt)
    np.testing.assert_allclose(h, p * q, atol=1e-5)
    # Without `dose` a dose weight in the images stays a weight.
    np.testing.assert_allclose(g, q / (p if dose else by_ctf), atol=1e-5)


def test_parameters_of_some_images():
    params = imaging.image_parameters(table())
    some = params.take(torch.tensor([4, 1]))
    assert some.rotation.shape == (2, 3, 3)
    assert torch.equal(some.dose_e_A2, params.dose_e_A2[[4, 1]])
    assert torch.equal(params.take(slice(2, 4)).tilt_deg, params.tilt_deg[2:4])
    assert params.rotation.dtype == torch.float32
    assert params.ctf_premultiplied.dtype == torch.bool


def test_measured_weights_are_linear_between_their_frequencies():
    """The first lies at 1/40 cycle per pixel, the last at Nyquist; at 0 the weight is 1."""
    measured = torch.rand(3, 20, generator=torch.Generator().manual_seed(0))
    frequency = torch.linspace(0, 0.5, 33, dtype=torch.float64)
    points = np.arange(21) / 40
    expected = [np.interp(frequency, points, [1, *weights]) for weights in measured]
    np.testing.assert_allclose(imaging._between(measured, frequency), expected, atol=1e-6)
