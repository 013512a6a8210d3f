"""Half sets, half maps and the backproject_voxel command."""

import json
import pickle
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tomohet.cli import run_command
from tomohet.errors import InputError
from tomohet.files.mrc import read_volume
from tomohet.particles.dialects import read_particles
from tomohet.particles.store import open_store
from tomohet.particles.store_writing import write_store
from tomohet.physics.fourier_grids import mirror_z
from tomohet.physics.fsc import correlation, fsc, resolution_at, shell_frequencies
from tomohet.physics.masks import sphere_mask, tight_mask
from tomohet.reconstruction.half_maps import half_maps, signal_to_noise, two_halves
from tomohet.reconstruction.half_sets import half_of_images

BOX, PIXEL_A = 32, 13.1


def fake_store(counts, half=None):
    offsets = np.concatenate([[0], np.cumsum(counts)])
    halves = pd.array(half if half is not None else [None] * len(counts), dtype="Int64")

    def images_of(particles):
        return np.concatenate([np.arange(offsets[p], offsets[p + 1]) for p in particles])

    return SimpleNamespace(
        folder="store",
        offsets=offsets,
        particles=pd.DataFrame({"half": halves}),
        images=pd.DataFrame({"particle": np.repeat(np.arange(len(counts)), counts)}),
        images_of=images_of,
    )


def test_particles_are_divided_evenly_and_whole():
    store = fake_store([3, 5, 2, 4, 6, 1])
    rows, half, _ = half_of_images(store, np.arange(6), "particle", np.random.default_rng(0))
    assert rows.tolist() == list(range(21))
    of_particle = [set(half[store.offsets[p] : store.offsets[p + 1]]) for p in range(6)]
    assert all(len(kinds) == 1 for kinds in of_particle)
    assert sum(kinds == {0} for kinds in of_particle) == 3
    again = half_of_images(store, np.arange(6), "particle", np.random.default_rng(0))[1]
    assert np.array_equal(again, half)
    others = [half_of_images(store, np.arange(6), "particle", np.random.default_rng(s))[1] for s in range(9)]
    assert len({tuple(o) for o in others}) > 1


def test_upstream_half_sets_are_used_when_complete():
    store = fake_store([2, 2, 2], half=[2, 1, 2])
    _, half, how = half_of_images(store, np.arange(3), "particle", np.random.default_rng(0))
    assert half.tolist() == [1, 1, 0, 0, 1, 1]
    assert "input" in how
    incomplete = fake_store([2, 2, 2], half=[2, None, 2])
    assert "random" in half_of_images(incomplete, np.arange(3), "particle", np.random.default_rng(0))[2]
    one_sided = half_of_images(store, np.array([0, 2]), "particle", np.random.default_rng(0))
    assert sorted(one_sided[1].tolist()) == [0, 0, 1, 1]


def test_tilts_are_divided_within_each_particle():
    counts = np.array([8, 5, 1, 9])
    store = fake_store(counts)
    _, half, _ = half_of_images(store, np.arange(4), "tilt", np.random.default_rng(0))
    for particle, count in enumerate(counts):
        own = half[store.offsets[particle] : store.offsets[particle + 1]]
        assert abs((own == 0).sum() - (own == 1).sum()) <= count % 2


def test_what_cannot_be_divided_is_refused():
    with pytest.raises(InputError, match="--half-by tilt"):
        half_of_images(fake_store([3]), np.arange(1), "particle", np.random.default_rng(0))


def test_signal_to_noise_from_fsc():
    assert np.allclose(two_halves(np.array([0.2, 1.0, 0.5, -0.1, 0.3])), [1, 1, 2 / 3, 0, 0])
    assert np.allclose(signal_to_noise(np.array([1.0, 0.5, 0.0])), [2, 2, 0])


@pytest.fixture(scope="module")
def truth(shared):
    return read_volume(shared / "data" / "tomodrgn-tests" / "10076_classE_32.mrc")[0]


