"""Pair statistics against direct counts and scipy, the published rule against a naive loop, known blocks."""

import dataclasses
import json
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import hypergeom

from tomohet.analysis.ensemble import open_ensemble
from tomohet.analysis.siren import bits, matrix, pairs, statistics
from tomohet.analysis.siren.blocks import blocks_of_ensemble
from tomohet.analysis.siren.communities import communities, find_blocks
from tomohet.analysis.siren.extent import Space, compact, noise_of
from tomohet.analysis.siren.files import read_blocks
from tomohet.analysis.siren.independence import latents_beside, sampling_of
from tomohet.analysis.siren.levels import outlying_volumes, read_levels
from tomohet.analysis.siren.relations import listed, relations
from tomohet.errors import InputError
from tomohet.files.grids import read_grid, write_on_grid
from tomohet.files.mrc import read_volume, write_volume
from tomohet.physics.molmap import molmap

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import siren_ensembles  # noqa: E402

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
    levels = read_levels(volumes, "auto", volumes.mean(), np.random.default_rng(0)).values
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
    noise_A = rng.choice(np.array([4, 9], np.float32), 240)
    voxels = dataclasses.replace(voxels_of(on, xyz_A), noise_A=noise_A, weighted=150.0, effective=80.0)
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
    distance_A = np.linalg.norm(xyz_A[:, None].astype(float) - xyz_A[None], axis=2)
    apart = distance_A > np.maximum.outer(noise_A, noise_A)
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
    space = Space(np.arange(3000), (15, 15, 15), np.zeros(3000))
    assert (find_blocks(voxels, partners, seed, space) == -1).all()


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


def test_levels_of_every_kind_on_volumes_of_known_greys(tmp_path):
    """A ball of density 3 (or 6) in solvent of sigma 0.1 (or 0.3) at a zero of its own."""
    rng = np.random.default_rng(0)
    radius = np.linalg.norm(np.indices((32,) * 3) - 16, axis=0)
    zeros, sigmas, heights = rng.normal(size=40), rng.choice([0.1, 0.3], 40), rng.choice([3.0, 6.0], 40)
    for number in range(40):
        volume = zeros[number] + rng.normal(0, sigmas[number], radius.shape)
        write_volume(tmp_path / f"vol_{number}.mrc", volume + heights[number] * (radius < 6), PIXEL)
    volumes = open_ensemble(tmp_path)
    mean = volumes.mean()

    def heights_of(level, **more):
        found = read_levels(volumes, level, mean, np.random.default_rng(0), **more)
        np.testing.assert_allclose(found.solvent, zeros, atol=0.05)
        np.testing.assert_allclose(found.scaled(1.2) - zeros, 1.2 * (found.values - zeros), atol=0.02)
        return found.values - zeros

    np.testing.assert_allclose(heights_of("own-solvent"), 5 * sigmas, rtol=0.1, atol=0.04)
    np.testing.assert_allclose(heights_of("solvent"), 5 * np.median(sigmas), rtol=0.15)
    peaks = np.array([np.percentile(v, 99.999) for _, batch in volumes.batches("") for v in batch])
    np.testing.assert_allclose(heights_of("own-maximum"), 0.19 * (peaks - zeros), atol=0.02)
    mass_kDa = (radius < 5).sum() * PIXEL**3 / 1210
    inside = heights_of("volume", mass_kDa=mass_kDa)
    enclosed = (mean - np.median(mean[radius > 12]) > np.median(inside)).sum()
    assert enclosed == pytest.approx((radius < 5).sum(), rel=0.05)
    level = np.full(40, 1.5, np.float32) + zeros
    assert list(outlying_volumes(volumes, level)) == []
    level[[3, 7]] += 100, -100
    assert list(outlying_volumes(volumes, level)) == [3, 7]
    with pytest.raises(InputError, match="half"):
        heights_of("volume", mass_kDa=1e6)


def test_effective_volumes_by_the_smoothness_of_states():
    """On latents along a circle, whose harmonics are sines: what is smooth is worth few volumes."""
    rng = np.random.default_rng(0)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 400))
    z = np.column_stack([np.cos(angle), np.sin(angle)])
    sampling = sampling_of(z, None, 400, 0)
    harmonics = np.concatenate(sampling.bands, axis=1)
    np.testing.assert_allclose(harmonics.T @ harmonics, np.eye(399), atol=1e-4)
    np.testing.assert_allclose(harmonics.sum(axis=0), 0, atol=1e-3)
    white = rng.uniform(size=(300, 400)) < 0.4
    assert sampling.effective(white) == pytest.approx(399, rel=0.05)
    halves = np.cos(angle[None] - rng.uniform(0, 2 * np.pi, (300, 1))) > 0
    assert sampling.effective(halves) < 5
    # What the number promises: unrelated courses of this smoothness correlate like so many volumes.
    phases = rng.uniform(0, 2 * np.pi, (400, 12))
    waves = np.cos(rng.integers(1, 13, (400, 12))[..., None] * angle + phases[..., None]).sum(axis=1) > 0.5
    spread = np.corrcoef(waves)[np.triu_indices(400, 1)].std()
    assert sampling.effective(waves) == pytest.approx(spread**-2, rel=0.5)
    assert 10 < spread**-2 < 60
    assert sampling_of(z, np.full(400, 3), 400, 0).effective(white) == pytest.approx(399, rel=0.05)
    population = np.where(np.arange(400) < 40, 91, 1)  # a tenth of the volumes stands for nine tenths
    assert sampling_of(z, population, 400, 0).effective(white) < 60
    assert sampling_of(None, population, 400, 0).kish < 60


