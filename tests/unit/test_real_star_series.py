"""Image series in the forms of cryoDRGN's parse_relion, recovar and nextPYP: what the writing program means.

Expected values come from the numbers in the files and the writing programs' formulas, not from the reader.
"""

import shutil

import numpy as np
import pandas as pd
import pytest
from particle_files import write_stack, write_text_star

from tomohet.errors import InputError
from tomohet.files.star import read_star
from tomohet.mapback.placements import read_placements
from tomohet.particles.dialects import read_particles
from tomohet.particles.export import detect_type, read_particle_file
from tomohet.particles.positions import positions_from_volume_series

XYZ = ["x_A", "y_A", "z_A"]
TILTS = [0, 3, 6, 9, 12]
SIZE_A = np.array([4000, 4000, 2000]) * 1.35  # of RELION's tomograms in tomograms.star


@pytest.fixture(scope="module")
def real(shared, tmp_path_factory):
    """A copy of the real files, with stacks of noise."""
    folder = tmp_path_factory.mktemp("real") / "files"
    shutil.copytree(shared / "data" / "real_star", folder)
    for star in [*folder.glob("nextpyp_format/*.star"), *folder.glob("cryodrgn_parse_relion/*.star")]:
        depth = {}
        for line in star.read_text().splitlines():
            for word in line.split():
                if "@" in word:
                    section, name = word.split("@")
                    depth[name] = max(depth.get(name, 0), int(section))
        for name, n in depth.items():
            write_stack(star.parent / name, np.random.default_rng(1).normal(size=(n, 32, 32)).astype("f4"))
    return folder


def rows_of(star):
    """The rows of a file's last table by plain splitting, column by column as text."""
    lines = [line.split() for line in star.read_text().split("data_")[-1].splitlines() if line.strip()]
    columns = [line[0][1:] for line in lines if line[0].startswith("_")]
    rows = [line for line in lines if len(line) == len(columns)]
    return pd.DataFrame(rows, columns=columns)


def test_parse_relion(real):
    """Doses are the pre-exposures (B-factors are placeholders), tilts the stage's, tomograms RELION's."""
    star = real / "cryodrgn_parse_relion/particles_2d.star"
    read, rows = read_particles(star), rows_of(star)
    images = read.images.sort_values("row")
    np.testing.assert_array_equal(images["dose_e_A2"], rows["rlnMicrographPreExposure"].astype(float))
    np.testing.assert_array_equal(images["tilt_deg"], rows["rlnTomoYTilt"].astype(float).abs())
    first = images[images["particle"] == 0]
    assert first["dose_e_A2"].tolist() == list(range(0, 51, 3))
    assert first["tilt_deg"].tolist()[:5] == [0, 3, 3, 6, 6]
    assert read.particles["source_id"].tolist() == ["TS_01/12", "TS_01/13", "TS_01/23", "TS_01/26"]
    assert set(read.particles["tomogram"]) == {"TS_01"} and read.particles["n_tilts"].tolist() == [17] * 4
    assert not read.remarks


def test_a_particle_without_its_first_tilt_stays_in_its_tomogram(real, tmp_path):
    rows = rows_of(real / "cryodrgn_parse_relion/particles_2d.star").drop(index=[0, 17, 18])
    rows["rlnImageName"] = rows["rlnImageName"].str.replace("@", f"@{real}/cryodrgn_parse_relion/")
    read = read_particles(write_text_star(tmp_path / "hidden.star", {"": rows}))
    assert set(read.particles["tomogram"]) == {"TS_01"} and read.particles["n_tilts"].tolist() == [
        16,
        15,
        17,
        17,
    ]


@pytest.mark.parametrize("tilt", ["rlnTomoYTilt", "rlnTomoNominalStageTiltAngle"])
def test_amplitudes_are_no_tilts(real, tmp_path, tilt):
    """After RELION's CtfRefine the scale factor is an amplitude: recovar's columns, without B-factors."""
    rows = rows_of(real / "cryodrgn_parse_relion/particles_2d.star")
    rows["rlnImageName"] = rows["rlnImageName"].str.replace("@", f"@{real}/cryodrgn_parse_relion/")
    stage = rows["rlnTomoYTilt"].astype(float)
    rows = rows.drop(columns=["rlnCtfBfactor", "rlnTomoYTilt"]).assign(
        **{"rlnCtfScalefactor": "2.39299", tilt: stage}
    )
    read = read_particles(write_text_star(tmp_path / "amplitudes.star", {"": rows}))
    images = read.images.sort_values("row")
    np.testing.assert_array_equal(images["tilt_deg"], stage.abs())
    np.testing.assert_array_equal(images["dose_e_A2"], rows["rlnMicrographPreExposure"].astype(float))
    bare = read_particles(write_text_star(tmp_path / "bare.star", {"": rows.drop(columns=tilt)}))
    assert (bare.images["tilt_deg"] == 0).all() and "2.39299" in bare.remarks[0]


@pytest.mark.parametrize("name", ["restart", "unique"])
def test_nextpyp_numbers_count_within_a_tomogram(real, name):
    """Doses -B / 4, tilts acos(scale); 3 particles in each of 2 tomograms, though numbers begin again."""
    read = read_particles(real / f"nextpyp_format/{name}.star")
    assert len(read.particles) == 6 and read.particles["n_tilts"].tolist() == [5] * 6
    assert read.particles["tomogram"].tolist() == ["TS_1.mrc"] * 3 + ["TS_43.mrc"] * 3
    assert read.particles["half"].tolist() == [1, 2, 1] * 2
    assert read.particles["source_id"].is_unique
    images = read.images.sort_values("row")
    np.testing.assert_allclose(images["dose_e_A2"], TILTS * 6)
    np.testing.assert_allclose(images["tilt_deg"], TILTS * 6, atol=1e-6)
    # Shifts are origins in Å over 5.4 Å: 0, -1.35, ... along x and 2.7 along y.
    np.testing.assert_allclose(images["shift_x_px"], [-0.25 * tilt for tilt in range(5)] * 6)
    np.testing.assert_allclose(images["shift_y_px"], 0.5)
    star = real / f"nextpyp_format/{name}.star"
    file = read_particle_file(star, detect_type(star))
    np.testing.assert_array_equal(file.particle, images["particle"])


