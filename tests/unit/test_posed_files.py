"""STAR files exported with refined poses: what is read from them, and that nothing else in them changes."""

import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from image_series_files import DIALECTS, write
from in_process import run_here
from particle_files import (
    optimisation_set_blocks,
    write_image_series,
    write_optimisation_set,
    write_stack,
    write_text_star,
)
from scipy.spatial.transform import Rotation

from tomohet.files.atomic import write_parquet, write_pickle
from tomohet.files.star import read_star, read_text_blocks
from tomohet.files.star_editing import decimals, extended
from tomohet.mapback.placements import read_placements
from tomohet.particles.dialects import read_particles
from tomohet.particles.refined_poses import POSE_COLUMNS, RefinedPoses, described
from tomohet.particles.same_input import file_digests
from tomohet.particles.store import open_store
from tomohet.particles.volume_series import poses_and_origins, read_volume_series
from tomohet.physics.geometry import corrected_poses, euler_to_matrix, matrix_to_euler

LISTED = np.array([1, 2, 4])
ANGLES = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
SETS = [
    "relion5_refine3d_cryocat/Refine3D/job074/run_optimisation_set.star",
    "relion41_tiltseries_3dem/Extract/job010/optimisation_set.star",
    "warptools_head_minus1/matching_optimisation_set.star",
    "warptools_head_plus1/matching_optimisation_set.star",
    "nextpyp_format/restart.star",
    "cryodrgn_parse_relion/particles_2d.star",
]


def errors_of(n, listed, seed=0):
    """(n, 6) errors, rad and Å: large ones of the listed particles, 0 of the others."""
    errors = np.zeros((n, 6))
    spread = np.repeat([0.2, 15.0], 3)
    errors[listed] = np.random.default_rng(seed).normal(size=(len(listed), 6)) * spread
    return errors


def write_poses(path, inputs, errors, listed, refine=True, found=True):
    """poses.parquet as train_linear writes it for a store prepared from the files `inputs`."""
    values = errors[listed] * np.repeat([180 / np.pi, 1], 3)
    table = pd.DataFrame(dict(zip(POSE_COLUMNS, values.T, strict=True))).assign(particle=listed)
    description = {"digest": "0" * 64, "inputs": file_digests(inputs)}
    deviation = np.array([0.2, 15.0]) * found
    write_parquet(path, described(table, description, refine, deviation))
    return path


def exported(star, poses, out, *options):
    """The file that filter_star writes of `star`."""
    options = (*options, "--with-refined-poses", poses, "-o", out)
    assert run_here("filter_star", star, *options).returncode == 0
    return out


def assert_refined(read, whole, errors, chosen=None):
    """What was read has the poses of `whole`, corrected by errors (rad, Å) of its particles."""
    images = whole.images
    of_each = errors[images["particle"]].copy()
    of_each[:, 3:] /= images["pixel_size_A"].to_numpy()[:, None]
    rotation, more = corrected_poses(whole.rotations(), of_each)
    shift = images[["shift_x_px", "shift_y_px"]].to_numpy() + more
    kept = np.ones(len(images), bool) if chosen is None else images["particle"].isin(chosen).to_numpy()
    apart = Rotation.from_matrix(rotation[kept]).inv() * Rotation.from_matrix(read.rotations())
    assert np.degrees(apart.magnitude()).max() < 1e-3
    found = read.images[["shift_x_px", "shift_y_px"]].to_numpy()
    np.testing.assert_allclose(found, shift[kept], atol=2e-3)
    pose = [*(f"r{i}{j}" for i in range(3) for j in range(3)), "shift_x_px", "shift_y_px"]
    others = [name for name in images if name not in (*pose, "image", "particle", "row", "stack")]
    left = images[kept].reset_index(drop=True)
    pd.testing.assert_frame_equal(read.images[others], left[others])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_image_series_of_every_dialect(tmp_path, dialect):
    _, table = write_image_series(tmp_path)
    star = write(tmp_path, dialect, table, shuffle=3)
    whole = read_particles(star)
    errors = errors_of(len(whole.particles), LISTED)
    poses = write_poses(tmp_path / "poses.parquet", [star], errors, LISTED)
    write_pickle(tmp_path / "ind.pkl", np.array([0, 2, 4, 5]))
    out = exported(star, poses, tmp_path / "out.star", "--ind", tmp_path / "ind.pkl")
    assert_refined(read_particles(out), whole, errors, [0, 2, 4, 5])


