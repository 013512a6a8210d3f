"""Positions of an image series' particles from the volume series of the same particles."""

import numpy as np
import pandas as pd
import pytest
from particle_files import optimisation_set_blocks, write_optimisation_set, write_text_star

from tomohet.errors import InputError
from tomohet.files.atomic import write_pickle
from tomohet.files.star import read_star, write_star
from tomohet.mapback.placements import read_placements
from tomohet.particles.positions import positions_from_volume_series
from tomohet.particles.source import read_particles

XYZ = ["x_A", "y_A", "z_A"]
NAMES_OF_ANGLES = ("Rot", "Tilt", "Psi")
NAMES = np.array(["a_1", "a_2", "b_1"])


def series(folder, **columns):
    """A volume series of NAMES at (10, 20, 30), (11, 21, 31), ... pixels; columns of None are left out."""
    table = {"rlnGroupName": NAMES, "rlnPixelSize": 4.0}
    table |= {f"rlnCoordinate{axis}": 10.0 * (i + 1) + np.arange(3) for i, axis in enumerate("XYZ")}
    table = pd.DataFrame({name: value for name, value in (table | columns).items() if value is not None})
    write_star(folder / "v.star", {"": table})
    return folder / "v.star"


@pytest.fixture(scope="module")
def twin(tiny):
    """Positions of `tiny`'s particles as the simulation's optimisation set gives them, in the same order."""
    star = next((tiny / "warptools").glob("*optimisation_set.star"))
    return read_particles(star).particles[XYZ].to_numpy()


@pytest.fixture(scope="module")
def image_series(tiny):
    return read_particles(tiny / "particles.star").particles


def test_image_series_gets_the_positions_of_its_twin(tiny, image_series, twin):
    assert image_series[XYZ].isna().all(axis=None)
    found = positions_from_volume_series(tiny / "volumes.star", image_series["source_id"])
    assert list(found.columns) == XYZ
    # The file has four decimals of a pixel of 14 Å.
    np.testing.assert_allclose(found, twin, atol=1e-3)


def test_rows_in_any_order_and_particles_it_does_not_name(tiny, image_series, twin, tmp_path):
    table = read_star(tiny / "volumes.star")[""].sample(frac=1, random_state=0)
    absent = table["rlnGroupName"].iloc[:2]
    write_star(tmp_path / "v.star", {"": table.iloc[2:]})
    found = positions_from_volume_series(tmp_path / "v.star", image_series["source_id"]).to_numpy()
    unknown = image_series["source_id"].isin(absent).to_numpy()
    assert unknown.sum() == 2 and np.isnan(found[unknown]).all()
    np.testing.assert_allclose(found[~unknown], twin[~unknown], atol=1e-3)


def test_rows_without_names_are_taken_in_order(tmp_path):
    star = series(tmp_path, rlnGroupName=None)
    assert positions_from_volume_series(star, ["x", "y", "z"])["x_A"].tolist() == [40, 44, 48]
    with pytest.raises(InputError, match="3 rows without names, expected one for each of 2 particles"):
        positions_from_volume_series(star, ["x", "y"])


def test_the_column_that_names_the_particles_is_taken(tmp_path):
    star = series(tmp_path, rlnTomoParticleName=["a/1", "a/2", "b/1"])
    assert positions_from_volume_series(star, NAMES[::-1])["x_A"].tolist() == [48, 44, 40]
    assert positions_from_volume_series(star, ["a/2"])["x_A"].tolist() == [44]


@pytest.mark.parametrize(
    ("columns", "pixel_A"),
    [
        ({"rlnPixelSize": None, "rlnDetectorPixelSize": 5.0, "rlnMagnification": 25000.0}, [2, 2, 2]),
        ({"rlnPixelSize": None, "rlnDetectorPixelSize": 3.0}, [3, 3, 3]),
        ({"rlnPixelSize": None, "rlnImagePixelSize": 8.0, "rlnTomoTiltSeriesPixelSize": 2.0}, [8, 8, 8]),
        ({"rlnPixelSize": [1.0, 2.0, 3.0]}, [1, 2, 3]),
    ],
)
def test_the_unit_is_the_pixel_size_of_the_file(tmp_path, columns, pixel_A):
    found = positions_from_volume_series(series(tmp_path, **columns), NAMES)
    np.testing.assert_allclose(found["y_A"], np.array([20, 21, 22]) * pixel_A)


def test_optics_table_has_the_pixel_size(tmp_path):
    star = series(tmp_path, rlnPixelSize=None, rlnOpticsGroup=[2, 1, 2])
    optics = pd.DataFrame({"rlnOpticsGroup": [1, 2], "rlnImagePixelSize": [1.0, 10.0]})
    write_star(tmp_path / "o.star", {"optics": optics, "particles": read_star(star)[""]})
    assert positions_from_volume_series(tmp_path / "o.star", NAMES)["z_A"].tolist() == [300, 31, 320]


