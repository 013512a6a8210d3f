"""Heterogeneity that held-out tilts confirm, and the number of basis maps."""

import numpy as np
import pytest
import torch
from blob_store import blob_store

from tomohet.linear.basis_maps import coarse_box
from tomohet.linear.fit import fit_linear_model
from tomohet.linear.held_out import HeldOut, common_directions
from tomohet.linear.likelihood import likelihood
from tomohet.linear.output import LinearRun, summary
from tomohet.linear.prediction import SplitLikelihood
from tomohet.linear.reliability import auc_of_halves, shared_variance
from tomohet.linear.start import KERNEL_PARTICLES, kernel_box
from tomohet.physics.shells import shell_power
from tomohet.reconstruction.mean_map import mean_map
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.particle_maps import particle_maps
from tomohet.reconstruction.prior import SpectralPrior
from tomohet.simulation.assessment import auc, read_out

N, BOX = 120, 16


def test_particle_maps_are_gradients_of_the_likelihood():
    """The change of log p along any map U = P^(1/2) M v is <X_p, v>; b of the latent of U says the same."""
    store = blob_store(12, snr=0.3)
    observations = Observations(store, np.arange(12), max_frequency=0.4)
    mean = mean_map(observations)
    found = particle_maps(observations, mean)
    power = shell_power(mean.volume)
    white = torch.randn(3, BOX, BOX, BOX, generator=torch.Generator().manual_seed(0))
    change = SpectralPrior(mean.mask, power.clamp_min(1e-6 * power.max())).colour(white)
    _, b = likelihood(observations, mean, change)
    along = found.rms[:, None] * (found.unit.float() @ white.flatten(1).T)
    # The maps are in half precision.
    torch.testing.assert_close(along, b, rtol=0, atol=1e-3 * float(b.abs().max()))
    torch.testing.assert_close(found.unit.float().square().mean(1), torch.ones(12), rtol=1e-3, atol=0)


