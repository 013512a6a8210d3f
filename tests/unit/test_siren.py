"""Pair statistics against direct counts and scipy, the published rule against a naive loop, known blocks."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import hypergeom

from tomohet.analysis.ensemble import open_ensemble
from tomohet.analysis.siren import bits, matrix, pairs, statistics
from tomohet.analysis.siren.blocks import blocks_of_ensemble
from tomohet.analysis.siren.communities import find_blocks
from tomohet.analysis.siren.extent import Space, compact, noise_extent_px
from tomohet.analysis.siren.independence import Sampling, equal_sampling, sampling_of
from tomohet.analysis.siren.relations import listed, relations
from tomohet.analysis.siren.levels import read_levels
from tomohet.errors import InputError
from tomohet.files.grids import read_grid
from tomohet.files.mrc import read_volume, write_volume
from tomohet.physics.molmap import molmap

BOX, PIXEL = 32, 6.0
OCCUPANCIES = (0.22, 0.45, 0.6, 0.8)


def voxels_of(on, xyz_A=None):
    xyz_A = np.zeros((on.shape[1], 3), np.float32) if xyz_A is None else xyz_A
    return pairs.Voxels(bits.pack(on), on.sum(axis=0), xyz_A, on.shape[0])


def random_states(volumes, voxels, seed=0, low=0.05, high=0.95):
    """Independent voxels of various occupancies (V, N) bool, none constant."""
    rng = np.random.default_rng(seed)
    on = rng.uniform(size=(volumes, voxels)) < rng.uniform(low, high, voxels)
    on[0], on[1] = True, False
    return on


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
    levels = read_levels(volumes, "auto", volumes.mean(), np.random.default_rng(0))
    height = np.median(levels - zeros)
    assert 0.3 * full < height < 0.6 * full
    np.testing.assert_allclose(levels - zeros, height, atol=0.05 * full)
    return folder, [(part > height) & (core < height) for part in parts], states


def test_bits_hold_what_was_packed_and_common_counts_are_exact():
    on = random_states(150, 40)
    packed = bits.pack(on)
    assert packed.shape == (40, 3)
    np.testing.assert_array_equal(bits.unpack(packed, 150), on.T)
    np.testing.assert_array_equal(bits.totals(packed), on.sum(axis=0))
    counted = [[bits.common_ones(a, b) for b in packed] for a in packed]
    np.testing.assert_array_equal(counted, on.T.astype(int) @ on.astype(int))


def test_hypergeometric_cutoffs_are_fishers_exact_test():
    totals, volumes = np.array([3, 20, 47, 80]), 90
    table = statistics.hypergeometric_cutoffs(totals, volumes, statistics.LOG10_P)
    for i, n_i in enumerate(totals):
        for j, n_j in enumerate(totals):
            counts = np.arange(volumes + 2)
            tail = hypergeom.sf(counts - 1, volumes, n_i, n_j)
            possible = counts <= min(n_i, n_j)
            for k, log10_p in enumerate(statistics.LOG10_P):
                rare = np.flatnonzero((tail <= 10.0**-log10_p) & possible)
                assert table[i, j, k] == (rare[0] if len(rare) else volumes + 1)


def test_phi_cutoffs_bound_phi():
    totals, volumes = np.array([5, 31, 60, 118]), 121
    needed = statistics.phi_cutoffs(totals, totals, volumes, 0.3)
    n_i, n_j = totals[:, None], totals[None]
    assert (statistics.phi_coefficient(needed, n_i, n_j, volumes) >= 0.3 - 1e-12).all()
    assert (statistics.phi_coefficient(needed - 1, n_i, n_j, volumes) < 0.3).all()
    assert statistics.least_phi(500) == 0.3 and statistics.least_phi(40) == pytest.approx(0.5218, abs=1e-4)
    assert statistics.least_phi(4) == 0.6


def test_partners_equal_all_pairs_by_scipy():
    rng = np.random.default_rng(2)
    on = random_states(120, 60, low=0.1, high=0.9)
    for follower in range(20):
        on[:, 40 + follower] = on[:, follower] ^ (rng.uniform(size=120) < 0.01 * follower)
    found = pairs.partners_by_phi(voxels_of(on), np.random.default_rng(0), keep=60)
    n = on.sum(axis=0)
    both = on.T.astype(int) @ on.astype(int)
    tail = hypergeom.sf(both - 1, 120, n[:, None], n[None])
    phi = np.corrcoef(on, rowvar=False)
    linked = (tail <= found.p_value * (1 + 1e-9)) & (phi >= 0.3 - 1e-12) & ~np.eye(60, dtype=bool)
    assert found.linked == linked.sum() // 2 > 10
    for voxel in range(60):
        expected = np.flatnonzero(linked[voxel])
        kept = found.index[voxel][found.index[voxel] >= 0]
        assert set(kept) == set(expected)
        np.testing.assert_allclose(found.phi[voxel, : len(kept)], phi[voxel, kept], atol=1e-6)
        assert (np.diff(found.phi[voxel, : len(kept)]) <= 0).all()
    few = pairs.partners_by_phi(voxels_of(on), np.random.default_rng(0), keep=2)
    np.testing.assert_array_equal(few.index, found.index[:, :2])
    # Benjamini and Hochberg on the exact p-values reject no fewer pairs, and the grid loses at most one step.
    tails = np.sort(tail[np.triu_indices(60, 1)])
    rank = np.arange(1, len(tails) + 1)
    exact = tails[np.flatnonzero(tails <= 0.01 * rank / len(tails))].max()
    assert found.p_value <= exact * (1 + 1e-9) or (tails <= found.p_value).sum() == (tails <= exact).sum()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_published_rule_equals_a_naive_loop_with_stored_cutoffs(seed):
    rng = np.random.default_rng(seed)
    blocks = np.repeat(random_states(200, 7, seed, low=0.2, high=0.6), 10, axis=1)
    on = blocks ^ (rng.uniform(size=(200, 70)) < 0.06)
    xyz_A = rng.uniform(0, 40, (70, 3)).astype(np.float32)
    positive, negative = statistics.binomial_cutoffs(np.arange(201), 200, 7e-4, 7e-4)
    positive = positive + rng.integers(-2, 3, positive.shape)
    positive = np.triu(positive) + np.triu(positive, 1).T
    found = pairs.partners_by_siren(voxels_of(on, xyz_A), positive, negative, keep=70)
    edges = {(i, int(j)) for i in range(70) for j in found.index[i] if j >= 0}
    expected = set()
    for i in range(70):
        for j in range(70):
            n_i, n_j = on[:, i].sum(), on[:, j].sum()
            n11, n00 = (on[:, i] & on[:, j]).sum(), (~on[:, i] & ~on[:, j]).sum()
            distance = math.dist(xyz_A[i], xyz_A[j])
            factor = max(1.25, 0.02 * distance + 0.95) if distance < 40 else 1.75
            present = n11 > min(factor * positive[n_i, n_j], min(n_i, n_j))
            absent = n00 > min(negative[n_i, n_j], 200 - max(n_i, n_j))
            if i != j and present and absent:
                expected.add((i, j))
    assert edges == expected and len(edges) > 100


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_matrix_products_give_the_partners_of_popcounts(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    on = np.repeat(random_states(200, 8, seed, 0.2, 0.6), 30, axis=1) ^ (rng.uniform(size=(200, 240)) < 0.05)
    on[:, 200:] = ~on[:, :40]
    xyz_A = rng.uniform(0, 30, (240, 3)).astype(np.float32)
    voxels = dataclasses.replace(voxels_of(on, xyz_A), noise_A=9.0, weighted=150.0, effective=80.0)
    monkeypatch.setitem(matrix.PAIRS_PER_TILE, "cpu", 5000)  # several tiles
    for partners_of in (
        lambda engine: pairs.partners_by_phi(voxels, np.random.default_rng(0), 7, engine),
        lambda engine: pairs.partners_by_siren(voxels, keep=7, engine=engine),
    ):
        one, other = partners_of("popcount"), partners_of("matrix-cpu")
        np.testing.assert_array_equal(one.index, other.index)
        np.testing.assert_array_equal(one.phi, other.phi)
        assert (one.linked, one.excluded, one.p_value) == (other.linked, other.excluded, other.p_value)
        assert one.linked > 500
    both = on.T.astype(int) @ on.astype(int)
    phi = np.corrcoef(on, rowvar=False)
    n = on.sum(axis=0)
    found = pairs.partners_by_phi(voxels, np.random.default_rng(0), 7)
    exponent = np.log10(found.p_value) * 200 / 150
    lower = hypergeom.cdf(both, 200, n[:, None], n[None])
    apart = np.linalg.norm(xyz_A[:, None].astype(float) - xyz_A[None], axis=2) > 9.0
    avoiding = (np.log10(lower) <= exponent + 1e-9) & (phi <= -found.least_phi + 1e-12)
    upper = hypergeom.sf(both - 1, 200, n[:, None], n[None])
    linked = (np.log10(upper) <= exponent + 1e-9) & (phi >= found.least_phi - 1e-12) & apart
    assert found.excluded == avoiding.sum() // 2 > 100
    assert found.linked == linked.sum() // 2


@pytest.mark.parametrize("rule", ["phi", "siren"])
@pytest.mark.parametrize("seed", [0, 1])
def test_independent_voxels_make_no_blocks(rule, seed):
    voxels = voxels_of(random_states(200, 3000, seed), np.random.default_rng(seed).uniform(0, 99, (3000, 3)))
    if rule == "phi":
        partners = pairs.partners_by_phi(voxels, np.random.default_rng(seed))
    else:
        partners = pairs.partners_by_siren(voxels)
    space = Space(np.arange(3000), (15, 15, 15), 0.0)
    assert (find_blocks(voxels, partners, seed, space) == -1).all()


def test_volumes_of_noise_make_no_blocks(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(60):
        write_volume(tmp_path / f"vol_{number}.mrc", rng.normal(size=(20,) * 3), PIXEL)
    noise = open_ensemble(tmp_path)
    for level in ("auto", "0.0"):
        levels = read_levels(noise, level, noise.mean(), np.random.default_rng(0))
        assert blocks_of_ensemble(noise, levels, "phi", 0).table.empty


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
        assert row.occupancy == state.mean() and row.n_voxels == found[best].sum()
        centre_A = np.argwhere(mask)[:, ::-1].mean(axis=0) * PIXEL
        assert np.linalg.norm(row[["x_A", "y_A", "z_A"]].to_numpy(float) - centre_A) < PIXEL
    assert len(set(matched)) == 5
    requires = dict(zip(table.id, table.requires, strict=True))
    assert requires[matched[4]] == str(matched[1])
    assert sum(bool(text) for text in requires.values()) == 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["n_blocks"] == 5 and summary["n_pairs"] > 1e5
    for figure in ("blocks", "states", "co_occupancy"):
        assert (tmp_path / f"{figure}.png").stat().st_size > 10_000


def test_blocks_do_not_depend_on_the_run_and_serve_as_masks(ensemble, tmp_path):
    from tomohet.analysis.maven.units import read_masks
    from tomohet.files.grids import write_on_grid

    volumes = open_ensemble(ensemble[0])
    levels = read_levels(volumes, "auto", volumes.mean(), np.random.default_rng(0))
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
    levels = read_levels(volumes, "auto", volumes.mean(), np.random.default_rng(0))
    found = blocks_of_ensemble(volumes, levels, "siren", 0)
    rare = found.labels[masks[0]]
    assert (rare > 0).mean() > 0.8  # in 22 % of the volumes
    assert (found.labels[masks[3]] > 0).mean() < 0.05  # in 80 %: beyond its occupancy window


def test_levels_from_a_number_a_table_and_predictions(ensemble, tmp_path):
    volumes = open_ensemble(ensemble[0])
    rng, mean = np.random.default_rng(0), np.zeros((BOX,) * 3)
    assert set(read_levels(volumes, "0.25", mean, rng)) == {np.float32(0.25)}
    heights = np.linspace(0, 1, 200).astype(np.float32)
    own = tmp_path / "levels.csv"
    pd.DataFrame({"volume": volumes.numbers, "level": heights}).sample(frac=1, random_state=0).to_csv(own)
    np.testing.assert_allclose(read_levels(volumes, str(own), mean, rng), heights, rtol=1e-6)
    published = tmp_path / "predictions.csv"
    pd.DataFrame({"vol_id": range(200), "denormalized_predictions": heights}).to_csv(published)
    np.testing.assert_allclose(read_levels(volumes, str(published), mean, rng), heights, rtol=1e-6)
    pd.DataFrame({"volume": volumes.numbers[1:], "level": heights[1:]}).to_csv(own)
    with pytest.raises(InputError, match="no level for volume 5"):
        read_levels(volumes, str(own), mean, rng)
    with pytest.raises(InputError, match="--level high"):
        read_levels(volumes, "high", mean, rng)


def test_few_volumes_give_empty_but_valid_outputs(tmp_path, run_script):
    rng = np.random.default_rng(0)
    for number in range(8):
        write_volume(tmp_path / "v" / f"vol_{number}.mrc", rng.normal(size=(16,) * 3), PIXEL)
    run_script("siren", "--volumes", tmp_path / "v", "-o", tmp_path / "out")
    table = pd.read_parquet(tmp_path / "out" / "blocks.parquet")
    assert table.empty and {"id", "n_voxels", "occupancy", "requires", "excludes"} <= set(table)
    assert list(pd.read_parquet(tmp_path / "out" / "volumes.parquet").volume) == list(range(8))
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["n_blocks"] == 0
