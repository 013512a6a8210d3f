"""Refined poses: the table that train_linear writes, what is refused, and who uses it."""

import numpy as np
import pandas as pd
import pytest

from tomohet.errors import InputError
from tomohet.files.atomic import write_parquet
from tomohet.linear.poses import PoseEstimates, Poses
from tomohet.particles.refined_poses import RefinedPoses, described
from tomohet.particles.store import open_store

DEVIATION = np.array([np.radians(1.0), 3.0])  # rad, Å


@pytest.fixture
def store(tiny_store):
    return open_store(tiny_store)


@pytest.fixture
def written(store, tmp_path):
    """A table of half of the particles; the estimates it was made of."""

    def write(refine=True, deviation=DEVIATION, **columns):
        some = np.arange(0, len(store.particles), 2)
        rng = np.random.default_rng(0)
        error = rng.normal(size=(len(some), 6)) * np.repeat([np.radians(2), 0.3], 3)
        estimates = PoseEstimates(error, np.full_like(error, 0.01), deviation / [1, store.pixel_size_A])
        table = estimates.table(some, store.pixel_size_A).assign(**columns)
        write_parquet(tmp_path / "poses.parquet", described(table, store.description, refine, deviation))
        return tmp_path / "poses.parquet", some, error

    return write


def test_the_table_gives_the_poses_of_the_model(store, written):
    path, some, error = written()
    refined = RefinedPoses.read(path, store).applied(store)
    expected = Poses.stated(store, some).moved(error).store
    np.testing.assert_allclose(refined.rotations(), expected.rotations(), atol=1e-9)
    rows = np.arange(0, len(store.images), 7)
    np.testing.assert_allclose(refined.half_planes(rows), expected.half_planes(rows), atol=1e-5)


def test_the_table_is_in_degrees_and_angstroms_and_reads_back():
    """A turn of 0.1 rad is 5.73 degrees, a move of 0.5 px of 3 Å is 1.5 Å; deviations are rms over axes."""
    error = np.array([[0.1, 0, 0, 0, 0.5, 0]])
    deviation = np.array([[0.01, 0.02, 0.02, 1.0, 2.0, 2.0]])
    table = PoseEstimates(error, deviation, np.array([0.1, 0.2])).table(np.array([7]), 3.0)
    row = table.loc[0, ["particle", "turn_x_deg", "move_y_A", "turn_sd_deg", "move_sd_A"]].to_list()
    assert row == pytest.approx([7, 5.729578, 1.5, 57.29578 * 0.03**0.5 / 10, 3 * 3**0.5], rel=1e-6)
    back = PoseEstimates.read(table, [0.1, 0.2], 3.0)
    np.testing.assert_allclose(back.error, error)
    np.testing.assert_allclose(back.deviation, np.repeat([[0.03**0.5 / 10, 3**0.5]], 3, axis=1))
    np.testing.assert_array_equal(back.prior, [0.1, 0.2])


def test_particles_that_are_not_listed_keep_their_poses(store, written):
    path, some, _ = written()
    refined = RefinedPoses.read(path, store).applied(store)
    listed = np.isin(store.images["particle"], some)
    np.testing.assert_array_equal(refined.rotations()[~listed], store.rotations()[~listed])
    assert (np.abs(refined.rotations() - store.rotations())[listed].max((1, 2)) > 1e-4).all()


@pytest.mark.parametrize("said", [{"refine": False}, {"deviation": np.zeros(2)}])
def test_poses_stay_where_nothing_shall_be_refined(store, written, said):
    path, _, _ = written(**said)
    assert RefinedPoses.read(path, store).applied(store) is store


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"particle": 0}, "row 1, column 'particle': found 0"),
        ({"turn_y_deg": np.nan}, "row 0, column 'turn_y_deg': found nan"),
    ],
)
def test_impossible_values_are_refused(store, written, columns, message):
    path, _, _ = written(**columns)
    with pytest.raises(InputError, match=message):
        RefinedPoses.read(path, store)


def test_other_tables_are_refused(store, written, tmp_path):
    path, _, _ = written()
    table = pd.read_parquet(path)
    table.attrs["input_digests"] = {name: "0" * 64 for name in table.attrs["input_digests"]}
    table.attrs["store_digest"] = "0" * 64
    write_parquet(tmp_path / "other.parquet", table)
    with pytest.raises(InputError, match="poses of particles of another store"):
        RefinedPoses.read(tmp_path / "other.parquet", store)
    table.attrs = {}
    write_parquet(tmp_path / "plain.parquet", table)
    with pytest.raises(InputError, match=r"expected poses.parquet of train_linear"):
        RefinedPoses.read(tmp_path / "plain.parquet", store)


def test_half_maps_of_poses_that_all_particles_refined_are_said_to_depend_on_each_other(
    store, written, run_script, tmp_path
):
    path, some, _ = written()
    done = run_script("backproject_voxel", store.folder, "-o", tmp_path / "maps", "--poses", path)
    assert f"refined poses of {len(some)} particles" in done.stderr
    assert "not independent of each other, so their FSC is too high" in done.stderr
    asked = ("backproject_voxel", store.folder, "-o", tmp_path / "maps", "--poses", path)
    both = run_script(*asked, "--refine-poses", path, check=False)
    assert both.returncode == 1 and "--poses and --refine-poses: expected one" in both.stderr
