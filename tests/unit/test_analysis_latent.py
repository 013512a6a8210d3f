"""Components, clusters, mixtures and embeddings of latents."""

import numpy as np
import pandas as pd
import pytest
from analysis_fakes import latents
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from tomohet.analysis import clusters, latent_analysis
from tomohet.analysis.choice import choose_latents
from tomohet.analysis.clusters import free_parameters, gaussian_mixture, kmeans, leaf_order
from tomohet.analysis.latent import nearest_rows, principal_components, umap_embedding
from tomohet.commands.analyze import states_of
from tomohet.errors import InputError


def test_components_are_those_of_the_covariance():
    z, _ = latents(200, 5)
    pcs = principal_components(z)
    values, vectors = np.linalg.eigh(np.cov(z.T.astype(float)))
    np.testing.assert_allclose(pcs.explained, values[::-1] / values.sum(), rtol=1e-5)
    np.testing.assert_allclose(np.abs(pcs.axes @ vectors[:, ::-1]), np.eye(5), atol=1e-4)
    np.testing.assert_allclose(pcs.mean + pcs.scores @ pcs.axes, z, atol=1e-4)
    assert (pcs.axes[np.arange(5), np.abs(pcs.axes).argmax(axis=1)] > 0).all()


def test_point_on_an_axis_has_that_score_and_no_other():
    z, _ = latents(100, 4)
    pcs = principal_components(z)
    points = pcs.on_axis(1, np.array([-2.0, 3.0]))
    np.testing.assert_allclose((points - pcs.mean) @ pcs.axes.T, [[0, -2, 0, 0], [0, 3, 0, 0]], atol=1e-5)


@pytest.mark.parametrize("z", [np.ones((20, 3)), np.zeros((1, 4)), np.arange(6.0)[:, None]])
def test_components_of_degenerate_latents_are_finite(z):
    pcs = principal_components(z.astype(np.float32))
    assert np.isfinite(pcs.scores).all() and np.isfinite(pcs.explained).all()


def test_latents_that_are_not_finite_are_refused_with_their_row():
    z, _ = latents(30, 3)
    z[7, 1] = np.nan
    with pytest.raises(InputError, match="first is row 7"):
        principal_components(z)


def test_kmeans_finds_separate_groups_and_its_centres_are_members():
    z, states = latents(400, 8)
    found = kmeans(z, 4, seed=3)
    assert adjusted_rand_score(found.labels, states) > 0.95
    for label, row in enumerate(found.rows):
        members = np.flatnonzero(found.labels == label)
        distance = np.linalg.norm(z[members] - z[members].mean(axis=0), axis=1)
        assert row == members[distance.argmin()]
        np.testing.assert_array_equal(found.centres[label], z[row])


def test_kmeans_depends_on_nothing_but_its_seed():
    z, _ = latents(150, 4)
    np.testing.assert_array_equal(kmeans(z, 7, seed=1).labels, kmeans(z, 7, seed=1).labels)


def test_kmeans_labels_run_along_a_line_of_groups():
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat(np.arange(6), 20))
    z = (group[:, None] ** 1.5 + 0.01 * rng.normal(size=(120, 1))).astype(np.float32)
    found = kmeans(z, 6, seed=0)
    steps = np.diff(found.centres[:, 0])
    assert (np.abs(steps) < 7).all() and adjusted_rand_score(found.labels, group) == 1


def test_kmeans_with_fewer_distinct_points_than_clusters():
    z = np.repeat(np.array([[0.0], [1.0]], np.float32), 10, axis=0)
    found = kmeans(z, 5, seed=0)
    assert sorted(np.unique(found.labels)) == [0, 1] and len(found.rows) == 2


def test_leaf_order_of_one_and_two_centres():
    assert list(leaf_order(np.zeros((1, 2)))) == [0]
    assert list(leaf_order(np.array([[1.0, 0], [0, 5]]))) == [1, 0]


def test_mixture_counts_well_separated_gaussians():
    z, states = latents(600, 6)
    rng = np.random.default_rng(0)
    z[states == 2] = [0, 4, 0, 0, 0, 0] + 0.45 * rng.normal(size=((states == 2).sum(), 6))
    found = gaussian_mixture(principal_components(z).scores, seed=0)
    assert found.components == 4
    assert adjusted_rand_score(found.labels, states) > 0.97
    assert found.probability.min() > 1 / 4


