"""Damaged, missing and foreign files between stages: the results are the same, or one line names the file."""

import resource
import shutil

import analysis_fakes as fakes
import damaged_results as damaged
import numpy as np
import pandas as pd
import pytest
import torch

from conftest import TINY_NETWORK
from tomohet import plots
from tomohet.errors import InputError
from tomohet.files import digests
from tomohet.files.atomic import write_parquet, write_pickle
from tomohet.files.pickles import load_pickles
from tomohet.files.rows import row_checksums
from tomohet.files.tables import read_table
from tomohet.model.saving import save_weights
from tomohet.particles.store import open_store

pytestmark = pytest.mark.usefixtures("few_bootstraps")


@pytest.fixture(scope="module")
def undrawn():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "save", fakes.close_figure)
        yield


@pytest.fixture(scope="module")
def results(tmp_path_factory, undrawn, tiny, tiny_store, tiny_linear, tiny_training):
    root = tmp_path_factory.mktemp("results")
    return damaged.make(root, tiny, tiny_store, tiny_linear, tiny_training)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory, undrawn, tiny, results):
    """The same stages of fewer of the particles, with another seed: every file is of the same kind."""
    root = tmp_path_factory.mktemp("foreign")
    options = ("--use-first-nptcls", 20, "--uninvert-data")
    fakes.run("prepare", tiny / "particles.star", "-o", root / "store", *options)
    fakes.run("train_linear", root / "store", "-o", root / "linear", "--zdim", 2, "-n", 2, "--seed", 5)
    fakes.run("train_vae", root / "store", "-o", root / "train_vae", *TINY_NETWORK, "--seed", 5)
    fakes.run("simulate", "-o", root / "sim", "--particles", 20, "--box", 24, "--seed", 9)
    made = damaged.make(root / "results", tiny, root / "store", root / "linear", root / "train_vae")
    shutil.copy(root / "sim" / "truth.npz", made / "simulated" / "truth.npz")
    return made


@pytest.fixture(scope="module")
def undamaged(results, tmp_path_factory):
    """What each reader writes of whole files."""
    out = tmp_path_factory.mktemp("undamaged")
    return {name: damaged.outcome(name, results, out / name) for name in damaged.READERS}


@pytest.mark.parametrize("reader", damaged.READERS)
def test_whole_files_are_read(undamaged, reader):
    assert isinstance(undamaged[reader], dict) and undamaged[reader]


@pytest.mark.parametrize("damage", damaged.DAMAGE)
@pytest.mark.parametrize("name", damaged.READ_LATER)
def test_damage_is_seen_or_harmless(results, foreign, undamaged, tmp_path, name, damage):
    root = tmp_path / "results"
    shutil.copytree(results, root)
    damaged.DAMAGE[damage](root / name, foreign / name)
    said = []
    for reader in damaged.readers_of(name):
        found = damaged.outcome(reader, root, tmp_path / reader)
        if isinstance(found, dict):
            assert found == undamaged[reader], f"{reader} went on with other numbers"
        else:
            assert "\n" not in found and name.rsplit("/", 1)[1] in found and len(found) < 1000, found
            said.append(found)
    assert said or (root / name).read_bytes() == (results / name).read_bytes(), "nobody looked"


@pytest.mark.parametrize("damage", [name for name in damaged.DAMAGE if name != "foreign"])
@pytest.mark.parametrize("folder", ["all/linear", "prepared"])
def test_a_damaged_list_of_digests_does_no_harm(results, undamaged, tmp_path, folder, damage):
    root = tmp_path / "results"
    shutil.copytree(results, root)
    damaged.DAMAGE[damage](root / folder / digests.LIST, root)
    for reader in ("decode", "table"):
        found = damaged.outcome(reader, root, tmp_path / reader)
        assert found == undamaged[reader] or (isinstance(found, str) and digests.LIST in found)


@pytest.mark.parametrize("name", ["weights.0.pkl", "z.0.train.pkl", "config.pkl", "loss.csv"])
def test_an_epoch_less_is_not_judged_without_a_word(results, tmp_path, name):
    root = tmp_path / "results"
    shutil.copytree(results, root)
    (root / "all" / "train_vae" / name).unlink()
    with pytest.raises(InputError, match=name):
        fakes.run("convergence_vae", root / "all" / "train_vae", "-o", tmp_path / "out", "--skip-umap")


def test_cleanup_removes_epochs_for_good(results, tmp_path):
    root = tmp_path / "results"
    shutil.copytree(results, root)
    fakes.run("cleanup", root / "all" / "train_vae", "--weights", "--zfiles")
    assert not (root / "all" / "train_vae" / "z.0.train.pkl").exists()
    fakes.run("choose_volumes", root / "all" / "train_vae", "-o", tmp_path / "out")