def test_origins_are_added_where_an_image_series_has_none(tmp_path):
    _, table = write_image_series(tmp_path)
    star = write_text_star(tmp_path / "a.star", {"": table.drop(columns=["rlnOriginX", "rlnOriginY"])})
    whole = read_particles(star)
    errors = errors_of(len(whole.particles), LISTED)
    poses = write_poses(tmp_path / "poses.parquet", [star], errors, LISTED)
    out = exported(star, poses, tmp_path / "out.star")
    assert_refined(read_particles(out), whole, errors)
    assert list(read_star(out)[""])[-2:] == ["rlnOriginXAngst", "rlnOriginYAngst"]
    before, after = star.read_text().splitlines(), out.read_text().splitlines()
    assert f"_rlnOriginYAngst #{table.shape[1]}" in after
    unlisted = [line for line in before if "TS_0_0000" in line]
    assert unlisted and all(f"{line} 0.000 0.000" in after for line in unlisted)


def test_all_other_text_stays(tmp_path):
    _, table = write_image_series(tmp_path)
    star = write_text_star(tmp_path / "a.star", {"other": {"note": "'a  b'"}, "particles": table})
    text = star.read_text().replace("TS_0_0002  8.0", "TS_0_0002 \t 8.0  ", 1) + "# the end\n"
    star.write_text(text)
    poses = write_poses(tmp_path / "poses.parquet", [star], errors_of(6, LISTED), LISTED)
    out = exported(star, poses, tmp_path / "out.star").read_text()
    changed = [list(table).index(name) for name in [*ANGLES, "rlnOriginX", "rlnOriginY"]]
    before, after = text.splitlines(keepends=True), out.splitlines(keepends=True)
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        if not any(f"_{number:04d}" in old for number in LISTED):
            assert new == old
            continue
        assert new != old and len(new.split()) == len(old.split())
        for number, (one, other) in enumerate(zip(old.split(), new.split(), strict=True)):
            assert one == other or number in changed
    assert "TS_0_0002 \t 8.0  " in out


def test_numbers_have_the_decimals_of_the_file(tmp_path):
    _, table = write_image_series(tmp_path)
    written = table.assign(rlnAngleRot=table["rlnAngleRot"].map("{:.7f}".format))
    written["rlnAngleTilt"] = table["rlnAngleTilt"].map("{:.1f}".format)
    star = write_text_star(tmp_path / "a.star", {"": written})
    poses = write_poses(tmp_path / "poses.parquet", [star], errors_of(6, LISTED), LISTED)
    out = exported(star, poses, tmp_path / "out.star")
    rows = [line.split() for line in out.read_text().splitlines() if "TS_1_0001" in line]
    digits = {
        name: {len(row[list(table).index(name)].partition(".")[2]) for row in rows}
        for name in [*ANGLES, "rlnOriginX"]
    }
    assert digits == {"rlnAngleRot": {7}, "rlnAngleTilt": {4}, "rlnAnglePsi": {4}, "rlnOriginX": {4}}


@pytest.mark.parametrize("origins", [True, False])
@pytest.mark.parametrize("subtomogram", [True, False])
def test_optimisation_sets(tmp_path, origins, subtomogram):
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(0))
    table = blocks["particles"]
    if not origins:
        table = table.drop(columns=[f"rlnOrigin{axis}Angst" for axis in "XYZ"])
    if subtomogram:
        angles = np.random.default_rng(1).uniform(0, 170, (len(table), 3)).round(3).T
        names = [f"rlnTomoSubtomogram{name}" for name in ("Rot", "Tilt", "Psi")]
        table = table.assign(**dict(zip(names, angles, strict=True)))
    star = write_optimisation_set(tmp_path, blocks | {"particles": table}, tomograms)
    whole = read_particles(star)
    errors = errors_of(len(whole.particles), LISTED)
    poses = write_poses(tmp_path / "poses.parquet", whole.inputs, errors, LISTED)
    write_pickle(tmp_path / "ind.pkl", np.array([1, 2, 3]))
    out = tmp_path / "part_optimisation_set.star"
    exported(star, poses, out, "--ind", tmp_path / "ind.pkl")
    assert_refined(read_particles(out), whole, errors, [1, 2, 3])
    left = read_star(tmp_path / "part.star")["particles"]
    same = [name for name in table if not name.startswith(("rlnAngle", "rlnOrigin"))]
    given = read_star(tmp_path / "particles.star")["particles"][same]
    pd.testing.assert_frame_equal(left[same], given[1:4].reset_index(drop=True))


