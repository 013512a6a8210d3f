"""A marker in the particle, placed in the tomogram by the exported coordinates, lies on its tilt images."""

import analysis_fakes as fakes
import numpy as np
import pytest

from tomohet.files.mrc import read_sections, write_volume
from tomohet.files.star import read_star
from tomohet.mapback.placements import read_placements
from tomohet.mapback.scene import rotations
from tomohet.particles.dialects import read_particles
from tomohet.physics.geometry import euler_to_matrix
from tomohet.simulation import simulate as simulation
from tomohet.simulation.config import config_from

BOX, PIXEL_SIZE_A = 32, 10.0
MARKER_PX = np.array([7.0, -4.0, 3.0])  # x, y, z from the particle's centre


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """Images of particles whose only density is a ball at the marker."""
    folder = tmp_path_factory.mktemp("marked")
    axis = np.arange(BOX) - BOX // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    squared = sum((a - m) ** 2 for a, m in zip((x, y, z), MARKER_PX, strict=True))
    write_volume(folder / "ball.mrc", np.exp(-squared / (2 * 1.5**2)).astype(np.float32), PIXEL_SIZE_A)
    config = {
        "maps": [str(folder / "ball.mrc")],
        "map_frequencies": [1.0],
        "n_particles": 10,
        "n_tomograms": 2,
        "tilt_step": 15,
        "hidden_fraction": 0,
        "snr": np.inf,
        "seed": 3,
    }
    simulation.simulate(config_from(config), folder)
    return folder


def peaks(images):
    """Position (m, 2) x, y in px of the largest value of each image, to a fraction of a pixel."""
    found = []
    for stack, section in zip(images["stack"], images["section"], strict=True):
        image = np.asarray(read_sections(stack, np.array([section - 1]))[0], np.float64)
        y, x = np.unravel_index(np.argmax(image), image.shape)
        window = image[y - 1 : y + 2, x - 1 : x + 2]
        window = np.clip(window - window.min(), 0, None)
        offset = np.arange(-1, 2)
        found.append(
            [x + (window.sum(0) @ offset) / window.sum(), y + (window.sum(1) @ offset) / window.sum()]
        )
    return np.array(found)


def test_a_marker_lies_on_the_tilt_images(marked, tmp_path):
    fakes.run("subtomo2chimerax", marked / "volumes.star", "-o", tmp_path)
    placed = read_placements(tmp_path / "coordinates.star")
    centre_A = placed[["x_A", "y_A", "z_A"]].to_numpy()
    marker_A = centre_A + rotations(placed) @ (MARKER_PX * PIXEL_SIZE_A)

    given = read_particles(marked / "particles.star")
    stated = next(iter(read_star(marked / "volumes.star").values()))
    assert list(given.particles["source_id"]) == list(stated["rlnGroupName"])  # row i is particle i
    images = given.images
    particle = images["particle"].to_numpy()
    # The rotation of the tilt, tomogram -> image, from the angles in the files alone.
    pose = euler_to_matrix(*(stated[f"rlnAngle{name}"].astype(float) for name in ("Rot", "Tilt", "Psi")))
    tilt = given.rotations() @ pose[particle].transpose(0, 2, 1)
    tomogram = given.particles["tomogram"].to_numpy()[particle]
    for name in np.unique(tomogram):  # one tilt series has the same tilts for all its particles
        here = tomogram == name
        of_tilts = tilt[here].reshape((here.sum() // 9, 9, 3, 3))
        np.testing.assert_allclose(of_tilts, np.broadcast_to(of_tilts[:1], of_tilts.shape), atol=1e-4)

    away_px = np.einsum("mij,mj->mi", tilt, (marker_A - centre_A)[particle])[:, :2] / PIXEL_SIZE_A
    shift_px = images[["shift_x_px", "shift_y_px"]].to_numpy()
    np.testing.assert_allclose(peaks(images), BOX // 2 - shift_px + away_px, atol=0.5)
