"""What tells blocks from noise: levels, extent, compactness, independence of volumes, relations."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import hypergeom

from tomohet.analysis.cooccurrence import related, relations
from tomohet.analysis.ensemble import open_ensemble
from tomohet.analysis.siren.extent import Space, compact, noise_of
from tomohet.analysis.siren.independence import sampling_of
from tomohet.analysis.siren.levels import outlying_volumes, read_levels
from tomohet.errors import InputError
from tomohet.files.mrc import write_volume

BOX, PIXEL = 32, 6.0


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
    assert set(zip(table.unit, table.relation, table.other, strict=True)) == {
        (5, "requires", 3),
        (8, "excludes", 9),
    }
    row = table[table.relation == "requires"].iloc[0]
    n = present.sum(axis=0)
    assert row.p_value == pytest.approx(hypergeom.cdf(0, 400, 400 - n[0], n[1]), rel=1e-6)
    assert row.phi == pytest.approx(np.corrcoef(present[:, 1], present[:, 0])[0, 1])
    assert related(table, 9, "excludes") == "8" and related(table, 3, "requires") == ""
    np.testing.assert_allclose(table.p_value_smooth, table.p_value)
    few = relations(present, ids, once, 400.0, np.full(4, 40.0))
    np.testing.assert_allclose(np.log(few.p_value_smooth), np.log(table.p_value) / 10, rtol=1e-6)
    np.testing.assert_allclose(few.p_value, table.p_value)
    assert relations(present, ids, once, 8.0, np.full(4, 3.0)).empty
    doubled = relations(present, ids, 2 * once, 400.0, np.full(4, 400.0))
    assert (doubled.n_present.to_numpy() == 2 * table.n_present.to_numpy()).all()
    np.testing.assert_allclose(np.log(doubled.p_value), np.log(table.p_value), rtol=0.05)
