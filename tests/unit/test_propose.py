"""Proposed rounds: the tree of nested blocks is found, noise and continua stay whole, reasons are given."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from blob_store import blob_store

from tomohet.answers import stated
from tomohet.linear.fit import fit_linear_model
from tomohet.linear.prediction import SplitLikelihood
from tomohet.rounds.config import complete_config, config_mistakes
from tomohet.rounds.propose import Limits, best_of, proposed_tree
from tomohet.rounds.propose_candidates import (
    Candidate,
    fixed_candidates,
    grouped_candidates,
    states_kind,
)
from tomohet.rounds.propose_evidence import (
    Evidence,
    RoundData,
    evidence_of,
    map_coordinates,
    stability,
    valley_between,
)
from tomohet.rounds.propose_text import configuration_text, proposal_answers, proposal_numbers
from tomohet.rounds.select import select

N = 120
LIMITS = Limits(depth=3, min_particles=20)
UNITS = {
    "unit": ["S1", "S2", "S3"],
    "column": ["S1", "S2", "S3"],
    "low_mode": [0.0, 0.0, np.nan],
    "high_mode": [1.0, 1.0, np.nan],
    "confused": [0.001, 0.001, np.nan],
    "cut": [0.5, 0.52, 0.5],
}


def written_units(folder, **changes):
    (folder / "maven").mkdir(parents=True, exist_ok=True)
    pd.DataFrame(UNITS | changes).to_csv(folder / "maven" / "units.csv", index=False)
    pd.DataFrame({"unit": ["S2"], "requires": ["S1"]}).to_csv(
        folder / "maven" / "dependencies.csv", index=False
    )


def round_of(store, columns=None) -> RoundData:
    """Fit the linear model, and tabulate it beside other columns."""
    model = fit_linear_model(store, np.arange(N), zdim=2, iterations=8, max_frequency=0.4)
    z = model.latents.mean.numpy()
    table = pd.DataFrame({"particle": np.arange(N), "linear_z1": z[:, 0], "linear_z2": z[:, 1]})
    return RoundData(
        table=table.assign(**(columns or {})),
        store=store,
        poses=model.poses,
        mean=model.maps.mean,
        split=model.split,
        points=map_coordinates(table, model.maps.basis),
        max_frequency=0.4,
    )


@pytest.fixture(scope="module")
def nested():
    """A blob that comes and goes, and another that is there with the first alone; their occupancies."""
    store = blob_store(N, snr=0.3, frequencies=(0.6, 0.5), host=True)
    rng = np.random.default_rng(0)
    columns = {
        f"maven_S{number + 1}": store.presence[:, number] + rng.normal(0, 0.03, N) for number in range(2)
    }
    state = store.presence @ [1, 2]
    return round_of(store, columns | {"maven_S3": rng.random(N), "state": state})


@pytest.fixture
def units(tmp_path):
    written_units(tmp_path / "all")
    return tmp_path / "all"


def test_the_tree_of_nested_blocks_is_found(nested, units):
    tree = proposed_tree(nested, units, LIMITS, seed=0)
    divided = {node.name: node.split.candidate.subject for node in tree.all() if node.split}
    assert divided == {"all": "maven_S1", "all_S1": "maven_S2"}
    names = [node.name for node in tree.all()]
    assert names == ["all", "all_S1", "all_S1_S2", "all_S1_no-S2", "all_no-S1"]
    for node in list(tree.all())[1:]:
        assert len(select(nested.table, node.query)) == node.n_particles
    with_both = select(nested.table, "maven_S1 > 0.50 and maven_S2 > 0.52")
    assert np.array_equal(with_both, np.flatnonzero(nested.store.presence.all(axis=1)))
    assert all(node.stop for node in tree.all() if not node.parts)


def test_the_same_tree_follows_from_states_alone(nested, tmp_path):
    tree = proposed_tree(nested, tmp_path / "all", LIMITS, seed=0)
    parts = [set(select(nested.table, node.query)) for node in tree.all() if not node.parts]
    truth = nested.store.presence @ [1, 2]
    assert sorted(parts, key=min) == sorted((set(np.flatnonzero(truth == s)) for s in (0, 1, 3)), key=min)


def test_depth_and_size_end_the_tree(nested, units):
    tree = proposed_tree(nested, units, Limits(depth=1, min_particles=20), seed=0)
    assert [node.stop for node in tree.parts] == ["the largest depth, 1, is reached"] * 2
    tree = proposed_tree(nested, units, Limits(depth=3, min_particles=58), seed=0)
    assert not tree.parts and tree.stop.startswith("nothing known divides the 120 particles clearly")


def test_particles_of_one_structure_stay_together(units):
    store = blob_store(N, snr=0.3, blocks=False)
    data = round_of(store)
    # A column that divides by the noise in the latents themselves.
    data.table["maven_S1"] = (data.table["linear_z1"] > 0).astype(float)
    data.table["state"] = (data.table["linear_z2"] > 0).astype(int)
    tree = proposed_tree(data, units, LIMITS, seed=0)
    assert not tree.parts and "confirm no difference" in tree.stop
    answers = stated(proposal_answers(tree))
    assert answers["sentence"].startswith("No rounds are proposed: held-out tilts confirm no difference")
    assert yaml.safe_load(configuration_text(tree, "x")) == {"rounds": {}}


def test_labels_without_structure_are_not_supported(nested):
    """Among particles that do differ, by chance and by what is noise among them."""
    whole = np.ones(N, bool)
    without = ~nested.store.presence[:, 0]
    rng = np.random.default_rng(1)
    noisy = nested.points[:, 0] > np.median(nested.points[without, 0])
    table = nested.table.assign(gmm=rng.integers(0, 2, N), kmeans=noisy.astype(int))
    data = RoundData(**{**vars(nested), "table": table})
    chance = Candidate("gmm", "gmm", ("gmm in [0]", "gmm in [1]"), ("a", "b"))
    noise = Candidate("kmeans", "kmeans", ("kmeans in [0]", "kmeans in [1]"), ("a", "b"))
    (one,) = evidence_of(data, whole, [chance], seed=0)
    assert not one.supported and not one.stable
    (one,) = evidence_of(data, without, [noise], seed=0)
    assert not (one.supported and one.stable)


def test_units_have_to_be_bimodal_and_unambiguous(tmp_path, nested):
    written_units(tmp_path)
    found = fixed_candidates(tmp_path, nested.table)
    assert [one.subject for one in found] == ["maven_S1", "maven_S2"]
    assert found[1].requires == ("maven_S1",)
    assert found[1].queries == ("maven_S2 > 0.52", "maven_S2 <= 0.52")
    written_units(tmp_path, confused=[0.2, 0.001, np.nan])
    assert [one.subject for one in fixed_candidates(tmp_path, nested.table)] == ["maven_S2"]
    graded = nested.table.assign(maven_S2=np.linspace(0, 1, N))
    assert not found[1].divides(graded) and found[1].divides(nested.table)
    graded.loc[3, "maven_S2"] = np.nan
    assert not found[0].divides(graded.assign(maven_S1=graded["maven_S2"])), "a particle of neither part"


def test_blocks_and_odd_names_become_safe_queries(tmp_path):
    (tmp_path / "siren").mkdir()
    blocks = pd.DataFrame({"id": [1, 2], "requires": ["", "1"]})
    blocks.to_parquet(tmp_path / "siren" / "blocks.parquet")
    written_units(tmp_path, unit=["a b/1", "S2", "S3"], column=["a b/1", "S2", "S3"])
    table = pd.DataFrame({"particle": range(4), "maven_a b/1": [0, 1, 1, 0.0], "siren_2": [1, 0, 0, 1.0]})
    odd, block = fixed_candidates(tmp_path, table)
    assert odd.names == ("a-b-1", "no-a-b-1") and odd.first(table).tolist() == [False, True, True, False]
    assert block.requires == ("siren_1",) and block.names == ("block2", "no-block2")
    rounds = {name: {"select": query} for name, query in zip(odd.names, odd.queries, strict=True)}
    assert config_mistakes({"dataset": "d", "rounds": rounds}) == []


def test_states_are_grouped_by_their_maps():
    """Four states of two blocks: the block with more power divides, whatever the states' numbers."""
    state = np.arange(200) % 4
    table = pd.DataFrame({"particle": range(200), "state": state})
    points = np.column_stack([3.0 * (state % 2), 1.0 * (state // 2)])
    (one,) = grouped_candidates(table, points, np.ones(200, bool), "discrete", seed=0)
    assert {one.queries[0], one.queries[1]} == {"state in [0, 2]", "state in [1, 3]"}
    (one,) = grouped_candidates(table, points, state % 2 == 0, "undecided", seed=0)
    assert {one.queries[0], one.queries[1]} == {"state in [0]", "state in [2]"}
    assert grouped_candidates(table, points, state == 1, "discrete", seed=0) == []


def test_coordinates_have_the_distances_of_maps():
    draw = torch.Generator().manual_seed(0)
    basis = torch.randn(3, 4, 4, 4, generator=draw)
    z = torch.randn(5, 3, generator=draw)
    table = pd.DataFrame(z.numpy(), columns=["linear_z1", "linear_z2", "linear_z3"])
    points = torch.as_tensor(map_coordinates(table, basis))
    maps = torch.einsum("nk,kzyx->nzyx", z, basis).flatten(1).double()
    torch.testing.assert_close(torch.cdist(points, points), torch.cdist(maps, maps), rtol=1e-4, atol=1e-4)


def test_a_continuum_has_no_states_and_an_undecided_set_needs_deeper_valleys(tmp_path):
    (tmp_path / "states").mkdir()
    assert states_kind(tmp_path) == "unknown"
    table = pd.DataFrame({"particle": range(20), "state": np.arange(20) % 2})
    points, everyone = table[["state"]].to_numpy(float), np.ones(20, bool)
    found = {}
    for kind in ("continuous", "discrete", "undecided"):
        (tmp_path / "states" / "summary.json").write_text(json.dumps({"kind": kind}))
        assert states_kind(tmp_path) == kind
        found[kind] = grouped_candidates(table, points, everyone, kind, seed=0)
    assert found["continuous"] == []
    assert found["undecided"][0].most_valley < found["discrete"][0].most_valley < 1


@pytest.fixture(scope="module")
def tiny_round(tmp_path_factory, tiny_store, tiny_linear):
    """A round of the tiny store: its linear model and table."""
    folder = tmp_path_factory.mktemp("results") / "all"
    folder.mkdir()
    (folder / "linear").symlink_to(tiny_linear)
    table = pd.read_parquet(tiny_store / "particles.parquet")
    table.merge(pd.read_parquet(tiny_linear / "particles.parquet"), on="particle").to_parquet(
        folder / "particles.parquet"
    )
    return folder


def test_the_command_writes_text_and_evidence(tiny_round, tiny_store, run_script, tmp_path):
    words = (tiny_round, "--store", tiny_store, "-o", tmp_path / "out", "--min-particles", 10)
    printed = run_script("propose", *words).stdout
    text = (tmp_path / "out" / "rounds.yaml").read_text()
    assert text in printed
    assert text.startswith("# Proposed from round all, 24 particles (depth 2, min_particles 10, seed 0).")
    proposal = json.loads((tmp_path / "out" / "proposal.json").read_text())
    assert yaml.safe_load(text)["rounds"].keys() == proposal["rounds"].keys()
    assert proposal["level"] == "fact" and proposal["answers"][0]["subject"] == "Proposed rounds"
    assert proposal["nodes"][0]["n_particles"] == 24
    again = run_script("propose", *words).stdout
    assert text in again, "the same proposal"


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("folder", "no such folder; name the results folder of a finished round"),
        ("particles.parquet", "particles.parquet: no such table; run the round first"),
        ("linear", "linear"),
        ("linear_z2", "no column 'linear_z2'; run `particle_table` again"),
    ],
)
def test_an_unfinished_round_is_refused_in_one_line(
    tiny_round, tiny_store, run_script, tmp_path, missing, message
):
    folder = tmp_path / "all"
    if missing != "folder":
        folder.mkdir()
    if missing not in ("folder", "linear"):
        (folder / "linear").symlink_to((tiny_round / "linear").resolve())
    if missing not in ("folder", "particles.parquet"):
        table = pd.read_parquet(tiny_round / "particles.parquet")
        table.drop(columns=[missing] if missing in table else []).to_parquet(folder / "particles.parquet")
    done = run_script("propose", folder, "--store", tiny_store, check=False)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 1 and message in line


def split_of(z: np.ndarray, precision: float) -> SplitLikelihood:
    """Likelihood of latents z (N, 1) whose images have this precision: two thirds for training."""
    rng = np.random.default_rng(0)
    tables = []
    for share in (2 / 3, 1 / 3):
        a = np.full((len(z), 1, 1), share * precision)
        b = share * precision * z + np.sqrt(share * precision) * rng.standard_normal(z.shape)
        tables += [torch.as_tensor(a), torch.as_tensor(b)]
    return SplitLikelihood(*tables)


@pytest.mark.parametrize(("precision", "least", "most"), [(400.0, 0.99, 1.0), (0.01, -0.2, 0.2)])
def test_labels_are_stable_as_far_as_images_settle_them(precision, least, most):
    z = np.where(np.arange(400) % 3 == 0, 1.4, -0.7)[:, None]
    members = np.arange(400) >= 40
    agreement, kappa, _ = stability(split_of(z, precision), members, z[members, 0] > 0)
    assert least <= kappa <= most
    assert agreement > 0.99 if least > 0.9 else 0.4 < agreement < 0.7


def test_without_a_confirmed_direction_nothing_is_stable():
    split = split_of(np.zeros((10, 1)), 1.0)
    none = SplitLikelihood(split.a[:, :0, :0], split.b[:, :0], split.new_a[:, :0, :0], split.new_b[:, :0])
    first = np.arange(10) < 5
    assert stability(none, np.ones(10, bool), first) == (0.5, 0.0, 1.0)


def test_a_valley_tells_two_states_from_a_continuum():
    rng = np.random.default_rng(0)
    uniform, normal = rng.random(5000), rng.standard_normal(5000)
    two = rng.standard_normal(5000) + 5 * (np.arange(5000) % 2)
    assert valley_between(uniform, uniform > 0.5) == pytest.approx(1, abs=0.1)
    assert valley_between(normal, normal > 0) > 1
    assert valley_between(two, two > 2.5) < 0.15
    assert valley_between(normal, np.zeros(5000, bool) | (normal < 0)) == 1.0, "the parts change places"


def evidence(subject: str, ratio: float, first: np.ndarray, requires=(), p=1e-4, kappa=0.9) -> Evidence:
    source = subject.partition("_")[0]
    candidate = Candidate(source, subject, ("x", "y"), ("a", "b"), requires, 0.0, 1.0)
    n = int(first.sum()), int((~first).sum())
    return Evidence(candidate, n, p, SimpleNamespace(ratio=ratio), 0.95, kappa, 0.0, first)


def test_states_need_a_valley_and_units_do_not():
    first, everyone = np.arange(100) < 60, np.ones(100, bool)
    shallow = replace(evidence("state", 5.0, first), valley=0.8)
    assert best_of((shallow,), everyone) is shallow
    of_states = replace(shallow, candidate=replace(shallow.candidate, most_valley=0.5))
    assert best_of((of_states,), everyone) is None
    assert best_of((replace(of_states, valley=0.4),), everyone) is not None


def test_the_host_divides_before_its_guest_and_units_before_clusters():
    host, other = np.arange(100) < 60, np.arange(100) % 2 == 0
    guest = np.arange(100) < 30
    everyone = np.ones(100, bool)
    s1, s2 = evidence("maven_S1", 5.0, host), evidence("maven_S2", 9.0, guest, ("maven_S1",))
    cluster, same = evidence("kmeans", 8.0, guest), evidence("kmeans", 9.5, host)
    assert best_of((s1, s2), everyone) is s1
    assert best_of((s1, s2, cluster), everyone) is s1, "the same line as the guest's"
    assert best_of((s1, s2, same), everyone) is s1, "the same line, and better understood"
    assert best_of((s1, evidence("kmeans", 8.0, other)), everyone).candidate.subject == "kmeans"
    weak = evidence("maven_S1", 5.0, host, p=0.2)
    assert best_of((weak, s2), everyone) is s2, "a host that does not divide keeps nobody waiting"
    assert best_of((weak, evidence("state", 9.0, other, kappa=0.1)), everyone) is None


def test_the_proposal_is_a_configuration(nested, units):
    tree = proposed_tree(nested, units, LIMITS, seed=0)
    text = configuration_text(tree, "round all")
    given = yaml.safe_load(text)
    config = {"dataset": "d", "rounds": {"all": {}} | given["rounds"]}
    names = {node.name for node in tree.all()}
    assert set(complete_config(config)["rounds"]) == names and set(given["rounds"]) == names - {"all"}
    assert max(map(len, text.splitlines())) <= 110
    assert "# all, 120 particles, is divided. maven_S1: " in text
    answer, (step,) = proposal_answers(tree)[0], proposal_answers(tree)[0].next
    assert answer.sentence == "4 rounds are proposed: all by maven_S1, all_S1 by maven_S2."
    assert yaml.safe_load(step.text) == given
    numbers = proposal_numbers(tree, LIMITS, 0)
    assert numbers["rounds"]["all_S1"]["n_particles"] == int(nested.store.presence[:, 0].sum())
    assert json.loads(json.dumps(numbers)) == numbers
    for node in numbers["nodes"]:
        for one in node["tested"]:
            p = max(one["p_random"], one["p_held_out"])
            assert one["p_value"] == pytest.approx(min(1, len(node["tested"]) * p)), "as many tests at once"
    assert len(numbers["nodes"][0]["tested"]) > 1
