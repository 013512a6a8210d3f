"""The simulated images, as read back from the files of both dialects, against independent computations."""

import hashlib

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from sklearn.metrics import roc_auc_score

from tomohet.errors import InputError
from tomohet.files.mrc import read_sections
from tomohet.particles.dialects import read_particles
from tomohet.particles.store_writing import write_store
from tomohet.physics.imaging import ctf_of, dose_attenuation, image_parameters, physical_transfer
from tomohet.physics.lattice import half_plane, images_to_half_planes
from tomohet.reconstruction.pose_errors import tangents
from tomohet.simulation import simulate as simulation
from tomohet.simulation.config import config_from
from tomohet.simulation.oracle import _tangent_images, block_log_odds, infer
from tomohet.simulation.projection import Camera, MapSlices, Slices, variance_in_circle
from tomohet.simulation.truth import load_truth

SMALL = {"n_particles": 12, "n_tomograms": 2, "box": 24, "pixel_size": 15, "tilt_step": 12, "n_atoms": 800}
SET = "warptools/particles_optimisation_set.star"


@pytest.fixture(scope="module")
def noiseless(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noiseless")
    simulation.simulate(config_from({**SMALL, "snr": np.inf, "hidden_fraction": 0.3, "seed": 1}), folder)
    return folder


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noisy")
    simulation.simulate(config_from({**SMALL, "n_particles": 80, "snr": 0.05}), folder)
    return folder


def pixels(images):
    """Images (m, D, D) of the rows of an image table, from their stacks."""
    return torch.from_numpy(
        np.stack(
            [
                read_sections(s, np.array([n - 1]))[0]
                for s, n in zip(images["stack"], images.section, strict=True)
            ]
        )
    )


def exact_slices(volume, rotation, hp):
    """Fourier sums of a volume (D, D, D) at k2 @ rotation, one by one: (m, n) complex."""
    axis = np.arange(hp.box) - hp.box // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    xyz = np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)
    k2 = np.concatenate([hp.k.numpy(), np.zeros((hp.n, 1))], axis=1)
    return np.stack([np.exp(-2j * np.pi / hp.box * (k2 @ r @ xyz.T)) @ volume.ravel() for r in rotation])


def relative_error(found, expected):
    return float((np.abs(found - expected) ** 2).sum() / (np.abs(expected) ** 2).sum()) ** 0.5


def test_raw_images_are_the_transfer_times_the_slice_of_the_true_map(noiseless):
    truth = load_truth(noiseless / "truth.npz")
    images = read_particles(noiseless / "particles.star").images
    images = images[images.particle.isin((0, 5, 9))].iloc[::4]
    assert truth.angle_deg[[0, 5, 9]].std() > 3
    hp = half_plane(24)
    found = images_to_half_planes(pixels(images)).numpy()
    parameters = image_parameters(images)
    transfer = (ctf_of(parameters, hp) * dose_attenuation(parameters, hp)).numpy()
    transfer = transfer * np.cos(np.deg2rad(images.tilt_deg.to_numpy()))[:, None]
    expected = np.empty_like(found)
    for row, image in enumerate(images.itertuples()):
        rotation = parameters.rotation[row].double().numpy()
        expected[row] = exact_slices(truth.particle_volume(image.particle), rotation[None], hp)[0]
        turns = hp.frequency.double().numpy() @ [image.shift_x_px, image.shift_y_px]
        # The shift that the file asks for has yet to be applied; Warp's contrast makes protein light.
        expected[row] *= -transfer[row] * np.exp(2j * np.pi * turns)
    assert relative_error(found, expected) < 0.01
    # Almost all of that is the moving block beyond half of Nyquist, rendered anew on the grid of the map.
    inner = hp.prefix(6)
    assert relative_error(found[:, :inner], expected[:, :inner]) < 1e-3


def test_slice_without_rotation_is_the_sum_along_z(noiseless):
    truth = load_truth(noiseless / "truth.npz")
    slices = Slices(truth.specimen(), "cpu")
    found = slices.of(torch.eye(3)[None], np.zeros(1))[0].T
    maps = np.concatenate([truth.core_map[None], truth.block_maps])
    expected = images_to_half_planes(torch.from_numpy(maps.sum(axis=1)))
    assert relative_error(found.numpy(), expected.numpy()) < 1e-4
    np.testing.assert_allclose(slices.mass, maps.sum(axis=(1, 2, 3)), rtol=1e-5)


def test_turned_block_is_the_block_rendered_from_turned_atoms(noiseless):
    truth = load_truth(noiseless / "truth.npz")
    slices = Slices(truth.specimen(), "cpu")
    rotation = torch.from_numpy(truth.rotation[:3]).float()
    for angle in (-25.0, 12.0):
        found = slices.of_moving(rotation, np.full(3, angle)).numpy()
        turned = truth.moving_map(angle)
        expected = exact_slices(turned, rotation.double().numpy(), slices.half_plane)
        inner = slices.half_plane.prefix(6)
        assert relative_error(found[:, :inner], expected[:, :inner]) < 2e-3
        still = exact_slices(truth.block_maps[4], rotation.double().numpy(), slices.half_plane)
        assert relative_error(still[:, :inner], expected[:, :inner]) > 0.1


def test_both_dialects_give_the_same_image_table(noiseless):
    raw, multiplied = (read_particles(noiseless / name).images for name in ("particles.star", SET))
    assert raw.groupby("particle").size().nunique() == 2, "tomograms hide different tilts"
    assert len(raw) == len(multiplied)
    np.testing.assert_array_equal(raw.particle, multiplied.particle)
    numeric = [c for c in raw.columns if raw[c].dtype == float and c != "scale_factor"]
    assert len(numeric) >= 20
    for column in numeric:
        scale = max(1.0, np.abs(raw[column]).max())
        np.testing.assert_allclose(raw[column] / scale, multiplied[column] / scale, atol=1e-5, err_msg=column)
    assert not raw.ctf_premultiplied.any() and multiplied.ctf_premultiplied.all()
    np.testing.assert_array_equal(raw.scale_factor, 1)
    np.testing.assert_allclose(multiplied.scale_factor, np.cos(np.radians(raw.tilt_deg)), atol=1e-5)


def test_premultiplied_images_are_the_raw_ones_times_ctf_dose_weight_and_cosine(noisy):
    raw, multiplied = (read_particles(noisy / name).images.iloc[:60] for name in ("particles.star", SET))
    parameters = image_parameters(raw)
    hp = half_plane(24)
    weight = ctf_of(parameters, hp) * dose_attenuation(parameters, hp)
    weight *= np.cos(np.radians(raw.tilt_deg.to_numpy("float32")))[:, None]
    expected = -images_to_half_planes(pixels(raw)) * weight
    found = images_to_half_planes(pixels(multiplied))
    assert relative_error(found.numpy(), expected.numpy()) < 2e-3  # float16


@pytest.mark.parametrize("name", ["particles.star", SET])
def test_prepared_store_follows_the_physical_transfer_with_positive_contrast(noiseless, tmp_path, name):
    truth = load_truth(noiseless / "truth.npz")
    store = write_store(tmp_path, read_particles(noiseless / name), window=False, normalise=(0.0, 1.0))
    rows = store.images_of(np.array([2, 7]))
    images = store.images.iloc[rows]
    parameters = image_parameters(images)
    h, _ = physical_transfer(parameters, store.half_plane, dose=True, tilt=True)
    slices = np.concatenate(
        [
            exact_slices(
                truth.particle_volume(p),
                parameters.rotation[images.particle.to_numpy() == p].double().numpy(),
                store.half_plane,
            )
            for p in (2, 7)
        ]
    )
    inner = store.half_plane.prefix(8)
    found = store.half_planes(rows).numpy()[:, :inner]
    assert relative_error(found, (h.numpy() * slices)[:, :inner]) < 5e-3


def test_noise_is_white_of_unit_deviation_and_the_snr_is_as_asked(noisy, tmp_path):
    truth = load_truth(noisy / "truth.npz")
    simulation.simulate(config_from({**SMALL, "n_particles": 80, "snr": np.inf, "dialect": "warp"}), tmp_path)
    assert not (tmp_path / "warptools").exists()
    clean_truth = load_truth(tmp_path / "truth.npz")
    assert clean_truth.noise_std == 0
    gain = truth.density_scale / clean_truth.density_scale
    images = read_particles(noisy / "particles.star").images
    clean = gain * pixels(read_particles(tmp_path / "particles.star").images)
    noise = pixels(images) - clean
    assert float(noise.std()) == pytest.approx(1, abs=0.005)
    power = images_to_half_planes(noise).abs().square().mean(dim=0) / 24**2
    assert float(power.min()) > 0.8 and float(power.max()) < 1.2
    # The same for every tomogram, tilt and state.
    by_tilt = noise.var(dim=(1, 2)).numpy()
    assert np.abs(np.corrcoef(by_tilt, images.dose_e_A2)[0, 1]) < 0.1
    for presence in truth.presence[images.particle][:, :4].T:
        assert np.abs(np.corrcoef(by_tilt, presence)[0, 1]) < 0.1
    snr = float(variance_in_circle(clean).mean())
    assert snr == pytest.approx(truth.snr_measured, rel=1e-3)
    assert snr == pytest.approx(0.05, rel=0.02)


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()[1024:]).hexdigest()
        for path in sorted(folder.rglob("*.*"))
        if path.suffix in (".star", ".mrcs", ".cif")
    }


