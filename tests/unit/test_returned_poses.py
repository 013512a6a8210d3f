"""`prepare --poses-from`: poses come back from another program, by the identity of tilt images."""

import json

import numpy as np
import pytest
from in_process import run_here
from particle_files import (
    N_PARTICLES,
    N_TILTS,
    PIXEL_SIZE_A,
    optimisation_set_blocks,
    write_image_series,
    write_optimisation_set,
    write_stack,
    write_text_star,
)
from scipy.spatial.transform import Rotation

from tomohet.files.atomic import write_pickle
from tomohet.particles.dialects import read_particles
from tomohet.particles.store import open_store

TURN_DEG, MOVE_PX = 5.0, 1.5
MOVED = np.array([0, 3])  # particles whose poses the other program has changed


@pytest.fixture
def series(tmp_path):
    """An image series, and the table of it."""
    return write_image_series(tmp_path / "input")


def refined(table):
    """The table with another psi and another shift of some particles, its rows in another order."""
    rows = np.isin(np.repeat(np.arange(N_PARTICLES), N_TILTS), MOVED)
    table = table.copy()
    table.loc[rows, "rlnAnglePsi"] += TURN_DEG
    table.loc[table["rlnAnglePsi"] > 180, "rlnAnglePsi"] -= 360
    table.loc[rows, "rlnOriginX"] += MOVE_PX
    return table.sample(frac=1, random_state=1)


def given_back(folder, table):
    """The table in another folder, with absolute names of the stacks, and a column more."""
    names = table["rlnImageName"].str.split("@", expand=True)
    stacks = (folder.parent / "input").resolve().as_posix() + "/" + names[1]
    return write_text_star(
        folder / "back.star", {"": table.assign(rlnImageName=names[0] + "@" + stacks, rlnNovel=1)}
    )


def prepared(star, folder, *options):
    done = run_here("prepare", star, "-o", folder, *options)
    assert done.returncode == 0, done.stderr
    return open_store(folder)


def refusal(star, folder, *options):
    done = run_here("prepare", star, "-o", folder, *options)
    assert done.returncode != 0
    return done.stderr


def turned_deg(one, other):
    """Angles (m,) between the poses of two stores."""
    turn = Rotation.from_matrix(one.rotations()).inv() * Rotation.from_matrix(other.rotations())
    return np.degrees(turn.magnitude())


def test_changed_poses_are_taken_whatever_the_order_of_rows(series, tmp_path):
    star, table = series
    back = given_back(tmp_path / "job", refined(table))
    posed = prepared(star, tmp_path / "posed", "--poses-from", back)
    own = prepared(star, tmp_path / "stated")
    moved = np.isin(posed.images["particle"], MOVED)
    turned = turned_deg(own, posed)
    np.testing.assert_allclose(turned[moved], TURN_DEG, atol=1e-3)
    assert turned[~moved].max() < 1e-3
    shift = (posed.images["shift_x_px"] - own.images["shift_x_px"]).to_numpy()
    np.testing.assert_allclose(np.abs(shift), MOVE_PX * moved, atol=1e-6)
    assert list(posed.particles["source_id"]) == list(own.particles["source_id"])
    told = json.loads((tmp_path / "posed" / "poses_from.json").read_text())
    assert (told["n_particles"], told["n_changed"]) == (N_PARTICLES, len(MOVED))
    assert told["largest_rotation_deg"] == pytest.approx(TURN_DEG, abs=1e-3)
    assert told["median_shift_A"] == pytest.approx(MOVE_PX * PIXEL_SIZE_A, abs=1e-3)
    assert posed.description["digest"] != own.description["digest"]


def test_the_store_gets_what_the_returned_file_itself_would_give(series, tmp_path):
    star, table = series
    back = given_back(tmp_path / "job", refined(table))
    posed = prepared(star, tmp_path / "posed", "--poses-from", back)
    itself = prepared(back, tmp_path / "itself")
    by_name = {name: number for number, name in enumerate(itself.particles["source_id"])}
    for number, name in enumerate(posed.particles["source_id"]):
        one = np.flatnonzero(posed.images["particle"] == number)
        other = np.flatnonzero(itself.images["particle"] == by_name[name])
        np.testing.assert_allclose(posed.rotations()[one], itself.rotations()[other], atol=1e-6)
        np.testing.assert_allclose(posed.read(one), itself.read(other), atol=1e-5)


def test_a_part_of_the_particles_is_refused_unless_these_are_selected(series, tmp_path):
    star, table = series
    some = refined(table)
    some = some[some["rlnGroupName"].str.contains("_000[0-3]$")]
    back = given_back(tmp_path / "job", some)
    said = refusal(star, tmp_path / "posed", "--poses-from", back)
    assert "2 of 6 particles to prepare are not in it" in said and "--ind-ptcls" in said
    write_pickle(tmp_path / "some.pkl", np.arange(4))
    store = prepared(star, tmp_path / "posed", "--poses-from", back, "--ind-ptcls", tmp_path / "some.pkl")
    assert sorted(store.images["particle"].unique()) == [0, 1, 2, 3]