def test_nextpyp_header_with_one_column_twice(real, tmp_path):
    """18 values under 19 names: the file lacks doses and tilts, and is read once they are added."""
    star = real / "nextpyp_format/tostar.star"
    with pytest.raises(InputError, match="tostar.star: .*_rlnCtfBfactor, _rlnCtfScalefactor is missing"):
        read_particles(star)
    rows = read_star(star)["particles"]
    assert rows["rlnRandomSubset"].isin((1, 2)).all() and rows["rlnTiltIndex"].tolist() == [*range(5)] * 6
    rows["rlnImageName"] = rows["rlnImageName"].str.replace("@", f"@{real}/nextpyp_format/")
    rows["rlnMicrographPreExposure"], rows["rlnTomoYTilt"] = 3.0 * rows["rlnTiltIndex"], 0.0
    # The program writes group 1 in all rows; the particles are told apart by their coordinates here.
    rows["rlnGroupNumber"] = rows.groupby(["rlnMicrographName", "rlnCoordinateX"], sort=False).ngroup()
    optics = read_star(star)["optics"]
    read = read_particles(write_text_star(tmp_path / "r.star", {"optics": optics, "particles": rows}))
    assert (read.images.groupby("particle").size() == 5).all() and len(read.particles) == 6


def test_numbers_that_begin_again_without_micrographs_count_within_a_stack(real, tmp_path):
    rows = rows_of(real / "nextpyp_format/restart.star").drop(columns="rlnMicrographName")
    rows["rlnImageName"] = rows["rlnImageName"].str.replace("@", f"@{real}/nextpyp_format/")
    optics = read_star(real / "nextpyp_format/restart.star")["optics"]
    read = read_particles(write_text_star(tmp_path / "r.star", {"optics": optics, "particles": rows}))
    assert len(read.particles) == 6 and set(read.particles["tomogram"]) == {"TS_1_stack", "TS_43_stack"}
    assert "restarts in each stack" in read.remarks[0]


def expected_positions(real):
    """Å from the corner: the centred coordinates plus half of 4000 x 4000 x 2000 px of 1.35 Å."""
    rows = rows_of(real / "relion5_refine3d_cryocat/Refine3D/job074/run_data.star")
    return rows[[f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]].astype(float) + SIZE_A / 2


@pytest.mark.parametrize("name", ["run_optimisation_set.star", "run_data.star"])
def test_positions_of_parse_relion_from_relions_set(real, name):
    """Files are named from the project's root; the particles file alone finds the set beside it."""
    star = real / "relion5_refine3d_cryocat/Refine3D/job074" / name
    ids = read_particles(real / "cryodrgn_parse_relion/particles_2d.star").particles["source_id"]
    found = positions_from_volume_series(star, ids[::-1])
    np.testing.assert_allclose(found[::-1], expected_positions(real), atol=1e-6)


def test_particles_without_a_tomograms_file(real, tmp_path):
    shutil.copy(real / "relion5_refine3d_cryocat/Refine3D/job074/run_data.star", tmp_path)
    with pytest.raises(InputError, match="tomogram's size is needed.*give the optimisation set"):
        read_placements(tmp_path / "run_data.star")


def test_relion4_counts_unbinned_pixels(real):
    """1700 px of 1.971 Å, though images have 3.942 Å; the refined origin is taken off in map-back."""
    star = real / "relion4_volumes_cryocat/optimisation_set.star"
    found = positions_from_volume_series(star, ["TS_017/68", "TS_017/97"])
    expected = np.array([[1700, 428, 944], [626, 2930, 990]]) * 1.971
    np.testing.assert_allclose(found, expected, atol=1e-6)
    placed = read_placements(real / "relion4_volumes_cryocat/particles.star")
    np.testing.assert_allclose(placed.loc[0, XYZ].astype(float), expected[0] - [1.260416, 2.364176, 3.783296])


def test_map_back_turns_poses_and_origins_with_the_subtomogram(real):
    """RELION: pose S A, position x - S o (particle_set.cpp), here by scipy's Euler angles."""
    from scipy.spatial.transform import Rotation

    def turn(angles):  # RELION's matrix is the inverse of intrinsic z-y-z rotations
        return Rotation.from_euler("ZYZ", angles, degrees=True).inv()

    rows = rows_of(real / "relion5_refine3d_cryocat/Refine3D/job074/run_data.star")
    names = ("Rot", "Tilt", "Psi")
    whole = turn(rows[[f"rlnTomoSubtomogram{name}" for name in names]].astype(float))
    origin = whole.apply(rows[[f"rlnOrigin{axis}Angst" for axis in "XYZ"]].astype(float))
    pose = whole * turn(rows[[f"rlnAngle{name}" for name in names]].astype(float))
    placed = read_placements(real / "relion5_refine3d_cryocat/Refine3D/job074/run_optimisation_set.star")
    np.testing.assert_allclose(placed[XYZ], expected_positions(real) - origin, atol=1e-6)
    found = turn(placed[["rot_deg", "tilt_deg", "psi_deg"]].to_numpy())
    assert (found * pose.inv()).magnitude().max() < 1e-6
