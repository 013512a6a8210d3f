"""Files that an earlier run of a command left are removed by the next run; files of others stay."""

import json

import numpy as np
import pytest
from analysis_fakes import run

from tomohet.files.atomic import atomic_path, keep, write_pickle, write_text
from tomohet.files.leftovers import replacing


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name[0] != ".")


def write(folder, *names, command="c"):
    with replacing(folder, command):
        for name in names:
            write_text(folder / name, name)


def test_files_that_are_not_written_again_go_and_others_stay(tmp_path):
    write(tmp_path, "pc1/a.txt", "pc2/a.txt", "pc2/b.txt", "x.txt")
    write_text(tmp_path / "pc1/mine.txt", "of the user")
    write(tmp_path, "other.txt", command="another")
    write(tmp_path, "x.txt", "y.txt")
    assert files(tmp_path) == ["other.txt", "pc1/mine.txt", "x.txt", "y.txt"]
    assert not (tmp_path / "pc2").exists()


def test_a_file_of_an_earlier_run_can_be_kept(tmp_path):
    write(tmp_path, "a", "b")
    with replacing(tmp_path, "c"):
        keep(tmp_path / "a")
    write(tmp_path, "a")
    assert files(tmp_path) == ["a"]


def test_one_block_may_lie_in_another(tmp_path):
    for name in ("a", "b"):
        with replacing(tmp_path, "outer"):
            write(tmp_path, name, command="inner")
            assert files(tmp_path) == [name], "at the end of the inner block"
    assert files(tmp_path) == ["b"]


def test_a_failed_run_removes_nothing_and_the_next_one_clears_up_after_both(tmp_path):
    write(tmp_path, "old")
    with pytest.raises(RuntimeError), replacing(tmp_path, "c"):
        write_text(tmp_path / "half", "")
        raise RuntimeError
    assert files(tmp_path) == ["half", "old"]
    write(tmp_path, "new")
    assert files(tmp_path) == ["new"]


@pytest.mark.parametrize("listing", ['["../mine"]', "[", '{"a": 1}', "[3]", '["/etc/hostname"]'])
def test_a_list_never_leads_out_of_its_folder(tmp_path, listing):
    write_text(tmp_path / "mine", "")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".c.files").write_text(listing)
    write(tmp_path / "out", "new")
    assert files(tmp_path) == ["mine", "out/new"]
    assert json.loads((tmp_path / "out" / ".c.files").read_text()) == ["new"]


def test_a_file_that_could_not_be_written_does_not_count(tmp_path):
    write(tmp_path, "a")
    with replacing(tmp_path, "c"), pytest.raises(OSError), atomic_path(tmp_path / "a"):
        raise OSError
    assert files(tmp_path) == []


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents")
    z = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    for zdim in (1, 2, 3):
        write_pickle(folder / f"z{zdim}.pkl", z[:, :zdim])
    return folder


def test_components_of_other_latents_do_not_stay(latents, tmp_path):
    run("pc_traversal", latents / "z3.pkl", "-o", tmp_path)
    assert files(tmp_path) == ["pc1.txt", "pc2.txt", "pc3.txt"]
    run("pc_traversal", latents / "z2.pkl", "-o", tmp_path)
    assert files(tmp_path) == ["pc1.txt", "pc2.txt"]
    run("pc_traversal", latents / "z2.pkl", "-o", tmp_path, "--dim", 1)
    assert files(tmp_path) == ["pc1.txt", "pc2.txt"], "--dim writes one file, beside whatever others"


def test_scenes_of_tomograms_no_longer_asked_for_do_not_stay(tiny, tmp_path):
    run("subtomo2chimerax", tiny / "volumes.star", "-o", tmp_path)
    assert len(list(tmp_path.rglob("*.cxc"))) > 1
    write_pickle(tmp_path / "first.pkl", np.arange(1))
    run("subtomo2chimerax", tiny / "volumes.star", "-o", tmp_path, "--ind", tmp_path / "first.pkl")
    assert len(list(tmp_path.rglob("*.cxc"))) == 1
    assert (tmp_path / "first.pkl").is_file()


def test_analyze_leaves_no_clusters_and_components_of_other_options(tiny_training, tmp_path):
    options = ("-o", tmp_path, "--skip-umap", "--downsample", 12)
    run("analyze", tiny_training, *options, "--pc", 2, "--ksample", 4)
    assert {"pc2/vol_009.mrc", "kmeans4/labels.pkl", "volumes_pc2.png"} <= set(files(tmp_path))
    run("analyze", tiny_training, *options, "--pc", 1, "--ksample", 3)
    assert not any(
        name.startswith(("pc2", "kmeans4", "volumes_pc2", "volumes_kmeans4")) for name in files(tmp_path)
    )
    assert {"pc1/vol_009.mrc", "kmeans3/vol_002.mrc", "volumes_kmeans3.png"} <= set(files(tmp_path))