def test_randomised_courses_keep_their_smoothness_and_lose_their_relation():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 3))
    sampling = sampling_of(z, None, 300, 0)
    courses = np.cos(z @ rng.normal(size=(3, 60)) * 2 + rng.uniform(0, 6, 60)).T
    groups = np.arange(60) // 2
    randomised = sampling.randomised(courses, groups, rng)
    np.testing.assert_allclose(sampling.spectra(randomised), sampling.spectra(courses), atol=1e-3)
    np.testing.assert_allclose(randomised.mean(axis=1), courses.mean(axis=1), atol=1e-4)
    before, after = np.corrcoef(courses), np.corrcoef(randomised)
    same = groups[:, None] == groups[None]
    np.testing.assert_allclose(after[same], before[same], atol=1e-3)
    assert np.abs(np.mean((after * before)[~same])) < 0.02


def test_compact_voxels_are_told_from_scattered_ones():
    shape = (24, 24, 24)
    tested = np.arange(24**3)
    radius = np.linalg.norm(np.indices(shape) - 12, axis=0).reshape(-1)
    rng = np.random.default_rng(0)
    labels = np.where(radius < 5, 0, -1)
    labels[rng.choice(np.flatnonzero(radius >= 5), 500, replace=False)] = 1
    for extent_px in (0.8, 2.0):
        compactness, sigmas = compact(labels, Space(tested, shape, np.full(24**3, extent_px)))
        assert compactness[0] > 0.4 and sigmas[0] > 6
        assert compactness[1] < 0.05
    # Voxels of specks, as noise makes them, at random places: within its extent they do not count.
    specks = np.full(shape, -1)
    for corner in rng.choice(20, (60, 3)):
        specks[tuple(slice(c, c + 2) for c in corner)] = 0
    compactness, _ = compact(specks.reshape(-1), Space(tested, shape, np.full(24**3, 1.9)))
    assert compactness[0] < 0.1


def test_the_extent_of_noise_is_measured(tmp_path):
    rng = np.random.default_rng(0)
    radius = np.linalg.norm(np.indices((32,) * 3) - 16, axis=0)
    for name, width in (("white", 0), ("smooth", 1.2)):
        for number in range(30):
            noise = gaussian_filter(rng.normal(size=radius.shape), width, mode="wrap")
            write_volume(tmp_path / name / f"v_{number}.mrc", noise / noise.std() + 5 * (radius < 6), PIXEL)
        volumes = open_ensemble(tmp_path / name)
        noise = noise_of(volumes, volumes.mean(), np.ones(30))
        found = noise.extent_px
        # The autocorrelation of Gaussian noise is exp(-d^2 / 4 w^2).
        expected = 2 * width * np.sqrt(-np.log(0.15)) if width else 0.85
        assert found == pytest.approx(expected, rel=0.15)
        assert not noise.clear.any()


def test_where_structure_varies_noise_matters_less(tmp_path):
    rng = np.random.default_rng(0)
    radius = np.linalg.norm(np.indices((32,) * 3) - 16, axis=0)
    piece = np.linalg.norm(np.indices((32,) * 3) - np.reshape((16, 16, 24), (3, 1, 1, 1)), axis=0) < 3
    for number in range(40):
        noise = gaussian_filter(rng.normal(size=radius.shape), 1.5, mode="wrap")
        volume = noise / noise.std() + 20 * (radius < 6) + 9 * piece * (number % 10 == 0) + number
        write_volume(tmp_path / f"v_{number}.mrc", volume, PIXEL)
    volumes = open_ensemble(tmp_path)
    noise = noise_of(volumes, volumes.mean(), 4.5 + np.arange(40))
    np.testing.assert_array_equal(noise.clear, piece)
    extents = noise.extents(np.arange(32**3)).reshape(piece.shape)
    assert set(extents[piece]) == {1.5} and set(extents[~piece]) == {np.float32(noise.extent_px)}
    assert noise.extent_px > 2.5


def test_relations_of_blocks_that_need_and_exclude_each_other():
    rng = np.random.default_rng(0)
    host, other = rng.uniform(size=(2, 400)) < 0.5
    present = np.column_stack(
        [host, host & (rng.uniform(size=400) < 0.5), other, ~other & (rng.uniform(size=400) < 0.6)]
    )
    ids = np.array([3, 5, 8, 9])
    once = np.ones(400, dtype=np.int64)
    table = relations(present, ids, once, 400.0, np.full(4, 400.0))
    assert set(zip(table.block, table.relation, table.other, strict=True)) == {
        (5, "requires", 3),
        (8, "excludes", 9),
    }
    row = table[table.relation == "requires"].iloc[0]
    n = present.sum(axis=0)
    assert row.p_value == pytest.approx(hypergeom.cdf(0, 400, 400 - n[0], n[1]), rel=1e-6)
    assert row.phi == pytest.approx(np.corrcoef(present[:, 1], present[:, 0])[0, 1])
    assert listed(table, 9, "excludes") == "8" and listed(table, 3, "requires") == ""
    np.testing.assert_allclose(table.p_value_smooth, table.p_value)
    few = relations(present, ids, once, 400.0, np.full(4, 40.0))
    np.testing.assert_allclose(np.log(few.p_value_smooth), np.log(table.p_value) / 10, rtol=1e-6)
    np.testing.assert_allclose(few.p_value, table.p_value)
    assert relations(present, ids, once, 8.0, np.full(4, 3.0)).empty
    doubled = relations(present, ids, 2 * once, 400.0, np.full(4, 400.0))
    assert (doubled.n_present.to_numpy() == 2 * table.n_present.to_numpy()).all()
    np.testing.assert_allclose(np.log(doubled.p_value), np.log(table.p_value), rtol=0.05)


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
    write_on_grid(tmp_path / "edited" / "block_7.mrc", np.zeros(masks[0].shape), volumes.grid)
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
