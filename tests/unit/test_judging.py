"""How many particles judge a network that starts from the linear model, which, and after which epochs."""

import numpy as np
import pytest
import torch
from taught_runs import taught

from tomohet.model.latent_terms import misfits
from tomohet.model.mlp import scale_inputs_
from tomohet.processes import Processes
from tomohet.training import judging
from tomohet.training.judging import (
    LEAST_GAIN,
    LEAST_SE,
    MOST_ROUNDS,
    MOST_SHARE,
    SHARE_OF_LATENTS,
    Calendar,
    judging_particles,
    sample_size,
)


@pytest.fixture
def build(tiny_store, tiny_linear, tmp_path):
    return lambda encoder="free": taught(tiny_store, tiny_linear, tmp_path, encoder)


@pytest.fixture
def few(monkeypatch):
    """Eight particles judge."""
    monkeypatch.setattr(judging, "LEAST_GAIN", 2 * LEAST_SE**2 / 8)


# ---- how many


def test_the_sample_tells_the_least_gain_from_none():
    """Gains of contributions to images with complex noise, at the best scale, particle by particle."""
    gain, errors = 0.04, 3.0
    n, rng, points = sample_size(gain, errors), np.random.default_rng(0), 50
    added = np.sqrt(gain / points) * np.ones(points, complex)
    noise = rng.normal(0, np.sqrt(0.5), (400, n, points, 2)) @ [1, 1j]
    found = (2 * (added.conj() * (added + noise)).real - np.abs(added) ** 2).sum(2)  # (trials, n)
    z = found.sum(1) / (found.std(1) * n**0.5)
    assert z.mean() == pytest.approx(errors, abs=0.2)
    # The factor chosen on these particles: what it loses on as many others.
    factor = (added.conj() * (added + noise)).real.sum((1, 2)) / (n * gain)
    assert ((factor - 1) ** 2 * gain).mean() == pytest.approx(1 / (2 * n), rel=0.25)


def test_a_small_data_set_uses_all_particles():
    size = sample_size(LEAST_GAIN, LEAST_SE)
    assert size == 1800
    assert judging_particles(np.ones(size, int), None, 0) is None
    drawn = judging_particles(np.ones(size + 1, int), None, 0)
    assert len(np.unique(drawn)) == size and (np.diff(drawn) > 0).all()


# ---- which


def test_the_sample_follows_from_the_seed_and_holds_particles_with_held_out_images():
    tilts = np.arange(5000) % 3
    drawn = [judging_particles(tilts, None, seed) for seed in (3, 3, 4)]
    assert np.array_equal(*drawn[:2]) and not np.array_equal(*drawn[1:])
    assert tilts[drawn[0]].min() == 1


def test_copies_of_a_particle_judge_together():
    source = np.repeat(np.arange(2000), 3)[np.random.default_rng(0).permutation(6000)]
    drawn = judging_particles(np.ones(6000, int), source, 0)
    assert len(np.unique(source[drawn])) == 1800 and len(drawn) == 3 * 1800


# ---- when


@pytest.mark.parametrize("epochs", [1, 2, 6, 7, 50])
@pytest.mark.parametrize("judgement", [0.0, 0.01, 0.4, 30.0])
@pytest.mark.parametrize("latents", [0.0, 2.0, 8.0])
def test_the_last_epoch_is_judged_and_latents_are_inferred_after_judgements(epochs, judgement, latents):
    calendar = Calendar.of(epochs, 1.0, judgement, latents)
    judged = [epoch for epoch in range(epochs) if calendar.judges(epoch)]
    inferred = [epoch for epoch in range(epochs) if calendar.infers_latents(epoch)]
    assert judged[-1] == inferred[-1] == epochs - 1
    assert set(inferred) <= set(judged)
    assert len(judged) >= min(epochs, 3) and len(inferred) <= MOST_ROUNDS
    assert judgement > 0.01 or judged == list(range(epochs))


@pytest.mark.parametrize("judgement", [0.01, 0.1, 0.4])
@pytest.mark.parametrize("latents", [0.0, 1.0, 2.5, 7.5])
def test_judging_takes_a_fifth_of_the_training(judgement, latents):
    epochs = 50
    calendar = Calendar.of(epochs, 1.0, judgement, latents)
    judged, inferred = (sum(map(when, range(epochs))) for when in (calendar.judges, calendar.infers_latents))
    assert inferred * latents <= max(SHARE_OF_LATENTS * epochs, latents)
    work = judged * judgement + inferred * latents
    assert work <= (0.2 if latents > 5 else MOST_SHARE) * epochs


