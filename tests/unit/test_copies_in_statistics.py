"""Copies of particles (symmetry expansion) share their noise.

Statistics must not treat them as independent.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from blob_store import blob_store, expanded_by_c2

from tomohet.analysis import leaks
from tomohet.linear.fit import fit_linear_model
from tomohet.linear.held_out import common_directions, shared_variance, split_tilts, tilt_number
from tomohet.linear.prediction import SplitLikelihood
from tomohet.linear.state_choice import standard_error
from tomohet.linear.state_merging import held_out_distance
from tomohet.reconstruction.observations import Observations

COPIES = 4


def looks(n: int, k: int, seed: int, signal: float = 0.0) -> list[SplitLikelihood]:
    """Images used beside all others, and beside either half of these, of latents of variance `signal`."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, np.sqrt(signal), (n, k)) if signal else np.zeros((n, k))
    tables = []
    for _ in range(3):
        root = rng.normal(size=(n, 2 * k, k)) / np.sqrt(2 * k)
        a = root.transpose(0, 2, 1) @ root
        b = (a @ z[..., None])[..., 0] + (np.linalg.cholesky(a) @ rng.normal(size=(n, k, 1)))[..., 0]
        tables.append((torch.as_tensor(a).float(), torch.as_tensor(b).float()))
    used, first, second = tables
    both = tuple(one + other for one, other in zip(first, second, strict=True))
    return [SplitLikelihood(*used, *look) for look in (both, first, second)]


def repeated(look: SplitLikelihood, told: bool) -> SplitLikelihood:
    """Each particle COPIES times; told: with the source."""
    tables = (table.repeat_interleave(COPIES, 0) for table in (look.a, look.b, look.new_a, look.new_b))
    source = torch.arange(len(look.b)).repeat_interleave(COPIES)
    return SplitLikelihood(*tables, source if told else None)


def test_noise_that_copies_share_is_no_structure():
    """Copies of identical particles in a symmetric map have the same latents and the same noise."""
    p_values = {
        told: [
            common_directions(*(repeated(look, told) for look in looks(100, 4, seed)), seed).p_values[0]
            for seed in range(60)
        ]
        for told in (True, False)
    }
    assert np.mean(np.array(p_values[True]) < 0.01) <= 0.05
    assert 0.3 < np.mean(p_values[True]) < 0.7
    assert np.mean(np.array(p_values[False]) < 0.01) > 0.3  # what would be said otherwise


def test_copies_change_neither_reliability_nor_its_error():
    _, first, second = looks(200, 2, 1, signal=2.0)
    shared, error = shared_variance(first, second)
    again, same_error = shared_variance(repeated(first, True), repeated(second, True))
    np.testing.assert_allclose(again, shared, rtol=1e-4)
    np.testing.assert_allclose(same_error, error, rtol=1e-3)
    too_small = shared_variance(repeated(first, False), repeated(second, False))[1]
    np.testing.assert_allclose(too_small, error / np.sqrt(COPIES), rtol=0.1)


def test_copies_do_not_tell_states_apart():
    look = looks(300, 1, 2)[0]
    label = torch.arange(300) % 2
    point = torch.tensor([[-0.5], [0.5]], dtype=torch.float64)
    alone = held_out_distance(point, label, look)[0, 1].item()
    copied = held_out_distance(point, label.repeat_interleave(COPIES), repeated(look, True))[0, 1].item()
    untold = held_out_distance(point, label.repeat_interleave(COPIES), repeated(look, False))[0, 1].item()
    assert untold == pytest.approx(alone * np.sqrt(COPIES), rel=0.05)
    assert copied == pytest.approx(alone, rel=0.1)


def test_gains_are_summed_over_copies_before_their_error():
    look = repeated(looks(50, 1, 3)[0], True)
    gain = torch.as_tensor(np.random.default_rng(0).normal(size=50)).repeat_interleave(COPIES)
    summed = look.of_sources(gain).numpy()
    np.testing.assert_allclose(summed, COPIES * gain[::COPIES])
    assert standard_error(summed) == pytest.approx(np.sqrt(COPIES) * standard_error(gain.numpy()), rel=0.02)


def test_held_out_tilts_are_the_same_for_all_copies():
    store = expanded_by_c2(blob_store(12, snr=0.3))
    plain = blob_store(12, snr=0.3)
    number = tilt_number(store)
    copied = np.concatenate([np.tile(tilt_number(plain)[plain.images_of([p])], 2) for p in range(12)])
    assert (number == copied).all()
    for part in split_tilts(store):
        tilts = part.images.groupby("particle")["tilt"].apply(tuple)
        assert (tilts.iloc[::2].to_numpy() == tilts.iloc[1::2].to_numpy()).all()
    assert Observations(store, np.arange(24)).copies == 2
    assert Observations(plain, np.arange(12)).copies == 1


def test_leaks_are_tested_on_one_copy_of_each():
    rng = np.random.default_rng(4)
    table = pd.DataFrame({name: rng.normal(size=40) for name in leaks.MEANING if name != "view"})
    table = table.assign(tomogram="t", view_x=0.0, view_y=0.0, view_z=1.0)
    scores = rng.normal(size=(40, 2))
    rows = np.repeat(np.arange(40), COPIES)
    copied = table.iloc[rows].reset_index(drop=True).assign(source=rows)
    pd.testing.assert_frame_equal(leaks.audit(scores[rows], copied).tests, leaks.audit(scores, table).tests)


@pytest.mark.parametrize("seed", [1, 3])
def test_an_expanded_set_of_identical_symmetric_particles_is_homogeneous(seed):
    """If copies were treated as separate particles, a component would be confirmed in both of these sets."""
    store = expanded_by_c2(blob_store(150, snr=0.1, blocks=False, symmetric=True, seed=seed))
    model = fit_linear_model(store, np.arange(300), max_frequency=0.4, iterations=15)
    assert not model.heterogeneous and model.held_out.n_components == 0
    assert model.verdict.startswith("no heterogeneity found")


def test_differences_between_copies_are_found():
    """The copies of a C2 particle with two independent sites differ, and the difference is found."""
    store = blob_store(200, snr=0.5, seed=6, frequencies=(0.5, 0.0))
    expanded = expanded_by_c2(store)
    model = fit_linear_model(expanded, np.arange(400), max_frequency=0.4, iterations=15)
    assert model.heterogeneous