def test_the_same_seed_gives_the_same_files(tmp_path):
    config = {**SMALL, "snr": 0.1, "n_particles": 6}
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        simulation.simulate(config_from({**config, "seed": seed}), tmp_path / name)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert digests(tmp_path / "a") != digests(tmp_path / "c")
    one, same = (load_truth(tmp_path / name / "truth.npz") for name in "ab")
    np.testing.assert_array_equal(one.block_maps, same.block_maps)
    np.testing.assert_array_equal(one.angle_deg, same.angle_deg)


def test_images_are_made_a_bounded_number_at_a_time(monkeypatch):
    experiment = simulation.plan(config_from({**SMALL, "n_tomograms": 1}))
    camera = Camera(experiment.specimen, True, "cpu")
    whole = [clean for _, clean in simulation._clean_chunks(experiment, camera, np.arange(12))]
    # Room for two particles of 11 tilts.
    monkeypatch.setitem(simulation.CHUNK_BYTES, "cpu", 2 * 11 * simulation.BYTES_PER_PIXEL * 24**2)
    chunks = [clean for _, clean in simulation._clean_chunks(experiment, camera, np.arange(12))]
    assert [len(chunk) for chunk in chunks] == [22] * 6
    torch.testing.assert_close(torch.cat(chunks), torch.cat(whole), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["particles.star", SET])
