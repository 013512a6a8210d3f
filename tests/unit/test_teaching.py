"""Held-out tilt images decide how much of a network's contribution to the linear model is kept."""

import numpy as np
import pandas as pd
import pytest
import torch
from taught_runs import ENCODERS, taught

from tomohet.errors import InputError
from tomohet.model.encoder import TiltEncoder
from tomohet.model.mlp import ResidualLinear, scale_, scale_inputs_
from tomohet.model.taught import TaughtEncoder, stack_posterior
from tomohet.training.free_latents import all_terms
from tomohet.training.judging import paired_change, paired_fall
from tomohet.training.splits import TiltSplit
from tomohet.training.teaching import FACTORS_OF_LATENTS, Teaching


def held_out_misfit(teaching, z=None):
    z = teaching.linear[:, 0] if z is None else z
    return all_terms(teaching.model.decoder, teaching.unseen, teaching.near.everywhere(), z).misfit.sum()


def last_layer(teaching):
    return teaching.model.decoder.decoder.affine_layers()[-1]


@pytest.fixture
def build(tiny_store, tiny_linear, tmp_path):
    return lambda encoder: taught(tiny_store, tiny_linear, tmp_path, encoder)


@pytest.fixture
def useless(build, request):
    """A network whose output predicts held-out images worse than none, in whatever proportion."""
    teaching = build(getattr(request, "param", "tilts"))
    if teaching._scale_network()["share_of_network"] > 0:
        scale_(last_layer(teaching), -1)
    else:  # it was silenced
        teaching = build(getattr(request, "param", "tilts"))
    return teaching


# ---- the decoder


@pytest.mark.parametrize("factor", [-3.0, 0.1, 1.0, 30.0])
def test_scaling_never_raises_the_misfit_of_held_out_images(build, factor):
    teaching = build("free")
    scale_(last_layer(teaching), factor)
    before = held_out_misfit(teaching)
    row = teaching._scale_network()
    after = held_out_misfit(teaching)
    scale_(last_layer(teaching), 0)
    silent = held_out_misfit(teaching)
    assert 0 <= row["share_of_network"] <= 1
    rounding = 1e-5 * silent
    assert after <= min(before, silent) + rounding
    assert row["gain_of_decoder"] == pytest.approx(float(silent - after), abs=float(rounding))


def test_the_network_of_a_pair_that_helps_is_kept(build):
    shares = []
    for sign in (1, -1):
        teaching = build("free")
        scale_(last_layer(teaching), sign)
        shares.append(teaching._scale_network()["share_of_network"])
    assert min(shares) == 0 < max(shares)


@pytest.mark.parametrize("layer", [torch.nn.Linear(5, 4), ResidualLinear(5)])
def test_scaled_inputs_of_a_layer_are_scaled_inputs(layer):
    x, factors = torch.randn(7, 5), torch.tensor([1, 1, 1, 0.3, 0.3])
    expected = layer(x * factors)
    scale_inputs_(layer, 3, 0.3)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("strength", [-8.0, 1.0, 8.0])
def test_the_networks_latents_count_as_far_as_held_out_images_bear_them_out(build, monkeypatch, strength):
    def judged(factors):
        teaching = build("free")
        decoder = teaching.model.decoder
        scale_inputs_(decoder.decoder.affine_layers()[0], decoder.n_features, strength)
        monkeypatch.setattr("tomohet.training.teaching.FACTORS_OF_LATENTS", factors)
        row = teaching._scale_network()
        return row, float(held_out_misfit(teaching))

    row, misfit = judged(FACTORS_OF_LATENTS)
    alone = [judged((factor,)) for factor in FACTORS_OF_LATENTS]
    best = np.argmax([one["gain_of_decoder"] for one, _ in alone])
    assert row == alone[best][0]
    assert misfit == alone[best][1] <= min(one for _, one in alone) * (1 + 1e-6)


# ---- latents


@pytest.mark.parametrize("useless", ["tilts", "backprojected"], indirect=True)
def test_a_network_that_does_not_help_leaves_the_linear_latents(useless):
    useless.after_epoch(0)
    encoder = useless.model.encoder
    assert not encoder.released and not encoder.trusted
    mu, logvar = useless.latents()
    assert np.array_equal(mu, useless.whole.start[:, 0]) and np.array_equal(logvar, useless.whole.start[:, 1])
    table = pd.read_csv(useless.folder / "held_out.csv")
    assert table["share_of_network"].tolist() == [0]
    assert table["gain_of_decoder"].tolist() == [0]


def test_free_latents_that_predict_worse_are_the_linear_ones(build, monkeypatch):
    teaching = build("free")
    monkeypatch.setattr(Teaching, "_gain", lambda self, z: -torch.ones(len(z)).double())
    teaching.after_epoch(0)
    assert teaching.model.encoder.prior is None
    assert torch.equal(teaching.start, teaching.linear)
    assert np.array_equal(teaching.latents()[0], teaching.whole.start[:, 0])
    assert pd.read_csv(teaching.folder / "held_out.csv")["gain_of_latents"].tolist() == [
        -len(teaching.linear)
    ]


