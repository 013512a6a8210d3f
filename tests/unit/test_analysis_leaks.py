"""The leak audit finds planted leaks and nothing else."""

import numpy as np
import pytest
from analysis_fakes import store
from scipy.stats import f_oneway
from sklearn.metrics import roc_auc_score

from tomohet.analysis import leaks

N = 250


def audited(score: np.ndarray, made) -> leaks.Audit:
    other = np.random.default_rng(9).normal(size=N)
    return leaks.audit(np.stack([score, other], axis=1), leaks.nuisances(made, np.arange(N)))


def test_random_latents_are_clean():
    score = np.random.default_rng(1).normal(size=N)
    assert set(audited(score, store(N)).verdicts.values()) == {"clean"}


def test_tilt_count_is_found():
    rng = np.random.default_rng(1)
    tilts = rng.integers(8, 11, N)
    verdicts = audited(tilts + 0.3 * rng.normal(size=N), store(N, tilts=tilts)).verdicts
    assert verdicts["n_tilts"] == "leak" and verdicts["noise_power"] == "clean"


def test_noise_power_is_found():
    noise = np.random.default_rng(3).uniform(0.8, 1.2, N)
    verdicts = audited(noise, store(N, noise=noise)).verdicts
    assert verdicts["noise_power"] == "leak" and verdicts["n_tilts"] == "clean"


def test_tomogram_and_view_are_found():
    made = store(N)
    table = leaks.nuisances(made, np.arange(N))
    rng = np.random.default_rng(4)
    by_tomogram = table["tomogram"].str[-1].astype(int).to_numpy() * 10 % 7 + 0.5 * rng.normal(size=N)
    by_view = table["view_z"].to_numpy() ** 2 + 0.05 * rng.normal(size=N)
    assert audited(by_tomogram, made).verdicts["tomogram"] == "leak"
    assert audited(by_view, made).verdicts["view"] == "leak"


def test_what_never_varies_is_said_to_be_constant():
    assert (
        audited(np.random.default_rng(1).normal(size=N), store(N, tilts=np.full(N, 9))).verdicts["n_tilts"]
        == "constant"
    )


def test_few_particles_are_audited_without_failing():
    table = leaks.nuisances(store(5), np.arange(5))
    assert leaks.audit(np.arange(5.0)[:, None], table).tests.shape[0] == len(leaks.MEANING)


def test_auc_and_rank_correlation_of_a_known_case():
    rng = np.random.default_rng(0)
    nuisance, score = rng.normal(size=100), rng.normal(size=100)
    found = leaks.rank_association(score, nuisance)
    area = roc_auc_score(nuisance > np.median(nuisance), score)
    assert found["auc"] == pytest.approx(max(area, 1 - area))
    assert leaks.rank_association(np.exp(nuisance), nuisance)["statistic"] == pytest.approx(1)


def test_analysis_of_variance_is_scipys():
    rng = np.random.default_rng(0)
    groups, score = rng.integers(0, 4, 80), rng.normal(size=80)
    expected = f_oneway(*(score[groups == g] for g in range(4)))
    assert leaks.explained_by_groups(score, groups)["p"] == pytest.approx(expected.pvalue)


def test_band_powers_are_those_of_the_noise_and_the_subset_is_respected():
    made = store(6, noise=np.array([1.0, 4, 1, 1, 1, 1]))
    table = leaks.nuisances(made, np.array([1, 3]))
    assert table["noise_power"].to_numpy() == pytest.approx([8, 2], rel=0.1)  # |re|^2 + |im|^2
    assert table["n_tilts"].tolist() == np.diff(made.offsets)[[1, 3]].tolist()


def test_view_is_the_beam_at_the_lowest_tilt():
    made = store(4)
    first = made.images.groupby("particle").head(1)
    table = leaks.nuisances(made, np.arange(4))
    np.testing.assert_allclose(
        table[["view_x", "view_y", "view_z"]].to_numpy(), first[["r20", "r21", "r22"]].to_numpy()
    )
