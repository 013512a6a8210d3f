"""What surrounds simulated particles, neighbours and background, against sums over voxels from the truth."""

from functools import cache

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from tomohet.files.mrc import read_sections, write_volume
from tomohet.particles.dialects import read_particles
from tomohet.particles.table import ROTATION_COLUMNS
from tomohet.physics.fourier import inverse2
from tomohet.physics.geometry import euler_to_matrix
from tomohet.physics.imaging import ctf_of, dose_attenuation, image_parameters
from tomohet.physics.lattice import half_plane, images_to_half_planes
from tomohet.simulation import simulate as simulation
from tomohet.simulation.background import background_field
from tomohet.simulation.config import config_from
from tomohet.simulation.experiment import draw_experiment
from tomohet.simulation.neighbours import diameter_A
from tomohet.simulation.projection import variance_in_circle
from tomohet.simulation.truth import load_truth

BOX, PIXEL_A = 16, 20.0
SMALL = {"n_particles": 8, "n_tomograms": 2, "box": BOX, "pixel_size": PIXEL_A, "tilt_step": 20}
SMALL |= {"n_atoms": 500, "dialect": "warp", "seed": 5, "hidden_fraction": 0.0}
ALL = {"neighbours": 2.0, "background_ratio": 2.0, "preferred_orientation": 0.4}
ALL |= {"pose_error_deg": 8.0, "pose_error_A": 15.0, "tilt_shift_A": 10.0, "defocus_error_A": 400.0}
TILTS = 7


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crowded")
    simulation.simulate(config_from({**SMALL, **ALL, "snr": 2.0}), folder)
    return folder


@cache
def canvas_points(edge):
    axis = np.arange(edge) - edge // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    return np.stack([x.ravel(), y.ravel(), z.ravel()]).astype(float)


def true_images(folder):
    """The images of particles.star with, instead of the stated geometry, the true one; and the tilts (m,)."""
    truth = load_truth(folder / "truth.npz")
    images = read_particles(folder / "particles.star").images
    # Exposed in the order 0, +20, -20, -40, +40, +60, -60; tilts are in the order of the stage angle.
    rank = np.rint(images.dose_e_A2.to_numpy() / (120 / TILTS)).astype(int)
    tilt = np.argsort(np.argsort([0, 20, -20, -40, 40, 60, -60]))[rank]
    particle = images.particle.to_numpy()
    back = Rotation.from_rotvec(-np.radians(truth.pose_rotvec_deg)).as_matrix()[particle]
    rotation = images[list(ROTATION_COLUMNS)].to_numpy().reshape(-1, 3, 3) @ back
    moved_A = np.einsum("mij,mj->mi", rotation, truth.pose_shift_A[particle])[:, :2]
    shift = images[["shift_x_px", "shift_y_px"]].to_numpy()
    shift = shift - (moved_A + truth.tilt_shift_A[particle, tilt]) / PIXEL_A
    tomogram = (truth.tomogram[particle] == "TS_002.tomostar").astype(int)
    error_A = truth.defocus_error_A[tomogram, tilt]
    true = images.assign(**dict(zip(ROTATION_COLUMNS, rotation.reshape(-1, 9).T, strict=True)))
    true["shift_x_px"], true["shift_y_px"] = shift.T
    true["defocus_u_A"] -= error_A
    true["defocus_v_A"] -= error_A
    # From the tomogram to the image: what turns the particle into its image, turned back by its pose.
    return true, rotation @ truth.rotation[particle].transpose(0, 2, 1)


def seen(volume, rotation, shift, row, edge=2 * BOX):
    """Image (D, D) of a volume on a canvas, cropped, without mean: light protein, as Warp's files."""
    hp = half_plane(edge)
    points = canvas_points(volume.shape[-1])
    frequency = hp.frequency.double().numpy()
    slices = np.exp(-2j * np.pi * (frequency @ rotation[:2]) @ points) @ volume.ravel()
    parameters = image_parameters(row)
    transfer = (ctf_of(parameters, hp) * dose_attenuation(parameters, hp)).numpy()[0]
    transfer = transfer * np.cos(np.radians(row.tilt_deg.iloc[0]))
    values = -transfer * slices * np.exp(2j * np.pi * frequency @ shift)
    canvas = inverse2(hp.scatter(torch.from_numpy(values).to(torch.complex64)), edge)
    start = (edge - BOX) // 2
    middle = canvas[start : start + BOX, start : start + BOX].numpy()
    return middle - middle.mean()


