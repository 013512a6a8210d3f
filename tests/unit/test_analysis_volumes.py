"""Principal components of volumes, and the command analyze_volumes."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from analysis_fakes import BOX, PIXEL_A, BlobDecoder, close_figure, latents, run
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from tomohet import plots
from tomohet.analysis import volume_space
from tomohet.errors import InputError
from tomohet.files.mrc import HEADER_BYTES, create_volume_stack, read_volume, write_stack, write_volume


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("run") / "volumes"
    z, states = latents(30, 4)
    maps = BlobDecoder(4).volumes(torch.as_tensor(z)).numpy()
    maps += 0.02 * np.random.default_rng(0).normal(size=maps.shape).astype(np.float32)
    for number, one in enumerate(maps):
        write_volume(place / f"vol_{number:03d}.mrc", one, PIXEL_A)
    np.save(place / "states.npy", states)
    return place


@pytest.fixture(scope="module")
def flat(folder):
    volumes = volume_space.find_volumes(folder)
    return np.stack([read_volume(path)[0].ravel() for path in volumes.paths])


def test_components_equal_those_of_the_whole_matrix(folder, flat):
    volumes = volume_space.find_volumes(folder)
    mean, highest = volume_space.mean_and_highest(volumes)
    np.testing.assert_allclose(mean.ravel(), flat.mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(highest.ravel(), flat.max(axis=0))
    mask = volume_space.analysis_mask(highest, PIXEL_A, "soft", 90.0, 1, 3)
    found = volume_space.components(volumes, mean, mask, 128, 3)
    expected = PCA(svd_solver="full").fit(flat * mask.ravel())
    scores = expected.transform(flat * mask.ravel())[:, :29]
    assert found.scores.shape == (30, 29)
    np.testing.assert_allclose(found.explained, expected.explained_variance_ratio_[:29], atol=1e-6)
    np.testing.assert_allclose(np.abs(found.scores[:, :3]), np.abs(scores[:, :3]), atol=1e-3)
    signs = np.sign((found.axes.reshape(3, -1) * expected.components_[:3]).sum(axis=1))
    np.testing.assert_allclose(
        found.axes.reshape(3, -1), expected.components_[:3] * signs[:, None], atol=1e-4
    )


def test_slab_size_changes_nothing(folder, monkeypatch):
    volumes = volume_space.find_volumes(folder)
    slabs = [slab.shape[1] for _, slab in volumes.slabs("", slab_bytes=30 * 4 * BOX**2 * 5)]
    assert slabs == [5, 5, 5, 5, 4]


def test_identical_volumes_have_no_variance(tmp_path):
    one = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    for number in range(3):
        write_volume(tmp_path / f"vol_{number}.mrc", one, 2.0)
    volumes = volume_space.find_volumes(tmp_path)
    mean, _ = volume_space.mean_and_highest(volumes)
    found = volume_space.components(volumes, mean, np.ones((8, 8, 8), np.float32), 10, 10)
    assert np.abs(found.scores).max() < 1e-3


def test_volumes_of_a_plane_have_two_components_and_no_noise(tmp_path):
    rng = np.random.default_rng(0)
    mean, *basis = rng.normal(size=(3, 12, 12, 12))
    for number, (a, b) in enumerate(rng.normal(size=(12, 2))):
        write_volume(tmp_path / f"vol_{number}.mrc", mean + a * basis[0] + b * basis[1], 2.0)
    volumes = volume_space.find_volumes(tmp_path)
    mean, _ = volume_space.mean_and_highest(volumes)
    found = volume_space.components(volumes, mean, np.ones_like(mean), 128, 10)
    assert len(found.axes) == 2 and np.abs(found.scores[:, 2:]).max() == 0
    assert found.explained[:2].sum() == pytest.approx(1, abs=1e-5)


def test_volumes_are_sorted_by_number_and_others_left_alone(tmp_path):
    for name in ("vol_1000", "vol_9", "reconstruct"):
        write_volume(tmp_path / f"{name}.mrc", np.zeros((4, 4, 4), np.float32), 1.0)
    assert volume_space.find_volumes(tmp_path).numbers.tolist() == [9, 1000]


def test_one_volume_other_shapes_and_nan_are_refused(tmp_path):
    write_volume(tmp_path / "vol_0.mrc", np.zeros((4, 4, 4), np.float32), 1.0)
    with pytest.raises(InputError, match="at least 2"):
        volume_space.find_volumes(tmp_path)
    write_volume(tmp_path / "vol_1.mrc", np.zeros((6, 6, 6), np.float32), 1.0)
    with pytest.raises(InputError, match="vol_1.mrc"):
        volume_space.find_volumes(tmp_path)
    write_volume(tmp_path / "vol_1.mrc", np.full((4, 4, 4), np.nan, np.float32), 1.0)
    with pytest.raises(InputError, match="vol_1.mrc.*NaN"):
        volume_space.mean_and_highest(volume_space.find_volumes(tmp_path))


def test_command_finds_the_states_and_writes_its_contract(folder, tmp_path):
    run("analyze_volumes", "--voldir", folder, "-o", tmp_path, "--ksample", 4, "--skip-umap")
    table = pd.read_parquet(tmp_path / "volumes.parquet")
    assert table["volume"].tolist() == list(range(30)) and {"vpc1", "vpc2", "vkmeans"} <= set(table)
    states = np.load(folder / "states.npy")
    assert adjusted_rand_score(table["vkmeans"], states) > 0.7
    nearest = json.loads((tmp_path / "summary.json").read_text())["kmeans"]["nearest_volumes"]
    for label, number in enumerate(nearest):
        copy = read_volume(tmp_path / "kmeans4" / f"voxel_kmeans4_cluster{label}.mrc")[0]
        np.testing.assert_array_equal(copy, read_volume(folder / f"vol_{number:03d}.mrc")[0])
        assert table["vkmeans"][number] == label
    middle = read_volume(tmp_path / "pc1" / "voxel_pc1_vol9.mrc")
    assert middle[1] == pytest.approx(PIXEL_A)


def test_a_stack_is_analysed_as_its_volumes_are(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "save", close_figure)
    stack = tmp_path / "vol.mrcs"
    create_volume_stack(stack, 30, BOX, PIXEL_A)
    with open(stack, "r+b") as file:
        file.seek(HEADER_BYTES)
        file.writelines(read_volume(folder / f"vol_{number:03d}.mrc")[0].tobytes() for number in range(30))
    for source, outdir in ((folder, tmp_path / "files"), (stack, tmp_path / "vol_analyze_volumes")):
        options = ("-o", outdir) if source == folder else ()
        run("analyze_volumes", "--voldir", source, *options, "--ksample", 4, "--skip-umap")
    of_files, of_stack = tmp_path / "files", tmp_path / "vol_analyze_volumes"
    pd.testing.assert_frame_equal(*(pd.read_parquet(f / "volumes.parquet") for f in (of_files, of_stack)))
    for name in ("mean.mrc", "mask.mrc", "kmeans4/voxel_kmeans4_cluster2.mrc"):
        (one, pixel), (other, same_pixel) = (read_volume(f / name) for f in (of_files, of_stack))
        np.testing.assert_array_equal(one, other)
        assert pixel == same_pixel


def test_stacks_that_are_none_are_refused(tmp_path):
    path = tmp_path / "images.mrcs"
    write_stack(path, np.zeros((9, 4, 4), np.float32), 1.0)
    with pytest.raises(InputError, match=r"shape \(9, 4, 4\) is not a stack of cubic"):
        volume_space.find_volumes(path)
    create_volume_stack(path, 2, 4, 1.0)
    with open(path, "r+b") as file:
        file.seek(HEADER_BYTES + 4 * 4**3)
        file.write(np.full(4, np.nan, np.float32).tobytes())
    with pytest.raises(InputError, match="images.mrcs: volume 1 holds NaN"):
        volume_space.mean_and_highest(volume_space.find_volumes(path))


@pytest.mark.parametrize("mask", ["none", "sphere", "tight", "soft"])
def test_two_volumes_and_every_mask(tmp_path, mask, monkeypatch):
    if mask != "none":  # one picture of each kind is enough
        monkeypatch.setattr(plots, "save", close_figure)
    rng = np.random.default_rng(0)
    for number in range(2):
        write_volume(tmp_path / "v" / f"vol_{number}.mrc", rng.normal(size=(12, 12, 12)), 2.0)
    run(
        "analyze_volumes", "--voldir", tmp_path / "v", "--mask", mask, "--ksample", 5, "--plot-format", "svgz"
    )
    out = tmp_path / "v_analyze_volumes"
    assert pd.read_parquet(out / "volumes.parquet")["vkmeans"].nunique() == 2
    assert (out / "eigenvolumes.svgz").is_file() == (mask == "none")


def test_given_mask_is_used_and_checked(folder, tmp_path):
    write_volume(tmp_path / "small.mrc", np.ones((4, 4, 4)), PIXEL_A)
    with pytest.raises(InputError, match="expected \\(24, 24, 24\\)"):
        run("analyze_volumes", "--voldir", folder, "-o", tmp_path, "--mask-path", tmp_path / "small.mrc")
    with pytest.raises(InputError, match="empty"):
        write_volume(tmp_path / "empty.mrc", np.zeros((BOX,) * 3), PIXEL_A)
        run("analyze_volumes", "--voldir", folder, "-o", tmp_path, "--mask-path", tmp_path / "empty.mrc")