@pytest.fixture(scope="module")
def store(shared, tmp_path_factory):
    particles = read_particles(shared / "data" / "tomodrgn-tests" / "10076_classE_32_sim.star")
    return write_store(tmp_path_factory.mktemp("classE") / "prepared", particles, invert=False)


@pytest.fixture(scope="module")
def result(store):
    return half_maps(store, np.arange(72), recon_dose_weight=True, recon_tilt_weight=True)


def resolutions(volume, truth):
    frequency = shell_frequencies(BOX, PIXEL_A)
    masks = (None, sphere_mask(BOX, edge_px=3), tight_mask(truth, PIXEL_A))
    return [resolution_at(fsc(volume, truth, mask), frequency, 0.5) for mask in masks]


def test_the_map_is_nearer_the_truth_than_the_reference_programs(result, truth, shared):
    with np.load(shared / "golden" / "backproject" / "classE_backproject.npz") as golden:
        reference = golden["full"]
    ours, theirs = resolutions(result.map, truth), resolutions(reference, truth)
    assert theirs == pytest.approx([48.3, 43.9, 38.8], abs=0.1)
    assert all(mine < other for mine, other in zip(ours, theirs, strict=True))
    assert ours[0] < 47
    assert ours[1] < 42
    assert correlation(result.map, truth) > 0.75 > correlation(reference, truth)
    # The reference loses a tenth of the interpolation weight and keeps the CTF in the map: alike, not equal.
    agreement = fsc(result.map, reference, tight_mask(truth, PIXEL_A))
    assert agreement[1:9].min() > 0.93


def test_maps_of_a_reconstruction_belong_together(result, truth):
    assert result.map.shape == result.half1.shape == (BOX,) * 3
    assert result.resolution_A < result.resolution_05_A
    assert 32 < result.resolution_A < 42
    assert (result.n_tilts == 10).all()
    assert correlation(result.half1, truth) < correlation(result.map, truth)
    beyond = fsc(result.map_filt, result.map)[1:8]
    assert beyond.min() > 0.999
    spectrum = np.abs(np.fft.fftn(result.map_filt))
    assert spectrum[0, 0, 14:17].max() < 1e-3 * spectrum.max()


def test_reconstruction_is_repeatable_and_seeded(store, result):
    again = half_maps(store, np.arange(72), recon_dose_weight=True, recon_tilt_weight=True)
    assert np.array_equal(again.map, result.map)
    assert np.array_equal(again.fsc, result.fsc)
    other = half_maps(store, np.arange(72), recon_dose_weight=True, recon_tilt_weight=True, seed=1)
    assert not np.array_equal(other.half1, result.half1)


def test_every_option_changes_the_result(store, result):
    def changed(**options):
        standard = {"recon_dose_weight": True, "recon_tilt_weight": True}
        return half_maps(store, np.arange(72), **(standard | options))

    assert not np.allclose(changed(recon_dose_weight=False).map, result.map)
    assert not np.allclose(changed(recon_tilt_weight=False).map, result.map)
    assert not np.allclose(changed(by="tilt").half1, result.half1)
    assert not np.allclose(changed(wiener=0.5).map, result.map)
    assert not np.allclose(changed(lowpass_A=80.0).map_filt, result.map_filt)
    masked = changed(mask=sphere_mask(BOX, edge_px=3))
    assert not np.allclose(masked.fsc["masked"], result.fsc["masked"])
    assert np.allclose(masked.fsc["unmasked"], result.fsc["unmasked"])
    with pytest.raises(InputError, match="box of 32"):
        changed(mask=sphere_mask(16))


def test_chunks_do_not_matter(store, result, monkeypatch):
    monkeypatch.setitem(half_maps.__globals__["POINTS_PER_CHUNK"], "cpu", 40_000)
    small = half_maps(store, np.arange(72), recon_dose_weight=True, recon_tilt_weight=True)
    assert np.abs(small.map - result.map).max() < 1e-4 * np.abs(result.map).max()


