"""Filters multiplied into images, measured from their noise: tested with noise made in the pixels."""

import numpy as np
import pandas as pd
import pytest
import torch

from tomohet.particles.extraction_filter import Filter, ShellSums
from tomohet.particles.measured_filter import judged
from tomohet.particles.scores import z_over_particles
from tomohet.physics.imaging import ctf_of, extraction_dose_weight, image_parameters, physical_transfer
from tomohet.physics.lattice import half_plane

BOX, PIXEL_A, N, TILTS = 32, 8.0, 40, 21
FACTORS = ["CTF only", "exposure", "b-factor", "cut off"]


def image_table(n_particles=N, rng=None):
    """Images of a dose-symmetric series of 150 e/Å^2."""
    rng = rng or np.random.default_rng(0)
    tilt = np.tile(np.r_[0, np.repeat(np.arange(6, 61, 6), 2)] * np.r_[1, np.tile([1, -1], 10)], n_particles)
    m = len(tilt)
    defocus = rng.uniform(15_000, 35_000, m)
    rotation = {f"r{i}{j}": float(i == j) for i in range(3) for j in range(3)}
    return pd.DataFrame(
        rotation
        | {"pixel_size_A": PIXEL_A, "defocus_u_A": defocus, "defocus_v_A": defocus - 300}
        | {"defocus_angle_deg": rng.uniform(0, 180, m), "voltage_kV": 300.0, "cs_mm": 2.7}
        | {"amplitude_contrast": 0.07, "phase_shift_deg": 0.0, "tilt_deg": tilt}
        | {"dose_e_A2": np.tile(150 / TILTS * np.arange(TILTS), n_particles), "ctf_premultiplied": True}
        | {"dose_weighted": True, "scale_factor": 1.0, "dose_b_factor_A2": 0.0}
    )


def multiplied_noise(images, what, scaled=False, level=None, seed=0):
    """Half-planes of white noise times CTF, a dose weight written down anew, and cos(tilt) if asked.

    level (m,): of each image's noise before.
    """
    hp = half_plane(BOX)
    noise = torch.randn(len(images), hp.n, 2, generator=torch.Generator().manual_seed(seed))
    s = hp.radius.double().numpy() / (BOX * PIXEL_A)
    dose = images["dose_e_A2"].to_numpy()[:, None]
    exposure = np.exp(-dose / 2 / (0.24499 * s**-1.6649 + 2.8141))
    weight = {
        "CTF only": np.ones_like(exposure),
        "exposure": exposure,
        "b-factor": np.exp(-6 * dose * s**2 / 4),
        "cut off": exposure * (dose < 2.51284 * (0.24499 * s**-1.6649 + 2.8141)),
    }[what]
    if scaled:
        weight = weight * np.cos(np.radians(images["tilt_deg"].to_numpy()))[:, None]
    if level is not None:
        weight = weight * level[:, None]
    ctf = ctf_of(image_parameters(images), hp)
    return ctf * torch.as_tensor(weight, dtype=torch.float32) * torch.view_as_complex(noise)


def found_in(images, values):
    particle = np.arange(len(images)) // TILTS
    hp = half_plane(BOX)
    chunks = ((rows, values[rows]) for rows in np.array_split(np.arange(len(images)), 3))
    return judged(ShellSums.of(chunks, image_parameters(images), hp, particle))