def test_a_training_with_a_damaged_epoch_starts_afresh(tiny_store, tiny_training, tmp_path):
    """Its readers refuse the epoch and ask to train again, which must mend it; no file is lost."""
    root = tmp_path / "train_vae"
    shutil.copytree(tiny_training, root)
    damaged.flip(root / "z.0.train.pkl", 0)
    flipped = (root / "z.0.train.pkl").read_bytes()
    fakes.run("train_vae", tiny_store, "-o", root, *TINY_NETWORK)
    for name in ("z.0.train.pkl", "z.1.train.pkl", "z.train.pkl"):
        assert (root / name).read_bytes() == (tiny_training / name).read_bytes()
    assert (root / "superseded.1" / "z.0.train.pkl").read_bytes() == flipped
    losses = (root / "loss.csv").read_bytes()
    damaged.flip(root / "loss.csv", 0)
    fakes.run("train_vae", tiny_store, "-o", root, *TINY_NETWORK)
    assert (root / "loss.csv").read_bytes() == losses, "the checkpoint knows them"
    assert not (root / "superseded.2").exists()


def test_a_damaged_store_is_prepared_again(tiny, tiny_store, tmp_path):
    shutil.copytree(tiny_store, tmp_path / "prepared")
    whole = (tmp_path / "prepared" / "images.npy").read_bytes()
    for name in ("images.npy", "images.parquet", "store.yaml"):
        damaged.flip(tmp_path / "prepared" / name, 0)
        fakes.run("prepare", tiny / "particles.star", "-o", tmp_path / "prepared")
        assert (tmp_path / "prepared" / "images.npy").read_bytes() == whole
        open_store(tmp_path / "prepared").read(np.arange(10))


def test_a_file_of_ones_own_is_used_after_its_line_is_deleted(tmp_path):
    table = pd.DataFrame({"particle": [0, 1]})
    write_parquet(tmp_path / "t.parquet", table)
    table.assign(mine=1).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"not what `tomohet .*delete its line in"):
        read_table(tmp_path / "t.parquet")
    (tmp_path / digests.LIST).write_text("")
    assert "mine" in read_table(tmp_path / "t.parquet")


def test_a_killed_writer_leaves_no_list_that_contradicts_its_files(tmp_path):
    path = tmp_path / "file"
    for content in ("one", "two"):
        with digests.sealed(path):
            path.write_text(content)
    with pytest.raises(KeyboardInterrupt), digests.sealed(path):
        path.write_text("three")
        raise KeyboardInterrupt
    digests.check(path)
    assert (tmp_path / digests.LIST).read_text().count("\n") == 4  # two digests, two removals


def test_weights_on_a_full_disk_end_in_an_error_of_the_disk(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_weights(tmp_path / "weights.pkl", {"model_state_dict": {"a": torch.zeros(10**4)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_every_single_bit_changes_the_checksum_of_a_row():
    rows = np.random.default_rng(0).normal(size=(2, 9, 2)).astype(np.float16)
    before = row_checksums(rows)
    for bit in range(8 * rows[0].nbytes):
        changed = rows.copy()
        changed[0].view(np.uint8).reshape(-1)[bit // 8] ^= 1 << bit % 8
        after = row_checksums(changed)
        assert after[0] != before[0] and after[1] == before[1]
    # Derived by hand: words 1, 2, 3 with factors 1, 3, 5, and 2^32 - 1 with factor 3 modulo 2^32.
    words = np.array([[1, 2, 3], [0, 2**32 - 1, 0]], np.uint32)
    assert row_checksums(words).tolist() == [22, 2**32 - 3]


@pytest.mark.parametrize("folder", ["prepared", "all/linear", "all/train_vae"])
def test_a_whole_folder_of_another_run_is_seen(results, foreign, tmp_path, folder):
    """With its own list of digests, so that only the model's note of its store can betray it."""
    root = tmp_path / "results"
    shutil.copytree(results, root)
    shutil.rmtree(root / folder)
    shutil.copytree(foreign / folder, root / folder)
    # Both runs of the fixtures read one particle file; so that they do not, the models forget it.
    for model in ("linear", "train_vae"):
        path = root / "all" / model / "config.pkl"
        write_pickle(path, load_pickles(path)[0] | {"input_digests": ["another"]})
        digests.forget(path)
    for reader in ("table", "assess") if folder == "all/train_vae" else ("table", "assess", "states"):
        found = damaged.outcome(reader, root, tmp_path / reader)
        assert isinstance(found, str) and "another store" in found and str(root) in found, found
