"""Who uses refined poses: the decision of train_linear, and half sets that are refined each by itself."""

from dataclasses import replace

import numpy as np
import pytest
from analysis_fakes import run
from scipy.spatial.transform import Rotation

from tomohet.errors import InputError
from tomohet.files.atomic import write_parquet
from tomohet.linear.poses import PoseEstimates
from tomohet.linear.saved_model import SavedModel
from tomohet.particles.refined_poses import described
from tomohet.particles.store import open_store
from tomohet.reconstruction.half_maps import refined_by_half
from tomohet.rounds.flags import command_line

DEVIATION = np.array([0.03, 2.0])  # rad, Å


@pytest.fixture(scope="module")
def store(tiny_store):
    return open_store(tiny_store)


def written(store, folder, refine=True, deviation=DEVIATION):
    """poses.parquet of all particles, with errors."""
    everyone = np.arange(len(store.particles))
    error = np.random.default_rng(0).normal(size=(len(everyone), 6)) * 0.1
    estimates = PoseEstimates(error, np.full_like(error, 0.01), DEVIATION / [1, store.pixel_size_A])
    table = estimates.table(everyone, store.pixel_size_A)
    write_parquet(folder / "poses.parquet", described(table, store.description, refine, deviation))
    return folder / "poses.parquet"


@pytest.mark.parametrize("refine", [True, False])
def test_a_saved_model_obeys_what_train_linear_decided(tiny_linear, store, tmp_path, refine):
    """Errors that are not taken off are integrated out all the same."""
    for name in ("weights.pkl", "config.pkl"):
        (tmp_path / name).write_bytes((tiny_linear / name).read_bytes())
    written(store, tmp_path, refine)
    saved = SavedModel.read(tmp_path, store.box)
    saved = replace(saved, fit=replace(saved.fit, pose_deviation=[0.03, 0.2]))
    everyone = np.arange(len(store.particles))
    poses = saved.poses(store, everyone)
    applied, mean = poses.applied(store, everyone, saved.maps.for_store(store, "cpu").mean)
    assert applied.poses_corrected == refine and bool(poses.error.any()) == refine
    np.testing.assert_array_equal(mean.errors.deviation, [0.03, 0.2])
    assert bool(mean.errors.offset.any()) == refine


def test_false_in_the_configuration_reaches_the_command():
    assert command_line("linear", {"refine_poses": False}) == "--no-refine-poses"
    assert command_line("linear", {"refine_poses": True}) == "--refine-poses"


@pytest.mark.parametrize("by", ["particle", "tilt"])
def test_each_half_is_refined_from_its_own_images_alone(store, by):
    """All images were shifted by 0.5 px before; each half is shifted further by its own number."""
    store = store.with_poses(store.rotations(), np.full((len(store.images), 2), 0.5))
    rows = np.arange(3, len(store.images))
    owner = store.images["particle"].to_numpy()[rows]
    half = owner % 2 if by == "particle" else rows % 2
    turn = Rotation.from_rotvec([4, 0, 0], degrees=True).as_matrix()
    seen = []

    def refine(part, particles):
        seen.append(part.data_rows)
        assert set(particles) == set(part.images["particle"])
        return part.with_poses(part.rotations() @ turn, np.full((len(part.images), 2), len(seen)))

    found = refined_by_half(store, rows, half, refine)
    for number in (0, 1):
        np.testing.assert_array_equal(seen[number], store.data_rows[rows[half == number]])
        assert (found.corrections[rows[half == number]] == 0.5 + number + 1).all()
    np.testing.assert_allclose(found.rotations()[rows], store.rotations()[rows] @ turn, atol=1e-6)
    np.testing.assert_array_equal(found.rotations()[:3], store.rotations()[:3])
    assert (found.corrections[:3] == 0.5).all()


def test_half_sets_are_not_refined_where_no_errors_were_found(tiny_store, store, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tomohet.commands.backproject_voxel.refined_alone", lambda *a, **k: pytest.fail("refined")
    )
    options = ("--refine-poses", written(store, tmp_path, deviation=np.zeros(2)))
    run("backproject_voxel", tiny_store, "-o", tmp_path / "half", "--device", "cpu", *options)
    assert (tmp_path / "half" / "half1.mrc").is_file()


def test_poses_come_from_one_place(tiny_store, tiny_linear, store, tmp_path):
    table = written(store, tmp_path)
    with pytest.raises(InputError, match="--poses and --refine-poses: expected one"):
        options = ("--poses", table, "--refine-poses", table)
        run("backproject_voxel", tiny_store, "-o", tmp_path / "both", *options)
    with pytest.raises(InputError, match="--init and --poses"):
        run("train_vae", tiny_store, "-o", tmp_path / "vae", "--init", tiny_linear, "--poses", table, "-n", 1)