def test_oracle_separates_the_blocks_and_knows_the_angle(noisy, tmp_path, name):
    truth = load_truth(noisy / "truth.npz")
    inference = infer(write_store(tmp_path, read_particles(noisy / name)), truth)
    assert inference.log_odds.shape == (80, 5)
    assert np.isnan(inference.log_odds[:, 4]).all(), "S5 is always there"
    for block in range(4):
        assert roc_auc_score(truth.presence[:, block], inference.log_odds[:, block]) > 0.97
        assert ((inference.log_odds[:, block] > 0) == truth.presence[:, block]).mean() > 0.9
    assert (inference.state == truth.state).mean() > 0.85
    assert np.corrcoef(inference.angle_deg, truth.angle_deg)[0, 1] ** 2 > 0.8


def test_oracle_is_calibrated_where_images_say_little(tmp_path):
    config = {**SMALL, "n_particles": 240, "snr": 0.002, "dialect": "warp", "tilt_step": 20, "seed": 2}
    simulation.simulate(config_from(config), tmp_path)
    truth = load_truth(tmp_path / "truth.npz")
    store = write_store(tmp_path / "store", read_particles(tmp_path / "particles.star"))
    probability = 1 / (1 + np.exp(-block_log_odds(store, truth)[:, :4]))
    present = truth.presence[:, :4]
    unsure = (probability > 0.02) & (probability < 0.98)
    assert unsure.mean() > 0.4
    # Of the blocks that it holds to be there with probability p, a fraction p is there.
    for low, high in ((0.02, 0.4), (0.4, 0.75), (0.75, 0.98)):
        chosen = (probability > low) & (probability <= high)
        expected = probability[chosen].mean()
        tolerance = 3.5 * np.sqrt(expected * (1 - expected) / chosen.sum())
        assert present[chosen].mean() == pytest.approx(expected, abs=tolerance)