def parts(folder, rows):
    """Images (m, D, D) of some rows, and what the truth says that particle, neighbours and field show."""
    truth = load_truth(folder / "truth.npz")
    true, tilted = true_images(folder)
    found, particle, neighbours, field = [], [], [], []
    for i in rows:
        row = true.iloc[i : i + 1]
        p = int(row.particle.iloc[0])
        rotation = row[list(ROTATION_COLUMNS)].to_numpy().reshape(3, 3)
        shift = row[["shift_x_px", "shift_y_px"]].to_numpy()[0]
        found.append(read_sections(row["stack"].iloc[0], np.array([row.section.iloc[0] - 1]))[0])
        particle.append(seen(truth.particle_volume(p), rotation, shift, row, BOX))
        total = np.zeros((BOX, BOX))
        for q in np.flatnonzero(truth.neighbour_particle == p):
            volume = truth.volume(truth.neighbour_presence[q], float(truth.neighbour_angle_deg[q]))
            offset_px = tilted[i, :2] @ truth.neighbour_offset_A[q] / PIXEL_A
            total += seen(volume, tilted[i] @ truth.neighbour_rotation[q], shift - offset_px, row)
        neighbours.append(total)
        background = truth.background_gain * background_field(truth.seed, p, BOX)
        field.append(seen(background, tilted[i], shift, row))
    found = np.array(found)
    return found - found.mean(axis=(1, 2), keepdims=True), *map(np.array, (particle, neighbours, field))


@pytest.fixture(scope="module")
def crowded_parts(crowded):
    return parts(crowded, range(0, SMALL["n_particles"] * TILTS, 2))


def test_what_the_truth_explains_leaves_white_noise(crowded_parts):
    found, particle, neighbours, field = crowded_parts
    residual = found - particle - neighbours - field
    assert residual.var() == pytest.approx(1, abs=0.06)
    power = images_to_half_planes(torch.from_numpy(residual)).abs().square().mean(dim=0) / BOX**2
    low = half_plane(BOX).prefix(3)
    assert float(power[:low].mean()) == pytest.approx(1, abs=0.15)
    assert float(power[low:].mean()) == pytest.approx(1, abs=0.1)
    # Each part is there, and is needed.
    for part in (particle, neighbours, field):
        assert (residual + part).var() > 1.1
        assert np.abs((residual * part).mean()) < 0.05 * part.var() + 0.02


def test_without_noise_the_truth_explains_every_pixel(tmp_path):
    values = {**SMALL, **ALL, "snr": np.inf, "background_ratio": 0.0, "n_particles": 4}
    simulation.simulate(config_from(values), tmp_path)
    found, particle, neighbours, _ = parts(tmp_path, range(0, 28, 3))
    assert np.linalg.norm(found - particle - neighbours) < 0.02 * np.linalg.norm(neighbours)
    assert neighbours.var() > 0.1 * particle.var()


def test_background_has_the_variance_asked_for_and_fades_with_dose(crowded, crowded_parts):
    truth = load_truth(crowded / "truth.npz")
    assert truth.background_variance == pytest.approx(2 * truth.noise_std**2, rel=0.01)
    assert truth.snr_measured == pytest.approx(2, rel=0.01), "background and neighbours are no signal"
    images = read_particles(crowded / "particles.star").images.iloc[::2]
    variance = variance_in_circle(torch.from_numpy(crowded_parts[-1])).numpy()
    assert variance.mean() == pytest.approx(2, rel=0.1)
    late = images.dose_e_A2.to_numpy() > 60
    assert variance[late].mean() < 0.8 * variance[~late].mean()


def test_background_is_a_gaussian_field_of_power_one_over_k_in_a_ball():
    fields = np.array([background_field(1, particle, BOX) for particle in range(60)])
    edge = fields.shape[-1]
    assert edge == 24
    axis = np.arange(edge) - edge // 2
    radius = np.sqrt((np.stack(np.meshgrid(axis, axis, axis)) ** 2).sum(axis=0))
    assert not fields[:, radius > edge / 2].any()
    inside = fields[:, radius <= edge / 2]
    assert ((inside / inside.std()) ** 4).mean() == pytest.approx(3, abs=0.1)
    # As bright in the middle as at the surface of the ball.
    assert fields[:, radius < 5].var() == pytest.approx(
        fields[:, (radius > 10) & (radius < 12)].var(), rel=0.1
    )
    power = (np.abs(np.fft.fftshift(np.fft.fftn(fields, axes=(1, 2, 3)), axes=(1, 2, 3))) ** 2).mean(axis=0)
    shells = np.arange(3, 11)
    mean = [power[(radius > k - 0.5) & (radius <= k + 0.5)].mean() for k in shells]
    slope = np.polyfit(np.log(shells), np.log(mean), 1)[0]
    assert slope == pytest.approx(-1, abs=0.15)
    np.testing.assert_array_equal(background_field(1, 4, BOX), fields[4])
    assert np.abs(np.corrcoef(fields[3].ravel(), fields[4].ravel())[0, 1]) < 0.2