def stating(images, what, scaled=False):
    scale = np.cos(np.radians(images["tilt_deg"])) if scaled else 1.0
    return images.assign(
        dose_weighted=what != "CTF only", dose_b_factor_A2=6.0 * (what == "b-factor"), scale_factor=scale
    )


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("what", FACTORS[:3])
def test_what_is_stated_rightly_is_left_alone(what, scaled):
    images = stating(image_table(), what, scaled)
    # Tomograms have grey scales of their own.
    level = np.where(np.arange(len(images)) // TILTS % 2, 5.0, 1.0)
    measured = found_in(images, multiplied_noise(images, what, scaled, level))
    assert (measured.verdict, measured.found) == ("right", measured.stated), measured.message
    assert measured.scale_found == scaled == measured.scale_stated
    assert measured.corrected(images) is images


@pytest.mark.parametrize("stated", FACTORS[:3])
@pytest.mark.parametrize("what", FACTORS)
def test_another_filter_is_found_and_stands_in_the_table(what, stated):
    if what == stated:
        pytest.skip("right")
    table = image_table()
    images = stating(table, stated)
    measured = found_in(images, multiplied_noise(images, what))
    assert measured.verdict == "wrong", measured.message
    corrected, right = measured.corrected(images), stating(table, what)
    assert (corrected["dose_weighted"] == right["dose_weighted"]).all()
    assert corrected["dose_b_factor_A2"].iloc[0] == pytest.approx(right["dose_b_factor_A2"].iloc[0], abs=0.6)
    assert (corrected["cut_off"] == (what == "cut off")).all()
    again = found_in(corrected, multiplied_noise(images, what, seed=1))
    assert again.verdict == ("wrong" if what == "cut off" else "right"), again.message


@pytest.mark.parametrize("scaled", [False, True])
def test_the_scale_factor_is_found(scaled):
    images = stating(image_table(), "exposure", not scaled)
    images.loc[images.index % 10 == 3, "scale_factor"] = 0.0
    values = multiplied_noise(images, "exposure", scaled)
    measured = found_in(images, values)
    assert (measured.verdict, measured.scale_found) == ("wrong", scaled), measured.message
    corrected = measured.corrected(images)["scale_factor"]
    expected = np.cos(np.radians(images["tilt_deg"])) if scaled else np.ones(len(images))
    np.testing.assert_allclose(corrected, np.where(images.index % 10 == 3, 0, expected))


def test_two_particles_do_not_tell():
    images = stating(image_table(2), "exposure")
    measured = found_in(images, multiplied_noise(images, "CTF only"))
    assert measured.verdict == "undecided" and "too few" in measured.message
    assert measured.corrected(images) is images


def late_end(images, amplitude):
    """(m, n): 1, and this amplitude in what lies beyond 0.75 Nyquist in tilts of more than 60 e/Å^2."""
    late = torch.as_tensor(images["dose_e_A2"].to_numpy() > 60)[:, None]
    return torch.where(late & (half_plane(BOX).radius > 0.75 * BOX / 2), amplitude, 1.0)


@pytest.mark.parametrize("scaled", [False, True])
def test_of_an_unknown_filter_the_model_has_what_was_measured(scaled):
    images = stating(image_table(), "exposure", scaled)
    level = np.where(np.arange(len(images)) // TILTS % 2, 5.0, 1.0)
    values = multiplied_noise(images, "exposure", scaled, level) * late_end(images, 0.1)
    measured = found_in(images, values)
    assert measured.verdict == "unknown" and "measured in the noise" in measured.message
    params, hp = image_parameters(measured.corrected(images)), half_plane(BOX)
    assert params.dose_weighted.all()
    np.testing.assert_allclose(params.scale_factor, images["scale_factor"], rtol=1e-6)
    stated = extraction_dose_weight(image_parameters(images), hp)
    found = extraction_dose_weight(params, hp)
    # The first doses' own filter is part of the map: what is measured is beside it.
    first = stated[images["dose_e_A2"].to_numpy() < 10].mean(0)
    off = torch.log(found / (stated / first * late_end(images, 0.1)))
    # But where it is linear over a step.
    dose = images["dose_e_A2"].to_numpy()
    rows, columns = np.abs(dose - 60) > 15, (hp.radius / (BOX / 2) - 0.75).abs().numpy() > 0.08
    assert off[rows][:, columns].square().mean().sqrt() < 0.06
    h, g = physical_transfer(params, hp, dose=True, tilt=True)
    noise = (h / g).nan_to_num(0.0)
    torch.testing.assert_close(noise[0], ctf_of(params, hp)[0].square(), rtol=1e-3, atol=1e-6)


def test_raw_images_beside_keep_what_they_state():
    images = stating(image_table(), "exposure")
    measured = found_in(images, multiplied_noise(images, "exposure") * late_end(images, 0.1))
    images["ctf_premultiplied"] = np.arange(len(images)) % 2 == 0
    images["dose_weighted"] = images["ctf_premultiplied"] | (np.arange(len(images)) % 4 == 1)
    corrected = image_parameters(measured.corrected(images))
    raw = ~images["ctf_premultiplied"].to_numpy()
    before, after = (
        extraction_dose_weight(one, half_plane(BOX))[raw] for one in (image_parameters(images), corrected)
    )
    assert torch.equal(before, after)
    assert (corrected.dose_weighted.numpy() == images["dose_weighted"]).all()


@pytest.mark.parametrize("what", FACTORS)
@pytest.mark.parametrize("end", [0.6, 0.8, None])
def test_images_that_were_low_passed_are_not_corrected(what, end):
    images = stating(image_table(), what)
    inside = half_plane(BOX).radius < (2 if end is None else end) * BOX / 2
    # What a window leaks beyond.
    measured = found_in(images, multiplied_noise(images, what) * torch.where(inside, 1, 0.05))
    if end is None:
        assert measured.end_A is None
    else:
        assert measured.end_A == pytest.approx(2 * PIXEL_A / end, rel=0.1)
        assert measured.verdict == "unknown" and measured.corrected(images) is images


def test_false_alarms_are_rare():
    verdicts = []
    for seed in range(12):
        images = stating(image_table(15, np.random.default_rng(seed)), FACTORS[seed % 3], seed % 2)
        values = multiplied_noise(images, FACTORS[seed % 3], seed % 2, seed=seed)
        verdicts.append(found_in(images, values).verdict)
    assert set(verdicts) <= {"right", "undecided"} and verdicts.count("right") >= 8


def test_levels_and_colour_do_not_change_the_likelihood_ratio():
    """Free levels of images and a free colour absorb any factor of theirs."""
    images = stating(image_table(10), "exposure")
    values = multiplied_noise(images, "exposure")
    rng = torch.Generator().manual_seed(1)
    hp = half_plane(BOX)
    colour = torch.rand(hp.box // 2 + 1, generator=rng) + 0.3
    changed = values * (torch.rand(len(images), 1, generator=rng) + 0.2) * colour[hp.shell]
    scores = []
    for one in (values, changed):
        particle = np.arange(len(images)) // TILTS
        sums = ShellSums.of([(np.arange(len(images)), one)], image_parameters(images), hp, particle)
        fits = [sums.fit(f) for f in (Filter("exposure"), Filter("none"))]
        scores.append(z_over_particles(fits[0].likelihood - fits[1].likelihood, particle))
    assert scores[1] == pytest.approx(scores[0], rel=0.01) and scores[0] > 3
