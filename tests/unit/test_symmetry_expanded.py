"""Symmetry-expanded files: they are recognised, need confirmation, and their copies stay together."""

import pickle
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from particle_files import (
    image_table,
    optimisation_set_blocks,
    write_image_series,
    write_optimisation_set,
    write_text_star,
)
from scipy.spatial.transform import Rotation

from tomohet.errors import InputError
from tomohet.particles.copies import one_of_each, sources
from tomohet.particles.dialects import read_particles
from tomohet.particles.positions import positions_from_volume_series
from tomohet.physics.geometry import euler_to_matrix, matrix_to_euler
from tomohet.physics.point_groups import point_group
from tomohet.preflight.checks import validate
from tomohet.reconstruction.half_sets import half_of_images
from tomohet.training.splits import TiltSplit

ANGLES = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
N, TILTS = 6, 5


def rotations_of(name: str) -> np.ndarray:
    return Rotation.create_group(name).as_matrix()


def turned(table: pd.DataFrame, by: np.ndarray) -> pd.DataFrame:
    """The rows with the poses R S of rotations S (3, 3) or (n, 3, 3) of the reference."""
    angles = matrix_to_euler(euler_to_matrix(*table[ANGLES].to_numpy(float).T) @ by)
    return table.assign(**dict(zip(ANGLES, angles.round(5).T, strict=True)))


def expanded(table: pd.DataFrame, group: np.ndarray) -> pd.DataFrame:
    """Every row, and behind it its copies, as relion_particle_symmetry_expand writes them."""
    copies = pd.concat([turned(table, element) for element in group])
    return copies.sort_index(kind="stable").reset_index(drop=True)


def with_one_pose_a_particle(table: pd.DataFrame) -> pd.DataFrame:
    """Poses of tilt images as a tilt series has them: the particle's, turned about y."""
    rng = np.random.default_rng(5)
    pose = Rotation.random(N, random_state=rng).as_matrix()[np.repeat(np.arange(N), TILTS)]
    tilt = Rotation.from_rotvec(
        np.outer(np.tile(np.linspace(-24, 24, TILTS), N), [0, 1, 0]), degrees=True
    ).as_matrix()
    angles = matrix_to_euler(tilt @ pose)
    return table.assign(**dict(zip(ANGLES, angles.T, strict=True)))


@pytest.fixture
def series(tmp_path):
    """Writes an edited image series of 6 particles with 5 tilts."""

    def write(edit):
        star, table = write_image_series(tmp_path)
        return write_text_star(star, {"": edit(with_one_pose_a_particle(table))})

    return write


@pytest.mark.parametrize(
    ("group", "name", "said"),
    [
        ("C2", "C2", "occurs 2 times, with poses 180 degrees apart about one axis"),
        ("C4", "C4", "occurs 4 times, with poses 90 degrees apart about one axis"),
        ("C7", "C7", "occurs 7 times, with poses 51.43 degrees apart about one axis"),
        ("D2", "D2", "occurs 4 times, with poses related by the 4 rotations of D2"),
        ("D5", "D5", "the 10 rotations of D5"),
        ("T", "T", "the 12 rotations of T"),
        ("O", "O", "the 24 rotations of O"),
        ("I", "I", "the 60 rotations of I"),
    ],
)
def test_an_expanded_series_is_recognised_and_asked_about(series, group, name, said):
    star = series(lambda table: expanded(table, rotations_of(group)))
    with pytest.raises(InputError) as asked:
        read_particles(star)
    text = str(asked.value)
    assert f"each of 6 particles {said}" in text or said in text
    assert f"a symmetry-expanded file ({name})" in text and "\n" not in text
    assert "--symmetry-expanded" in text and "prepare: {symmetry_expanded: true}" in text
    read = read_particles(star, expanded=True)
    order = len(rotations_of(group))
    assert len(read.particles) == N * order and read.n_input["particles"] == N * order
    assert (sources(read.particles) == np.repeat(np.arange(N) * order, order)).all()
    assert read.particles["source_id"].is_unique
    assert (read.images.groupby("particle").size() == TILTS).all()