def volumes(names, more=()):
    """A table of Warp: one row per particle, in another order than the images."""
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"rlnMicrographName": "t", "rlnGroupName": names[::-1]})
    for prefix, low, high in (("rlnCoordinate", 10, 500), ("rlnAngle", 0, 170)):
        axes = ("Rot", "Tilt", "Psi") if prefix == "rlnAngle" else "XYZ"
        for axis in axes:
            table[f"{prefix}{axis}"] = rng.uniform(low, high, len(names)).round(3)
    for name in more:
        table[name] = rng.uniform(-9, 9, len(names)).round(3)
    return table.assign(rlnDetectorPixelSize=4.0)


def assert_placed(out, star, errors):
    """Poses and centres of the file `out` are those of `star`, corrected by errors (m, 6) of its rows."""
    before, after = read_placements(star), read_placements(out)
    angles = ["rot_deg", "tilt_deg", "psi_deg"]
    stated, refined = (euler_to_matrix(*table[angles].to_numpy().T) for table in (before, after))
    expected = Rotation.from_matrix(stated) * Rotation.from_rotvec(errors[:, :3])
    assert np.degrees((expected.inv() * Rotation.from_matrix(refined)).magnitude()).max() < 1e-3
    moved = after[["x_A", "y_A", "z_A"]].to_numpy() - before[["x_A", "y_A", "z_A"]].to_numpy()
    np.testing.assert_allclose(moved, np.einsum("mij,mj->mi", stated, errors[:, 3:]), atol=4e-3)


@pytest.mark.parametrize(
    ("more", "optics", "changed"),
    [
        ((), False, "rlnCoordinate"),
        (("rlnOriginX", "rlnOriginY", "rlnOriginZ"), False, "rlnOrigin"),
        (("rlnOriginX", "rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst"), False, "rlnOrigin"),
        ((), True, "rlnOrigin"),
    ],
)
def test_volume_series_joined_by_name(tmp_path, more, optics, changed):
    images, table = write_image_series(tmp_path)
    names = list(dict.fromkeys(table["rlnGroupName"]))
    blocks = {"optics": pd.DataFrame([{"rlnOpticsGroup": 1, "rlnVoltage": 300}])} if optics else {}
    rows = volumes(names, more).assign(**({"rlnOpticsGroup": 1} if optics else {}))
    star = write_text_star(tmp_path / "volumes.star", blocks | {"particles": rows})
    errors = errors_of(len(names), LISTED)
    poses = write_poses(tmp_path / "poses.parquet", [images], errors, LISTED)
    out = exported(star, poses, tmp_path / "out.star", "--particles", images)
    assert_placed(out, star, errors[::-1])
    new = read_star(out)["particles"]
    kept = [name for name in rows if not name.startswith(("rlnAngle", changed))]
    pd.testing.assert_frame_equal(new[kept], read_star(star)["particles"][kept])
    if "rlnOriginXAngst" in more:  # both accounts of one origin move alike
        old = read_star(star)["particles"]
        moved = [(new[name] - old[name]) * unit for name, unit in (("rlnOriginX", 4), ("rlnOriginXAngst", 1))]
        np.testing.assert_allclose(*moved, atol=4e-3)


def test_all_temporal_samples_of_warps_own_columns(tmp_path):
    images, table = write_image_series(tmp_path)
    names = list(dict.fromkeys(table["rlnGroupName"]))
    rows = volumes(names).rename(columns={"rlnMicrographName": "wrpSourceName"})
    for sample, seed in (("1", 3), ("2", 4)):
        rng = np.random.default_rng(seed)
        for name in [*(f"wrpCoordinate{a}" for a in "XYZ"), "wrpAngleRot", "wrpAngleTilt", "wrpAnglePsi"]:
            rows[name + sample] = rng.uniform(0, 170, len(names)).round(3)
    rows = rows[[name for name in rows if name.startswith("wrp") or name == "rlnGroupName"]]
    star = write_text_star(tmp_path / "volumes.star", {"particles": rows})
    errors = errors_of(len(names), LISTED)
    poses = write_poses(tmp_path / "poses.parquet", [images], errors, LISTED)
    out = exported(star, poses, tmp_path / "out.star", "--particles", images)
    assert_placed(out, star, errors[::-1])
    swap = {"1": "2", "2": "1"}  # the reader takes the first sample
    for path in (star, out):
        table = read_star(path)["particles"]
        table = table.rename(columns=lambda name: name[:-1] + swap.get(name[-1], name[-1]))
        write_text_star(tmp_path / f"second_{path.name}", {"particles": table})
    assert_placed(tmp_path / "second_out.star", tmp_path / "second_volumes.star", errors[::-1])


