"""Particles back in their tomograms: placements from STAR files, ChimeraX scenes, subtomo2chimerax."""

import re

import analysis_fakes as fakes
import numpy as np
import pandas as pd
import pytest

from tomohet.commands import subtomo2chimerax
from tomohet.errors import InputError
from tomohet.files.atomic import write_parquet, write_pickle
from tomohet.files.mrc import write_volume
from tomohet.files.star import write_star
from tomohet.mapback import placements, scene, shapes
from tomohet.mapback.labels import Labels, labels_of


def series(folder, n=6, **columns):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "rlnMicrographName": [f"TS_{i % 2}" for i in range(n)],
            "rlnPixelSize": 5.0,
            **{f"rlnCoordinate{axis}": rng.uniform(10, 400, n) for axis in "XYZ"},
            **{f"rlnAngle{name}": rng.uniform(0, 180, n) for name in ("Rot", "Tilt", "Psi")},
            **columns,
        }
    )
    write_star(folder / "volumes.star", {"": table})
    return folder / "volumes.star", table


def scene_matrices(text):
    found = re.findall(r"view matrix models #\d+,(\S+)", text)
    return np.array([[float(value) for value in one.split(",")] for one in found]).reshape(-1, 3, 4)


def test_coordinates_are_scaled_and_origins_taken_off(tmp_path):
    star, table = series(tmp_path, rlnOriginXAngst=7.0)
    placed = placements.read_placements(star)
    np.testing.assert_allclose(placed["x_A"], table["rlnCoordinateX"] * 5 - 7, atol=1e-3)
    np.testing.assert_allclose(placed["y_A"], table["rlnCoordinateY"] * 5, atol=1e-3)
    other = placements.read_placements(star, pixel_size_A=2.0)
    np.testing.assert_allclose(other["z_A"], table["rlnCoordinateZ"] * 2, atol=1e-3)


def test_origins_in_pixels_are_pixels_of_the_coordinates(tmp_path):
    """With 5 Å pixels, a shift of 1.5 px is 7.5 Å; a column in Å takes precedence."""
    star, table = series(tmp_path, rlnOriginX=1.5, rlnOriginZ=9.0, rlnOriginZAngst=-4.0)
    placed = placements.read_placements(star)
    np.testing.assert_allclose(placed["x_A"], table["rlnCoordinateX"] * 5 - 7.5, atol=1e-3)
    np.testing.assert_allclose(placed["y_A"], table["rlnCoordinateY"] * 5, atol=1e-3)
    np.testing.assert_allclose(placed["z_A"], table["rlnCoordinateZ"] * 5 + 4, atol=1e-3)
    other = placements.read_placements(star, pixel_size_A=2.0)
    np.testing.assert_allclose(other["x_A"], table["rlnCoordinateX"] * 2 - 3, atol=1e-3)


def test_warp_coordinates_of_the_first_temporal_sample(tmp_path):
    table = pd.DataFrame({"wrpSourceName": ["a", "b"]})
    for sample in (1, 2):
        for axis in "XYZ":
            table[f"wrpCoordinate{axis}{sample}"] = [10.0 * sample, 20.0 * sample]
        for name in ("Rot", "Tilt", "Psi"):
            table[f"wrpAngle{name}{sample}"] = [1.0, 2.0]
    write_star(tmp_path / "m.star", {"particles": table})
    assert placements.read_placements(tmp_path / "m.star")["x_A"].tolist() == [10, 20]


def test_missing_pixel_size_and_columns_are_named(tmp_path):
    _, table = series(tmp_path)
    write_star(tmp_path / "bare.star", {"": table.drop(columns="rlnPixelSize")})
    with pytest.raises(InputError, match="--star-angpix-override"):
        placements.read_placements(tmp_path / "bare.star")
    with pytest.raises(InputError, match="rlnTomoManifoldIndex"):
        placements.read_placements(tmp_path / "volumes.star", "_rlnTomoManifoldIndex")


def test_map_centre_lands_on_the_coordinate_and_features_turn_with_it(tmp_path):
    placed = placements.read_placements(series(tmp_path)[0])
    matrices = scene.model_matrices(placed, 32, 4.0)
    position = placed[["x_A", "y_A", "z_A"]].to_numpy()
    centre, feature = np.full(3, 16 * 4.0), np.array([16 * 4.0, 16 * 4.0, 26 * 4.0])
    np.testing.assert_allclose(matrices[:, :, :3] @ centre + matrices[:, :, 3], position, atol=1e-9)
    moved = matrices[:, :, :3] @ feature + matrices[:, :, 3] - position
    tilt, psi = np.deg2rad(placed["tilt_deg"]), np.deg2rad(placed["psi_deg"])
    # The map's z axis, 40 Å long, tilted and then turned by psi.
    expected = 40 * np.stack([-np.sin(tilt) * np.cos(psi), np.sin(tilt) * np.sin(psi), np.cos(tilt)], axis=1)
    np.testing.assert_allclose(moved, expected, atol=1e-9)