def test_copies_have_the_poses_of_the_file_and_the_images_of_their_source(series):
    group = rotations_of("C4")
    star = series(lambda table: expanded(table, group))
    plain = with_one_pose_a_particle(image_table(np.random.default_rng(0)))
    read = read_particles(star, expanded=True)
    for particle in range(4 * N):
        mine = read.images[read.images["particle"] == particle]
        source = read.images[read.images["particle"] == particle // 4 * 4]
        assert (mine[["stack", "section", "tilt"]].to_numpy() == source[["stack", "section", "tilt"]]).all(
            axis=None
        )
        first = plain[
            plain["rlnGroupName"]
            == sorted(plain["rlnGroupName"].unique(), key=lambda n: n[-4:])[particle // 4]
        ]
        expected = euler_to_matrix(*first[ANGLES].to_numpy(float).T) @ group[particle % 4]
        columns = [f"r{i}{j}" for i in range(3) for j in range(3)]
        np.testing.assert_allclose(mine[columns].to_numpy().reshape(-1, 3, 3), expected, atol=1e-5)


def test_poses_refined_since_and_copies_left_out_are_recognised(series):
    """Local refinement after the expansion turns every copy by some degrees; a selection drops some."""
    rng = np.random.default_rng(2)

    def edit(table):
        table = expanded(table, rotations_of("D2"))
        copy = table.groupby("rlnImageName").cumcount()
        number = pd.factorize(table["rlnGroupName"] + copy.astype(str))[0]
        small = Rotation.from_rotvec(rng.normal(0, np.radians(2), (number.max() + 1, 3))).as_matrix()
        left_out = (copy == 1) & (table["rlnGroupName"] == table["rlnGroupName"].iloc[0])
        return turned(table, small[number])[~left_out]

    star = series(edit)
    with pytest.raises(InputError, match=r"5 of 6 particles occur 4 times, none more than 4, .*\(D2\)"):
        read_particles(star)
    assert len(read_particles(star, expanded=True).particles) == 23


def test_an_expanded_set_is_recognised_and_asked_about(tmp_path):
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(0))
    rows = blocks["particles"]
    blocks["particles"] = expanded(rows, rotations_of("C3"))
    star = write_optimisation_set(tmp_path, blocks, tomograms)
    with pytest.raises(InputError, match=r"each of 6 particles occurs 3 times, .* 120 degrees .*\(C3\)"):
        read_particles(star)
    read = read_particles(star, expanded=True)
    assert (sources(read.particles) == np.repeat(np.arange(6) * 3, 3)).all()
    names = rows["rlnTomoParticleName"].iloc[0]
    assert read.particles["source_id"].tolist()[:3] == [names, f"{names}/copy2", f"{names}/copy3"]
    assert read.particles[["x_A", "y_A", "z_A"]].nunique().max() == 6
    by_name = positions_from_volume_series(tmp_path / "particles.star", read.particles["source_id"])
    np.testing.assert_allclose(by_name.iloc[::3], by_name.iloc[1::3])
    assert len(one_of_each(read).images) * 3 == len(read.images)


def test_copies_with_names_of_their_own(tmp_path):
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(0))
    other = turned(blocks["particles"], rotations_of("C2")[1])
    other["rlnTomoParticleName"] += "s"
    blocks["particles"] = pd.concat([blocks["particles"], other], ignore_index=True)
    read = read_particles(write_optimisation_set(tmp_path, blocks, tomograms), expanded=True)
    assert (sources(read.particles) == np.tile(np.arange(6), 2)).all()


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda t: pd.concat([t, t]), "rows 1, 31 (60 rows"),
        (lambda t: expanded(t, np.array([np.eye(3)] * 2 + [rotations_of("C2")[1]])), "rows 1, 2, 3 (90 rows"),
        (
            lambda t: pd.concat([t, t.assign(rlnAngleRot=t["rlnAngleRot"] - 60)]),
            "rows 1, 31 with different angles, which no point group relates",
        ),
        (
            lambda t: pd.concat([t, turned(t, Rotation.random(30, random_state=1).as_matrix())]),
            "with different angles, which differ otherwise in each tilt image",
        ),
        (
            lambda t: pd.concat([t, turned(t, rotations_of("C2")[1]).iloc[:-1]]),
            "(58 rows share their image",
        ),
    ],
    ids=["same rows", "same pose beside others", "no group", "other angles in each tilt", "a row is missing"],
)
def test_other_duplicates_stay_refused_whatever_is_said(series, edit, said):
    star = series(edit)
    for answer in (False, True):
        with pytest.raises(InputError, match=re.escape(said)) as refused:
            read_particles(star, expanded=answer)
        assert "duplicate" in str(refused.value)


def test_the_option_is_refused_where_nothing_is_expanded(series):
    with pytest.raises(InputError, match="--symmetry-expanded .*but no image occurs twice; leave it out"):
        read_particles(series(lambda table: table), expanded=True)


def test_a_group_needs_the_right_angles():
    assert point_group(rotations_of("C6")[1:]).name == "C6"
    assert point_group(Rotation.random(50, random_state=0).as_matrix()) is None
    assert point_group(Rotation.from_rotvec([[0, 0, 40], [0, 0, 80]], degrees=True).as_matrix()) is None


@pytest.fixture
def store(series):
    read = read_particles(series(lambda table: expanded(table, rotations_of("C2"))), expanded=True)
    offsets = np.searchsorted(read.images["particle"], np.arange(2 * N + 1))

    def images_of(particles):
        return np.concatenate([np.arange(offsets[p], offsets[p + 1]) for p in particles])

    return SimpleNamespace(
        folder="store", offsets=offsets, particles=read.particles, images=read.images, images_of=images_of
    )