def test_copies_have_poses_of_their_own(tmp_path):
    _, table = write_image_series(tmp_path)
    rotation = euler_to_matrix(*table[ANGLES].to_numpy().T)
    tilt = Rotation.from_rotvec(np.outer(np.tile(np.arange(5) * 6.0, 6), [0, 1, 0]), degrees=True).as_matrix()
    pose = tilt @ rotation[np.repeat(np.arange(6) * 5, 5)]
    copies = []
    for element in Rotation.create_group("C2").as_matrix():
        angles = matrix_to_euler(pose @ element).round(5).T
        copies.append(table.assign(**dict(zip(ANGLES, angles, strict=True))))
    both = pd.concat(copies).sort_index(kind="stable").reset_index(drop=True)
    star = write_text_star(tmp_path / "expanded.star", {"": both})
    whole = read_particles(star, expanded=True)
    errors = errors_of(12, np.arange(12))
    errors[:, :3] = 0  # turns of their own would be no symmetry
    poses = write_poses(tmp_path / "poses.parquet", [star], errors, np.arange(12))
    out = exported(star, poses, tmp_path / "out.star")
    assert_refined(read_particles(out, expanded=True), whole, errors)


def test_added_columns_of_a_block_of_pairs(tmp_path):
    star = tmp_path / "pairs.star"
    star.write_text("data_particles\n\n_rlnImageName a.mrcs\n_rlnAngleRot 1.25 # here\n\n# end\n")
    _, (block,) = read_text_blocks(star)
    assert decimals(block, "rlnAngleRot") == 2 and decimals(block, "rlnOriginXAngst") == 0
    head = extended(block, {"rlnOriginXAngst": ["0.500"]}).head.decode()
    assert head == star.read_text().replace("# here\n", "# here\n_rlnOriginXAngst 0.500\n")


def test_poses_of_other_particles_are_refused(tmp_path):
    star, table = write_image_series(tmp_path)
    poses = write_poses(tmp_path / "poses.parquet", [star], errors_of(6, LISTED), LISTED)
    star.write_text(star.read_text() + "\n")
    out = tmp_path / "out.star"
    done = run_here("filter_star", star, "--with-refined-poses", poses, "-o", out)
    assert done.returncode == 1
    assert "poses of particles of another file than" in done.stderr
    # Rows of a volume series are no particles of the images, unless --particles joins them.
    poses = write_poses(tmp_path / "poses.parquet", [star], errors_of(6, LISTED), LISTED)
    series = write_text_star(tmp_path / "v.star", {"": volumes(list(dict.fromkeys(table["rlnGroupName"])))})
    done = run_here("filter_star", series, "--with-refined-poses", poses, "-o", out)
    assert done.returncode == 1
    assert "another file than" in done.stderr and not out.exists()


def test_a_file_without_poses_is_refused(tmp_path):
    star, table = write_image_series(tmp_path)
    names = pd.DataFrame({"rlnGroupName": list(dict.fromkeys(table["rlnGroupName"]))})
    series = write_text_star(tmp_path / "v.star", {"": names.assign(rlnCoordinateX=1.0)})
    poses = write_poses(tmp_path / "poses.parquet", [star], errors_of(6, LISTED), LISTED)
    options = ("--particles", star, "--with-refined-poses", poses, "-o", tmp_path / "out.star")
    done = run_here("filter_star", series, *options)
    assert done.returncode == 1
    assert "column _rlnAngleRot is missing, expected angles" in done.stderr


def test_subtomograms_are_no_tilt_images(tmp_path):
    """A table of volumes with group names is a volume series, and is not taken for images if one says so."""
    rows = volumes(list("abcdef"), ["rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst"])
    star = write_text_star(tmp_path / "v.star", {"": rows.assign(rlnImageName="a.mrc")})
    errors = errors_of(6, LISTED)
    poses = write_poses(tmp_path / "poses.parquet", [star], errors, LISTED)
    assert_placed(exported(star, poses, tmp_path / "out.star"), star, errors)
    options = ("--starfile-type", "imageseries", "--with-refined-poses", poses, "-o", tmp_path / "no.star")
    done = run_here("filter_star", star, *options)
    assert done.returncode == 1
    assert "expected `N@stack`" in done.stderr and not (tmp_path / "no.star").exists()


