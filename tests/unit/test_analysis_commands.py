"""Commands on the latents of a training: analyze, choose_volumes, pc_traversal, graph_traversal."""

import json

import analysis_fakes as fakes
import numpy as np
import pandas as pd
import pytest
from scipy.sparse.csgraph import connected_components

from tomohet import plots
from tomohet.analysis import traversal
from tomohet.analysis.latent import principal_components
from tomohet.commands import analyze
from tomohet.errors import InputError
from tomohet.files.atomic import write_json, write_pickle
from tomohet.files.pickles import load_pickles


@pytest.fixture
def decoder(monkeypatch):
    monkeypatch.setattr(analyze, "VolumeMaker", fakes.FakeMaker)


@pytest.fixture
def undrawn(monkeypatch):
    monkeypatch.setattr(plots, "save", fakes.close_figure)


def test_analyze_writes_its_contract(tmp_path, decoder):
    z, _ = fakes.latents(60, 4)
    fakes.training(tmp_path / "run", {2: z, 4: z + 1})
    write_pickle(tmp_path / "indices.pkl", np.arange(60) * 2)
    write_json(tmp_path / "convergence.json", {"epoch": 2})
    out = tmp_path / "out"
    options = ("--particles", tmp_path / "indices.pkl", "--epoch", tmp_path / "convergence.json")
    fakes.run("analyze", tmp_path / "run", "-o", out, "--ksample", 5, "--pc", 1, *options)
    table = pd.read_parquet(out / "particles.parquet")
    assert table["particle"].tolist() == list(range(0, 120, 2))
    assert list(table)[:8] == ["particle", "kmeans", "gmm", "gmm_probability", "pc1", "pc2", "pc3", "pc4"]
    assert {"umap1", "umap2"} <= set(table)
    centres = np.loadtxt(out / "kmeans5" / "centers.txt")
    rows = np.loadtxt(out / "kmeans5" / "centers_ind.txt", dtype=int)
    np.testing.assert_allclose(centres, z[rows], rtol=1e-5)
    np.testing.assert_array_equal(load_pickles(out / "kmeans5" / "labels.pkl")[0], table["kmeans"])
    assert len(list((out / "kmeans5").glob("vol_*.mrc"))) == 5
    assert len(list((out / "pc1").glob("vol_*.mrc"))) == 10 and not (out / "pc2").exists()
    assert json.loads((out / "summary.json").read_text())["epoch"] == 2


def test_analyze_again_leaves_no_volume_of_the_first_time(tmp_path, decoder, undrawn):
    fakes.training(tmp_path, {0: np.repeat(fakes.latents(10, 2)[0], 3, axis=0)})
    for distinct in (10, 4):
        fakes.training(tmp_path, {0: np.repeat(fakes.latents(distinct, 2)[0], 3, axis=0)})
        fakes.run("analyze", tmp_path, "--pc", 0, "--ksample", 8)
    assert len(list((tmp_path / "analyze.0" / "kmeans8").glob("vol_*.mrc"))) == 4


@pytest.mark.parametrize("zdim", [1, 2, 30])
def test_analyze_few_particles(tmp_path, decoder, undrawn, zdim):
    fakes.training(tmp_path, {0: fakes.latents(20, zdim)[0]})
    fakes.run("analyze", tmp_path, "--skip-umap", "--pc-ondata", "--downsample", 8, "--ksample", 3)
    folder = tmp_path / "analyze.0"
    assert {"pc1", "kmeans", "gmm"} <= set(pd.read_parquet(folder / "particles.parquet"))
    points = np.loadtxt(folder / "pc1" / "z_percentiles.txt", ndmin=2)
    rows = np.loadtxt(folder / "pc1" / "z_percentiles_ind.txt", dtype=int)
    np.testing.assert_allclose(points, fakes.latents(20, zdim)[0][rows], rtol=1e-5)


def test_analyze_reads_the_particles_of_the_configuration_and_checks_their_number(tmp_path, undrawn):
    fakes.training(tmp_path, {0: fakes.latents(20, 2)[0]})
    write_pickle(tmp_path / "config.pkl", {"particles": list(range(5, 25))})
    fakes.run("analyze", tmp_path, "--skip-vol", "--ksample", 2)
    assert pd.read_parquet(tmp_path / "analyze.0" / "particles.parquet")["particle"].min() == 5
    write_pickle(tmp_path / "few.pkl", np.arange(19))
    with pytest.raises(InputError, match="19 particles, but there are 20"):
        fakes.run("analyze", tmp_path, "--skip-vol", "--particles", tmp_path / "few.pkl")


