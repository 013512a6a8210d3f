"""Pairs of voxels: counts against direct ones and scipy, both engines, the published rule against a loop."""

import dataclasses
import functools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard
from scipy.stats import hypergeom

from tomohet.analysis.siren import bits, matrix, pairs, popcount, statistics
from tomohet.analysis.siren.communities import find_blocks
from tomohet.analysis.siren.extent import Space
from tomohet.files.shares import ALL_ROWS, Shares, ShareWritten


def voxels_of(on, xyz_A=None):
    xyz_A = np.zeros((on.shape[1], 3), np.float32) if xyz_A is None else xyz_A
    return pairs.Voxels(bits.pack(on), on.sum(axis=0), xyz_A, on.shape[0])


def random_states(volumes, voxels, seed=0, low=0.05, high=0.95):
    """Independent voxels of various occupancies (V, N) bool, none constant."""
    rng = np.random.default_rng(seed)
    on = rng.uniform(size=(volumes, voxels)) < rng.uniform(low, high, voxels)
    on[0], on[1] = True, False
    return on


def test_bits_hold_what_was_packed_and_common_counts_are_exact():
    on = random_states(150, 40)
    packed = bits.pack(on)
    assert packed.shape == (40, 3)
    np.testing.assert_array_equal(bits.unpack(packed, 150), on.T)
    np.testing.assert_array_equal(bits.totals(packed), on.sum(axis=0))
    counted = [[bits.common_ones(a, b) for b in packed] for a in packed]
    np.testing.assert_array_equal(counted, on.T.astype(int) @ on.astype(int))


class VolumesInBatches:
    """What `binarise` asks of an ensemble: (V, 2, 2, 2) volumes, 32 at a time."""

    def __init__(self, volumes):
        self.volumes, self.grid = volumes, SimpleNamespace(box=2)

    def __len__(self):
        return len(self.volumes)

    def batches(self, _):
        for start in range(0, len(self), 32):
            rows = slice(start, min(start + 32, len(self)))
            yield rows, self.volumes[rows]


def test_voxels_above_their_volumes_level_are_on_and_volumes_repeat(monkeypatch):
    rng = np.random.default_rng(0)
    volumes, levels = rng.normal(size=(70, 2, 2, 2)), rng.normal(size=70)
    on = volumes.reshape(70, 8) > levels[:, None]
    packed = bits.binarise(VolumesInBatches(volumes), levels)
    np.testing.assert_array_equal(packed, bits.pack(on))
    copies = rng.integers(0, 4, 70)
    monkeypatch.setattr(bits, "VOXELS_PER_CHUNK", 3)
    np.testing.assert_array_equal(bits.repeat(packed, copies), bits.pack(np.repeat(on, copies, axis=0)))


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


def test_exclusion_is_the_lower_tail_of_fishers_test():
    """The largest number of common volumes that is as rare and has as negative a phi; -1 where none is."""
    totals, volumes = np.array([3, 20, 47, 60, 80]), 90
    for log10_p, phi in ((1.5, 0.3), (6.0, 0.1)):
        table = pairs._excluded(totals, volumes, log10_p, phi)
        for i, n_i in enumerate(totals):
            for j, n_j in enumerate(totals):
                counts = np.arange(max(0, n_i + n_j - volumes), min(n_i, n_j) + 1)
                rare = hypergeom.cdf(counts, volumes, n_i, n_j) <= 10.0**-log10_p
                avoiding = statistics.phi_coefficient(counts, n_i, n_j, volumes) <= -phi
                assert table[i, j] == counts[rare & avoiding].max(initial=-1)


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
            present = n11 > min(factor * positive[n_i, n_j], n_i, n_j)
            absent = n00 > min(negative[n_i, n_j], 200 - max(n_i, n_j))
            if i != j and present and absent:
                expected.add((i, j))
    assert edges == expected and len(edges) > 100