def test_an_epoch_that_is_not_judged_leaves_the_network(build):
    teaching = build()
    teaching.calendar = Calendar(4, every=2, rounds=1)
    before = {name: value.clone() for name, value in teaching.model.decoder.state_dict().items()}
    teaching.after_epoch(0)
    assert teaching.history == [] and not (teaching.folder / "held_out.csv").exists()
    for name, value in teaching.model.decoder.state_dict().items():
        assert torch.equal(value, before[name])
    for epoch in (1, 2, 3):
        teaching.after_epoch(epoch)
    assert [row["epoch"] for row in teaching.history] == [1, 3]
    assert ["gain_of_latents" in row for row in teaching.history] == [False, True]


# ---- what the sample says


def gains(teaching, z):
    """Gain of each particle, by all and by the sample."""
    found = []
    for judges in (None, teaching.sample):
        teaching._judges = judges
        found.append(teaching._gain(z))
    return found


def test_the_samples_gains_are_those_of_its_particles_and_stand_for_all(build, few):
    teaching = build()
    assert len(teaching.sample) == 8 < len(teaching.linear)
    of_all, of_some = gains(teaching, teaching.linear[:, 0] + 1)
    assert torch.equal(of_some, of_all[teaching.sample])
    row = teaching._named(of_some, "latents")
    particles = len(teaching.linear)
    assert row["gain_of_latents"] == pytest.approx(particles * of_some.mean().item())
    assert row["error_of_latents"] == pytest.approx(particles * of_some.std().item() / 8**0.5)


def test_copies_count_with_their_particle(build, few):
    teaching = build()
    teaching.source = torch.arange(len(teaching.linear)) // 2
    source = teaching.source.numpy()
    teaching.sample = judging_particles(teaching.unseen.tilts, source, 0)
    of_all, of_some = gains(teaching, teaching.linear[:, 0] + 1)
    assert len(of_some) == 8 and len(of_all) == source.max() + 1
    assert torch.equal(of_some, of_all[np.unique(source[teaching.sample])])


def test_before_the_last_epoch_the_sample_judges_and_after_it_all_particles(build, few, monkeypatch):
    teaching = build()
    teaching.calendar = Calendar(2, every=1, rounds=1)
    judged, scaled = [], type(teaching)._scale_network
    monkeypatch.setattr(
        type(teaching), "_scale_network", lambda self: judged.append(self._judges) or scaled(self)
    )
    teaching.after_epoch(0)
    teaching.after_epoch(1)
    assert judged[0] is teaching.sample and judged[1] is None


@pytest.mark.parametrize("size", [2, 11])
def test_processes_share_the_sample(build, few, monkeypatch, size):
    """Also where there are more processes than particles that judge."""
    teaching = build()
    teaching._judges = teaching.sample

    def sums(z):
        return teaching._held_out_sums(misfits, teaching.near, z)

    z = teaching.linear[:, 0]
    expected = sums(z)
    monkeypatch.setattr(Processes, "add_up", lambda self, values: values)
    parts = []
    for rank in range(size):
        teaching.unseen.mine = np.arange(len(teaching.unseen)) % size == rank
        parts.append(sums(z))
    assert sum((part != 0).long() for part in parts).max() == 1
    torch.testing.assert_close(sum(parts), expected, rtol=1e-5, atol=1e-2)
    assert (expected != 0).nonzero()[:, 0].tolist() == teaching.sample.tolist()


def test_a_continuation_has_the_same_sample_and_calendar(build, few):
    first, second = build(), build()
    first.after_epoch(0)
    second.load_state(first.state())
    assert np.array_equal(first.sample, second.sample) and first.calendar == second.calendar


def test_an_encoder_is_tested_on_the_sample_alone(build, few):
    teaching = build("tilts")
    teaching.model.encoder.release()
    teaching.calendar = Calendar(2)
    teaching.after_epoch(0)
    (row,) = teaching.history
    assert np.isfinite(row["gain_of_latents"]) and np.isfinite(row["error_of_latents"])


# ---- with which numbers


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_bfloat16_decides_as_float32(build, strength):
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        teaching = build()
        decoder = teaching.model.decoder
        scale_inputs_(decoder.decoder.affine_layers()[0], decoder.n_features, strength)
        teaching.dtype = dtype
        teaching.after_epoch(0)
        rows.append(teaching.history[0] | {"latents": teaching.latents()[0]})
    single, half = rows
    assert half["share_of_latents"] == single["share_of_latents"]
    assert half["share_of_network"] == pytest.approx(single["share_of_network"], abs=0.02)
    for what in ("decoder", "latents"):
        difference = abs(half[f"gain_of_{what}"] - single[f"gain_of_{what}"])
        assert difference <= 0.1 * single[f"error_of_{what}"]
    np.testing.assert_allclose(half["latents"], single["latents"], atol=0.02)
