"""Strata of particles that were imaged alike: what they leave to chance, and which controls they give."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from blob_store import blob_store

from tomohet.particles.conditions import imaging_conditions
from tomohet.reconstruction import support
from tomohet.reconstruction.controls import control_labels
from tomohet.reconstruction.matching import (
    PER_STRATUM,
    exchangeable_share,
    matched_conditions,
    mean_of_stratum,
    strata_of,
)

N = 400
ALONE = np.arange(N)


@pytest.fixture(scope="module")
def views():
    beams = np.random.default_rng(0).normal(size=(N, 3))
    return beams / np.linalg.norm(beams, axis=1, keepdims=True)


def by_chance(views, strength):
    return np.random.default_rng(1).random(N) < 1 / (1 + np.exp(-strength * views[:, 2]))


def test_controls_have_the_views_of_the_subset(views):
    members = by_chance(views, 3)
    stratum = strata_of(views, members, ALONE, seed=0)
    own = views[members, 2].mean()
    anyone, alike = (
        np.mean([views[one, 2].mean() for one in control_labels(members, ALONE, 50, 0, given)[1:]])
        for given in (None, stratum)
    )
    assert own > 0.2 and abs(anyone) < 0.05 and alike == pytest.approx(own, abs=0.08)
    assert 0.4 < exchangeable_share(members, stratum) < 0.9


def test_the_view_leaves_nothing_to_chance_or_all(views):
    decided = views[:, 2] > 0.2
    assert exchangeable_share(decided, strata_of(views, decided, ALONE, 0)) < support.LEAST_EXCHANGEABLE
    free = by_chance(views, 0)
    stratum = strata_of(views, free, ALONE, 0)
    assert exchangeable_share(free, stratum) > 0.9
    assert np.bincount(stratum).min() >= PER_STRATUM
    np.testing.assert_array_equal(stratum, strata_of(views, free, ALONE, 0))


def test_controls_take_as_many_of_each_stratum():
    stratum, members = np.repeat([0, 1, 2], 4), np.arange(12) % 6 == 0
    labels = control_labels(members, np.arange(12), 30, 0, stratum)
    taken = np.stack([labels[:, stratum == one].sum(1) for one in range(3)])
    assert (taken == taken[:, :1]).all() and len(np.unique(labels, axis=0)) > 10
    np.testing.assert_allclose(mean_of_stratum(members, stratum)[::4], taken[:, 0] / 4)


def test_copies_have_one_stratum_and_few_members_are_not_matched(views):
    source = ALONE // 2
    stratum = strata_of(views, by_chance(views, 3), source, 0)
    assert (stratum[::2] == stratum[1::2]).all() and stratum.max() > 5
    assert not strata_of(views, ALONE < 8, ALONE, 0).any()


def test_a_subset_that_differs_by_its_view_alone_is_not_supported():
    """All particles have one structure; images seen from above have half of its contrast."""
    store, particles = blob_store(120, snr=0.5, blocks=False), np.arange(120)
    above = (imaging_conditions(store, particles)["view_z"] > 0).to_numpy()
    weaker = np.where(above[store.images["particle"]], 0.5, 1.0)
    store = replace(store, values=store.values * torch.as_tensor(weaker)[:, None])
    mostly = np.random.default_rng(3).random(120) < np.where(above, 0.75, 0.25)
    given = {"held_out": None, "draws": 199}
    decided, found = support.differences_of(store, particles, np.stack([above, mostly]), **given)
    assert not decided.matched and decided.p_random == 1 and decided.verdict == "not supported"
    assert found.matched and found.p_random > support.SUPPORTED_P
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(support, "strata_of", lambda conditions, *_: np.zeros(len(conditions), int))
        among_all = support.differences_of(store, particles, np.stack([above, mostly]), **given)
    assert all(one.p_random < 1e-3 for one in among_all)
    assert matched_conditions(store, particles).shape == (120, 5)