def test_mixture_of_one_gaussian_is_one_component():
    rng = np.random.default_rng(2)
    assert gaussian_mixture(rng.normal(size=(500, 3)), seed=0).components == 1


@pytest.mark.parametrize("z", [np.ones((20, 3)), np.zeros((2, 1)), np.repeat([[0.0], [1]], 10, axis=0)])
def test_mixture_of_degenerate_latents_labels_every_particle(z):
    found = gaussian_mixture(z, seed=0)
    assert found.labels.shape == (len(z),) and np.isfinite(found.probability).all()


@pytest.mark.parametrize("kind", ["tied", "full"])
def test_free_parameters_are_those_in_sklearns_bic(kind):
    x = np.random.default_rng(0).normal(size=(100, 3))
    model = GaussianMixture(4, covariance_type=kind, random_state=0).fit(x)
    penalty = model.bic(x) + 2 * model.score(x) * 100
    assert penalty == pytest.approx(free_parameters(kind, 4, 3) * np.log(100))


def test_nearest_rows_against_all_distances():
    rng = np.random.default_rng(0)
    z, points = rng.normal(size=(50, 3)), rng.normal(size=(9, 3))
    expected = np.linalg.norm(points[:, None] - z, axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest_rows(points, z), expected)


def test_umap_is_skipped_for_few_points_and_repeats_itself_for_a_seed():
    z, _ = latents(80, 4)
    assert umap_embedding(z[:14], seed=0) is None
    one, two = umap_embedding(z, seed=5), umap_embedding(z, seed=5)
    np.testing.assert_array_equal(one, two)
    assert one.shape == (80, 2)


def test_every_particle_its_own_volume_when_they_are_few():
    z, _ = latents(12, 3)
    chosen, table = choose_latents(z, np.arange(100, 112), 12, seed=0)
    np.testing.assert_array_equal(chosen, z)
    assert table["particle"].tolist() == list(range(100, 112)) and table["volume"].tolist() == list(range(12))


def test_many_particles_are_sketched_by_real_ones():
    z, _ = latents(200, 3)
    chosen, table = choose_latents(z, np.arange(200), 15, seed=0)
    assert chosen.shape == (15, 3) and set(table["volume"]) == set(range(15))
    assert {tuple(row) for row in chosen} <= {tuple(row) for row in z}


def test_clusters_are_as_many_as_states_or_groups_of_the_mixture():
    one, three = (clusters.Mixture(np.zeros(1), np.ones(1), n, "full", {}) for n in (1, 3))
    assert clusters.number_of_clusters(400, 4, three) == 4
    assert clusters.number_of_clusters(400, None, three) == 3
    assert clusters.number_of_clusters(400, None, one) == 8
    assert clusters.number_of_clusters(40, 1, three) == 2
    assert clusters.number_of_clusters(100_000, 1, one) == 20


def test_agreement_of_clusters_and_states_is_told_with_the_reason():
    rng = np.random.default_rng(0)
    state = np.repeat([0, 1, 2], 40)
    z = np.array([[0, 0], [6, 0], [0, 6]])[state] + rng.standard_normal((120, 2))
    unknown = np.where(np.arange(120) < 5, -1, state)
    found = latent_analysis.analyse(z, None, 0, False, unknown)
    numbers = latent_analysis.summary(found, None)
    assert numbers["kmeans"]["clusters"] == 3
    assert numbers["agreement_with_states"]["kmeans"] > 0.95
    assert latent_analysis.clusters_answer(numbers).level == "good"
    cloud = latent_analysis.analyse(rng.standard_normal((120, 2)), None, 0, False, state)
    answer = latent_analysis.clusters_answer(latent_analysis.summary(cloud, None))
    assert answer.level == "look"
    assert "one cloud" in answer.sentence


def test_a_table_of_states_is_joined_by_particle(tmp_path):
    table = pd.DataFrame({"particle": [4, 2, 9], "state": [1, 0, 2]})
    table.to_parquet(tmp_path / "particles.parquet")
    found = states_of(tmp_path / "particles.parquet", np.array([2, 3, 4]))
    np.testing.assert_array_equal(found, [0, -1, 1])
