"""Search for components: how many maps and rounds, and where it starts. Stand-ins replace the fits."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tomohet.linear import search
from tomohet.linear.explained import Explained
from tomohet.linear.search import Found, Search, phase_of
from tomohet.linear.significance import SURROUNDINGS_SE
from tomohet.reconstruction.mean_map import MeanMap

EMPTY = torch.zeros(4, 4, 4)


def mean_of(**fields):
    return MeanMap(EMPTY, EMPTY + 1, noise=None, power=torch.zeros(3), **fields)


def observed(count, max_frequency=0.25):
    """Observations of so many particles, which are alike on any grid."""
    own = SimpleNamespace(everyone=np.arange(count), max_frequency=max_frequency)
    own.alike = lambda *_: own
    return own


def result(p_value=1.0, found=False, explained=(), possible=True):
    return SimpleNamespace(p_value=p_value, found=found, explained=explained, possible=possible)


def test_phase_of_pose_errors_is_that_of_the_density_they_move():
    """Points at distances of 2 and 4 px, turned by random vectors; negative density does not count."""
    volume = torch.zeros(12, 12, 12)
    volume[6, 6, 8], volume[6, 10, 6], volume[2, 2, 2] = 3.0, 1.0, -5.0
    rng = np.random.default_rng(0)
    error = rng.normal(size=(200_000, 6)) * [0.01] * 3 + [0] * 6
    error[:, 3:] *= 2
    moved = []
    for point, weight in (((2, 0, 0), 3), ((0, 4, 0), 1)):
        moved.append(weight * np.square(np.cross(error[:, :3], point) + error[:, 3:]).mean())
    mean = MeanMap(volume, volume, noise=None, power=torch.zeros(7))
    expected = 2 * np.pi * 0.3 * np.sqrt(sum(moved) / 4)
    assert phase_of(error, mean, observed(2, 0.3)) == pytest.approx(expected, rel=0.01)


def test_starts_inside_and_outside_the_focus_mask(monkeypatch):
    asked = []

    def latents(observations, mean, n, seed):
        asked.append((mean.mask, n, seed))
        return np.arange(3), torch.full((3, n), float(len(asked)))

    monkeypatch.setattr(search, "kernel_latents", latents)
    everywhere = mean_of()
    compared, start, aside = search._start(observed(5), everywhere, 2, 7)
    assert aside is None and start.shape == (3, 2) and asked == [(everywhere.mask, 2, 7)]
    focus, mask = torch.zeros(12, 12, 12), torch.full((12, 12, 12), 0.5)
    focus[3:9, 3:9, 3:9] = 1
    asked.clear()
    mean = MeanMap(focus, mask, noise=None, power=torch.zeros(7), focus=focus)
    compared, start, aside = search._start(observed(5), mean, 2, 7)
    assert compared.tolist() == [0, 1, 2] and start.shape == (3, 2) and aside.shape == (3, 4)  # of 5 - 1
    elsewhere = search.outside(focus, 0.5 / 0.25)
    assert torch.equal(asked[0][0], 0.5 * elsewhere) and torch.equal(asked[1][0], 0.5 * focus)
    assert 0 < elsewhere[6, 6, 6] < 1 and elsewhere[0, 0, 0] > 0.99
    assert search._start(observed(50), mean, 2, 7)[2].shape == (3, search.NUISANCES)


def sought(monkeypatch, count, answers, zdim=None, iterations=40, **fields):
    """(found, [(maps, iterations) of each search]) with these answers of held-out images."""
    tried, answers = [], iter(answers)

    def fit(used, mean, first, start, most, aside):
        tried.append((start.shape[1], most))
        return len(tried)

    monkeypatch.setattr(search, "_start", lambda seen, mean, k, seed: (None, torch.zeros(1, k), None))
    monkeypatch.setattr(search, "expectation_maximisation", fit)
    monkeypatch.setattr(search, "_splits", lambda *_: None)
    own = Search(None, None, lambda splits: next(answers), zdim, iterations, 0)
    parts = (observed(count),) * 3
    return own._with_enough_maps(parts, mean_of(**fields), parts[0], apart=False), tried


def test_a_second_search_takes_fewer_maps_and_longer(monkeypatch):
    many, few = result(0.3), result(0.1)
    assert sought(monkeypatch, 200, [many, few]) == ((few, 2), [(10, 6), (3, 20)])
    assert sought(monkeypatch, 200, [few, many]) == ((few, 1), [(10, 6), (3, 20)])
    for answer in (result(0.3, found=True), result(0.3, explained=("view",)), result(possible=False)):
        assert sought(monkeypatch, 200, [answer]) == ((answer, 1), [(10, 6)])
    assert sought(monkeypatch, 200, [many, few], focus=EMPTY)[1] == [(6, 6), (3, 20)]
    assert sought(monkeypatch, 200, [many, few], zdim=5, iterations=4)[1] == [(10, 4), (5, 4)]
    assert sought(monkeypatch, 8, [many, few], zdim=None)[1] == [(7, 6), (3, 20)]
    assert sought(monkeypatch, 3, [many, few], zdim=12)[1] == [(12, 6), (12, 20)]


@pytest.mark.parametrize(("zdim", "confirmed", "n_maps"), [(None, 3, 3), (None, 0, 1), (5, 3, 5), (2, 3, 3)])
def test_measured_maps_are_as_many_as_confirmed_or_wanted(monkeypatch, caplog, zdim, confirmed, n_maps):
    used = observed(4)
    used.processes = SimpleNamespace(part=lambda count: slice(0, count // 2))
    mean, fitted, seen = mean_of(), SimpleNamespace(mean=mean_of(), aside=torch.ones(1)), []

    def fit(observations, mean, first, start, iterations, share, aside):
        seen.append((start, iterations, share, aside, mean.tilt_shift_px))
        return fitted

    before = SimpleNamespace(
        n_components=confirmed,
        explained=(Explained("view", 0.75),),
        used_latents=lambda k: torch.arange(4.0)[:, None].expand(4, k),
        measured_by=lambda splits, seed: (splits, seed),
    )
    monkeypatch.setattr(Search, "_parts", lambda *_: (used,) * 3)
    monkeypatch.setattr(search, "expectation_maximisation", fit)
    monkeypatch.setattr(search, "_splits", lambda *_: "splits")
    own = Search(None, lambda observations: mean, None, zdim, 40, 7)
    with caplog.at_level("INFO", "tomohet.linear.search"):
        found = own._measured(Found(before, Poses(), None, tilt_shift_px=0.4))
    assert "the orientation explains 75 % of a further direction" in caplog.text
    ((start, *others),) = seen
    assert start.tolist() == [[0.0] * n_maps, [1.0] * n_maps]  # of this process's particles
    assert others == [40, search.SHARE_OF_POWER, None, 0.4]
    assert found.held_out == ("splits", 7) and torch.equal(found.aside, torch.ones(1))


class Poses:
    """Poses of two particles, whose errors are corrected by a shift."""

    def __init__(self, shift=0.0):
        self.store, self.offset = None, np.full((2, 6), shift)

    def errors_left(self, fitted, observations):
        return None

    def moved(self, errors):
        return Poses(self.offset[0, 0] + 2.0)


def rounds(monkeypatch, shifts_px, phases=None):
    """(result, number of rounds, size of the corrections) with image shifts of each round."""
    shifts_px, made, moved = iter(shifts_px), [], []
    errors = None if phases is None else object()
    phases = iter(phases or [])

    def with_errors(self, poses, parts, apart, shift_px):
        made.append(shift_px)
        return mean_of(), poses

    def phase(error, mean, observations):
        moved.append(error[0, 0])
        return next(phases)

    fitted = SimpleNamespace(
        mean=mean_of(errors=errors), basis=None, basis_variance=None, aside=torch.ones(1)
    )
    monkeypatch.setattr(Search, "_parts", lambda *_: (observed(2),) * 3)
    monkeypatch.setattr(Search, "_mean_with_errors", with_errors)
    monkeypatch.setattr(Search, "_with_enough_maps", lambda *_: (result(), fitted))
    monkeypatch.setattr(search, "residual_shift", lambda *_: next(shifts_px))
    monkeypatch.setattr(search, "phase_of", phase)
    found, _ = Search(lambda store: None, None, None, None, 1, 0)._in_rounds(Poses(), apart=False)
    return found, made, moved


def test_the_search_is_repeated_where_images_are_shifted_more_than_assumed(monkeypatch):
    for shifts_px, made in (
        ([0.0], [0.0]),
        ([0.5, 0.6], [0.0, 0.5]),
        ([0.5, 0.7, 0.9], [0.0, 0.5, 0.7]),
    ):
        found, assumed, _ = rounds(monkeypatch, shifts_px)
        assert assumed == made and found.tilt_shift_px == shifts_px[-1] and found.errors is None


def test_the_search_is_repeated_where_poses_were_corrected_far(monkeypatch):
    for phases, n in (([0.4], 1), ([0.6, 0.4], 2), ([0.6, 0.6, 0.6], 3)):
        found, assumed, moved = rounds(monkeypatch, [0.0] * 3, phases)
        assert len(assumed) == n and moved == [2.0] * n and found.poses.offset[0, 0] == 2.0 * n
        assert found.errors is not None


@pytest.mark.parametrize(("beyond", "apart"), [(SURROUNDINGS_SE - 0.1, False), (SURROUNDINGS_SE + 0.1, True)])
def test_surroundings_that_are_seen_ask_for_distant_tilts(monkeypatch, beyond, apart):
    fitted = SimpleNamespace(mean=mean_of(), basis=None, basis_variance=None)

    def in_rounds(self, poses, apart):
        return Found(result(found=True), poses, None, apart=apart), (observed(2), fitted)

    monkeypatch.setattr(Search, "_in_rounds", in_rounds)
    monkeypatch.setattr(search, "alike_beyond", lambda *_: beyond)
    monkeypatch.setattr(Search, "_measured", lambda self, found: found)
    found = Search(None, None, None, None, 1, 0).confirmed(Poses())
    assert found.apart is apart and found.surroundings == beyond