def test_written_matrices_are_still_rotations(tmp_path):
    placed = placements.read_placements(series(tmp_path)[0])
    matrices = scene.model_matrices(placed, 32, 4.0)
    labels = labels_of(pd.Series(np.zeros(6, int)))
    written = scene_matrices(scene.map_scene(["m.mrc"] * 6, matrices, labels, 0.5))
    product = written[:, :, :3] @ written[:, :, :3].transpose(0, 2, 1)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(3), product.shape), atol=5e-6)


def test_labels_of_any_value_have_their_own_colour():
    labels = pd.Series([7, -1, 7, 100])
    known = labels_of(labels)
    assert known.names == ["-1", "7", "100"] and known.code.tolist() == [1, 0, 1, 2]
    assert len(set(known.colors)) == 3
    assert labels_of(labels, "viridis").colors[0] == "#440154"
    with pytest.raises(InputError, match="no such map"):
        labels_of(labels, "rainbow2")


def test_numbers_are_cut_into_intervals_of_equally_many_and_unknown_ones_are_grey():
    values = pd.Series(np.r_[np.linspace(0, 1, 100), np.nan], name="maven_A")
    known = labels_of(values)
    assert np.bincount(known.code).tolist() == [10] * 10 + [1]
    assert (
        known.names[-1] == "unknown" and known.names[3].startswith("0.3 to") and len(set(known.colors)) == 11
    )
    with pytest.raises(InputError, match="column 'name': found 40 different texts, expected at most 24"):
        labels_of(pd.Series([f"p{i}" for i in range(40)], name="name"))


def marked(path):
    """Centres (n, 3) and the colour of the first marker of a .cmm file."""
    found = re.findall(r'x="(\S+)" y="(\S+)" z="(\S+)" r="(\S+)" g="(\S+)" b="(\S+)"', path.read_text())
    values = np.array(found, float)
    return values[:, :3], values[0, 3:]


def test_markers_of_each_tomogram(tmp_path):
    star, table = series(tmp_path)
    write_pickle(tmp_path / "labels.pkl", [3.0, 3, 5, 3, 3, 5])
    fakes.run("subtomo2chimerax", star, "-o", tmp_path / "out", "--coloring-labels", tmp_path / "labels.pkl")
    scenes = sorted(p.name for p in (tmp_path / "out").glob("tomo_*"))
    assert scenes == ["tomo_TS_0", "tomo_TS_1"]
    folder = tmp_path / "out" / "tomo_TS_1"
    centres, color = marked(folder / "label_0.cmm")
    np.testing.assert_allclose(centres[:, 0], table["rlnCoordinateX"][[1, 3]] * 5, atol=1e-3)
    np.testing.assert_allclose(color, [0, 0x72 / 255, 0xB2 / 255], atol=1e-3)
    assert len(marked(folder / "label_1.cmm")[0]) == 1
    text = (folder / "mapback.cxc").read_text()
    assert 'open "label_0.cmm" id 1' in text and 'open "label_1.bild" id 4' in text
    assert "3\t#0072B2\t2\t#1" in (folder / "rgba_labels.txt").read_text()


def test_arrows_point_along_the_z_axis_of_the_map(tmp_path):
    star, _ = series(tmp_path)
    fakes.run("subtomo2chimerax", star, "-o", tmp_path / "out", "--marker-radius-angstrom", "40")
    placed = placements.read_placements(star)
    here = placed[placed["tomogram"] == "TS_0"]
    lines = (tmp_path / "out" / "tomo_TS_0" / "label_0.bild").read_text().splitlines()
    ends = np.array([line.split()[1:7] for line in lines if line.startswith(".arrow")], float)
    np.testing.assert_allclose(ends[:, :3], here[["x_A", "y_A", "z_A"]], atol=1e-3)
    along = (scene.model_matrices(here, 32, 4.0)[:, :, :3] @ [0, 0, 1.0]) * 40 * shapes.ARROW
    np.testing.assert_allclose(ends[:, 3:] - ends[:, :3], along, atol=2e-3)


def test_the_legend_numbers_the_models_of_each_label():
    """A model for each particle, or for each label that is there, from 1."""
    labels = Labels(np.array([2, 0, 2, 2]), ["a", "b", "c"], ["#aa0000", "#00bb00", "#0000cc"])
    of_particles = ["a\t#aa0000\t1\t#2", "c\t#0000cc\t3\t#1,3,4"]
    of_labels = ["a\t#aa0000\t1\t#1", "c\t#0000cc\t3\t#2"]
    for by_label, expected in ((False, of_particles), (True, of_labels)):
        assert scene.legend(labels, by_label).splitlines()[1:] == expected