@pytest.mark.parametrize("sample", ["", "1"])
def test_warp_columns_are_in_angstrom(tmp_path, sample):
    table = pd.DataFrame({"wrpSourceName": ["t", "t"], "wrpPixelSize": 7.0})
    for column in ("CoordinateX", "CoordinateY", "CoordinateZ", "AngleRot", "AngleTilt", "AnglePsi"):
        table[f"wrp{column}{sample}"] = [1.5, 2.5]
        if sample:
            table[f"wrp{column}2"] = 99.0
    write_star(tmp_path / "m.star", {"": table})
    found = positions_from_volume_series(tmp_path / "m.star", ["p", "q"])
    assert found.to_numpy().tolist() == [[1.5] * 3, [2.5] * 3]
    assert read_placements(tmp_path / "m.star")[XYZ].equals(found)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"rlnPixelSize": None}, "no column with a pixel size.* add _rlnPixelSize"),
        ({"rlnCoordinateZ": None}, "_rlnCoordinateZ"),
        ({"rlnPixelSize": [4.0, 0.0, 4.0]}, "_rlnPixelSize, row 2: found 0, expected more than 0"),
        ({"rlnDetectorPixelSize": 5.0, "rlnMagnification": 0.0}, "_rlnMagnification, row 1: found 0"),
        ({"rlnCoordinateX": ["1", "x", "3"]}, "rlnCoordinateX"),
        ({"rlnGroupName": ["a_1", "a_2", "a_1"]}, "row 3: particle `a_1` appears more than once"),
        ({"rlnGroupName": ["u", "v", "w"]}, "none of the 3 particles, found `u`, expected names like `a_1`"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, columns, message):
    with pytest.raises(InputError, match=message) as mistake:
        positions_from_volume_series(series(tmp_path, **columns), NAMES)
    assert "v.star" in str(mistake.value) and "\n" not in str(mistake.value)


def test_table_of_a_round_has_positions(tiny, tiny_store, twin, tmp_path, run_script):
    chosen = np.array([1, 4, 5, 20])
    write_pickle(tmp_path / "ind.pkl", chosen)
    options = (tiny_store, "--ind-ptcls", tmp_path / "ind.pkl", "--round-dir", tmp_path)
    run_script("particle_table", *options, "-o", tmp_path / "without.parquet")
    assert pd.read_parquet(tmp_path / "without.parquet")[XYZ].isna().all(axis=None)
    series = ("--volume-series", tiny / "volumes.star")
    run_script("particle_table", *options, *series, "-o", tmp_path / "with.parquet")
    table = pd.read_parquet(tmp_path / "with.parquet")
    assert table["particle"].tolist() == chosen.tolist()
    np.testing.assert_allclose(table[XYZ], twin[chosen], atol=1e-3)


def test_known_positions_of_the_store_stay(tmp_path):
    from tomohet.rounds.table import particle_table

    store = pd.DataFrame({"particle": range(3), "source_id": NAMES, "x_A": [1.0, np.nan, np.nan]})
    store = store.assign(y_A=store["x_A"], z_A=store["x_A"])
    table = particle_table(store, np.array([0, 2]), tmp_path, series(tmp_path))
    assert table[XYZ].to_numpy().tolist() == [[1, 1, 1], [48, 88, 128]]


def test_real_volume_series(shared):
    data = shared / "data" / "tomodrgn-tests"
    particles = read_particles(data / "10076_both_32_sim.star", datadir=data).particles
    found = positions_from_volume_series(data / "10076_both_32_sim_vols.star", particles["source_id"])
    # The first row of the file: 13.1 Å times these coordinates.
    np.testing.assert_allclose(found.loc[0] / 13.1, [404.705857, 296.892926, 191.610693], atol=1e-5)
    assert particles["x_A"].isna().all() and found.notna().all(axis=None)


def test_optimisation_set_as_volume_series_agrees_with_its_own_reader(shared):
    data = shared / "data" / "tomodrgn-tests"
    star = data / "warptools_test_4-tomos_10-ptcls_box-32_angpix-12_optimisation_set.star"
    particles = read_particles(star, datadir=data).particles
    found = positions_from_volume_series(star, particles["source_id"])
    np.testing.assert_allclose(found, particles[XYZ], atol=1e-6)


@pytest.fixture
def a_set(tmp_path):
    """The small optimisation set: 6 particles in pixels of 8 Å, tomograms of 200 x 210 x 220 px of 2 Å."""
    return optimisation_set_blocks(np.random.default_rng(5))


def set_with(folder, a_set, columns, drop=()):
    blocks, tomograms = a_set
    table = blocks["particles"].assign(**columns).drop(columns=list(drop))
    return write_optimisation_set(folder, blocks | {"particles": table}, tomograms)