def test_neighbours_touch_the_particle_and_never_overlap_it():
    values = {"n_particles": 400, "neighbours": 2.5, "n_atoms": 300}
    experiment = draw_experiment(config_from(values))
    neighbours, specimen = experiment.neighbours, experiment.specimen
    width_A = diameter_A(specimen)
    # An invented assembly is 0.65 boxes wide over all positions of its moving block.
    assert width_A == pytest.approx(0.65 * 32 * 12, rel=0.02)
    number = np.bincount(neighbours.particle, minlength=400)
    assert number.mean() == pytest.approx(2.5, abs=4 * np.sqrt(2.5 / 400))
    assert number.var() == pytest.approx(2.5, rel=0.35)
    distance = np.linalg.norm(neighbours.offset_A, axis=1)
    assert distance.min() >= width_A
    assert distance.max() <= 1.25 * width_A
    # Their projections overlap the circle of the box from whatever side.
    assert distance.max() - width_A / 2 <= 32 * 12 / 2
    direction = neighbours.offset_A / distance[:, None]
    assert np.abs(direction.mean(axis=0)).max() < 0.08
    for particle in np.flatnonzero(number > 1):
        centres = neighbours.offset_A[neighbours.particle == particle]
        assert cKDTree(centres).query(centres, k=2)[0][:, 1].min() >= width_A
    frequency = np.array([block.frequency for block in specimen.settings])
    share = neighbours.states.presence.mean(axis=0)
    np.testing.assert_allclose(share[[0, 2, 3]], frequency[[0, 2, 3]], atol=0.07)


def test_atoms_of_neighbours_are_not_among_those_of_the_particle():
    experiment = draw_experiment(config_from({"n_particles": 30, "neighbours": 4, "n_atoms": 400}))
    specimen, neighbours = experiment.specimen, experiment.neighbours
    pose = euler_to_matrix(*experiment.true.particles.euler_deg.T)
    xyz_A = specimen.atoms[["x_A", "y_A", "z_A"]].to_numpy()
    for particle, offset_A, rotation in zip(
        neighbours.particle, neighbours.offset_A, neighbours.rotation, strict=True
    ):
        own = xyz_A @ pose[particle].T
        gap = cKDTree(own).query(xyz_A @ rotation.T + offset_A)[0].min()
        assert gap > 1.0


def test_more_neighbours_than_find_room_are_left_out():
    numbers = []
    for mean in (1.0, 6.0):
        experiment = draw_experiment(config_from({"n_particles": 300, "neighbours": mean, "n_atoms": 300}))
        numbers.append(np.bincount(experiment.neighbours.particle, minlength=300))
    assert numbers[1].max() <= 14
    assert numbers[1].mean() == pytest.approx(6, abs=0.5)


def test_width_of_given_maps_is_that_of_their_density(tmp_path):
    axis = np.arange(24) - 12
    radius = np.sqrt((np.stack(np.meshgrid(axis, axis, axis)) ** 2).sum(axis=0))
    write_volume(tmp_path / "ball.mrc", (radius <= 5).astype(np.float32), 10.0)
    config = config_from({"maps": [str(tmp_path / "ball.mrc")], "n_particles": 200, "neighbours": 1.0})
    experiment = draw_experiment(config)
    assert diameter_A(experiment.specimen) == pytest.approx(100)
    distance = np.linalg.norm(experiment.neighbours.offset_A, axis=1)
    assert distance.min() >= 100 and distance.max() <= 125


def test_surroundings_do_not_depend_on_how_many_images_are_made_at_a_time(monkeypatch, tmp_path, crowded):
    monkeypatch.setitem(simulation.CHUNK_BYTES, "cpu", 1)
    simulation.simulate(config_from({**SMALL, **ALL, "snr": 2.0}), tmp_path)
    for name in ("stacks/TS_001.mrcs", "stacks/TS_002.mrcs"):
        one, other = (read_sections(folder / name, np.arange(28)) for folder in (crowded, tmp_path))
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert (crowded / "particles.star").read_text() == (tmp_path / "particles.star").read_text()
