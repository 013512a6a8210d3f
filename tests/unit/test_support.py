"""Subsets against their controls: statistics against brute force; noise, chance and true differences."""

import json
from dataclasses import fields, replace

import mrcfile
import numpy as np
import pandas as pd
import pytest
from blob_store import BlobStore, blob_store
from scipy.ndimage import gaussian_filter

from tomohet.commands import support
from tomohet.errors import InputError
from tomohet.files.atomic import write_pickle
from tomohet.linear.explained import Explained
from tomohet.linear.fit import fit_linear_model
from tomohet.linear.subset_evidence import followed_conditions, held_out_tilts
from tomohet.options import SupportOptions
from tomohet.physics.backprojection import Accumulator
from tomohet.physics.fourier_grids import lowpass
from tomohet.physics.masks import sphere_mask
from tomohet.reconstruction.controls import LEAST_P, control_labels, p_value
from tomohet.reconstruction.mean_map import mean_map
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.particle_maps import particle_maps
from tomohet.reconstruction.reproducible_difference import (
    DIFFERENCE_BYTES,
    difference_box,
    reproducible_power,
)
from tomohet.reconstruction.subset_maps import (
    ACCUMULATOR_BYTES,
    HIGH_SIGMA,
    SubsetDifference,
    _difference,
    map_box,
    subset_differences,
)
from tomohet.reconstruction.support import HeldOutTilts, difference_of, differences_of, p_of_held_out

N = 120
ALL = np.arange(N)


class HalvesStore(BlobStore):
    """A store whose file has no half sets."""

    @property
    def particles(self) -> pd.DataFrame:
        return super().particles.assign(half=None)


def simulated(blocks: bool) -> BlobStore:
    made = blob_store(N, snr=0.3, blocks=blocks)
    return HalvesStore(**{field.name: getattr(made, field.name) for field in fields(made)})


def fitted(store: BlobStore) -> tuple[BlobStore, object]:
    return store, fit_linear_model(store, ALL, zdim=3, iterations=6)


@pytest.fixture(scope="module")
def one_structure():
    return fitted(simulated(blocks=False))


@pytest.fixture(scope="module")
def of_four():
    """A store of particles in four states."""
    return simulated(blocks=True)


@pytest.fixture(scope="module")
def four_states(of_four):
    return fitted(of_four)