def test_map_back_places_particles_of_a_set_where_its_reader_does(tmp_path, a_set):
    """Binned, unbinned and centred coordinates less the origin; of the set and of its particles alone."""
    table = a_set[0]["particles"]
    plain = table[[f"rlnCoordinate{axis}" for axis in "XYZ"]].to_numpy() * 8
    half = np.array([200, 210, 220]) * 2 / 2
    centred = {f"rlnCenteredCoordinate{a}Angst": plain[:, i] - half[i] for i, a in enumerate("XYZ")}
    unbinned = {f"rlnCoordinate{axis}": plain[:, i] / 2 for i, axis in enumerate("XYZ")}
    origin = table[[f"rlnOrigin{axis}Angst" for axis in "XYZ"]].to_numpy()
    for columns, drop in (({}, []), (unbinned, []), (centred, [f"rlnCoordinate{a}" for a in "XYZ"])):
        star = set_with(tmp_path, a_set, columns, drop)
        np.testing.assert_allclose(read_placements(star)[XYZ], plain - origin, atol=1e-9)
        np.testing.assert_allclose(
            read_placements(tmp_path / "particles.star")[XYZ], plain - origin, atol=1e-9
        )
        particles = read_particles(star).particles
        found = positions_from_volume_series(star, particles["source_id"])
        np.testing.assert_allclose(found, particles[XYZ], atol=1e-9)
        np.testing.assert_allclose(found, plain, atol=1e-9)


def test_subtomogram_angles_turn_pose_and_origin(tmp_path, a_set):
    """S = 170/60/-30 and A = 10/90/0 make 26.7/31.5/130.6; an origin (1, 2, 3) moves the particle by -S o."""
    angles = {
        f"rlnTomoSubtomogram{name}": value
        for name, value in zip(NAMES_OF_ANGLES, (170, 60, -30), strict=True)
    }
    angles |= {f"rlnAngle{name}": value for name, value in zip(NAMES_OF_ANGLES, (10, 90, 0), strict=True)}
    star = set_with(tmp_path, a_set, angles | {f"rlnOrigin{a}Angst": i + 1.0 for i, a in enumerate("XYZ")})
    placed = read_placements(star)
    np.testing.assert_allclose(
        placed.loc[0, ["rot_deg", "tilt_deg", "psi_deg"]].astype(float), [26.7, 31.5, 130.6], atol=0.05
    )
    rot, tilt, psi = np.radians([170, 60, -30])

    def about_z(angle):
        return np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])

    about_y = np.array([[np.cos(tilt), 0, -np.sin(tilt)], [0, 1, 0], [np.sin(tilt), 0, np.cos(tilt)]])
    moved = about_z(psi) @ about_y @ about_z(rot) @ [1, 2, 3]
    plain = a_set[0]["particles"][[f"rlnCoordinate{axis}" for axis in "XYZ"]].to_numpy() * 8
    np.testing.assert_allclose(placed[XYZ], plain - moved, atol=1e-9)


def test_refined_shifts_in_pixels_are_those_of_the_coordinates(tmp_path):
    angles = {f"rlnAngle{name}": 0.0 for name in NAMES_OF_ANGLES}
    star = series(tmp_path, rlnMicrographName="t", rlnOriginX=1.5, rlnOriginZAngst=2.0, **angles)
    placed = read_placements(star)
    assert placed.loc[0, XYZ].tolist() == [(10 - 1.5) * 4, 20 * 4, 30 * 4 - 2]
    assert read_placements(star, pixel_size_A=2.0).loc[0, XYZ].tolist() == [
        (10 - 1.5) * 2,
        20 * 2,
        30 * 2 - 2,
    ]


def test_a_set_of_one_particle_as_pairs(tmp_path, a_set):
    blocks, tomograms = a_set
    one = blocks["particles"].iloc[[0]]
    star = write_optimisation_set(tmp_path, blocks | {"particles": one}, tomograms)
    expected = read_placements(star)
    pairs = {"optics": blocks["optics"].iloc[0].to_dict(), "particles": one.iloc[0].to_dict()}
    write_text_star(tmp_path / "particles.star", blocks | pairs)
    pd.testing.assert_frame_equal(read_placements(star), expected)


def test_a_set_that_names_itself_is_told_in_one_line(tmp_path):
    names = {"rlnTomoParticlesFile": "s.star", "rlnTomoTomogramsFile": "t.star"}
    write_star(tmp_path / "s.star", {"": names})
    for read in (read_placements, lambda star: positions_from_volume_series(star, NAMES)):
        with pytest.raises(InputError, match="s.star, which is an optimisation set, expected a file"):
            read(tmp_path / "s.star")


@pytest.mark.parametrize("value", ["nan", "9e30", "inf"])
def test_impossible_coordinates_are_told_in_one_line(tmp_path, a_set, value):
    message = "row 2: found (`nan`|`inf`|a particle at .*expected a position in a tomogram)"
    star = series(tmp_path, rlnCoordinateX=["1", value, "3"], rlnMicrographName="t")
    with pytest.raises(InputError, match=message):
        positions_from_volume_series(star, NAMES)
    bad = a_set[0]["particles"]["rlnCoordinateX"].astype(object)
    bad.iloc[1] = value
    star = set_with(tmp_path, a_set, {"rlnCoordinateX": bad})
    for read in (read_placements, read_particles):
        with pytest.raises(InputError, match=message):
            read(star)


def test_names_that_are_unique_only_within_a_tomogram(tmp_path):
    star = series(tmp_path, rlnGroupName=["1", "2", "1"], rlnMicrographName=["a", "a", "b"])
    assert positions_from_volume_series(star, ["b/1", "a/1"])["x_A"].tolist() == [48, 40]