@pytest.mark.parametrize("said", [{"refine": False}, {"found": False}])
def test_files_stay_where_nothing_shall_be_refined(tmp_path, said):
    star, _ = write_image_series(tmp_path)
    poses = write_poses(tmp_path / "poses.parquet", [star], errors_of(6, LISTED), LISTED, **said)
    out = exported(star, poses, tmp_path / "out.star")
    assert out.read_bytes() == star.read_bytes()


def test_the_exported_files_of_a_simulation_are_the_refined_store(tiny, tiny_store, tmp_path, caplog):
    store = open_store(tiny_store)
    listed = np.arange(0, len(store.particles), 2)
    errors = errors_of(len(store.particles), listed)
    poses = write_poses(tmp_path / "poses.parquet", store.description["inputs"], errors, listed)
    star = next(iter(store.description["inputs"]))
    read = read_particles(exported(star, poses, tmp_path / "out.star"))
    refined = RefinedPoses.read(poses, store).applied(store)
    apart = Rotation.from_matrix(refined.rotations()).inv() * Rotation.from_matrix(read.rotations())
    assert np.degrees(apart.magnitude()).max() < 1e-3
    shift = refined.images[["shift_x_px", "shift_y_px"]].to_numpy() + refined.corrections
    np.testing.assert_allclose(read.images[["shift_x_px", "shift_y_px"]], shift, atol=1e-3)
    series = tiny / "volumes.star"
    caplog.clear()
    out = exported(series, poses, tmp_path / "volumes.star", "--particles", star)
    assert_placed(out, series, errors)
    assert "not from the same refinement" not in caplog.text
    # Turned against another reference, as a second refinement may be.
    blocks = read_star(series)
    (name,) = blocks
    turned = euler_to_matrix(*blocks[name][ANGLES].to_numpy().T) @ euler_to_matrix(20, 50, 30)
    blocks[name][ANGLES] = matrix_to_euler(turned)
    other = write_text_star(tmp_path / "other.star", blocks)
    exported(other, poses, tmp_path / "other_out.star", "--particles", star)
    assert "its poses are not from the same refinement as" in caplog.text


@pytest.fixture(scope="module")
def real(shared, tmp_path_factory):
    """A copy of the real files, with stacks of noise."""
    folder = tmp_path_factory.mktemp("real") / "real_star"
    shutil.copytree(shared / "data/real_star", folder)
    subprocess.run([sys.executable, folder / "make_stacks.py", folder], check=True, capture_output=True)
    for star in [*folder.glob("nextpyp_format/restart.star"), *folder.glob("cryodrgn_parse_relion/*.star")]:
        names = [word for line in star.read_text().splitlines() for word in line.split() if "@" in word]
        parts = pd.Series(names).str.partition("@")
        for name, sections in parts[0].astype(int).groupby(parts[2]):
            images = np.random.default_rng(1).normal(size=(sections.max(), 32, 32)).astype("f4")
            write_stack(star.parent / name, images)
    return folder


@pytest.mark.parametrize("name", SETS)
def test_real_files(real, tmp_path, name):
    star = real / name
    whole = read_particles(star)
    listed = np.arange(0, len(whole.particles), 2)
    errors = errors_of(len(whole.particles), listed)
    poses = write_poses(tmp_path / "poses.parquet", whole.inputs, errors, listed)
    out = exported(star, poses, star.with_name(f"refined_{star.name}"))
    assert_refined(read_particles(out), whole, errors)


def test_real_subtomograms_of_relion4(real, tmp_path):
    star = real / "relion4_volumes_cryocat/particles.star"
    before = poses_and_origins(read_volume_series(star))
    errors = errors_of(len(before[0]), np.arange(len(before[0])))
    poses = write_poses(tmp_path / "poses.parquet", [star], errors, np.arange(len(errors)))
    out = exported(star, poses, tmp_path / "out.star")
    after = poses_and_origins(read_volume_series(out))
    expected = Rotation.from_matrix(before[0]) * Rotation.from_rotvec(errors[:, :3])
    assert np.degrees((expected.inv() * Rotation.from_matrix(after[0])).magnitude()).max() < 1e-3
    moved = np.einsum("mij,mj->mi", before[0], errors[:, 3:])
    np.testing.assert_allclose(after[1], before[1] - moved, atol=2e-3)
