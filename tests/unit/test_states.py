"""Discrete states: against brute force, and against states that are known."""

import json

import mrcfile
import numpy as np
import pandas as pd
import pytest
import torch
from blob_store import blob_store
from sklearn.metrics import adjusted_rand_score

from tomohet.linear.fit import fit_linear_model
from tomohet.linear.latent_states import LatentStates
from tomohet.linear.likelihood import likelihood
from tomohet.linear.state_choice import choose_states
from tomohet.linear.state_maps import state_maps
from tomohet.linear.states import fit_states
from tomohet.physics.fsc import correlation
from tomohet.physics.shells import shell_power
from tomohet.physics.slicing import gather, transform
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.noise import Noise
from tomohet.reconstruction.observations import ROWS_PER_CHUNK, Observations

pytestmark = pytest.mark.usefixtures("few_bootstraps")
N = 120
ALL = np.arange(N)


@pytest.fixture(scope="module")
def store():
    """Two blobs that come and go: four states."""
    return blob_store(N, snr=0.3)


@pytest.fixture(scope="module")
def linear(store):
    return fit_linear_model(store, ALL, zdim=3, iterations=4, max_frequency=0.4)


def states_of(store, linear, n_states=None, **options):
    return fit_states(store, ALL, linear.maps, linear.poses, linear.split, n_states, **options)


@pytest.fixture(scope="module")
def states(store, linear):
    return states_of(store, linear, most=6)


@pytest.fixture(scope="module")
def observations(store):
    return Observations(store, ALL, max_frequency=0.4)


def truth(store) -> np.ndarray:
    return store.presence @ [1, 2]