def test_half_sets_keep_copies_together(store):
    everyone = np.arange(2 * N)
    _, half, how = half_of_images(store, everyone, "particle", np.random.default_rng(0))
    assert how == "the half sets of the input"
    assert (half.reshape(N, 2, TILTS) == half.reshape(N, 2, TILTS)[:, :1, :1]).all()
    store.particles["half"] = pd.array(np.tile([1, 2], N), dtype="Int8")
    for seed in range(4):
        _, half, how = half_of_images(store, everyone, "particle", np.random.default_rng(seed))
        assert how == "particles at random, copies together" and half.mean() == 0.5
        assert (half.reshape(N, 2, TILTS) == half.reshape(N, 2, TILTS)[:, :1, :1]).all()


def test_halves_and_splits_of_tilts_are_the_same_for_all_copies(store):
    everyone = np.arange(2 * N)
    half = half_of_images(store, everyone, "tilt", np.random.default_rng(0))[1].reshape(N, 2, TILTS)
    assert (half[:, 0] == half[:, 1]).all() and len(np.unique(half[:, 0], axis=0)) > 1
    split = TiltSplit.of_store(store, everyone, 0.6, True, 0)
    for part in (split.trained, split.judging, split.test):
        mask = part.reshape(N, 2, TILTS)
        assert mask.any() and (mask[:, 0] == mask[:, 1]).all()
    assert (split.trained.astype(int) + split.judging + split.test == 1).all()


def test_validate_says_so(series):
    star = series(lambda table: expanded(table, rotations_of("C4")))
    checks = {check.name: check for check in validate(read_particles(star, expanded=True))}
    assert "each of 6 particles occurs 4 times, with poses 90 degrees" in checks["symmetry"].message
    assert checks["half sets"].verdict == "pass"

    def torn(table):
        table = expanded(table, rotations_of("C2"))
        return table.assign(rlnRandomSubset=table.index % 2 + 1)

    checks = {check.name: check for check in validate(read_particles(series(torn), expanded=True))}
    assert checks["half sets"].verdict == "look" and "in both" in checks["half sets"].message


def test_commands_ask_and_export_the_rows_of_the_copies(series, tmp_path, run_script):
    star = series(lambda table: expanded(table, rotations_of("C4")))
    for name, *more in (("validate", "--no-images"), ("prepare",)):
        refused = run_script(name, star, "-o", tmp_path / name, *more, check=False)
        assert refused.returncode == 1 and "symmetry-expanded file (C4)" in refused.stderr
        run_script(name, star, "-o", tmp_path / name, "--symmetry-expanded", *more)
    table = pd.read_parquet(tmp_path / "prepare" / "particles.parquet")
    assert (table["copy_of"] == np.repeat(np.arange(N) * 4, 4)).all()
    chosen = np.array([1, 2, 3, 9, 20, 22])
    (tmp_path / "ind.pkl").write_bytes(pickle.dumps(chosen))
    run_script("filter_star", star, "--ind", tmp_path / "ind.pkl", "-o", tmp_path / "some.star")
    whole = read_particles(star, expanded=True)
    some = read_particles(tmp_path / "some.star", expanded=None)
    assert len(some.particles) == len(chosen)
    for number, particle in enumerate(chosen):
        ours = some.rotations()[some.images["particle"] == number]
        np.testing.assert_array_equal(ours, whole.rotations()[whole.images["particle"] == particle])


def test_volume_series_are_exported_copy_by_copy(series, tmp_path, run_script):
    star = series(lambda table: expanded(table, rotations_of("C2")))
    names = list(dict.fromkeys(image_table(np.random.default_rng(0))["rlnGroupName"]))
    rows = pd.DataFrame({"rlnTomoParticleName": names[::-1], "rlnMagnification": 10000.0})
    rows = rows.assign(**{f"rlnCoordinate{a}": np.arange(6.0) for a in "XYZ"}, **dict.fromkeys(ANGLES, 10.0))
    (tmp_path / "ind.pkl").write_bytes(pickle.dumps(np.array([0, 3])))
    once = write_text_star(tmp_path / "once.star", {"": rows})
    twice = write_text_star(tmp_path / "twice.star", {"": expanded(rows, rotations_of("C2"))})
    options = ("--particles", star, "--ind", tmp_path / "ind.pkl", "-o", tmp_path / "out.star")
    refused = run_script("filter_star", once, *options, check=False)
    assert refused.returncode == 1 and f"{names[0]}/copy2" in refused.stderr
    run_script("filter_star", twice, *options)
    lines = [line.split() for line in (tmp_path / "out.star").read_text().splitlines() if "TS_" in line]
    assert [(line[0], float(line[5])) for line in lines] == [(names[1], -170.0), (names[0], 10.0)]
