"""Blocks: known ones are found, noise has none; volumes, weights, levels and edited blocks."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tomohet.analysis.ensemble import open_ensemble
from tomohet.analysis.siren.blocks import blocks_of_ensemble
from tomohet.analysis.siren.communities import communities
from tomohet.analysis.siren.files import read_blocks
from tomohet.analysis.siren.independence import latents_beside, sampling_of
from tomohet.analysis.siren.levels import read_levels
from tomohet.analysis.siren.stability import jaccard, level_stability
from tomohet.errors import InputError
from tomohet.files.grids import read_grid, write_on_grid
from tomohet.files.mrc import read_volume, write_volume
from tomohet.physics.molmap import molmap

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import siren_ensembles

BOX, PIXEL = 32, 6.0
OCCUPANCIES = (0.22, 0.45, 0.6, 0.8)


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    """200 volumes of a core, four balls and a fifth only with the second; (folder, masks, states).

    The file numbers start at 5 and skip every second one; the volumes have no common zero.
    """
    folder = tmp_path_factory.mktemp("ensemble")
    rng = np.random.default_rng(4)

    def ball(centre_A, radius_A, atoms):
        directions = rng.normal(size=(atoms, 3))
        directions /= np.linalg.norm(directions, axis=1)[:, None]
        xyz_A = 96 + np.array(centre_A) + radius_A * directions * rng.uniform(size=(atoms, 1)) ** (1 / 3)
        return molmap(xyz_A, np.full(atoms, 7.0), 15.0, BOX, PIXEL, mode="integrated")

    core = ball((0, 0, 0), 26, 1500)
    centres = ((52, 0, 0), (0, 52, 0), (-52, 0, 0), (0, -52, 0), (0, 62, 42))
    parts = np.stack([ball(centre, 20, 680) for centre in centres])
    states = rng.uniform(size=(200, 5)) < (*OCCUPANCIES, 0.5)
    states[:, 4] &= states[:, 1]
    full = np.median(core[core > 0.5 * core.max()])
    zeros = []
    for number, state in enumerate(states):
        volume = core + np.tensordot(state, parts, 1) + rng.normal(0, 0.12 * full, core.shape)
        zeros.append(rng.normal(0, full) - volume.mean())
        write_volume(folder / f"vol_{2 * number + 5:04d}.mrc", volume + zeros[-1], PIXEL)
    volumes = open_ensemble(folder)
    levels = read_levels(volumes, "auto", volumes.mean(), np.random.default_rng(0)).values
    height = np.median(levels - zeros)
    assert 0.3 * full < height < 0.6 * full
    np.testing.assert_allclose(levels - zeros, height, atol=0.05 * full)
    return folder, [(part > height) & (core < height) for part in parts], states


def test_volumes_of_noise_make_no_blocks(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(60):
        write_volume(tmp_path / f"vol_{number}.mrc", rng.normal(size=(20,) * 3), PIXEL)
    noise = open_ensemble(tmp_path)
    for level in ("auto", "0.0"):
        levels = read_levels(noise, level, noise.mean(), np.random.default_rng(0)).values
        assert blocks_of_ensemble(noise, levels, "phi", 0).table.empty


@pytest.mark.parametrize("kind", ["smooth in latents", "smooth in latents and space", "noise maps"])
def test_noise_that_is_smooth_over_the_latents_makes_no_blocks(tmp_path, kind):
    stack = siren_ensembles.null_ensemble(tmp_path, 150, 0, kind, box=20, core=False)
    volumes = open_ensemble(stack)
    sampling = sampling_of(latents_beside(stack, volumes.numbers), None, 150, 0)
    levels = np.full(150, 1.0, np.float32)
    for rule in ("phi", "siren"):
        found = blocks_of_ensemble(volumes, levels, rule, 0, sampling)
        assert found.table.empty and found.n_voxels_tested > 5000 and found.n_effective < 100
        if rule == "phi":  # chance links voxels, and communities of them are found; but they are scattered
            assert (np.bincount(communities(found.partners, 0) + 1)[1:] >= 6).sum() > 3


def test_known_blocks_are_found(ensemble, tmp_path, run_script):
    folder, masks, states = ensemble
    run_script("siren", "--volumes", folder, "-o", tmp_path)
    table = pd.read_parquet(tmp_path / "blocks.parquet")
    volumes = pd.read_parquet(tmp_path / "volumes.parquet")
    assert len(table) == 5 and list(volumes.volume) == list(range(5, 405, 2))
    found = {number: read_volume(tmp_path / f"block_{number}.mrc")[0] for number in table.id}
    assert all(set(np.unique(block)) == {0, 1} for block in found.values())
    assert read_grid(tmp_path / "block_1.mrc").pixel_size_A == PIXEL
    matched = []
    for mask, state in zip(masks, states.T, strict=True):
        overlap = {n: (mask & (b > 0)).sum() / (mask | (b > 0)).sum() for n, b in found.items()}
        best = max(overlap, key=overlap.get)
        matched.append(best)
        assert overlap[best] >= 0.9
        assert ((volumes[f"siren_{best}"] > 0.5) == state).all()
        row = table[table.id == best].iloc[0]
        assert row.occupancy == pytest.approx(state.mean()) and row.n_voxels == found[best].sum()
        assert row.stability > 0.7
        centre_A = np.argwhere(mask)[:, ::-1].mean(axis=0) * PIXEL
        assert np.linalg.norm(row[["x_A", "y_A", "z_A"]].to_numpy(float) - centre_A) < PIXEL
    assert len(set(matched)) == 5
    requires = dict(zip(table.id, table.requires, strict=True))
    assert requires[matched[4]] == str(matched[1])
    assert sum(bool(text) for text in requires.values()) == 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["n_blocks"] == 5 and summary["n_pairs"] > 1e5
    assert summary["level_stability"]["n_blocks_at_0.8"] == 5 and summary["randomised"] is None
    for figure in ("blocks", "surfaces", "states", "co_occupancy", "relations"):
        assert (tmp_path / f"{figure}.png").stat().st_size > 10_000


def test_blocks_do_not_depend_on_the_run_and_serve_as_masks(ensemble, tmp_path):
    from tomohet.analysis.maven.units import read_masks

    volumes = open_ensemble(ensemble[0])
    levels = read_levels(volumes, "auto", volumes.mean(), np.random.default_rng(0)).values
    once, again = (blocks_of_ensemble(volumes, levels, "phi", 3) for _ in range(2))
    np.testing.assert_array_equal(once.labels, again.labels)
    pd.testing.assert_frame_equal(once.table, again.table)
    for number in once.table.id:
        write_on_grid(tmp_path / f"block_{number}.mrc", once.labels == number, volumes.grid)
    masks = read_masks(tmp_path, volumes.grid)
    assert sorted(masks.table.unit) == [f"block_{n}" for n in range(1, 6)]


def test_published_rule_is_blind_to_common_blocks(ensemble):
    folder, masks, _ = ensemble
    volumes = open_ensemble(folder)
    levels = read_levels(volumes, "auto", volumes.mean(), np.random.default_rng(0)).values
    found = blocks_of_ensemble(volumes, levels, "siren", 0)
    rare = found.labels[masks[0]]
    assert (rare > 0).mean() > 0.8  # in 22 % of the volumes
    assert (found.labels[masks[3]] > 0).mean() < 0.05  # in 80 %: beyond its occupancy window


def test_levels_from_a_number_a_table_and_predictions(ensemble, tmp_path):
    volumes = open_ensemble(ensemble[0])
    mean = volumes.mean()

    def levels_of(level):
        return read_levels(volumes, str(level), mean, np.random.default_rng(0)).values

    assert set(levels_of("0.25")) == {np.float32(0.25)}
    heights = np.linspace(0, 1, 200).astype(np.float32)
    own = tmp_path / "levels.csv"
    pd.DataFrame({"volume": volumes.numbers, "level": heights}).sample(frac=1, random_state=0).to_csv(own)
    np.testing.assert_allclose(levels_of(own), heights, rtol=1e-6)
    published = tmp_path / "predictions.csv"
    pd.DataFrame({"vol_id": range(200), "denormalized_predictions": heights}).to_csv(published)
    np.testing.assert_allclose(levels_of(published), heights, rtol=1e-6)
    pd.DataFrame({"volume": volumes.numbers[1:], "level": heights[1:]}).to_csv(own)
    with pytest.raises(InputError, match="no level for volume 5"):
        levels_of(own)
    for level in ("high", "volume", "cnn"):
        with pytest.raises(InputError, match="--level|--mass-kda|--cnn-weights"):
            levels_of(level)


def test_blocks_edited_by_hand_are_expanded_under_their_ids(ensemble, tmp_path, run_script):
    folder, masks, _ = ensemble
    volumes = open_ensemble(folder)
    for number, mask in ((4, masks[0]), (11, masks[3])):
        core = np.argwhere(mask)[:: max(1, mask.sum() // 30)]
        seed = np.zeros(mask.shape, np.float32)
        seed[tuple(core.T)] = 1
        write_on_grid(tmp_path / "edited" / f"block_{number}.mrc", seed, volumes.grid)
    run_script("siren", "--volumes", folder, "--blocks", tmp_path / "edited", "-o", tmp_path / "out")
    table = pd.read_parquet(tmp_path / "out" / "blocks.parquet")
    assert sorted(table.id) == [4, 11]
    assert {"siren_4", "siren_11"} <= set(pd.read_parquet(tmp_path / "out" / "volumes.parquet"))
    for number, mask in ((4, masks[0]), (11, masks[3])):
        block = read_volume(tmp_path / "out" / f"block_{number}.mrc")[0] > 0
        assert (block & mask).sum() / (block | mask).sum() > 0.9
    write_on_grid(tmp_path / "edited" / "block_7.mrc", np.full(masks[0].shape, 0.4), volumes.grid)
    with pytest.raises(InputError, match="no voxel is above"):
        read_blocks(tmp_path / "edited", volumes.grid)
    with pytest.raises(InputError, match="no files named"):
        read_blocks(tmp_path / "out" / "nothing", volumes.grid)


def test_volumes_count_as_often_as_particles_stand_for_them(ensemble, tmp_path):
    volumes = open_ensemble(ensemble[0])
    levels = read_levels(volumes, "auto", volumes.mean(), np.random.default_rng(0)).values
    has_first = ensemble[2][:, 0]
    population = np.where(has_first, 30, 10)
    plain = blocks_of_ensemble(volumes, levels, "phi", 0)
    weighted = blocks_of_ensemble(volumes, levels, "phi", 0, sampling_of(None, population, 200, 0))
    share = (population * has_first).sum() / population.sum()
    for found, expected in ((plain, has_first.mean()), (weighted, share)):
        first = np.bincount(found.labels[ensemble[1][0]]).argmax()
        assert found.table[found.table.id == first].occupancy.item() == pytest.approx(expected, abs=1e-9)
    assert len(plain.table) == len(weighted.table) == 5
    assert weighted.states.shape == (200, 5)
    copies = sampling_of(None, population, 200, 0).copies
    assert set(copies[has_first]) == {6} and set(copies[~has_first]) == {2}


def test_few_volumes_give_empty_but_valid_outputs(tmp_path, run_script):
    rng = np.random.default_rng(0)
    for number in range(8):
        write_volume(tmp_path / "v" / f"vol_{number}.mrc", rng.normal(size=(16,) * 3), PIXEL)
    run_script("siren", "--volumes", tmp_path / "v", "-o", tmp_path / "out")
    table = pd.read_parquet(tmp_path / "out" / "blocks.parquet")
    assert table.empty and {"id", "n_voxels", "occupancy", "requires", "excludes"} <= set(table)
    assert list(pd.read_parquet(tmp_path / "out" / "volumes.parquet").volume) == list(range(8))
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["n_blocks"] == 0


def test_overlap_of_every_block_with_its_best_partner():
    """Block 1 of 4 voxels shares 3 with one of 5, block 3 of 2 shares both with one of 4, 7 none."""
    labels, others = np.zeros((2, 3, 3, 3), int)
    labels.flat[:4], labels.flat[10:12], labels.flat[20] = 1, 3, 7
    others.flat[1:6], others.flat[10:13], others.flat[0] = 2, 9, 9
    np.testing.assert_allclose(jaccard(labels, others), [3 / 6, 2 / 4, 0])
    assert jaccard(labels, np.zeros_like(labels)).tolist() == [0, 0, 0]


def test_the_stability_of_a_block_is_that_at_the_worse_level():
    labels = np.zeros((2, 3, 3), int)
    labels.flat[:4], labels.flat[10:12] = 1, 2
    fewer = np.where(np.arange(18).reshape(2, 3, 3) < 3, labels, 0)  # 3 of 4, and none of 2

    def blocks(labels):
        return SimpleNamespace(labels=labels, table=pd.DataFrame({"id": np.unique(labels[labels > 0])}))

    found, counts = level_stability(blocks(labels), {0.8: blocks(labels), 1.2: blocks(fewer)}.__getitem__)
    assert found.tolist() == [0.75, 0]
    assert counts == {"n_blocks_at_0.8": 2, "n_blocks_at_1.2": 1, "median_jaccard": 0.375}