def test_images_that_are_not_finite_are_named(store, tmp_path):
    data = np.array(store.data)
    data[17] = np.nan
    np.save(tmp_path / "images.npy", data)
    broken = replace(store, data=np.load(tmp_path / "images.npy", mmap_mode="r"), checksums=None)
    with pytest.raises(InputError, match="image 17 "):
        half_maps(broken, np.arange(72))


def test_a_simulated_specimen_comes_back_in_its_own_units_and_hand(tiny, tiny_store):
    """Poses, contrast, CTF, damage and thickness mean the same to simulator and reconstruction."""
    store = open_store(tiny_store)
    with np.load(tiny / "truth.npz") as data:
        pixel_size_A = float(data["pixel_size_A"])
        states = data["core_map"] + np.einsum("pb,bzyx->pzyx", data["presence"], data["block_maps"])
        truth = states.mean(0)
    found = half_maps(store, np.arange(len(store.particles)), recon_dose_weight=True, recon_tilt_weight=True)
    mask = tight_mask(truth, pixel_size_A)
    assert fsc(found.map, truth, mask)[1:7].min() > 0.95
    assert correlation(mirror_z(found.map), truth) < 0.9 * correlation(found.map, truth)
    centred = truth - truth.mean()
    assert (found.map * centred).sum() / np.square(centred).sum() == pytest.approx(1, abs=0.15)


@pytest.fixture
def backproject_voxel():
    """The command, run within this process: `backproject_voxel(store, "-o", folder)`."""
    return lambda *arguments: run_command("backproject_voxel", [str(argument) for argument in arguments])


def test_command_writes_both_layouts(shared, backproject_voxel, run_script, tmp_path, store):
    star = shared / "data" / "tomodrgn-tests" / "10076_classE_32_sim.star"
    backproject_voxel(star, "--uninvert-data", "--flip", "-o", tmp_path / "X.mrc")
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"X.mrc", "X_filt.mrc", "X_half1.mrc", "X_half2.mrc", "X_FSC.pkl", "X_FSC.png"}
    assert all(name.startswith("X") for name in names)
    with open(tmp_path / "X_FSC.pkl", "rb") as file:
        frequency, curve = pickle.load(file)
    assert np.allclose(frequency, np.arange(17) / 32)
    assert curve.shape == (17,)
    run_script("backproject_voxel", store.folder, "-o", tmp_path / "folder")
    names = {path.name for path in (tmp_path / "folder").iterdir()}
    assert names >= {"map.mrc", "map_filt.mrc", "half1.mrc", "half2.mrc", "fsc.csv", "fsc.png"}
    table = pd.read_csv(tmp_path / "folder" / "fsc.csv")
    summary = json.loads((tmp_path / "folder" / "reconstruction.json").read_text())
    frequency = table["frequency_1_A"].to_numpy()
    assert summary["resolution_A"] == pytest.approx(resolution_at(table["corrected"], frequency, 0.143))
    flipped, pixel_size_A = read_volume(tmp_path / "X.mrc")
    plain, _ = read_volume(tmp_path / "folder" / "map.mrc")
    assert pixel_size_A == pytest.approx(PIXEL_A)
    assert np.allclose(mirror_z(flipped), plain, atol=1e-5 * np.abs(plain).max())


def test_command_refuses_kindly(backproject_voxel, tmp_path, store, capsys):
    for arguments, message in (
        ((store.folder, "--lowpass", -3), "--lowpass -3.0: expected more than 0"),
        ((store.folder, "--use-first-nptcls", 1), "cannot be divided into two halves"),
        ((tmp_path / "absent",), "absent"),
    ):
        with pytest.raises(SystemExit) as stopped:
            backproject_voxel(*arguments, "-o", tmp_path / "out")
        assert stopped.value.code == 1
        stderr = capsys.readouterr().err
        assert message in stderr.splitlines()[-1]
        assert "Traceback" not in stderr