def test_choose_volumes(tmp_path):
    z, _ = fakes.latents(60, 4)
    fakes.training(tmp_path / "run", {2: z})
    fakes.run("choose_volumes", tmp_path / "run", "--count", 7, "-o", tmp_path / "volumes")
    assert load_pickles(tmp_path / "volumes" / "z.pkl")[0].shape == (7, 4)
    assert pd.read_parquet(tmp_path / "volumes" / "assignment.parquet").shape == (60, 2)


def test_component_scores_between_percentiles():
    scores = np.linspace(0, 1, 1001) ** 2
    even = traversal.component_scores(scores, 5, (10, 90), even_percentiles=False)
    np.testing.assert_allclose(even, np.linspace(0.01, 0.81, 5), atol=1e-6)
    ranks = traversal.component_scores(scores, 5, (10, 90), even_percentiles=True)
    np.testing.assert_allclose(ranks, np.linspace(0.1, 0.9, 5) ** 2, atol=1e-6)
    with pytest.raises(InputError, match="--lim 90 10"):
        traversal.component_scores(scores, 5, (90, 10), even_percentiles=False)


def test_pc_traversal_to_a_folder_and_to_a_file(tmp_path):
    z, _ = fakes.latents(50, 3)
    fakes.training(tmp_path, {0: z})
    fakes.run("pc_traversal", tmp_path / "z.0.train.pkl", "-o", tmp_path / "all")
    assert sorted(p.name for p in (tmp_path / "all").glob("[!.]*")) == ["pc1.txt", "pc2.txt", "pc3.txt"]
    fakes.run("pc_traversal", tmp_path / "z.0.train.pkl", "-o", tmp_path / "two.txt", "--dim", 2, "-n", 4)
    pcs = principal_components(z)
    scores = (np.loadtxt(tmp_path / "two.txt") - pcs.mean) @ pcs.axes.T
    np.testing.assert_allclose(scores[[0, -1], 1], np.percentile(pcs.scores[:, 1], [5, 95]), atol=1e-4)
    with pytest.raises(InputError, match="components 1 to 3"):
        fakes.run("pc_traversal", tmp_path / "z.0.train.pkl", "-o", tmp_path, "--dim", 4)


def test_shortest_path_follows_a_ring_of_particles():
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    z = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    graph = traversal.neighbour_graph(z, 2, None)
    path, broken = traversal.shortest_path(graph, [0, 5, 38])
    assert path.tolist() == [*range(6), *range(4, -1, -1), 39, 38] and not broken


def test_path_passes_identical_latents_and_reports_gaps():
    z = np.array([[0.0], [0], [1], [50], [51]])
    graph = traversal.neighbour_graph(z, 1, None)
    assert connected_components(graph)[0] == 2
    path, broken = traversal.shortest_path(traversal.neighbour_graph(z, 2, 1.5), [0, 1, 4])
    assert path.tolist() == [0, 1, 4] and broken == [(1, 4)]


def test_mean_neighbours_keeps_the_shortest_edges():
    z = np.random.default_rng(0).normal(size=(50, 3))
    whole = traversal.neighbour_graph(z, 8, None)
    cut = traversal.neighbour_graph(z, 8, 2)
    assert cut.nnz < whole.nnz and cut.data.max() <= np.sort(whole.data)[cut.nnz - 1] + 1e-12
    assert abs(cut - cut.T).max() == 0


def test_graph_traversal_writes_integers_and_real_latents(tmp_path):
    z, _ = fakes.latents(60, 3)
    fakes.training(tmp_path, {0: z})
    out = tmp_path / "path"
    latents = tmp_path / "z.0.train.pkl"
    fakes.run("graph_traversal", latents, "--anchors", 0, 1, "-o", out, "--max-neighbors", 30)
    path = [int(line) for line in (out / "path_particle_indices.txt").read_text().split()]
    assert path[0] == 0 and path[-1] == 1 and load_pickles(out / "path_particle_indices.pkl")[0] == path
    np.testing.assert_array_equal(load_pickles(out / "path_particle_embeddings.pkl")[0], z[path])
    for anchors, message in (((0,), "at least 2"), ((0, 60), "60 is not a particle")):
        with pytest.raises(InputError, match=message):
            fakes.run("graph_traversal", latents, "--anchors", *anchors, "-o", out)
