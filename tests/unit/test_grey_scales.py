"""Tomograms on different grey scales: the scale has no effect, and real differences of noise are kept."""

import shutil
from dataclasses import replace

import mrcfile
import numpy as np
import pytest
import torch
from test_background import FILES, changed

from tomohet.linear.fit import fit_linear_model
from tomohet.particles.dialects import read_particles
from tomohet.particles.normalisation import grey_levels
from tomohet.particles.store import open_store
from tomohet.particles.store_writing import write_store
from tomohet.physics.imaging import ctf_of
from tomohet.preflight.hypotheses import examine, premultiplication
from tomohet.preflight.image_sample import check_images, sample_images
from tomohet.preflight.sample import draw_sample
from tomohet.preflight.spectrum import modulation_by_tomogram, power_spectrum
from tomohet.reconstruction.half_maps import half_maps
from tomohet.simulation.config import config_from
from tomohet.simulation.simulate import simulate


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """40 particles in four tomograms, both dialects."""
    folder = tmp_path_factory.mktemp("grey") / "data"
    simulate(config_from({"n_particles": 40, "snr": 0.1, "box": 24, "pixel_size": 14.0}), folder)
    return folder


def one_brighter(data, folder, factor):
    """The same data, one tomogram's images times `factor`."""
    shutil.copytree(data, folder)
    paths = [path for path in folder.rglob("*.mrcs") if "TS_001" in str(path)]
    assert paths
    for path in paths:
        with mrcfile.open(path, mode="r+") as stack:
            stack.set_data((stack.data * factor).astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def right(data, tmp_path_factory):
    """By kind: the store of the data as they are."""
    folder = tmp_path_factory.mktemp("right")
    return {kind: write_store(folder / kind, read_particles(data / name)) for kind, name in FILES.items()}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("factor", [3.0, 16.0, 0.05])
def test_a_brighter_tomogram_changes_nothing(data, right, tmp_path, kind, factor):
    bright = one_brighter(data, tmp_path / "data", factor)
    particle_set = read_particles(bright / FILES[kind])
    store = write_store(tmp_path / "store", particle_set)
    np.testing.assert_allclose(store.data, right[kind].data, rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(store.gain, right[kind].gain, rtol=1e-4)
    np.testing.assert_allclose(store.noise_factor, right[kind].noise_factor, rtol=1e-3)
    every = np.arange(len(store.particles))
    found, expected = half_maps(store, every), half_maps(right[kind], every)
    assert np.corrcoef(found.map.ravel(), expected.map.ravel())[0, 1] > 0.999
    assert found.resolution_A == pytest.approx(expected.resolution_A, rel=1e-3)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("factor", [3.0, 16.0, 0.05])
def test_the_check_passes_whatever_the_grey_scales(data, tmp_path, kind, factor):
    particle_set = read_particles(one_brighter(data, tmp_path / "data", factor) / FILES[kind])
    expected, found = (examine(one).findings for one in (read_particles(data / FILES[kind]), particle_set))
    for before, after in zip(expected, found, strict=True):
        assert (after.found, after.verdict) == (before.found, before.verdict)
        assert after.z == pytest.approx(before.z, rel=0.01, abs=0.02)
    assert found[0].found == kind and found[0].verdict == found[1].verdict == "pass"
    levels = check_images(sample_images(particle_set))
    assert {check.verdict for check in levels} == {"pass"}
    assert "all count equally" in next(c for c in levels if c.name == "noise level").message


def test_the_spectrum_does_not_follow_the_brightest(data, tmp_path):
    spectra = [
        power_spectrum(read_particles(folder / FILES["raw"]))
        for folder in (data, one_brighter(data, tmp_path / "data", 16.0))
    ]
    np.testing.assert_allclose(spectra[1].power, spectra[0].power, rtol=1e-3)
    np.testing.assert_allclose(spectra[1].aligned_power, spectra[0].aligned_power, rtol=1e-3)


def test_latents_do_not_depend_on_grey_scales(data, right, tmp_path):
    bright = one_brighter(data, tmp_path / "data", 0.05)
    store = write_store(tmp_path / "store", read_particles(bright / FILES["raw"]))
    latents = [
        fit_linear_model(one, np.arange(40), zdim=2, iterations=2).latents.mean.numpy()
        for one in (right["raw"], store)
    ]
    for expected, found in zip(*(one.T for one in latents), strict=True):
        assert abs(np.corrcoef(expected, found)[0, 1]) > 0.999


def test_noisier_images_of_a_tilt_series_still_count_less(data, right, tmp_path):
    """Noise of five times the deviation added to every other image: their signal is as before."""

    def noisier(images, rng):
        return images + 5 * images.std() * rng.standard_normal(images.shape) * (
            np.arange(len(images)) % 2 == 1
        ).reshape(-1, 1, 1)

    star = changed(data, tmp_path / "data", noisier) / FILES["raw"]
    store = write_store(tmp_path / "store", read_particles(star))
    noisy = (store.images["section"] % 2 == 0).to_numpy()
    own = store.images["noise_scale"].to_numpy()
    for name, here in store.images.groupby(store.images["particle"] % 4).indices.items():
        ratio = np.median(store.gain[here][~noisy[here]]) / np.median(store.gain[here][noisy[here]])
        assert ratio == pytest.approx(np.sqrt(26), rel=0.1), name
    np.testing.assert_allclose(store.gain * own, store.images["grey_scale"], rtol=1e-5)
    check = next(c for c in check_images(sample_images(read_particles(star))) if c.name == "noise level")
    assert check.verdict == "look" and "one tomogram" in check.remedy


def test_a_part_of_a_store_keeps_its_gain(right):
    store = right["raw"]
    keep = np.arange(len(store.images)) % 3 == 0
    np.testing.assert_array_equal(store.restricted(keep).gain, store.gain[keep])


def test_stores_without_grey_scales_have_one_for_all(right):
    old = open_store(right["raw"].folder)
    old = replace(old, images=old.images.drop(columns="grey_scale"))
    np.testing.assert_allclose(old.gain, old.scale / old.images["noise_scale"], rtol=1e-6)


def test_levels_of_premultiplied_tomograms_leave_out_what_extraction_did():
    """Three tomograms of noise 1, 4, 1; the images of the last were weighted down to a tenth."""
    tomogram = np.array(["a", "a", "b", "b", "c", "c"])
    expected = np.array([0.5, 0.3, 0.5, 0.3, 0.05, 0.03])
    level = grey_levels(expected * np.array([1, 1, 16, 16, 1, 1]), expected, tomogram)
    assert level.to_dict() == pytest.approx({"a": 1, "b": 4, "c": 1})


def test_tomograms_that_contradict_the_flag_are_named(data):
    """Noise alone: in two tomograms multiplied by the CTF, in two as it is, all marked raw."""
    sample = draw_sample(read_particles(data / FILES["raw"]), max_images=10**6, seed=0)
    draw = torch.Generator().manual_seed(0)
    noise = torch.view_as_complex(torch.randn(*sample.data.shape, 2, generator=draw))
    treated = np.isin(sample.tomogram, np.unique(sample.tomogram)[:2])
    noise[treated] *= 7 * ctf_of(sample.params, sample.half_plane)[treated]
    mixed = replace(sample, data=noise)
    z = modulation_by_tomogram(mixed)
    assert [one > 0 for _, one in sorted(z.items())] == [True, True, False, False]
    finding = premultiplication(mixed)
    assert finding.verdict in ("look", "stop") and finding.found == "undecided"
    assert "2 tomograms contradict their flag, they look premultiplied: TS_001" in finding.message
    marked = mixed.params._replace(ctf_premultiplied=torch.as_tensor(treated))
    assert "otherwise" not in premultiplication(replace(mixed, params=marked)).message