def test_free_latents_that_predict_better_are_the_result(build):
    """Better than latents that have nothing to do with the particles."""
    teaching = build("free")
    z = torch.randn(len(teaching.linear), 2, generator=torch.Generator().manual_seed(0))
    truth = teaching.linear.clone()
    teaching.linear[:, 0] = z
    teaching.start = teaching.linear.clone()
    teaching.after_epoch(0)
    (row,) = teaching.history
    assert row["gain_of_latents"] > row["error_of_latents"]
    assert teaching.model.encoder.prior is not None
    found = teaching.start[:, 0]
    assert (found - truth[:, 0]).abs().mean() < 0.3 * (z - truth[:, 0]).abs().mean()
    mu, logvar = teaching.latents()
    assert np.corrcoef(mu.ravel(), truth[:, 0].ravel())[0, 1] > 0.9
    # All images say more than nine tenths of them.
    assert logvar.mean() < teaching.start[:, 1].mean()


def test_an_encoder_that_predicts_better_is_trusted_and_one_that_predicts_worse_is_not(build):
    teaching = build("tilts")
    encoder = teaching.model.encoder
    encoder.release()
    offset = torch.tensor([3.0, -3.0])
    true = teaching.start.clone()
    with torch.no_grad():  # the encoder moves all latents back by what they are off
        teaching.linear[:, 0] = true[:, 0] + offset
        teaching.start = teaching.linear.clone()
        encoder.network.encoder_b.affine_layers()[-1].bias[:2] = -offset
        assert teaching._test_encoder(encoder)["gain_of_latents"] > 0
        assert encoder.trusted
        encoder.network.encoder_b.affine_layers()[-1].bias[:2] = offset
        assert teaching._test_encoder(encoder)["gain_of_latents"] < 0
        assert not encoder.trusted


def test_repeating_an_epoch_replaces_what_is_said_of_it(build):
    teaching = build("tilts")
    for epoch in (0, 1, 1):
        teaching.after_epoch(epoch)
    assert [row["epoch"] for row in teaching.history] == [0, 1]


def test_the_change_of_the_gain_is_that_of_the_same_particles(build):
    teaching = build("tilts")
    gain = torch.arange(len(teaching.linear)).double()
    assert paired_change(None, gain) == {}
    row = paired_change(gain, gain + 1)
    assert row["change_of_decoder"] == pytest.approx(len(gain)) and row["error_of_change"] == pytest.approx(0)
    teaching._judges = np.array([1, 3])
    of_two = teaching._by_particle(gain[[1, 3]] + torch.tensor([2.0, 4.0]).double())
    row = paired_change(gain + 1, of_two)
    assert row["change_of_decoder"] == pytest.approx(2 * len(gain))  # 1 and 3 nats, for all particles
    row = paired_change(of_two, gain)
    assert row["change_of_decoder"] == pytest.approx(-3 * len(gain))


def test_a_fall_is_measured_from_the_best_judgement(build, monkeypatch):
    teaching = build("tilts")
    particles = torch.arange(len(teaching.linear)).double()
    gains = iter([particles, 5 + particles, 4 - particles, 3 + particles])

    def scale_network():
        teaching.judged = next(gains)
        return teaching._named(teaching.judged, "decoder") | paired_fall(teaching.best, teaching.judged)

    monkeypatch.setattr(teaching, "_scale_network", scale_network)
    for epoch in range(4):
        teaching.after_epoch(epoch)
    falls = [row.get("fall_since_best") for row in teaching.history]
    assert falls[0] is None
    assert falls[1:] == pytest.approx(
        [-5 * len(particles), (1 + 2 * particles).sum().item(), 2 * len(particles)]
    )
    assert teaching.history[-1]["error_of_fall"] == pytest.approx(0)  # all particles lost the same


@pytest.mark.parametrize("encoder", ENCODERS)
def test_state_is_taken_up(build, encoder):
    first, second = build(encoder), build(encoder)
    first.after_epoch(0)
    second.load_state(first.state())
    assert second.history == first.history
    assert torch.equal(second.start, first.start)
    for wrong in (None, first.state() | {"linear": first.linear[:5]}):
        with pytest.raises(ValueError, match="training"):
            second.load_state(wrong)


# ---- the encoder's start


@pytest.mark.parametrize("width", [8, 10])
def test_an_encoder_starts_at_the_linear_posterior_whatever_its_width(width):
    """A last layer as wide as the one before is residual."""
    encoder = TaughtEncoder(TiltEncoder(20, 5, width_a=8, out_a=4, width_b=width))
    encoder.release()
    encoder.trust(True)
    start = stack_posterior(torch.randn(2, 5), torch.randn(2, 5))
    mu, logvar = encoder(torch.randn(7, 20, dtype=torch.complex64), np.array([3, 4]), start)
    torch.testing.assert_close(stack_posterior(mu, logvar), start, atol=1e-6, rtol=0)


# ---- which images


def test_images_are_divided_without_rest():
    tilts = np.array([1, 2, 11, 30])
    particle = np.repeat(np.arange(4), tilts)
    split = TiltSplit.of(tilts, 0.5, True, seed=0)
    together = split.trained.astype(int) + split.judging + split.test
    assert (together == 1).all()
    trained, judging = (np.bincount(particle[mask], minlength=4) for mask in (split.trained, split.judging))
    assert trained.min() == 1
    assert judging.tolist()[:2] == [0, 0] and judging[2] == 1 and judging[3] in (1, 2)
    untaught = TiltSplit.of(tilts, 0.5, False, seed=0)
    assert np.array_equal(untaught.test, split.test) and not untaught.judging.any()


def test_single_tilts_cannot_be_judged():
    with pytest.raises(InputError, match="single tilt"):
        TiltSplit.of(np.ones(5, int), 1.0, True, seed=0)