def same_by_three_jobs(one, partners, folder):
    """Check that three jobs, each with its share of the voxels, find what one job does."""
    for job in (1, 2, 3):
        with pytest.raises(ShareWritten):
            partners(Shares((job, 3), folder / f"{job}"))
    gathered = partners(Shares(written=tuple(folder / f"{job}" for job in (1, 2, 3))))
    np.testing.assert_array_equal(one.index, gathered.index)
    np.testing.assert_array_equal(one.phi, gathered.phi)
    assert dataclasses.replace(one, index=None, phi=None) == dataclasses.replace(
        gathered, index=None, phi=None
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_matrix_products_give_the_partners_of_popcounts(seed, monkeypatch, tmp_path):
    rng = np.random.default_rng(seed)
    on = np.repeat(random_states(200, 8, seed, 0.2, 0.6), 30, axis=1) ^ (rng.uniform(size=(200, 240)) < 0.05)
    on[:, 200:] = ~on[:, :40]
    xyz_A = rng.uniform(0, 30, (240, 3)).astype(np.float32)
    noise_A = rng.choice(np.array([4, 9], np.float32), 240)
    voxels = dataclasses.replace(voxels_of(on, xyz_A), noise_A=noise_A, weighted=150.0, effective=80.0)
    monkeypatch.setitem(matrix.PAIRS_PER_TILE, "cpu", 5000)  # several tiles
    for partners_of in (
        lambda engine, shares=ALL_ROWS: pairs.partners_by_phi(
            voxels, np.random.default_rng(0), 7, engine, shares
        ),
        lambda engine, shares=ALL_ROWS: pairs.partners_by_siren(voxels, keep=7, engine=engine, shares=shares),
    ):
        one, other = partners_of("popcount"), partners_of("matrix-cpu")
        np.testing.assert_array_equal(one.index, other.index)
        np.testing.assert_array_equal(one.phi, other.phi)
        assert (one.linked, one.excluded, one.p_value) == (other.linked, other.excluded, other.p_value)
        assert one.linked > 500
        for engine in ("popcount", "matrix-cpu"):
            same_by_three_jobs(one, functools.partial(partners_of, engine), tmp_path)
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


def eleven_alike_of_41():
    """64 volumes, every voxel on in 32; 11 voxels are the same, any two others share 16 volumes: phi 0.

    55 of 820 pairs, each of p-value 1 / (64 choose 32) = 10^-18.26.
    """
    columns = hadamard(64)[:, 1:32] > 0
    return np.concatenate([columns, np.repeat(columns[:, :1], 10, axis=1)], axis=1)


@pytest.mark.parametrize("engine", ["popcount", "matrix-cpu"])
def test_significance_by_hand(engine):
    """Benjamini and Hochberg: 820 p <= 0.01 * 55 for p = 10^-3.5, not for 10^-3 (0.26 and 0.82 by 0.55)."""
    found = pairs.partners_by_phi(voxels_of(eleven_alike_of_41()), np.random.default_rng(0), engine=engine)
    assert found.p_value == pytest.approx(10**-3.5)
    assert (found.pairs, found.linked, found.excluded) == (820, 55, 0)
    assert (found.phi[31:, :10] == 1).all() and (found.index[1:31] == -1).all()


def test_significance_of_many_voxels_is_that_of_some_of_them(monkeypatch):
    """20 of 41 voxels, 3 to 7 of them of the 11 alike: 800 p <= 0.01 * 70 for p = 10^-3.5, not for 10^-3."""
    monkeypatch.setattr(pairs, "PAIRS_FOR_SIGNIFICANCE", 20 * 41)
    found = pairs.partners_by_phi(voxels_of(eleven_alike_of_41()), np.random.default_rng(0))
    assert found.p_value == pytest.approx(10**-3.5) and (found.pairs, found.linked) == (820, 55)


@pytest.mark.parametrize("engine", ["popcount", "matrix-cpu"])
def test_volumes_of_little_weight_make_few_pairs_significant(engine):
    """64 volumes worth 16 have a quarter of the exponent: 10^-4.6 is significant; worth 8, 10^-2.3 is not."""
    voxels = voxels_of(eleven_alike_of_41())
    for weighted, linked, p_value in ((16.0, 55, 10**-3.5), (8.0, 0, None)):
        worth = dataclasses.replace(voxels, weighted=weighted)
        found = pairs.partners_by_phi(worth, np.random.default_rng(0), engine=engine)
        assert found.linked == linked
        assert found.p_value == (p_value and pytest.approx(p_value))


@pytest.mark.parametrize("engine", ["popcount", "matrix-cpu"])
def test_volumes_of_little_weight_exclude_few_pairs(engine):
    """64 volumes worth 16: to avoid each other at 10^-3.5, two voxels need a tail of 10^-14.

    The complement of the 11 equal voxels shares no volume with them (10^-18.26). The other new voxel shares 8
    of 32 with them: its phi of -0.5 is beyond the required -0.41, but its tail is only 10^-4.3.
    """
    on = eleven_alike_of_41()
    a, b, c = (hadamard(64)[:, column] > 0 for column in (1, 2, 4))
    more = np.stack([~a, ~a ^ (b & c)], axis=1)
    voxels = voxels_of(np.concatenate([on, more], axis=1))
    assert (more[:, 1] & a).sum() == 8 and (voxels.totals == 32).all()
    rarely = dataclasses.replace(voxels, weighted=16.0)
    found = pairs.partners_by_phi(rarely, np.random.default_rng(0), engine=engine)
    assert (found.linked, found.excluded) == (55, 11) and found.p_value == pytest.approx(10**-3.5)
    assert pairs.partners_by_phi(voxels, np.random.default_rng(0), engine=engine).excluded > 20


@pytest.mark.parametrize("count", [popcount.count_significant, matrix.count_significant])
def test_voxels_that_share_their_noise_do_not_count(count):
    """A pair is apart if its distance exceeds the larger of its two extents of noise."""
    rng = np.random.default_rng(3)
    on = np.repeat(random_states(100, 12, 3, 0.2, 0.8), 10, axis=1) ^ (rng.uniform(size=(100, 120)) < 0.1)
    xyz_A = rng.uniform(0, 30, (120, 3)).astype(np.float32)
    noise_A = rng.choice(np.array([3, 25], np.float32), 120)
    voxels = dataclasses.replace(voxels_of(on, xyz_A), noise_A=noise_A)
    kinds, rank = np.unique(voxels.totals, return_inverse=True)
    cutoffs = statistics.hypergeometric_cutoffs(kinds, 100, np.array([1.5, 3.0, 6.0]))
    rows = np.arange(0, 120, 3)
    device = {} if count is popcount.count_significant else {"device": torch.device("cpu")}
    found = count(voxels, rank.astype(np.int32), rows, cutoffs, **device)
    both, n = on.T.astype(int) @ on.astype(int), on.sum(axis=0)
    distance_A = np.linalg.norm(xyz_A[:, None].astype(float) - xyz_A[None], axis=2)
    tail = hypergeom.sf(both - 1, 100, n[:, None], n[None])
    larger, smaller = (by.outer(noise_A, noise_A) for by in (np.maximum, np.minimum))
    counts = [
        [((tail <= 10.0**-p) & (distance_A > radius))[rows].sum() for p in (1.5, 3.0, 6.0)]
        for radius in (larger, smaller)
    ]
    assert found.tolist() == counts[0]
    assert (np.subtract(counts[1], counts[0]) > 10).all()


def test_lift_grows_with_distance_between_its_ends():
    found = [statistics.lift(distance_A) for distance_A in (0.0, 15.0, 30.0, 40.0, 500.0)]
    assert found == pytest.approx([1.25, 1.25, 1.55, 1.75, 1.75])


def test_published_rule_links_neither_rare_nor_common_voxels():
    """Two voxels that agree in all 200 volumes, on in 10, 60 or 150 of them, far from all others.

    n11 > 1.25 times its cut-off or n11 > 150 cannot be met at 150; n00 > 190 cannot be met at 10, since the
    cut-off of joint absence there, 194, is beyond the 190 volumes in which both are off.
    """
    on = np.zeros((200, 6), bool)
    for pair, (first, last) in enumerate(((0, 10), (10, 70), (50, 200))):
        on[first:last, 2 * pair : 2 * pair + 2] = True
    found = pairs.partners_by_siren(voxels_of(on), keep=2)
    assert found.index[:, 0].tolist() == [-1, -1, 3, 2, -1, -1]
    assert found.linked == 1 and (found.index[:, 1] == -1).all()


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


@given(
    volumes=st.integers(60, 300),
    voxels=st.integers(2, 70),
    keep=st.integers(1, 40),
    tile=st.integers(1, 900),
    noisy=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=25, deadline=None)
def test_both_engines_agree_whatever_the_sizes(volumes, voxels, keep, tile, noisy, seed):
    rng = np.random.default_rng(seed)
    blocks = random_states(volumes, -(-voxels // 3), seed)
    on = np.repeat(blocks, 3, axis=1)[:, :voxels] ^ (rng.uniform(size=(volumes, voxels)) < 0.04)
    on[0], on[1] = True, False
    found = voxels_of(on, rng.uniform(0, 30, (voxels, 3)).astype(np.float32))
    if noisy:
        found = dataclasses.replace(found, noise_A=rng.choice(np.array([2, 8], np.float32), voxels))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(matrix.PAIRS_PER_TILE, "cpu", tile)
        for partners_of in (
            lambda engine: pairs.partners_by_phi(found, np.random.default_rng(0), keep, engine),
            lambda engine: pairs.partners_by_siren(found, keep=keep, engine=engine),
        ):
            one, other = partners_of("popcount"), partners_of("matrix-cpu")
            np.testing.assert_array_equal(one.index, other.index)
            np.testing.assert_array_equal(one.phi, other.phi)
            assert (one.linked, one.excluded, one.p_value) == (other.linked, other.excluded, other.p_value)


@given(seed=st.integers(0, 2**32 - 1), keep=st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_the_best_keys_of_every_voxel_are_kept_piece_by_piece(seed, keep):
    rng = np.random.default_rng(seed)
    voxel = np.sort(rng.integers(0, 9, rng.integers(0, 60)))
    keys = rng.permutation(1000)[: len(voxel)]
    best = torch.full((9, keep), matrix.NOBODY, dtype=torch.int64)
    for part in np.array_split(np.arange(len(voxel)), 3):
        matrix._keep_best(best, torch.as_tensor(voxel[part]), torch.as_tensor(keys[part]))
    for row in range(9):
        expected = np.sort(keys[voxel == row])[::-1][:keep]
        assert best[row].tolist() == [*expected, *[matrix.NOBODY] * (keep - len(expected))]


@pytest.mark.parametrize("volumes", [2047, 2048])
def test_counts_of_16_bits_are_exact_up_to_their_limit(volumes):
    """In float16 the cut-off V + 1, which no count reaches, must not round to V."""
    voxels = voxels_of(random_states(volumes, 2))
    states = matrix._States(voxels, torch.device("cpu"))
    exact = volumes + 1 <= matrix.LARGEST_EXACT_HALF
    states._kind = torch.float16 if exact else torch.float32
    table = torch.tensor([0, 1, volumes, volumes + 1, 10 * volumes, -1])
    assert states.comparable(table).tolist() == [0, 1, volumes, volumes + 1, volumes + 1, -1]
    assert exact == (float(torch.tensor(volumes + 1.0).half()) == volumes + 1 and volumes < 2048)


@pytest.mark.parametrize(("kinds", "count"), [(1, 38), (1000, 38), (4000, 6), (10**5, 2)])
def test_many_totals_leave_fewer_p_values_so_that_the_table_stays_small(kinds, count):
    """38 steps of 0.5 from 1.5 to 20; tables of kinds^2 entries have 10^8 in all, or are two."""
    grid = statistics.p_value_grid(kinds)
    assert len(grid) == count and grid[0] == 1.5
    assert len(grid) == 2 or len(grid) * kinds**2 <= 10**8
