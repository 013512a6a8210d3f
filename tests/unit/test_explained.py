"""Components that the conditions of imaging explain: which are found, and what the model makes of them."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from blob_store import blob_store
from scipy.stats import f as f_distribution

from tomohet.linear.explained import (
    CONDITIONS,
    Explained,
    _most_explained,
    _with_products,
    complement,
    explained_directions,
    followed,
    orthonormal_functions,
    sentence,
)
from tomohet.linear.fit import fit_linear_model
from tomohet.linear.prediction import SplitLikelihood
from tomohet.linear.states import fit_states
from tomohet.particles.conditions import imaging_conditions
from tomohet.particles.table import ROTATION_COLUMNS
from tomohet.physics.geometry import random_rotations
from tomohet.rounds.schema import keys_of

pytestmark = pytest.mark.usefixtures("few_bootstraps")
N = 300
HELP = [sys.executable, "-m", "tomohet.cli", "train_linear", "--help"]


def conditions(n=N, seed=0, n_tomograms=6):
    rng = np.random.default_rng(seed)
    rotations = pd.DataFrame(
        np.asarray(random_rotations(n, rng)).reshape(n, 9), columns=list(ROTATION_COLUMNS)
    )
    return rotations.assign(
        tomogram=rng.integers(n_tomograms, size=n).astype(str),
        defocus_A=rng.uniform(15_000, 30_000, n),
        astigmatism_A=rng.uniform(0, 500, n),
        n_tilts=rng.integers(30, 42, n),
        mean_dose_e_A2=rng.uniform(40, 60, n),
        noise_scale=rng.uniform(0.9, 1.1, n),
    )


def noisy(structure, reliability, seed=0):
    """Latents (N, K) of structure and noise, whose share of structure this is."""
    rng = np.random.default_rng([seed, 1])
    structure = (structure - structure.mean(0)) / structure.std(0)
    return np.sqrt(reliability) * structure + np.sqrt(1 - reliability) * rng.normal(size=structure.shape)


@pytest.mark.parametrize("reliability", [0.95, 0.3])
@pytest.mark.parametrize(
    ("name", "follows"),
    [
        ("view", lambda table: table["r20"] * table["r21"] + 0.3 * table["r22"]),
        ("view", lambda table: table["r00"] * table["r21"]),
        ("defocus", lambda table: np.abs(table["defocus_A"] - 22_000)),
        ("tomogram", lambda table: np.sin(table["tomogram"].astype(int))),
        ("tilts", lambda table: table["mean_dose_e_A2"]),
        ("noise", lambda table: np.log(table["noise_scale"])),
    ],
)
def test_what_a_condition_explains_is_found_in_any_mixture(name, follows, reliability):
    table, rng = conditions(), np.random.default_rng(1)
    structure = np.stack([rng.random(N) < 0.4, follows(table), rng.normal(size=N)], axis=1)
    structure = (structure - structure.mean(0)) / structure.std(0)
    turn = np.linalg.qr(rng.normal(size=(3, 3))).Q
    latents = noisy(structure @ turn, reliability)
    directions, nuisances = explained_directions(latents, np.full(3, reliability), table, CONDITIONS)
    assert [nuisance.condition for nuisance in nuisances] == [name]
    assert nuisances[0].share > 0.6
    assert abs(directions[:, 0] @ turn[1]) > 0.9, "the direction that follows the condition"


def adjusted_share(z, functions):
    """Adjusted R^2 of a regression of z (N,) on functions and a constant, and the p-value of its F test."""
    n, p = functions.shape
    left = z - functions @ np.linalg.lstsq(functions, z, rcond=None)[0]
    r2 = 1 - left @ left / (z @ z)
    p_value = f_distribution.sf(r2 / p / ((1 - r2) / (n - p - 1)), p, n - p - 1)
    return 1 - (1 - r2) * (n - 1) / (n - p - 1), p_value


def test_the_most_explained_direction_is_that_of_the_largest_adjusted_share():
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(40, 3))
    functions = np.linalg.qr(columns - columns.mean(0)).Q
    z = rng.normal(size=(40, 3))
    z[:, 1] += 8 * functions[:, 0]
    z -= z.mean(0)
    z = z @ np.linalg.inv(np.linalg.cholesky(z.T @ z / 40)).T  # uncorrelated, of variance 1
    found, p_value, direction = _most_explained(z, functions)
    share, expected_p = adjusted_share(z @ direction, functions)
    assert 0.3 < share < 0.95
    assert p_value == pytest.approx(expected_p)
    assert found == pytest.approx(share)
    others = rng.normal(size=(2000, 3))
    assert max(adjusted_share(z @ one, functions)[0] for one in others) <= share + 1e-9


def test_the_share_is_that_of_the_structure():
    """One latent, of which this part is structure, in any unit: the rest cannot be explained."""
    table, rng = conditions(), np.random.default_rng(2)
    functions = orthonormal_functions("defocus", table)
    latent = 5 * (functions[:, 0] * np.sqrt(N) + rng.normal(size=N)) + 3
    share, _ = adjusted_share(latent - latent.mean(), functions)
    directions, nuisances = explained_directions(latent[:, None], np.array([0.8]), table, ["defocus"])
    assert nuisances == (Explained("defocus", pytest.approx(share / 0.8)),) and abs(directions[0, 0]) == 1
    assert 0.4 < share < 0.5, "with a reliability of 1, or an unknown one, it is no nuisance"
    for reliability in (1.0, np.nan):
        assert explained_directions(latent[:, None], np.array([reliability]), table, ["defocus"])[1] == ()
    # A share above 1, by chance or by a reliability that is too low, is 1.
    assert explained_directions(latent[:, None], np.array([0.3]), table, ["defocus"])[1][0].share == 1


def test_many_conditions_and_latents_need_a_smaller_p_value(monkeypatch):
    table, rng = conditions(60), np.random.default_rng(5)
    functions = orthonormal_functions("noise", table)
    latents = rng.normal(size=(60, 3))
    latents[:, 0] += 4 * functions[:, 0]
    latents -= latents.mean(0)
    latents /= latents.std(0)
    share, p_value, _ = _most_explained(latents, functions)
    reliability = np.full(3, share / 0.9)
    for level, found in ((5.9 * p_value, False), (6.1 * p_value, True)):
        monkeypatch.setattr("tomohet.linear.explained.EXPLAINED_P", level)
        assert bool(explained_directions(latents, reliability, table, ["noise", "tilts"])[1]) == found


def test_large_sets_are_thinned_evenly(monkeypatch):
    table = conditions(251)
    latents = np.random.default_rng(0).normal(size=(251, 2)) + table[["defocus_A"]].to_numpy() / 2000
    monkeypatch.setattr("tomohet.linear.explained.MOST_PARTICLES", 100)
    found = explained_directions(latents, np.ones(2), table, CONDITIONS)
    expected = explained_directions(latents[::3], np.ones(2), table[::3].reset_index(drop=True), CONDITIONS)
    np.testing.assert_array_equal(found[0], expected[0])
    assert found[1] == expected[1] and found[1][0].condition == "defocus"


def test_products_complements_and_directions_that_follow_others():
    columns = np.array([[1.0, 2, 3], [4, 5, 6]])
    assert _with_products(columns).tolist() == [
        [1, 2, 3, 1, 2, 3, 4, 6, 9],
        [4, 5, 6, 16, 20, 24, 25, 30, 36],
    ]
    draw = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(4, 2, generator=draw, dtype=torch.float64)).Q
    latents = torch.randn(50, 4, generator=draw, dtype=torch.float64) * torch.tensor([1.0, 5, 2, 3])
    again = followed(latents + 7, latents @ directions * torch.tensor([2.0, -3.0]) - 4)
    torch.testing.assert_close(again @ again.T, directions @ directions.T)
    rest = complement(directions)
    torch.testing.assert_close(torch.cat([directions, rest], 1).T @ rest, torch.eye(4).double()[:, 2:])


def test_structure_is_seldom_taken_for_a_nuisance():
    """Two hundred sets of four components of structure, much noise and many tomograms among them."""
    taken = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        table = conditions(120 if seed % 2 else N, seed, n_tomograms=40 if seed % 4 == 0 else 4)
        structure = (rng.random((len(table), 4)) < [0.5, 0.3, 0.1, 0.5]).astype(float)
        reliability = 0.1 if seed % 3 == 0 else 0.9
        latents = noisy(structure, reliability, seed)
        taken += bool(explained_directions(latents, np.full(4, reliability), table, CONDITIONS)[1])
    assert taken <= 1


def test_functions_of_a_condition_are_orthonormal_and_never_too_many():
    table = conditions(60, n_tomograms=50).assign(n_tilts=41, mean_dose_e_A2=50.0)
    for name in CONDITIONS:
        functions = orthonormal_functions(name, table)
        assert functions.shape[1] <= 12
        np.testing.assert_allclose(functions.T @ functions, np.eye(functions.shape[1]), atol=1e-9)
        np.testing.assert_allclose(functions.sum(0), 0, atol=1e-9)
    assert orthonormal_functions("tilts", table).shape[1] == 0, "the same for all particles"
    rounding = 3e-7 * np.random.default_rng(0).normal(size=(N, 9))
    alike = pd.DataFrame(np.eye(3).ravel() + rounding, columns=list(ROTATION_COLUMNS))
    assert orthonormal_functions("view", alike).shape[1] == 0, "the same but for rounding"


def test_latents_integrated_out_by_a_grid():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(2, 1, 3, 3))
    a, new_a = (torch.tensor(f @ f.transpose(0, 2, 1)) for f in factor)
    b, new_b = torch.tensor(rng.normal(size=(2, 1, 3)))
    direction = torch.linalg.qr(torch.tensor(rng.normal(size=(3, 1)))).Q
    rest = SplitLikelihood(a, b, new_a, new_b).without(direction)
    turned = torch.linalg.qr(direction, mode="complete").Q
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)

    def log_integral(a, b, kept):
        points = kept + z[:, None] * turned[:, 0]
        log_p = points @ b[0] - torch.einsum("gi,ij,gj->g", points, a[0], points) / 2 - z**2 / 2
        return torch.logsumexp(log_p, 0)

    kept = [
        torch.zeros(3, dtype=torch.float64),
        turned[:, 1:] @ torch.tensor([0.7, -0.4], dtype=torch.float64),
    ]
    at = torch.tensor([0.7, -0.4], dtype=torch.float64)
    for tables, own_a, own_b in (
        ((a, b), rest.a, rest.b),
        ((a + new_a, b + new_b), *rest.all_images),
    ):
        expected = log_integral(*tables, kept[1]) - log_integral(*tables, kept[0])
        found = own_b[0] @ at - at @ own_a[0] @ at / 2
        assert float(found) == pytest.approx(float(expected), rel=1e-6)


@pytest.fixture(scope="module")
def chosen():
    """A store, and particles in which the first block is there where the beam comes along z, or nearly."""
    store = blob_store(2 * N, snr=1.0)
    view = imaging_conditions(store, np.arange(2 * N))["view_z"].to_numpy() ** 2
    along = view > np.median(view)
    return store, np.flatnonzero(store.presence[:, 0].astype(bool) == along)


@pytest.fixture(scope="module")
def fitted(chosen):
    store, particles = chosen
    return fit_linear_model(store, particles, max_frequency=0.4)


def test_a_component_that_follows_the_view_is_not_counted(chosen, fitted):
    (store, particles), model = chosen, fitted
    assert model.held_out.n_components == 1 and model.heterogeneous
    assert [nuisance.condition for nuisance in model.held_out.explained] == ["view"]
    assert "confirm 1 component;" in model.verdict
    assert model.verdict.endswith("; 1 further component is not counted, because the orientation explains it")
    z, presence = model.latents.mean.numpy(), store.presence[particles].astype(float)
    assert z.shape[1] == 1 and len(model.maps.mean.nuisance.maps) == 1
    rho = np.abs(np.corrcoef(np.column_stack([z, presence]), rowvar=False)[0, 1:])
    assert rho[0] < 0.2 and rho[1] > 0.9
    with_block, without = (
        model.maps.mean.nuisance.maps[0].flatten()
        @ block.flatten()
        / (model.maps.mean.nuisance.maps[0].norm() * block.norm())
        for block in store.maps[1:]
    )
    assert abs(with_block) > 0.8 > 0.3 > abs(without), "the nuisance's map is the first block's"


def test_states_do_not_use_it(chosen, fitted):
    (store, particles), model = chosen, fitted
    states = fit_states(store, particles, model.maps, model.poses, model.split)
    assert len(states.maps) == 2
    presence = store.presence[particles].astype(bool)
    for block, (least, most) in enumerate([(0.4, 0.6), (0.95, 1.0)]):
        same = (states.state.numpy().astype(bool) == presence[:, block]).mean()
        assert least <= max(same, 1 - same) <= most


def test_it_counts_when_structure_may_follow_the_view(chosen):
    store, particles = chosen
    names = [name for name in CONDITIONS if name != "view"]
    model = fit_linear_model(store, particles, max_frequency=0.4, nuisances=names)
    assert model.held_out.n_components == 2 and not model.held_out.explained


def test_nothing_is_found_where_a_nuisance_is_all_there_is(chosen):
    store, particles = chosen
    without_second = particles[~store.presence[particles, 1].astype(bool)]
    model = fit_linear_model(store, without_second, max_frequency=0.4)
    assert not model.heterogeneous and model.held_out.p_value > 0.01
    assert model.verdict.startswith("no heterogeneity found")
    assert model.verdict.endswith("; 1 further component is not counted, because the orientation explains it")


def test_copies_stay_copies_where_directions_are_integrated_out():
    tables = torch.eye(3).expand(4, 3, 3), torch.ones(4, 3)
    split = SplitLikelihood(*tables, *tables, torch.tensor([0, 0, 1, 1]))
    assert torch.equal(split.without(torch.eye(3)[:, :1]).source, split.source)


def test_configuration_and_command_name_the_conditions_that_there_are():
    assert keys_of("linear")["structure_may_follow"]["items"]["enum"] == list(CONDITIONS)
    usage = " ".join(subprocess.run(HELP, capture_output=True, text=True).stdout.split())
    assert f"--structure-may-follow {{{','.join(CONDITIONS)}}}" in usage


def test_the_sentence_counts():
    several = tuple(Explained(name, 0.8) for name in ("view", "tomogram", "view"))
    assert sentence(several) == (
        "3 further components are not counted, because the orientation explains 2 and the tomogram explains "
        "1 of them"
    )
    assert sentence(()) == ""