def test_a_tomogram_without_a_size_is_named_with_its_row(tmp_path, monkeypatch):
    star, _ = series(tmp_path)
    positions = np.zeros((6, 3))
    positions[3, 2] = np.nan
    monkeypatch.setattr(placements, "positions_A", lambda *_: positions)
    with pytest.raises(InputError, match="row 4: tomogram TS_1 has no size"):
        placements.read_placements(star)


def test_normals_of_placed_triangles_are_turned_with_them():
    """A triangle of normal z and one of normal x, as they are and turned by 90 degrees about x: z is -y."""
    triangles = np.array([[[1.0, 1, 5], [4, 1, 5], [1, 3, 5]], [[2.0, 0, 0], [2, 3, 0], [2, 0, 7]]])
    turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    matrices = np.stack([np.column_stack([rotation, [7.0, 8, 9]]) for rotation in (np.eye(3), turn)])
    content = shapes.placed_surfaces(triangles, matrices)
    written = np.frombuffer(content[84:], shapes.STL_TRIANGLE)
    expected = [[0, 0, 1], [1, 0, 0], [0, -1, 0], [1, 0, 0]]
    np.testing.assert_allclose(written["normal"], expected, atol=1e-6)


def test_a_thousand_particles_take_few_commands(tmp_path):
    star, _ = series(tmp_path, n=1000)
    write_pickle(tmp_path / "labels.pkl", np.arange(1000) % 5)
    for mode, most in (("markers", 31), ("volume", 16)):
        volume = np.zeros((16, 16, 16), np.float32)
        volume[6:10, 6:10, 6:10] = 1
        write_volume(tmp_path / "map.mrc", volume, 4.0)
        options = ("--mode", mode, "--vol-path", tmp_path / "map.mrc")
        labels = ("--coloring-labels", tmp_path / "labels.pkl")
        fakes.run("subtomo2chimerax", star, "-o", tmp_path / mode, *options, *labels)
        scenes = [path.read_text().splitlines() for path in (tmp_path / mode).glob("tomo_*/mapback.cxc")]
        assert [len(text) for text in scenes] == [most, most]


def test_the_surface_of_a_map_lies_where_its_voxels_do(tmp_path):
    star, _ = series(tmp_path)
    volume = np.zeros((16, 16, 16), np.float32)
    volume[8, 8, 11:14] = 1  # a rod along x, from the centre's right
    write_volume(tmp_path / "map.mrc", volume, 4.0)
    options = ("--mode", "volume", "--vol-path", tmp_path / "map.mrc", "--vol-render-level", "0.5")
    fakes.run("subtomo2chimerax", star, "-o", tmp_path / "out", *options)
    content = (tmp_path / "out" / "tomo_TS_1" / "label_0.stl").read_bytes()
    count = int(np.frombuffer(content[80:84], np.uint32)[0])
    triangles = np.frombuffer(content[84:], shapes.STL_TRIANGLE)
    assert len(triangles) == count and count % 3 == 0
    placed = placements.read_placements(star)
    here = placed[placed["tomogram"] == "TS_1"]
    middle = triangles["corners"].reshape(3, -1, 3).mean(axis=1)
    rod = scene.model_matrices(here, 16, 4.0) @ np.array([12 * 4.0, 8 * 4.0, 8 * 4.0, 1])
    np.testing.assert_allclose(middle, rod, atol=0.5)
    with pytest.raises(InputError, match="the map's values are 0 to 1, expected a level between them"):
        fakes.run("subtomo2chimerax", star, "-o", tmp_path / "out", *options[:-1], "2")


def test_a_table_names_the_particles_and_their_labels(tmp_path):
    star, table = series(tmp_path, rlnGroupName=[f"p{i}" for i in range(6)])
    known = pd.DataFrame({"particle": [0, 2, 5], "source_id": ["p4", "p1", "p3"], "state": ["b", "a", "b"]})
    write_parquet(tmp_path / "table.parquet", known)
    options = ("--table", tmp_path / "table.parquet", "--color-by", "state")
    fakes.run("subtomo2chimerax", star, "-o", tmp_path / "out", *options)
    folder = tmp_path / "out" / "tomo_TS_1"
    np.testing.assert_allclose(
        marked(folder / "label_0.cmm")[0][:, 0], table["rlnCoordinateX"][[1]] * 5, atol=1e-3
    )
    assert (folder / "rgba_labels.txt").read_text().splitlines()[1].startswith("a\t")
    assert not (tmp_path / "out" / "tomo_TS_0" / "label_0.cmm").exists()
    with pytest.raises(InputError, match="--color-by stat: .* did you mean 'state'"):
        fakes.run("subtomo2chimerax", star, "-o", tmp_path / "out", *options[:-1], "stat")
    write_parquet(tmp_path / "table.parquet", known.assign(source_id=["p4", "p1", "p9"]))
    with pytest.raises(InputError, match="lacks 1 of 3 particles of .* `p9`"):
        fakes.run("subtomo2chimerax", star, "-o", tmp_path / "out", *options)