def test_particles_that_the_input_lacks_are_refused(series, tmp_path):
    star, table = series
    fewer = write_text_star(star.parent / "fewer.star", {"": table.iloc[: 4 * N_TILTS]})
    back = given_back(tmp_path / "job", refined(table))
    said = refusal(fewer, tmp_path / "posed", "--poses-from", back)
    assert "2 of its 6 particles are not in" in said and "fewer.star" in said


def test_a_missing_tilt_image_is_refused(series, tmp_path):
    star, table = series
    back = given_back(tmp_path / "job", refined(table).iloc[1:])
    assert "(1 images)" in refusal(star, tmp_path / "posed", "--poses-from", back)


def test_another_exposure_under_the_same_image_is_refused(series, tmp_path):
    star, table = series
    other = table.copy()
    other.loc[3, "rlnCtfBfactor"] -= 40
    back = given_back(tmp_path / "job", other)
    assert "has a dose of" in refusal(star, tmp_path / "posed", "--poses-from", back)


def other_stacks(folder, table):
    """The same particles in stacks of other names."""
    rng = np.random.default_rng(3)
    for number in (0, 1):
        depth = int(table["rlnImageName"].str.endswith(f"TS_{number}.mrcs").sum())
        write_stack(folder / f"stacks/new_{number}.mrcs", rng.normal(size=(depth, 16, 16)).astype(np.float32))
    names = table["rlnImageName"].str.replace("TS_", "new_", regex=False)
    return write_text_star(folder / "again.star", {"": table.assign(rlnImageName=names)})


def test_images_extracted_again_at_unknown_places_are_refused(series, tmp_path):
    star, table = series
    back = other_stacks(tmp_path / "job", refined(table))
    assert "no coordinates tell" in refusal(star, tmp_path / "posed", "--poses-from", back)


def test_images_extracted_again_at_the_same_places_are_recognised_by_name(series, tmp_path):
    _, table = series
    places = {f"rlnCoordinate{axis}": 10.0 + table.index // N_TILTS for axis in "XYZ"}
    placed = table.assign(**places)
    star = write_text_star(tmp_path / "input" / "placed.star", {"": placed})
    store = prepared(star, tmp_path / "posed", "--poses-from", other_stacks(tmp_path / "a", refined(placed)))
    assert json.loads((store.folder / "poses_from.json").read_text())["n_changed"] == len(MOVED)
    moved = refined(placed)
    moved.loc[moved["rlnGroupName"] == "TS_1_0003", "rlnCoordinateZ"] += 5
    said = refusal(star, tmp_path / "moved", "--poses-from", other_stacks(tmp_path / "b", moved))
    assert "the coordinates of 1 particles differ" in said and "by 40.0 Å (`TS_1_0003`)" in said


def test_poses_of_an_optimisation_set_come_back(tmp_path):
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(0))
    star = write_optimisation_set(tmp_path / "set", blocks, tomograms)
    table = blocks["particles"].copy()
    table.loc[2, "rlnAnglePsi"] += 7
    table.loc[4, "rlnOriginZAngst"] += 6
    write_text_star(star.parent / "run_data.star", blocks | {"particles": table.iloc[::-1]})
    back = star.parent / "run_optimisation_set.star"
    back.write_text(star.read_text().replace("particles.star", "run_data.star"))
    posed = prepared(star, tmp_path / "posed", "--poses-from", back)
    own = prepared(star, tmp_path / "stated")
    turned = turned_deg(own, posed)
    of_one = posed.images["particle"].to_numpy() == 2
    np.testing.assert_allclose(turned[of_one], 7, atol=1e-3)
    assert turned[~of_one].max() < 1e-3
    told = json.loads((posed.folder / "poses_from.json").read_text())
    assert told["n_changed"] == 2 and 3 < told["largest_shift_A"] <= 6


def test_the_returned_file_is_exported_by_the_numbers_of_the_input(series, tmp_path):
    star, table = series
    back = given_back(tmp_path / "job", refined(table))
    write_pickle(tmp_path / "some.pkl", np.array([1, 4]))
    out = tmp_path / "out.star"
    done = run_here("filter_star", back, "--particles", star, "--ind", tmp_path / "some.pkl", "-o", out)
    assert done.returncode == 0, done.stderr
    names = read_particles(star).particles["source_id"].iloc[[1, 4]]
    chosen = read_particles(out)
    assert set(chosen.particles["source_id"]) == set(names) and len(chosen.images) == 2 * N_TILTS
