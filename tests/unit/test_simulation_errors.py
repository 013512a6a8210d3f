"""Errors of the simulated files: their sizes, their truth, and what both dialects state because of them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile
import torch
from scipy.spatial.transform import Rotation

from tomohet.errors import InputError
from tomohet.files.mrc import read_sections
from tomohet.particles.dialects import read_particles
from tomohet.particles.table import ROTATION_COLUMNS
from tomohet.physics.geometry import euler_to_matrix
from tomohet.physics.imaging import ctf_of, dose_attenuation, image_parameters
from tomohet.physics.lattice import half_plane, images_to_half_planes
from tomohet.simulation import experiment as drawn
from tomohet.simulation.config import config_from
from tomohet.simulation.errors import Errors
from tomohet.simulation.experiment import draw_experiment
from tomohet.simulation.orientations import concentration
from tomohet.simulation.simulate import simulate
from tomohet.simulation.specimen import make_specimen
from tomohet.simulation.states import draw_states
from tomohet.simulation.tilt_series import make_tomograms, place_particles
from tomohet.simulation.truth import load_truth

SMALL = {"n_particles": 10, "n_tomograms": 2, "box": 24, "pixel_size": 15, "tilt_step": 12, "n_atoms": 500}
SET = "warptools/particles_optimisation_set.star"
ERRORS = {"pose_error_deg": 4, "pose_error_A": 9, "defocus_error_A": 300}


@pytest.fixture(scope="module")
def perfect(tmp_path_factory):
    folder = tmp_path_factory.mktemp("perfect")
    simulate(config_from({**SMALL, "seed": 3}), folder)
    return folder


@pytest.fixture(scope="module")
def wrong(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrong")
    simulate(config_from({**SMALL, **ERRORS, "seed": 3}), folder)
    return folder


def stack_pixels(folder):
    return np.concatenate(
        [read_sections(path, np.arange(10)) for path in sorted((folder / "stacks").glob("*.mrcs"))]
    )


def half_planes(images):
    """Half-planes (m, n) of the rows of an image table, from their stacks."""
    sections = zip(images["stack"], images.section, strict=True)
    pixels = np.stack([read_sections(s, np.array([n - 1]))[0] for s, n in sections])
    return images_to_half_planes(torch.from_numpy(pixels.astype(np.float32)))


def star_texts(folder):
    return {path.relative_to(folder): path.read_text() for path in sorted(folder.rglob("*.star"))}


def rotations(images):
    return images[list(ROTATION_COLUMNS)].to_numpy().reshape(-1, 3, 3)


def turns(truth):
    return Rotation.from_rotvec(np.radians(truth.pose_rotvec_deg)).as_matrix()


def test_errors_have_the_sizes_asked_for():
    values = {"n_particles": 6000, "n_tomograms": 60, "n_atoms": 300, "tilt_shift_A": 3.0}
    errors = draw_experiment(config_from({**values, **ERRORS})).errors
    angle = np.linalg.norm(errors.pose_rotvec_deg, axis=1)
    assert np.sqrt((angle**2).mean()) == pytest.approx(4, rel=0.02)
    np.testing.assert_allclose(errors.pose_rotvec_deg.std(axis=0), 4 / np.sqrt(3), rtol=0.04)
    np.testing.assert_allclose(errors.pose_shift_A.std(axis=0), 9, rtol=0.04)
    assert errors.tilt_shift_A.shape == (6000, 21, 2)
    np.testing.assert_allclose(errors.tilt_shift_A.std(axis=(0, 1)), 3, rtol=0.02)
    assert errors.defocus_A.shape == (60, 21)
    assert errors.defocus_A.std() == pytest.approx(300, rel=0.06)
    # Independent of one another, and without a bias.
    columns = np.column_stack([errors.pose_rotvec_deg, errors.pose_shift_A, errors.tilt_shift_A[:, 0]])
    assert np.abs(np.corrcoef(columns.T) - np.eye(8)).max() < 0.06
    assert np.abs(columns.mean(axis=0) / columns.std(axis=0)).max() < 0.06


def test_without_errors_all_is_drawn_as_by_the_first_four_streams(perfect):
    config = config_from({**SMALL, "seed": 3})
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(3).spawn(4)]
    specimen = make_specimen(config, streams[0])
    states = draw_states(specimen, 10, streams[1])
    particles = place_particles(config, 15.0, 0.65 * 24 * 15, streams[2])
    tomograms = make_tomograms(config, streams[3])
    truth = load_truth(perfect / "truth.npz")
    np.testing.assert_array_equal(truth.presence, states.presence)
    np.testing.assert_array_equal(truth.origin_px, particles.origin_px)
    np.testing.assert_array_equal(truth.rotation, euler_to_matrix(*particles.euler_deg.T))
    table = starfile.read(perfect / "volumes.star")
    np.testing.assert_allclose(
        table[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]], particles.euler_deg, atol=1e-9
    )
    tilts = starfile.read(perfect / "warptools/tomograms.star")["TS_001.tomostar"]
    np.testing.assert_allclose(tilts.rlnDefocusU, tomograms[0].defocus_u_A, atol=1e-6)
    for name in ("pose_rotvec_deg", "pose_shift_A", "tilt_shift_A", "defocus_error_A"):
        assert not getattr(truth, name).any()
    assert truth.tilt_shift_A.shape == (10, 11, 2) and truth.defocus_error_A.shape == (2, 11)
    assert len(truth.neighbour_particle) == 0 and truth.background_gain == 0
    assert not truth.preferred_direction.any()


def test_wrong_files_are_of_the_same_images_and_truth(perfect, wrong):
    np.testing.assert_array_equal(stack_pixels(perfect), stack_pixels(wrong))
    one, other = (load_truth(folder / "truth.npz") for folder in (perfect, wrong))
    for name in ("rotation", "origin_px", "presence", "angle_deg", "core_map", "clean_variance"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("name", ["particles.star", SET])
def test_files_state_the_wrong_pose_and_defocus(perfect, wrong, name):
    truth = load_truth(wrong / "truth.npz")
    right, stated = (read_particles(folder / name).images for folder in (perfect, wrong))
    particle = right.particle.to_numpy()
    expected = rotations(right) @ turns(truth)[particle]
    np.testing.assert_allclose(rotations(stated), expected, atol=1e-6)
    # The true pose is the stated one turned back.
    back = Rotation.from_rotvec(-np.radians(truth.pose_rotvec_deg)).as_matrix()
    np.testing.assert_allclose(rotations(stated) @ back[particle], rotations(right), atol=1e-6)
    moved_px = np.einsum("mij,mj->mi", rotations(right), truth.pose_shift_A[particle])[:, :2] / 15
    for axis, column in enumerate(("shift_x_px", "shift_y_px")):
        np.testing.assert_allclose(stated[column] - right[column], moved_px[:, axis], atol=3e-5)
    # Dose and tilt tell which tilt an image is: as in the tomogram file, sorted by stage angle.
    tilts = starfile.read(wrong / "warptools/tomograms.star")
    for index, block in enumerate(("TS_001.tomostar", "TS_002.tomostar")):
        dose = tilts[block].rlnMicrographPreExposure.to_numpy()
        mine = truth.tomogram[particle] == block
        tilt = np.abs(right.dose_e_A2.to_numpy()[mine, None] - dose).argmin(axis=1)
        error_A = truth.defocus_error_A[index, tilt]
        for column in ("defocus_u_A", "defocus_v_A"):
            np.testing.assert_allclose((stated[column] - right[column])[mine], error_A, atol=2e-3)
    assert truth.defocus_error_A.std() > 100


def test_volume_series_and_set_state_the_same_wrong_pose_in_3d(wrong):
    truth = load_truth(wrong / "truth.npz")
    series = starfile.read(wrong / "volumes.star")
    particles = starfile.read(wrong / "warptools/particles.star")["particles"]
    angles = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
    np.testing.assert_allclose(series[angles], particles[angles], atol=1e-9)
    stated = euler_to_matrix(*series[angles].to_numpy().T)
    np.testing.assert_allclose(stated, truth.rotation @ turns(truth), atol=1e-6)
    origin_A = truth.origin_px * 15 + np.einsum("nij,nj->ni", truth.rotation, truth.pose_shift_A)
    found_A = particles[[f"rlnOrigin{axis}Angst" for axis in "XYZ"]]
    np.testing.assert_allclose(found_A, origin_A, atol=1e-3)
    np.testing.assert_allclose(series[[f"rlnOrigin{a}" for a in "XYZ"]] * 15, origin_A, atol=1e-3)


def test_extraction_multiplies_by_the_stated_ctf(wrong):
    raw, multiplied = (read_particles(wrong / name).images.iloc[:22] for name in ("particles.star", SET))
    parameters, hp = image_parameters(raw), half_plane(24)
    weight = ctf_of(parameters, hp) * dose_attenuation(parameters, hp)
    weight *= torch.as_tensor(np.cos(np.radians(raw.tilt_deg.to_numpy("float32"))))[:, None]

    expected = -half_planes(raw) * weight
    assert float((half_planes(multiplied) - expected).norm() / expected.norm()) < 2e-3  # float16


def test_shifted_tilts_are_in_the_images_and_not_in_the_files(tmp_path):
    config = {**SMALL, "snr": np.inf, "seed": 3, "dialect": "warp"}
    simulate(config_from(config), tmp_path / "right")
    simulate(config_from({**config, "tilt_shift_A": 6.0}), tmp_path / "moved")
    assert star_texts(tmp_path / "right") == star_texts(tmp_path / "moved")
    truth = load_truth(tmp_path / "moved" / "truth.npz")
    assert truth.tilt_shift_A.std() == pytest.approx(6, rel=0.2)
    images = read_particles(tmp_path / "right" / "particles.star").images.iloc[:30]
    hp = half_plane(24)
    planes = []
    for folder in ("right", "moved"):
        here = images.assign(stack=[tmp_path / folder / "stacks" / Path(s).name for s in images["stack"]])
        planes.append(half_planes(here).numpy())
    # Tilts in the order of the stage angle; a dose-symmetric scheme of 0, +12, -12, -24, +24, ...
    order = np.argsort([0, 12, -12, -24, 24, 36, -36, -48, 48, 60, -60])
    rank = np.rint(images.dose_e_A2.to_numpy() / (120 / 11)).astype(int)
    tilt = np.argsort(order)[rank]
    error_px = truth.tilt_shift_A[images.particle, tilt] / 15
    phase = np.exp(-2j * np.pi * error_px @ hp.frequency.double().numpy().T)
    # Less than Nyquist, where a shifted real image loses its imaginary part.
    inner = hp.prefix(11.5)
    expected = (planes[0] * phase)[:, :inner]
    assert np.linalg.norm(planes[1][:, :inner] - expected) < 1e-3 * np.linalg.norm(expected)


def test_the_result_is_that_of_perturbing_the_files_of_a_perfect_simulation(
    perfect, shared, tmp_path, monkeypatch
):
    script = shared / "findings" / "pose" / "perturb.py"
    if not script.is_file():
        pytest.skip("no script that perturbs poses")
    # Degrees, pixels, seed.
    subprocess.run(
        [sys.executable, script, perfect / "particles.star", tmp_path / "perturbed.star", "4", "0.6", "7"],
        check=True,
    )
    rng, rotvec_deg, shift_A = np.random.default_rng(7), np.empty((10, 3)), np.empty((10, 3))
    for i in range(10):
        rotvec_deg[i] = 4 * rng.normal(size=3) / np.sqrt(3)
        shift_A[i] = 15 * 0.6 * rng.normal(size=3)
    given = Errors(rotvec_deg, shift_A, np.zeros((10, 11, 2)), np.zeros((2, 11)))
    monkeypatch.setattr(drawn, "draw_errors", lambda *_: given)
    simulate(config_from({**SMALL, "seed": 3}), tmp_path / "mine")
    mine, theirs = (
        starfile.read(path) for path in (tmp_path / "mine/particles.star", tmp_path / "perturbed.star")
    )
    angles = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
    matrices = [euler_to_matrix(*table[angles].to_numpy().T) for table in (mine, theirs)]
    np.testing.assert_allclose(*matrices, atol=1e-6)
    for axis in "XY":
        np.testing.assert_allclose(mine[f"rlnOrigin{axis}"], theirs[f"rlnOrigin{axis}"], atol=3e-5)
    rest = [c for c in mine.columns if c not in (*angles, "rlnOriginX", "rlnOriginY")]
    pd.testing.assert_frame_equal(mine[rest], theirs[rest], atol=1e-3)


def test_every_kind_of_error_has_a_stream_of_its_own():
    values = {**SMALL, "n_particles": 50, **ERRORS, "tilt_shift_A": 2.0, "neighbours": 2.0}
    whole = draw_experiment(config_from(values))
    for name, of in (
        ("pose_error_deg", "pose_rotvec_deg"),
        ("pose_error_A", "pose_shift_A"),
        ("tilt_shift_A", "tilt_shift_A"),
        ("defocus_error_A", "defocus_A"),
    ):
        alone = draw_experiment(config_from({**SMALL, "n_particles": 50, name: values[name]}))
        np.testing.assert_array_equal(getattr(alone.errors, of), getattr(whole.errors, of))
        np.testing.assert_array_equal(alone.states.presence, whole.states.presence)
        np.testing.assert_array_equal(alone.true.particles.origin_px, whole.true.particles.origin_px)
    alone = draw_experiment(config_from({**SMALL, "n_particles": 50, "neighbours": 2.0}))
    np.testing.assert_array_equal(alone.neighbours.offset_A, whole.neighbours.offset_A)


@pytest.mark.parametrize("mean_cosine", [0.1, 0.5, 0.9])
def test_particles_prefer_an_orientation(mean_cosine):
    values = {"n_particles": 8000, "n_tomograms": 40, "n_atoms": 300}
    experiment = draw_experiment(config_from({**values, "preferred_orientation": mean_cosine}))
    rotation = euler_to_matrix(*experiment.true.particles.euler_deg.T)
    cosine = rotation[:, 2] @ experiment.preferred_direction
    assert np.linalg.norm(experiment.preferred_direction) == pytest.approx(1)
    assert cosine.mean() == pytest.approx(mean_cosine, abs=0.02)
    # Mean square of the cosine of this distribution: 1 - 2 A / kappa.
    second = 1 - 2 * mean_cosine / concentration(mean_cosine)
    assert (cosine**2).mean() == pytest.approx(second, abs=0.02)
    # About the beam, all turns are as frequent.
    in_plane = np.exp(1j * np.radians(experiment.true.particles.euler_deg[:, 2]))
    assert np.abs(in_plane.mean()) < 0.03
    plain = draw_experiment(config_from(values))
    np.testing.assert_array_equal(plain.true.particles.origin_px, experiment.true.particles.origin_px)
    np.testing.assert_array_equal(plain.true.particles.position_A, experiment.true.particles.position_A)


def test_full_preference_shows_one_view():
    config = config_from({"n_particles": 40, "n_atoms": 300, "preferred_orientation": 1})
    experiment = draw_experiment(config)
    rotation = euler_to_matrix(*experiment.true.particles.euler_deg.T)
    np.testing.assert_allclose(rotation[:, 2] @ experiment.preferred_direction, 1, atol=1e-6)


def test_truth_of_an_earlier_version_is_still_read(perfect, tmp_path):
    with np.load(perfect / "truth.npz") as data:
        old = {name: data[name] for name in data if not name.startswith(("pose_", "neighbour_", "tilt_"))}
    np.savez(tmp_path / "truth.npz", **old)
    assert load_truth(tmp_path / "truth.npz").pose_rotvec_deg is None
    load_truth(tmp_path / "truth.npz").save(tmp_path / "again.npz")
    assert load_truth(tmp_path / "again.npz").pose_rotvec_deg is None
    del old["presence"]
    np.savez(tmp_path / "none.npz", **old)
    with pytest.raises(InputError, match="it lacks presence"):
        load_truth(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pose_error_deg": -1}, "pose_error_deg: expected at least 0, found -1"),
        ({"tilt_shift_A": np.inf}, "tilt_shift_A: expected 0 or more, finite"),
        ({"defocus_error_A": np.nan}, "defocus_error_A: expected at least 0"),
        ({"neighbours": 9}, "neighbours: expected at most 6, found 9"),
        ({"background_ratio": 0.5, "snr": np.inf}, "background_ratio: expected 0, as there is no noise"),
        ({"preferred_orientation": 1.5}, "preferred_orientation: expected at most 1, found 1.5"),
        ({"pose_error": 2}, "unknown key `pose_error`; did you mean `pose_error"),
    ],
)
def test_impossible_errors_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        config_from(values)