@pytest.fixture(scope="module")
def expanded():
    """Particles of which each second one is a copy of the one before it, in another pose."""
    store = blob_store(24, snr=0.3)
    return replace(store, copy_of=np.arange(24) // 2 * 2)


def of_model(store, model, *subsets, **options):
    held_out = {"held_out": held_out_tilts(model.split)} | options
    return differences_of(store, ALL, np.stack(subsets), mean=model.maps.mean, draws=199, **held_out)


def test_controls_have_the_size_of_the_subset_and_keep_copies_together():
    members = np.arange(12) % 2 == 0
    labels = control_labels(members, np.arange(12) // 2, draws=20, seed=0)
    assert labels.shape == (21, 12) and (labels[0] == members).all()
    assert (labels[:, ::2] != labels[:, 1::2]).all()  # one of each pair of copies, as in the subset
    alone = control_labels(members, np.arange(12), draws=20, seed=0)
    assert (alone.sum(1) == 6).all() and len(np.unique(alone, axis=0)) > 15
    np.testing.assert_array_equal(alone, control_labels(members, np.arange(12), draws=20, seed=0))


def test_particles_with_unlike_numbers_of_copies_are_not_exchanged():
    source = np.array([0, 0, 1, 2, 3, 3])
    labels = control_labels(np.array([1, 1, 0, 1, 0, 0], bool), source, draws=30, seed=1)
    assert (labels[:, [2, 3]].sum(1) == 1).all() and (labels[:, [0, 1, 4, 5]].sum(1) == 2).all()


def test_p_values_are_ranks_and_beyond_all_draws_a_tail():
    draws = np.random.default_rng(0).gamma(2.0, size=399)
    assert p_value(np.append(np.median(draws), draws)) == pytest.approx(0.5, abs=0.01)
    beyond = [p_value(np.append(draws.max() * factor, draws)) for factor in (1.01, 1.5, 50)]
    assert 1 / 400 >= beyond[0] > beyond[1] > beyond[2] == LEAST_P
    assert p_value(np.zeros(100)) == 1


def test_p_values_of_chance_are_uniform():
    rng = np.random.default_rng(2)
    found = np.array([p_value(rng.gamma(1.5, size=100)) for _ in range(600)])
    assert np.mean(found <= 0.05) == pytest.approx(0.05, abs=0.025)
    assert np.mean(found <= 0.01) < 0.03


@pytest.mark.parametrize("at_once", [512, 5])
def test_reproducible_power_is_the_sum_over_pairs_of_different_particles(expanded, monkeypatch, at_once):
    monkeypatch.setattr("tomohet.reconstruction.reproducible_difference.PARTICLES_AT_ONCE", at_once)
    observations = Observations(expanded, np.arange(24), max_frequency=0.4)
    mean = mean_map(observations, rounds=1)
    labels = np.random.default_rng(0).random((3, 24)) < 0.4
    found = particle_maps(observations.alike(np.arange(24), 16), mean)
    maps = (found.unit.double() * found.rms[:, None]).numpy()
    centred = labels - labels.mean(1, keepdims=True)
    apart = expanded.copy_of[:, None] != expanded.copy_of
    expected = [float((np.outer(one, one) * (maps @ maps.T) * apart).sum()) for one in centred]
    np.testing.assert_allclose(reproducible_power(observations, mean, labels), expected, rtol=1e-3)


def test_many_subsets_are_compared_in_coarser_maps():
    assert difference_box(256, 0.25, 500) == 32 and difference_box(48, 0.25, 500) == 24
    box = difference_box(256, 0.25, 6000)
    assert 16 < box < 32 and 4 * 6000 * box**3 <= DIFFERENCE_BYTES
    assert difference_box(256, 0.25, 10**6) == 16


def test_random_subsets_of_one_structure_and_of_several_are_not_supported(one_structure, four_states):
    rng = np.random.default_rng(1)
    for store, model in (one_structure, four_states):
        found = of_model(store, model, *(rng.permutation(N) < N // 3 for _ in range(12)))
        assert sum(one.verdict == "supported" for one in found) == 0
        assert np.mean([one.p_random <= 0.2 for one in found]) < 0.6


def test_true_subsets_are_supported(four_states):
    store, model = four_states
    for one in of_model(store, model, *store.presence.T):
        assert one.verdict == "supported" and one.p_random < 1e-4 and one.p_held_out < 1e-4
        assert one.ratio > 10


def test_subsets_selected_by_noise_reproduce_a_difference_and_are_not_supported(one_structure):
    """Halves of the particles agree on the noise by which these were selected; held-out tilts do not."""
    store, model = one_structure
    first = model.latents.mean[:, 0].numpy()
    found = of_model(store, model, first > np.median(first), first > np.quantile(first, 0.8))
    assert all(one.p_random <= 0.01 for one in found)
    assert all(one.verdict == "not supported" and one.p_held_out > 0.05 for one in found)


def test_a_latent_of_noise_beside_true_ones_selects_nothing(four_states):
    store, model = four_states
    assert model.held_out.n_components == 2
    last = model.latents.mean[:, 2].numpy()
    (found,) = of_model(store, model, last > np.median(last))
    assert found.p_held_out > 0.01 and found.verdict != "supported"


def test_a_subset_that_no_image_selected_needs_no_held_out_tilts(one_structure, four_states):
    store, model = four_states
    (found,) = of_model(store, model, store.presence[:, 0], held_out=None)
    assert found.p_held_out is None and found.p_value == found.p_random and found.verdict == "supported"
    store, model = one_structure
    (found,) = of_model(store, model, np.arange(N) % 3 == 0, held_out=None)
    assert found.verdict == "not supported"


def test_without_a_mean_map_one_is_made(four_states):
    store, _ = four_states
    present = store.presence[:, 0]
    found = difference_of(store, ALL[present], ALL[~present], held_out=None, draws=99)
    assert (found.n_members, found.n_others) == (present.sum(), (~present).sum())
    assert found.p_random < 1e-3


@pytest.mark.parametrize("members", [[3], [1, 2]])
def test_too_few_or_common_particles_are_refused(four_states, members):
    others = [4, 5, 6] if members == [3] else [2, 3]
    with pytest.raises(InputError, match="at least 2 particles|among the others"):
        difference_of(four_states[0], np.array(members), np.array(others), held_out=None)


def test_held_out_tilts_must_confirm_the_direction_that_a_subset_follows():
    rng = np.random.default_rng(3)
    z = rng.normal(size=(300, 2))
    held_out = HeldOutTilts(z, z * [1.0, 0.0] + rng.normal(size=z.shape))  # the second is noise
    source = np.arange(300)

    def p(members):
        return p_of_held_out(held_out, control_labels(members, source, 499, 0), source, 0)

    assert p(z[:, 0] > 0) < 1e-4
    assert p(z[:, 1] > 0) > 0.01
    assert p(rng.random(300) < 0.5) > 0.01
    opposed = HeldOutTilts(z, -z + rng.normal(size=z.shape))
    assert p_of_held_out(opposed, control_labels(z[:, 0] > 0, source, 99, 0), source, 0) > 0.9
    nothing = HeldOutTilts(z[:, :0], z[:, :0])
    assert p_of_held_out(nothing, control_labels(z[:, 0] > 0, source, 99, 0), source, 0) == 1


def test_copies_have_one_sign():
    """Ten-fold copies of few particles confirm no more than the particles do."""
    rng = np.random.default_rng(4)
    z, gradient = rng.normal(size=(2, 12, 1))
    gradient = gradient + 0.5 * z
    source, members = np.arange(12), z[:, 0] > 0
    once = p_of_held_out(HeldOutTilts(z, gradient), control_labels(members, source, 999, 0), source, 0)
    many = np.repeat(source, 10)
    tables = HeldOutTilts(z[many], gradient[many])
    copied = p_of_held_out(tables, control_labels(members[many], many, 999, 0), many, 0)
    assert copied == pytest.approx(once, abs=0.05)


def test_the_difference_lies_where_the_block_is(of_four):
    store = of_four
    present = store.presence[:, 0]
    (found,) = subset_differences(store, ALL, present[None])
    place = np.unravel_index(found.sigma.argmax(), found.sigma.shape)
    assert np.linalg.norm(np.array(place) - (8, 9, 12)) < 2  # [z, y, x] of the first blob
    assert found.most > 10 and 0 < found.share_high < 0.6
    random = np.random.default_rng(0).permutation(present)
    (chance,) = subset_differences(store, ALL, random[None])
    assert chance.most < 0.5 * found.most and chance.share_high < 0.2


def test_several_subsets_give_the_maps_that_each_gives_alone(of_four):
    store = of_four
    state = store.presence @ [1, 2]
    subsets = np.stack([state == 0, state == 1])
    for together, members in zip(subset_differences(store, ALL, subsets), subsets, strict=True):
        (alone,) = subset_differences(store, ALL, members[None])
        np.testing.assert_allclose(together.sigma, alone.sigma, rtol=1e-2, atol=2e-2)


def test_maps_are_as_large_as_their_sums_fit_in_memory():
    for n_maps in (2, 4, 24, 500):
        box = map_box(10_000, n_maps)
        assert box % 2 == 0 and 64 * n_maps * box**3 <= ACCUMULATOR_BYTES < 64 * n_maps * (box + 2) ** 3
        assert map_box(box - 2, n_maps) == box - 2


@pytest.mark.parametrize("resolution_A", [3.0, 80.0])
def test_differences_are_in_standard_deviations_of_their_noise(monkeypatch, resolution_A):
    """By hand: halves of the subset and of the others, low-passed; noise averaged about each voxel."""
    rng = np.random.default_rng(0)
    common, own = rng.normal(size=(2, 16, 16, 16)).astype(np.float32)
    halves, rests = rng.normal(size=(2, 2, 16, 16, 16)).astype(np.float32) + common
    halves = halves + 5 * own
    monkeypatch.setattr("tomohet.reconstruction.subset_maps._map", lambda one: one.sums)
    monkeypatch.setattr("tomohet.reconstruction.subset_maps.resolution_at", lambda *_: resolution_A)
    subset = [Accumulator(16, half) for half in halves]
    total = [Accumulator(16, half + rest) for half, rest in zip(halves, rests, strict=True)]
    found = _difference(subset, total, sphere_mask(16), 2.5)
    assert (found.resolution_A, found.pixel_size_A) == (resolution_A, 2.5)
    first, second = (
        lowpass(half - rest, 2.5, resolution_A) for half, rest in zip(halves, rests, strict=True)
    )
    radius_px = {3.0: 1.5 * 3 / 2.5, 80.0: 16 / 4}[resolution_A]  # a quarter of the box at most
    variance = gaussian_filter(((first - second) / 2) ** 2, radius_px, mode="wrap", truncate=8)
    np.testing.assert_allclose(found.sigma, (first + second) / 2 / np.sqrt(variance), rtol=0.03, atol=1e-3)
    faint = [Accumulator(16, 1e-8 * one.sums) for one in (*subset, *total)]
    again = _difference(faint[:2], faint[2:], sphere_mask(16), 2.5)
    np.testing.assert_allclose(again.sigma, found.sigma, rtol=1e-3, atol=1e-3)
    inside = found.sigma[sphere_mask(16) > 0.5]
    assert found.most == np.abs(inside).max() and found.share_high == np.mean(np.abs(inside) > HIGH_SIGMA)


def test_differences_count_from_above_half_the_mask_and_above_4_sigma():
    found = SubsetDifference(np.array([1.0, 9.0, -4.0]), np.array([1.0, 0.5, 0.6]), 8.0, 2.5)
    assert (found.most, found.share_high) == (4, 0)
    assert SubsetDifference(np.array([1.0, 9.0, -4.1]), found.mask, 8.0, 2.5).share_high == 0.5


def test_where_there_is_no_noise_differences_are_finite(monkeypatch):
    """Far from the noise the averaged variance is 0, or less by rounding."""
    half, axis = np.ones((24, 24, 24), np.float32), np.arange(24) - 4.0
    other = half + np.exp(-(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) / 6).astype(np.float32)
    monkeypatch.setattr("tomohet.reconstruction.subset_maps._map", lambda one: one.sums)
    monkeypatch.setattr("tomohet.reconstruction.subset_maps.resolution_at", lambda *_: 2.0)
    total = [Accumulator(24, half + 1), Accumulator(24, other + 1)]
    found = _difference([Accumulator(24, half), Accumulator(24, other)], total, sphere_mask(24), 2.0)
    assert np.isfinite(found.sigma).all()


def test_maps_of_many_subsets_are_cropped(of_four, monkeypatch):
    assert map_box(64, 4) == 64 and map_box(256, 4) < 170 and map_box(256, 24) % 2 == 0
    store = of_four
    monkeypatch.setattr("tomohet.reconstruction.subset_maps.ACCUMULATOR_BYTES", 4 * 64 * 13**3)
    (found,) = subset_differences(store, ALL, store.presence[:, 0][None])
    assert found.sigma.shape == (12,) * 3 and found.pixel_size_A == pytest.approx(10 * 16 / 12)
    place = np.unravel_index(found.sigma.argmax(), found.sigma.shape)
    assert np.linalg.norm(np.array(place) - np.array((8, 9, 12)) * 12 / 16) < 2


def test_a_subset_that_follows_an_imaging_condition_is_told(four_states):
    store, _ = four_states
    tomogram = np.arange(N) % 2
    placed = replace(store, tomogram=tomogram)
    random = np.random.default_rng(0).permutation(N) < 40
    followed = followed_conditions(placed, ALL, np.stack([tomogram == 0, random]))
    assert followed[0].condition == "tomogram" and followed[0].share > 0.9 and followed[1] is None
    assert isinstance(followed[0], Explained)


@pytest.fixture(scope="module")
def supported(tiny_store, tiny_linear, tmp_path_factory, run_script):
    """Output folder of the command for 12 of 24 particles, with half maps and decoded volume."""
    folder = tmp_path_factory.mktemp("support")
    write_pickle(folder / "members.pkl", np.arange(12))
    run_script("backproject_voxel", tiny_store, "--ind-ptcls", folder / "members.pkl", "-o", folder / "maps")
    run_script(
        "support", tiny_store, "--linear", tiny_linear, "--members", folder / "members.pkl", "--maps",
        folder / "maps", "--workdir", tiny_linear, "-o", folder / "out",
    )  # fmt: skip
    return folder


def test_the_command_writes_verdict_maps_and_figures(supported):
    numbers = json.loads((supported / "out" / "support.json").read_text())
    assert numbers["n_members"] == numbers["n_others"] == 12 and numbers["selected_by_images"]
    assert numbers["verdict"] in ("supported", "weak", "not supported")
    subjects = [answer["subject"] for answer in numbers["answers"]]
    assert subjects == ["Subset against control", "Orientation coverage", "Map and decoded volume"]
    for name in ("difference_sigma", "local_resolution", "decoded"):
        with mrcfile.open(supported / "out" / f"{name}.mrc") as volume:
            assert volume.data.shape == (24, 24, 24) and np.isfinite(volume.data).all()
            assert float(volume.voxel_size.x) == pytest.approx(14)
    assert len(pd.read_csv(supported / "out" / "coverage.csv")) == 100
    assert (supported / "out" / "control.png").stat().st_size > 5000


def test_a_query_on_the_tomogram_is_not_a_selection_by_images(supported, tiny_store, tiny_linear, run_script):
    for query, by_images in (("tomogram == 'TS_1' and n_tilts > 3", False), ("pc1 > 0 and x_A > 3", True)):
        run_script(
            "support", tiny_store, "--linear", tiny_linear, "--members", supported / "members.pkl", "--query",
            query, "-o", supported / "asked",
        )  # fmt: skip
        numbers = json.loads((supported / "asked" / "support.json").read_text())
        assert numbers["selected_by_images"] == by_images == (numbers["p_held_out"] is not None)


def test_groups_are_compared_each_with_all_others(tiny_store, tiny_linear, tmp_path, run_script):
    table = pd.DataFrame({"particle": np.arange(24), "state": np.repeat([0, 2, 5], (10, 11, 3))})
    table.to_parquet(tmp_path / "t.parquet")
    groups = ("--groups", tmp_path / "t.parquet", "--linear", tiny_linear, "-o", tmp_path / "out")
    run_script("support", tiny_store, *groups)
    found = json.loads((tmp_path / "out" / "support.json").read_text())["groups"]
    assert [(one["group"], one["n_members"], "verdict" in one) for one in found] == [
        (0, 10, True),
        (2, 11, True),
        (5, 3, False),
    ]
    summary = json.loads((tmp_path / "out" / "support.json").read_text())
    assert summary["verdict"] == f"{sum(one.get('verdict') == 'supported' for one in found)} of 2 supported"
    names = {path.name for path in (tmp_path / "out").glob("*.mrc")}
    assert names == {"difference_sigma_state_0.mrc", "difference_sigma_state_2.mrc"}
    table.assign(state=0).to_parquet(tmp_path / "t.parquet")
    run_script("support", tiny_store, *groups)
    summary = json.loads((tmp_path / "out" / "support.json").read_text())
    assert summary["level"] == "fact" and "no two groups" in summary["sentence"]
    assert not list((tmp_path / "out").glob("*.mrc"))  # those of the earlier run


def test_of_many_groups_the_largest_are_compared(tiny_store, tiny_linear, tmp_path, monkeypatch):
    table = pd.DataFrame({"particle": np.arange(24), "state": np.repeat([0, 2], (10, 14))})
    table.to_parquet(tmp_path / "t.parquet")
    monkeypatch.setattr("tomohet.commands.support.MOST_GROUPS", 1)
    groups, out = tmp_path / "t.parquet", tmp_path / "out"
    numbers = support.run(
        SupportOptions(particles=tiny_store, linear=tiny_linear, groups=groups, outdir=out, device="cpu")
    )
    assert ["verdict" in one for one in numbers["groups"]] == [False, True]
    assert numbers["verdict"] in ("0 of 1 supported", "1 of 1 supported")


def test_a_subset_of_all_particles_has_no_control(tiny_store, tiny_linear, tmp_path, run_script):
    write_pickle(tmp_path / "all.pkl", np.arange(24))
    members = ("--members", tmp_path / "all.pkl", "--linear", tiny_linear, "-o", tmp_path / "out")
    run_script("support", tiny_store, *members)
    summary = json.loads((tmp_path / "out" / "support.json").read_text())
    assert summary["level"] == "fact" and "no others" in summary["sentence"]


def test_members_that_do_not_take_part_are_named(tiny_store, tiny_linear, tmp_path, run_script):
    write_pickle(tmp_path / "members.pkl", np.arange(15, 30))
    members = ("--members", tmp_path / "members.pkl", "--linear", tiny_linear, "-o", tmp_path / "out")
    done = run_script("support", tiny_store, *members, check=False)
    assert done.returncode == 1 and "6 of 15 particles are not among the parent's 24" in done.stderr


def test_neither_members_nor_groups_is_one_line(tiny_store, tiny_linear, tmp_path, run_script):
    done = run_script("support", tiny_store, "--linear", tiny_linear, "-o", tmp_path, check=False)
    assert done.returncode == 2 and "--members" in done.stderr and "--groups" in done.stderr


def test_exchanging_subset_and_others_changes_nothing():
    store = blob_store(40, snr=0.3)
    observations = Observations(store, np.arange(40), max_frequency=0.4)
    mean = mean_map(observations, rounds=1)
    members = store.presence[:, 0]
    both = reproducible_power(observations, mean, np.stack([members, ~members]))
    assert both[0] == pytest.approx(both[1], rel=1e-4)
