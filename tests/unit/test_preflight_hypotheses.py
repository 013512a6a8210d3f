"""The pre-flight check finds wrong flags, signs and hands in the images, and does not cry wolf."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tomohet.errors import InputError
from tomohet.particles.dialects import read_particles
from tomohet.physics.imaging import ctf_of
from tomohet.physics.lattice import half_plane
from tomohet.physics.masks import sphere_mask
from tomohet.physics.slicing import project
from tomohet.preflight.evidence import DATA_WEIGHTS, back_project, depth_score, skewness
from tomohet.preflight.hypotheses import contrast, examine, hand, premultiplication
from tomohet.preflight.sample import draw_sample
from tomohet.preflight.spectrum import ctf_phase_cycles, modulation, power_spectrum, spectrum_of
from tomohet.simulation.config import config_from
from tomohet.simulation.simulate import simulate

FILES = {"raw": "particles.star", "premultiplied": "warptools/particles_optimisation_set.star"}


@pytest.fixture(scope="module", params=[1, 2])
def simulated(request, tmp_path_factory):
    """Folder of 60 particles at SNR 0.05, both dialects."""
    folder = tmp_path_factory.mktemp("preflight") / "data"
    simulate(config_from({"n_particles": 60, "snr": 0.05, "seed": request.param}), folder)
    return folder


@pytest.fixture(scope="module")
def clear(tmp_path_factory):
    """A set of 60 equal particles at 5 Å per pixel and SNR 0.5, of one state."""
    folder = tmp_path_factory.mktemp("preflight_clear") / "data"
    values = {"n_particles": 60, "snr": 0.5, "pixel_size": 5.0, "seed": 3, "dialect": "warp", "blocks": []}
    simulate(config_from(values), folder)
    return read_particles(folder / "particles.star", None, "auto")


def with_images(particle_set, **columns):
    return replace(particle_set, images=particle_set.images.assign(**columns))


@pytest.mark.parametrize("data", FILES)
def test_right_statements_pass(simulated, data):
    result = examine(read_particles(simulated / FILES[data], None, "auto"))
    assert [f.name for f in result.findings] == ["premultiplication", "extraction filter", "contrast", "hand"]
    assert {f.verdict for f in result.findings} == {"pass"}
    assert result.findings[0].found == data
    assert all(f.z > 6 for f in (result.findings[0], result.findings[2]))
    assert set(result.fsc) == set(result.maps) == set(DATA_WEIGHTS)
    frequency, curve = result.fsc[data]
    assert len(frequency) == len(curve) == 17 and curve[2] > 0.9
    # Light protein in the middle of the map of what the data are.
    assert result.maps[data][13:20, 13:20, 13:20].mean() > result.maps[data].std()


@pytest.mark.parametrize("data", FILES)
def test_wrong_flag_stops(simulated, data):
    stated = read_particles(simulated / FILES[data], None, "auto")
    wrong = with_images(
        stated,
        ctf_premultiplied=~stated.images["ctf_premultiplied"],
        dose_weighted=~stated.images["dose_weighted"],
    )
    sample = draw_sample(wrong, max_images=2000, seed=0)
    flag = premultiplication(sample)
    assert (flag.verdict, flag.found) == ("stop", data)
    assert flag.z < -6 and "rlnCtfDataAreCtfPremultiplied" in flag.remedy
    # The sign is judged by what the data are, not by the wrong flag.
    premultiplied = data == "premultiplied"
    sign = contrast(sample, back_project(sample, DATA_WEIGHTS[data]), premultiplied)
    assert sign.verdict == "pass"
    kind = "kept, the default for premultiplied" if premultiplied else "inverted, the default for raw"
    assert f"with the sign {kind} images: once the flag is corrected" in sign.message


@pytest.mark.parametrize("data", FILES)
def test_wrong_sign_stops(simulated, data):
    sample = draw_sample(read_particles(simulated / FILES[data], None, "auto"), max_images=2000, seed=0)
    negative = replace(sample, data=-sample.data)
    premultiplied = data == "premultiplied"
    finding = contrast(negative, back_project(negative, DATA_WEIGHTS[data]), premultiplied)
    assert (finding.verdict, finding.found) == ("stop", "dark protein")
    assert premultiplication(negative).verdict == "pass"


def test_reversed_defocus_gradient_is_found(clear):
    """Images of a known map at depths of ±4000 Å, noise as strong as the signal."""
    sample = draw_sample(clear, max_images=1000, seed=0)
    rng = np.random.default_rng(0)
    volume = sphere_mask(32, 10, 3) * rng.standard_normal((32, 32, 32))
    depth = torch.as_tensor(4000 * rng.standard_normal(len(sample.particle)), dtype=torch.float32)

    def at(sign):
        u, v = (sample.params.defocus_u_A + sign * depth, sample.params.defocus_v_A + sign * depth)
        return sample.params._replace(defocus_u_A=u, defocus_v_A=v)

    slices = project(torch.as_tensor(volume)[None].float(), sample.params.rotation, sample.half_plane.k)[
        ..., 0
    ]
    signal = ctf_of(at(1), sample.half_plane) * slices / slices.abs().std()
    noise = torch.as_tensor(rng.standard_normal((2, *signal.shape)), dtype=torch.float32)
    data = signal + torch.complex(*noise)
    right = hand(replace(sample, data=data, params=at(1), depth_A=depth.numpy()), False)
    wrong = hand(replace(sample, data=data, params=at(-1), depth_A=-depth.numpy()), False)
    assert (right.found, right.verdict) == ("as stated", "pass")
    assert (wrong.found, wrong.verdict) == ("reversed", "stop")
    # Neither the map nor the noise favours one: the two scores are each other's negative.
    assert wrong.z == pytest.approx(-right.z, rel=1e-2)


def test_depth_score_of_noise_is_a_standard_normal_deviate(clear):
    sample = draw_sample(clear, max_images=600, seed=0)
    rng = torch.Generator().manual_seed(0)
    scores = [
        depth_score(replace(sample, data=torch.randn(sample.data.shape, generator=rng) + 0j), False)
        for _ in range(4)
    ]
    assert max(map(abs, scores)) < 4


def test_hand_without_depths_is_undecided(clear):
    sample = draw_sample(clear, max_images=200, seed=0)
    finding = hand(replace(sample, depth_A=np.zeros_like(sample.depth_A)), False)
    assert (finding.found, finding.verdict) == ("undecided", "pass")


def test_noise_alone_shows_the_premultiplication(clear):
    sample = draw_sample(clear, max_images=600, seed=0)
    noise = torch.randn(sample.data.shape, generator=torch.Generator().manual_seed(1)) + 0j
    ctf = ctf_of(sample.params, sample.half_plane)
    assert modulation(replace(sample, data=noise))[0] < 0.1
    assert modulation(replace(sample, data=ctf * noise))[0] > 0.9
    half = torch.sqrt(0.5 + 0.5 * ctf**2) * noise
    assert 0.35 < modulation(replace(sample, data=half))[0] < 0.65
    assert premultiplication(replace(sample, data=half)).found == "undecided"


def test_contrast_of_noise_is_undecided(clear):
    sample = draw_sample(clear, max_images=600, seed=0)
    noise = torch.view_as_complex(
        torch.randn(*sample.data.shape, 2, generator=torch.Generator().manual_seed(2))
    )
    noise = replace(sample, data=noise)
    finding = contrast(noise, back_project(noise, DATA_WEIGHTS["raw"]), False)
    assert (finding.found, finding.verdict) == ("undecided", "look")


def test_skewness_has_the_sign_of_the_map(clear):
    pair = back_project(draw_sample(clear, max_images=600, seed=0), DATA_WEIGHTS["raw"])
    assert skewness(pair) == pytest.approx(-skewness(replace(pair, maps=-pair.maps)))


def test_ctf_phase_has_its_zeros_at_whole_numbers(clear):
    sample = draw_sample(clear, max_images=100, seed=0)
    ctf = ctf_of(sample.params, sample.half_plane)
    torch.testing.assert_close(torch.sin(torch.pi * ctf_phase_cycles(sample)), -ctf, atol=2e-4, rtol=0)


@pytest.mark.parametrize("data", FILES)
def test_aligned_power_follows_what_the_data_are(simulated, data):
    spectrum = power_spectrum(read_particles(simulated / FILES[data], None, "auto"))
    known = np.isfinite(spectrum.aligned_power)
    distance = {
        name: np.abs(spectrum.aligned_power - expected)[known].mean()
        for name, expected in (
            ("raw", spectrum.expected_raw),
            ("premultiplied", spectrum.expected_premultiplied),
        )
    }
    assert min(distance, key=distance.get) == data
    assert len(spectrum.frequency_1_A) == len(spectrum.power) == len(spectrum.ctf2) == len(spectrum.ctf4)


def test_sample_takes_whole_particles_and_centres_them(clear):
    sample = draw_sample(clear, max_images=200, seed=0)
    assert len(sample.particle) <= 200 and len(np.unique(sample.particle)) == sample.n_particles
    assert all(len(np.unique(sample.half[sample.particle == p])) == 1 for p in range(sample.n_particles))
    again = draw_sample(clear, max_images=200, seed=0)
    torch.testing.assert_close(sample.data, again.data, rtol=0, atol=0)
    assert sample.half_plane is half_plane(32)
    assert spectrum_of(sample).power.shape == (16,)


def test_one_particle_is_refused(clear):
    one = replace(clear, images=clear.images[clear.images["particle"] == 0])
    with pytest.raises(InputError, match="two particles"):
        examine(one)


def test_real_light_raw_series_needs_uninvert_data(shared):
    path = shared / "data" / "tomodrgn-tests" / "10076_both_32_sim.star"
    flag, filter_, sign, _ = examine(read_particles(path, None, "auto")).findings
    assert filter_.verdict == "pass", filter_
    assert (flag.found, flag.verdict) == ("raw", "pass")
    assert (sign.found, sign.verdict) == ("dark protein", "stop") and "--uninvert-data" in sign.remedy


def test_keeping_the_sign_of_a_light_series_is_right(shared):
    path = shared / "data" / "tomodrgn-tests" / "10076_both_32_sim.star"
    sign = examine(read_particles(path, None, "auto"), uninvert=True).findings[2]
    assert sign.verdict == "pass" and sign.z > 6 and "--uninvert-data" in sign.message


def test_real_warptools_set_is_premultiplied_and_light(shared):
    name = "warptools_test_4-tomos_10-ptcls_box-32_angpix-12_optimisation_set.star"
    flag, filter_, sign, _ = examine(
        read_particles(shared / "data" / "tomodrgn-tests" / name, None, "auto")
    ).findings
    assert filter_.verdict == "pass" and filter_.found in ("undecided", filter_.stated)
    assert (flag.found, flag.verdict) == ("premultiplied", "pass")
    assert (sign.found, sign.verdict) == ("light protein", "pass")