def test_coordinates_of_relion_give_the_same_places(tmp_path):
    star, _ = series(tmp_path, rlnOriginXAngst=7.0)
    fakes.run("subtomo2chimerax", star, "-o", tmp_path / "out")
    own = placements.read_placements(star)
    written = placements.read_placements(tmp_path / "out" / "coordinates.star")
    pd.testing.assert_frame_equal(written.iloc[:, 1:4], own.iloc[:, 1:4], atol=1e-3)
    np.testing.assert_allclose(scene.rotations(written), scene.rotations(own), atol=1e-5)
    one = placements.read_placements(tmp_path / "out" / "tomo_TS_1" / "coordinates.star")
    assert one["tomogram"].tolist() == ["TS_1"] * 3


def test_own_volumes_are_those_of_the_particle_in_every_tomogram(tmp_path, monkeypatch):
    star, _ = series(tmp_path)
    z = np.arange(6, dtype=np.float32)[:, None]
    write_pickle(tmp_path / "z.pkl", z)
    written = {}
    monkeypatch.setattr(subtomo2chimerax, "load_model", lambda *_: None)

    def fake_volumes(_, points, folder, **__):
        written[folder.name] = points.ravel().tolist()
        for number in range(len(points)):
            write_volume(folder / f"vol_{number:03d}.mrc", np.zeros((8, 8, 8)), 4.0)

    monkeypatch.setattr(subtomo2chimerax, "write_volumes", fake_volumes)
    write_pickle(tmp_path / "ind.pkl", np.array([5, 0, 3, 2]))
    for name in ("w.pkl", "c.pkl"):
        write_pickle(tmp_path / name, 0)
    model = ("--weights", tmp_path / "w.pkl", "--config", tmp_path / "c.pkl", "--zfile", tmp_path / "z.pkl")
    options = ("--mode", "volumes", *model, "--ind", tmp_path / "ind.pkl")
    fakes.run("subtomo2chimerax", star, "-o", tmp_path / "out", *options)
    assert written == {"tomo_TS_0": [0, 2], "tomo_TS_1": [5, 3]}
    placed = placements.read_placements(star)
    text = (tmp_path / "out" / "tomo_TS_1" / "mapback.cxc").read_text()
    expected = scene.model_matrices(placed.iloc[[5, 3]], 8, 4.0)
    np.testing.assert_allclose(scene_matrices(text), expected, atol=1e-6)
    before = dict(written)
    fakes.run("subtomo2chimerax", star, "-o", tmp_path / "out", *options, "--skip-vol")
    assert written == before
    write_pickle(tmp_path / "ind.pkl", np.array([5, 0, 2]))
    with pytest.raises(InputError, match="2 volumes of an earlier run, expected 1, one for each particle"):
        fakes.run("subtomo2chimerax", star, "-o", tmp_path / "out", *options, "--skip-vol")


def test_mistakes_are_named(tmp_path):
    star, _ = series(tmp_path)
    write_pickle(tmp_path / "z.pkl", np.zeros(4))
    with pytest.raises(InputError, match="TS_9"):
        fakes.run("subtomo2chimerax", star, "-o", tmp_path, "--tomoname", "TS_9")
    with pytest.raises(InputError, match="4 rows, expected 6"):
        fakes.run("subtomo2chimerax", star, "-o", tmp_path, "--coloring-labels", tmp_path / "z.pkl")
    with pytest.raises(InputError, match="--vol-path"):
        fakes.run("subtomo2chimerax", star, "-o", tmp_path, "--mode", "volume")
    with pytest.raises(InputError, match="--weights"):
        fakes.run("subtomo2chimerax", star, "-o", tmp_path, "--mode", "volumes")


@pytest.mark.parametrize(
    "name, particles, tomograms",
    [
        ("10076_both_32_sim_vols.star", 144, None),
        ("warptools_test_4-tomos_10-ptcls_box-32_angpix-12_optimisation_set.star", 40, 4),
    ],
)
def test_real_files(shared, tmp_path, name, particles, tomograms):
    data = shared / "data" / "tomodrgn-tests"
    options = ("--mode", "markers")
    fakes.run("subtomo2chimerax", data / name, "-o", tmp_path, *options)
    assert tomograms is None or len(list(tmp_path.glob("tomo_*/mapback.cxc"))) == tomograms
    assert len(placements.read_placements(tmp_path / "coordinates.star")) == particles