def test_images_of_tangents_are_what_changes_as_the_particle_turns(noiseless, tmp_path):
    truth = load_truth(noiseless / "truth.npz")
    store = write_store(tmp_path, read_particles(noiseless / "particles.star"))
    camera, images = Camera(truth.specimen(), truth.amplitude_loss, "cpu"), store.images[:3]
    mean = torch.as_tensor(truth.state_volume(0))[None]
    rotation = image_parameters(images, "cpu").rotation

    def seen(angle, axis):
        turn = Rotation.from_rotvec(angle * np.eye(3)[axis]).as_matrix()
        turned = MapSlices(mean).at(
            camera.slices.half_plane.frequency, rotation @ torch.as_tensor(turn).to(rotation)
        )
        return camera.develop(turned.transpose(1, 2), mean.sum().expand(3, 1), images)[:, 0]

    of_tangents = _tangent_images(camera, images, tangents(mean[0]))
    for axis in range(3):
        change = (seen(0.01, axis) - seen(-0.01, axis)) / 0.02
        assert (change - of_tangents[:, axis]).norm() < 0.02 * change.norm()


def log_score(log_odds, present):
    """Mean log probability that the oracle gives to what is so."""
    return -np.logaddexp(0, np.where(present, -log_odds, log_odds)).mean()


@pytest.mark.parametrize(("degrees", "shift_A"), [(0, 0), (3, 5)])
def test_oracle_that_does_not_know_the_poses_is_surer_of_what_is_so(tmp_path, degrees, shift_A):
    config = {**SMALL, "n_particles": 120, "snr": 0.02, "dialect": "warp", "seed": 2}
    simulation.simulate(config_from({**config, "pose_error_deg": degrees, "pose_error_A": shift_A}), tmp_path)
    truth = load_truth(tmp_path / "truth.npz")
    store = write_store(tmp_path / "store", read_particles(tmp_path / "particles.star"))
    present = truth.presence[truth.rows_of(store.particles["source_id"].to_numpy()), :4]
    known, unknown = (infer(store, truth, poses_known=known).log_odds[:, :4] for known in (True, False))
    if degrees == 0:
        np.testing.assert_allclose(unknown, known, rtol=0.01, atol=0.05)
    else:
        assert log_score(unknown, present) > log_score(known, present) + 0.02


def test_truth_rebuilds_maps_and_finds_particles_by_either_name(noiseless, tmp_path):
    truth = load_truth(noiseless / "truth.npz")
    rows = truth.rows_of(np.array([truth.particle_id[7], truth.particle_name[3]]))
    np.testing.assert_array_equal(rows, [7, 3])
    with pytest.raises(InputError, match="another simulation"):
        truth.rows_of(np.array(["TS_009_000001"]))
    np.testing.assert_allclose(truth.state_volume(0), truth.volume(truth.state_presence[0]))
    np.testing.assert_allclose(truth.moving_map(0.0), truth.block_maps[4], atol=1e-4 * truth.block_maps.max())
    (tmp_path / "truth.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read"):
        load_truth(tmp_path / "truth.npz")


def test_a_homogeneous_specimen_has_no_blocks(tmp_path):
    config = config_from({**SMALL, "n_particles": 3, "blocks": [], "dialect": "warp"})
    simulation.simulate(config, tmp_path)
    truth = load_truth(tmp_path / "truth.npz")
    assert truth.presence.shape == (3, 0)
    np.testing.assert_array_equal(truth.particle_volume(0), truth.core_map)
