"""Results are joined by the numbers of particles: other orders give the same, other particles an error."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from tomohet.analysis.run_folder import ParticleLatents, RunFolder
from tomohet.errors import InputError
from tomohet.files.arrays import read_arrays
from tomohet.files.atomic import write_pickle
from tomohet.files.digests import forget
from tomohet.files.pickles import save_latents
from tomohet.linear.saved_model import HELD_OUT, POSES, SavedModel
from tomohet.particles.joining import rows_of, rows_of_all
from tomohet.particles.store import open_store

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(tiny_store):
    return open_store(tiny_store)


@pytest.fixture
def linear(tiny_linear, tmp_path):
    """A copy of the linear model's folder, whose files may be changed."""
    folder = tmp_path / "linear"
    shutil.copytree(tiny_linear, folder)
    return folder


def test_rows_are_those_of_the_numbers():
    listed = np.array([7, 2, 9])
    np.testing.assert_array_equal(rows_of(np.array([9, 7, 3]), listed, "file"), [2, 0, -1])
    np.testing.assert_array_equal(rows_of_all(np.array([2, 2, 9]), listed, "file"), [1, 1, 2])
    with pytest.raises(InputError, match="file: row 2: particle 7 is listed a second time"):
        rows_of(np.array([7]), np.array([7, 2, 7]), "file")
    with pytest.raises(InputError, match="file: particle 3 is missing, and 2 of 3 particles in all"):
        rows_of_all(np.array([9, 3, 4]), listed, "file")


def test_latents_are_numbered_once_when_they_are_read(tmp_path):
    z = np.array([[1.0], [2.0], [3.0]])
    save_latents(tmp_path / "z.train.pkl", z, z)
    write_pickle(tmp_path / "config.pkl", {"particles": [8, 3, 5]})
    latents = RunFolder(tmp_path).latents_of_particles(-1)
    np.testing.assert_array_equal(latents.of(np.array([3, 5, 8]))[:, 0], [2, 3, 1])
    with pytest.raises(InputError, match=r"z\.train\.pkl: particle 4 is missing"):
        latents.of(np.array([3, 4]))
    write_pickle(tmp_path / "chosen.pkl", np.array([0, 1]))
    with pytest.raises(InputError, match="names 2 particles, but there are 3 latents"):
        ParticleLatents.read(
            tmp_path / "z.train.pkl", RunFolder(tmp_path).particles(), tmp_path / "chosen.pkl"
        )


def test_held_out_likelihoods_are_found_by_number(linear, store):
    saved, particles = SavedModel.read(linear, store.box), np.arange(len(store.particles))
    some = particles[[20, 3, 11]]
    expected = saved.held_out(store, some, CPU)
    tables = read_arrays(linear / HELD_OUT)
    np.testing.assert_array_equal(tables["particle"], particles)
    order = np.random.default_rng(0).permutation(len(particles))
    forget(linear / HELD_OUT)
    np.savez(linear / HELD_OUT, **{name: table[order] for name, table in tables.items()})
    found = saved.held_out(store, some, CPU)
    for name in ("a", "b", "new_a", "new_b"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
        assert not torch.equal(getattr(found, name), getattr(found, name).flip(0))


def test_held_out_likelihoods_of_an_earlier_version_follow_the_configuration(linear, store):
    saved, some = SavedModel.read(linear, store.box), np.array([20, 3])
    expected = saved.held_out(store, some, CPU)
    tables = read_arrays(linear / HELD_OUT)
    del tables["particle"]
    forget(linear / HELD_OUT)
    np.savez(linear / HELD_OUT, **tables)
    assert torch.equal(saved.held_out(store, some, CPU).a, expected.a)
    np.savez(linear / HELD_OUT, particle=np.arange(3), **tables)
    with pytest.raises(InputError, match="tables of unlike particles"):
        saved.held_out(store, some, CPU)


def test_poses_are_found_by_number(linear, store):
    table = pd.read_parquet(linear / POSES)
    attributes = dict(table.attrs)
    turns = np.random.default_rng(1).standard_normal(len(table))
    table = table.assign(turn_x_deg=turns).iloc[::-1].reset_index(drop=True)
    table.attrs = attributes
    forget(linear / POSES)
    table.to_parquet(linear / POSES)
    saved = SavedModel.read(linear, store.box)
    saved = replace(saved, fit=replace(saved.fit, pose_deviation=[0.1, 0.1]))
    unknown = len(store.particles) + 5
    found = saved.poses(store, np.array([4, 0, unknown]))
    np.testing.assert_allclose(np.degrees(found.error[:, 0]), [turns[4], turns[0], 0.0])


def test_assess_joins_latents_by_number(tiny, tiny_store, tiny_linear, tmp_path, run_script):
    """A training that lists its particles in another order has the same agreement with the truth."""

    def agreement(order):
        root = tmp_path / f"results{len(list(tmp_path.iterdir()))}"
        shutil.copytree(tiny_store, root / "prepared")
        shutil.copytree(tiny_linear, root / "all" / "linear")
        latents = RunFolder(tiny_linear).latents_of_particles(-1)
        content = {"particles": latents.particles[order].tolist(), "store_digest": None}
        for name in ("config.pkl", "z.train.pkl"):
            forget(root / "all" / "linear" / name)
        write_pickle(root / "all" / "linear" / "config.pkl", content)
        save_latents(root / "all" / "linear" / "z.train.pkl", latents.mean[order], latents.logvar[order])
        indices = root / "all" / "subset" / "indices.pkl"
        run_script("select", root / "prepared" / "particles.parquet", "-o", indices)
        of = ("--ind-ptcls", indices, "--round-dir", root / "all", "-o", root / "all" / "particles.parquet")
        run_script("particle_table", root / "prepared", *of)
        truth = ("--truth", tiny / "truth.npz", "--round-dir", root / "all")
        run_script("assess", *truth, "-o", root / "truth")
        return json.loads((root / "truth" / "truth.json").read_text())["latents"]

    n = len(RunFolder(tiny_linear).latents(-1)[0])
    assert agreement(np.random.default_rng(0).permutation(n)) == agreement(np.arange(n))