def used_and_held_out(strengths, n=600, k=6, seed=0, precision=1.0):
    """Likelihood of images used, with all that are held out and with each half of them, which have some
    directions of a random basis in common; and the true latents. precision: of all that are held out."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(k, k)))[0]
    true = rng.normal(size=(n, k)) * np.sqrt(np.pad(strengths, (0, k - len(strengths))))

    def seen(precision):
        noisy = (true + rng.normal(size=(n, k)) / np.sqrt(precision)) @ turn
        a = precision * torch.eye(k).expand(n, k, k)
        return a, precision * torch.tensor(noisy, dtype=torch.float32)

    used = seen(1.0)
    halves = [seen(precision / 2) for _ in range(2)]
    both = tuple(sum(tables) for tables in zip(*halves, strict=True))
    looks = [SplitLikelihood(*used, *held_out) for held_out in (both, *halves)]
    return looks, torch.tensor(true @ turn, dtype=torch.float32)


@pytest.mark.parametrize("strengths", [[], [9.0], [9.0, 0.5], [9.0, 9.0, 0.5, 0.5]])
def test_weak_directions_are_found_beside_strong_ones_in_any_basis(strengths):
    found = common_directions(*used_and_held_out(strengths)[0], seed=0)
    assert found.n_components == len(strengths) and found.found == bool(strengths)


def test_latents_along_the_directions_are_what_the_images_have_in_common():
    """A fit that starts there starts without most of the noise: that of the other four is left behind."""
    looks, true = used_and_held_out([9.0, 3.0])
    latents = common_directions(*looks, seed=0).latents(2)
    torch.testing.assert_close(latents.T @ latents / 600, torch.eye(2), rtol=0, atol=1e-4)
    explained = latents @ torch.linalg.lstsq(latents, true).solution
    assert (true - explained).square().sum() < 0.2 * true.square().sum()


def test_chance_is_called_so_as_often_as_said():
    p_values = [common_directions(*used_and_held_out([], seed=s)[0], seed=s).p_values[0] for s in range(100)]
    assert np.mean(np.array(p_values) < 0.05) <= 0.12
    assert 0.4 < np.mean(p_values) < 0.6


def test_what_all_particles_share_is_no_direction():
    looks, _ = used_and_held_out([])
    shift = torch.tensor([3.0, 0, 0, 0, 0, 0])
    shared = (SplitLikelihood(x.a, x.b + shift, x.new_a, x.new_b + x.new_a @ shift) for x in looks)
    assert common_directions(*shared, seed=0).n_components == 0


@pytest.mark.parametrize("precision", [1.0, 4.0])
def test_reliability_is_the_share_of_the_latents_that_is_structure(precision):
    """With a latent's variance s and noise 1 in the images used that share is s / (s + 1); how much noise is
    in the others is of no consequence. All images are half as many again."""
    looks, _ = used_and_held_out([4.0, 1.0], n=20_000, precision=precision)
    found = common_directions(*looks, seed=0)
    np.testing.assert_allclose(found.reliability[:2], [6 / 7, 1.5 / 2.5], atol=0.03)
    assert found.n_components == 2 and found.n_clear == 1


def test_auc_of_equal_halves_follows_from_the_reliability():
    rng = np.random.default_rng(0)
    has = rng.integers(2, size=20_000)
    latents = 1.5 * has + rng.normal(size=len(has))
    reliability = np.corrcoef(has, latents)[0, 1] ** 2
    assert auc_of_halves(reliability) == pytest.approx(auc(has, latents), abs=0.01)


def test_the_error_of_shared_variance_is_that_between_data_sets():
    found = np.array([shared_variance(*used_and_held_out([1.0], 300, 1, seed)[0][1:]) for seed in range(60)])
    spread, error = found[:, 0].std(), found[:, 1].mean()
    assert found[:, 0].mean() == pytest.approx(0.5, abs=0.03) and error == pytest.approx(spread, rel=0.3)


def test_the_count_stops_at_the_first_that_may_be_chance():
    null = np.random.default_rng(0).gumbel(size=(50, 4))
    assert HeldOut(np.array([20.0, 20, 0, 20]), null, None, np.ones(4), np.ones(4)).n_components == 2
    assert HeldOut(np.array([20.0, 20, 20, 20]), null, None, np.ones(4), np.ones(4)).n_components == 4


def test_basis_maps_are_as_many_as_held_out_tilts_confirm():
    model = fit_linear_model(blob_store(N, snr=0.3), np.arange(N), zdim=None, iterations=4, max_frequency=0.4)
    assert len(model.maps.basis) == 2 == model.held_out.n_components
    assert model.held_out.found and "confirm 2 components; clear in single particles" in model.verdict
    same = blob_store(N, snr=0.3, blocks=False)
    model = fit_linear_model(same, np.arange(N), zdim=None, iterations=4, max_frequency=0.4)
    assert model.held_out.n_components == 0 and len(model.maps.basis) == 1 and not model.heterogeneous
    assert "no heterogeneity found at this number of particles (120)" in model.verdict
    # Of a direction that nothing confirms the reliability is an accident, and may be 1.
    assert len(summary(LinearRun(same, np.arange(N), {}), model)["held_out_reliability"]) == 0


def test_few_tilts_cannot_tell_how_clear_components_are():
    model = fit_linear_model(blob_store(40, snr=0.3, n_tilts=5), np.arange(40), zdim=None, iterations=3)
    assert np.isnan(model.held_out.reliability).all() and model.held_out.n_clear == 0
    assert "too few tilts per particle to say" in model.verdict


def test_a_block_that_few_particles_have_gets_a_basis_map():
    store = blob_store(N, snr=0.3, frequencies=(0.5, 0.12))
    model = fit_linear_model(store, np.arange(N), zdim=None, iterations=4, max_frequency=0.4)
    assert len(model.maps.basis) == 2
    latents = model.latents.mean.numpy()
    for has in store.presence.T:
        assert auc(has, read_out(latents, has, 0)) > 0.95


@pytest.mark.filterwarnings("error")
def test_particles_of_two_tilts_cannot_be_judged():
    """Whatever differs: log and summary say so, and nothing is confirmed."""
    store = blob_store(N, snr=1.0, n_tilts=2)
    model = fit_linear_model(store, np.arange(N), max_frequency=0.4)
    assert not model.held_out.possible and not model.heterogeneous and model.held_out.n_components == 0
    assert model.verdict.startswith("heterogeneity cannot be judged: no particle has three tilt images")
    told = summary(LinearRun(store, np.arange(N), {}), model)
    assert told["heterogeneity_found"] is False and told["verdict"] == model.verdict
    assert told["held_out_p_value"] is None and told["components_confirmed"] is None


def test_each_of_two_searches_has_half_of_the_errors():
    null = np.random.default_rng(0).gumbel(size=(50, 2))
    one = HeldOut(np.array([8.0, 0]), null, None, np.ones(2), np.ones(2))
    assert 0 < one.p_value == pytest.approx(2 * one.p_values[0])
    assert HeldOut(np.array([-9.0, 0]), null, None, np.ones(2), np.ones(2)).p_value == 1


@pytest.mark.parametrize(
    ("box", "max_frequency", "n_maps", "wanted"),
    [
        (96, 0.25, 1600, 32),
        (24, 0.5, 10, 24),
        (96, 0.25, 20_000, 20),
        (96, 0.5, 10**7, 16),
        (96, 0.25, KERNEL_PARTICLES, 24),
        (32, 0.25, 10, 16),
        (40, 0.25, 10, 20),
        (12, 0.25, 10, 12),
    ],
)
def test_kernel_boxes_fit_in_memory_and_are_no_larger_than_needed(box, max_frequency, n_maps, wanted):
    assert kernel_box(box, max_frequency, n_maps) == wanted


@pytest.mark.parametrize(
    ("box", "max_frequency", "wanted"),
    [(32, 0.25, 20), (96, 0.25, 60), (64, 0.25, 40), (24, 0.4, 24), (32, 0.5, 32)],
)
def test_the_coarse_grid_holds_all_frequencies_and_a_margin(box, max_frequency, wanted):
    assert coarse_box(box, max_frequency) == wanted