def random_responsibility(n_states: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.softmax(2 * torch.randn(N, n_states, generator=draw), dim=1)


def test_scores_of_states_are_the_likelihood_of_images_in_the_decoded_maps(store):
    observations = Observations(store, np.arange(6), max_frequency=0.4)
    noise = torch.linspace(1.5, 2.5, observations.n_rows)
    mean = MeanMap(store.maps[0], torch.ones(16, 16, 16), Noise.same(noise, 1), shell_power(store.maps[0]))
    points = torch.tensor([[1.0, -0.5], [0.3, 0.7]])
    states = LatentStates(torch.tensor([0.5, 0.5]).double(), points.double(), 0.0)
    scores = states.scores(*likelihood(observations, mean, store.maps[1:]))
    (chunk,) = observations.chunks()
    decoded = torch.einsum("sk,kzyx->szyx", points, store.maps[1:])
    slices = gather(transform(torch.cat([store.maps[:1], decoded])), chunk.index, chunk.corner_weight)
    for particle in range(6):
        mine = chunk.owner == particle
        data, transfer = chunk.data[mine], chunk.transfer[mine]
        # Complex noise of variance s2: log p = - |y - h S m|^2 / s2 and a constant.
        misfit = [
            ((data - transfer * (slices[mine][..., 0] + extra)).abs().square() / noise).double().sum()
            for extra in (0, slices[mine][..., 1], slices[mine][..., 2])
        ]
        expected = torch.stack([misfit[0] - misfit[1], misfit[0] - misfit[2]])
        torch.testing.assert_close(scores[particle], expected, rtol=1e-3, atol=1e-2)


def test_states_average_to_the_mean_map(linear, observations):
    responsibility = random_responsibility(3)
    difference, _ = state_maps(observations, linear.maps.mean, responsibility)
    centre = torch.einsum("s,szyx->zyx", responsibility.mean(0), difference)
    assert centre.abs().max() < 1e-4 * difference.abs().max()


def test_maps_of_states_that_are_known(store, linear, observations):
    """The weaker the prior's power, the less is left of the noise; what the states differ by stays."""
    known = torch.nn.functional.one_hot(torch.as_tensor(store.presence[:, 0]).long(), 2).float()
    difference, scale = state_maps(observations, linear.maps.mean, known)
    assert correlation(difference[1] - difference[0], store.maps[1]) > 0.85
    _shuffled, noise_scale = state_maps(observations, linear.maps.mean, known.roll(1, 0))
    assert noise_scale.max() < 0.3 * scale.min()


def test_maps_do_not_depend_on_the_size_of_chunks(linear, store, observations, monkeypatch):
    responsibility = random_responsibility(3)
    whole, _ = state_maps(observations, linear.maps.mean, responsibility)
    monkeypatch.setitem(ROWS_PER_CHUNK, "cpu", 5_000)
    parts, _ = state_maps(Observations(store, ALL, max_frequency=0.4), linear.maps.mean, responsibility)
    torch.testing.assert_close(parts, whole, rtol=0.01, atol=0.01 * whole.abs().max().item())


def test_states_are_found(store, states):
    assert states.choice.n_states == 4
    assert states.choice.advantage > 2 * states.choice.error
    assert adjusted_rand_score(truth(store), states.state) > 0.9
    assert (states.sizes.diff() <= 0).all()
    torch.testing.assert_close(states.responsibility.sum(1), torch.ones(N))


def test_maps_of_the_states_differ_by_the_blobs(store, states):
    presence = torch.as_tensor(store.presence)
    for blob in range(2):
        has = [presence[states.state == n, blob].float().mean() > 0.5 for n in range(len(states.maps))]
        has = torch.stack(has)
        difference = states.maps[has].mean(0) - states.maps[~has].mean(0)
        assert correlation(difference, store.maps[blob + 1]) > 0.8


def test_enough_particles_tell_states_from_a_continuum():
    """How they are distributed is told by their number, not by how much is seen of each."""
    twice = blob_store(2 * N, snr=0.3)
    linear = fit_linear_model(twice, np.arange(2 * N), zdim=2, iterations=4, max_frequency=0.4)
    choice, _ = choose_states(linear.held_out.confirmed, 6, 0)
    assert choice.verdict == "discrete" and choice.sentence.startswith("discrete: ")


def test_nested_states_are_counted():
    """The second blob is only there with the first: three states, one of which few particles have."""
    nested = blob_store(N, snr=0.3, host=True)
    linear = fit_linear_model(nested, ALL, zdim=4, iterations=4, max_frequency=0.4)
    found = states_of(nested, linear, most=6)
    assert found.choice.n_states == 3
    assert adjusted_rand_score(truth(nested), found.state) > 0.9


def test_particles_that_are_all_the_same_are_one_state():
    same = blob_store(N, snr=0.3, blocks=False)
    linear = fit_linear_model(same, ALL, zdim=3, iterations=4, max_frequency=0.4)
    found = states_of(same, linear, most=4)
    assert found.choice.n_states == 1
    assert found.choice.verdict == "no heterogeneity"
    torch.testing.assert_close(found.maps[0], linear.maps.mean.volume)


def test_a_continuum_is_told_from_states():
    """A blob present in every proportion."""
    graded = blob_store(N, snr=1.0, graded=True)
    linear = fit_linear_model(graded, ALL, zdim=3, iterations=4, max_frequency=0.4)
    found = states_of(graded, linear, most=6)
    assert found.choice.verdict == "continuous"


def test_states_are_repeatable(store, linear, states):
    again = states_of(store, linear, most=6)
    torch.testing.assert_close(again.responsibility, states.responsibility, rtol=0, atol=0)
    torch.testing.assert_close(again.maps, states.maps, rtol=0, atol=0)


def test_so_many_states_as_are_asked_for(store, linear, states):
    """Without images held out: the states are the same where their number is."""
    four = states_of(store, linear, 4)
    assert four.choice is None and adjusted_rand_score(four.state, states.state) == 1
    three = states_of(store, linear, 3)
    assert len(three.maps) == 3 and adjusted_rand_score(truth(store), three.state) > 0.5


@pytest.fixture(scope="module")
def linear_folder(tmp_path_factory, tiny_store, run_script):
    folder = tmp_path_factory.mktemp("linear")
    run_script("train_linear", tiny_store, "-o", folder, "--zdim", 2, "-n", 2)
    return folder


def test_command_writes_table_maps_and_numbers(tmp_path, tiny_store, linear_folder, run_script):
    run_script("states", tiny_store, "--linear", linear_folder, "-o", tmp_path, "--most", 3)
    summary = json.loads((tmp_path / "summary.json").read_text())
    table = pd.read_parquet(tmp_path / "particles.parquet")
    assert list(table.columns) == ["particle", "state", "state_probability"]
    assert table["particle"].tolist() == list(range(24))
    assert np.bincount(table["state"], minlength=summary["n_states"]).tolist() == summary["sizes"]
    assert len(summary["held_out_gain_states"]) == 1 + len(summary["least_distance_of_states"]) <= 3
    assert summary["kind"] in ("discrete", "continuous", "undecided", "no heterogeneity")
    assert len(list(tmp_path.glob("state_*.mrc"))) == summary["n_states"]
    assert (tmp_path / "states.png").is_file() and (tmp_path / "maps.png").is_file()


def test_one_state_is_the_mean_map_in_its_units(tmp_path, tiny_store, linear_folder, run_script):
    (tmp_path / "state_3.mrc").write_text("of an earlier run")
    (tmp_path / "state_mine.mrc").write_text("of the user")
    (tmp_path / ".states.files").write_text('["state_3.mrc"]')
    run_script("states", tiny_store, "--linear", linear_folder, "-o", tmp_path, "--states", 1)
    assert {path.name for path in tmp_path.glob("state_*.mrc")} == {"state_0.mrc", "state_mine.mrc"}
    with mrcfile.open(linear_folder / "mean.mrc") as mean, mrcfile.open(tmp_path / "state_0.mrc") as state:
        np.testing.assert_allclose(state.data, mean.data, atol=1e-5 * np.abs(mean.data).max())
        assert state.voxel_size.x == mean.voxel_size.x


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--states", 0], "--states 0: expected at least 1"),
        (["--most", 0], "--most 0: expected at least 1"),
        (["--states", 99], "--states 99: more than the 24 particles"),
        (["--use-first-nptcls", 1], "states need at least 2"),
    ],
)
def test_mistakes(tmp_path, tiny_store, linear_folder, run_script, arguments, message):
    done = run_script(
        "states", tiny_store, "--linear", linear_folder, "-o", tmp_path, *arguments, check=False
    )
    assert done.returncode and message in done.stderr and "Traceback" not in done.stderr


def test_a_folder_that_is_no_linear_model_is_refused(tmp_path, tiny_store, run_script):
    done = run_script("states", tiny_store, "--linear", tmp_path, "-o", tmp_path / "out", check=False)
    assert done.returncode and "config.pkl" in done.stderr and "Traceback" not in done.stderr


def test_the_number_of_states_needs_the_particles_of_the_linear_model(tmp_path, tiny_store, run_script):
    linear = tmp_path / "linear"
    run_script("train_linear", tiny_store, "-o", linear, "--zdim", 1, "-n", 1, "--use-first-nptcls", 20)
    words = ("states", tiny_store, "--linear", linear, "-o", tmp_path / "out")
    done = run_script(*words, check=False)
    assert done.returncode and "Traceback" not in done.stderr
    assert "fitted without 4 of 24 particles" in done.stderr and "give --states" in done.stderr
    run_script(*words, "--states", 2)
    run_script(*words, "--use-first-nptcls", 20, "--most", 2)
