"""A focus mask: differences inside are found, those outside are neither found nor in the way."""

from dataclasses import replace

import mrcfile
import numpy as np
import pytest
import torch
from blob_store import blob_store
from sklearn.metrics import roc_auc_score

from tomohet.errors import InputError
from tomohet.files.text import read_yaml
from tomohet.linear.basis_maps import expectation_maximisation
from tomohet.linear.em import expectation
from tomohet.linear.fit import fit_linear_model, focused
from tomohet.linear.likelihood import latent_likelihood, likelihood
from tomohet.reconstruction.mean_map import mean_map
from tomohet.reconstruction.nuisance import Nuisance, outside
from tomohet.reconstruction.observations import Observations
from tomohet.rounds.flags import command_line

pytestmark = pytest.mark.usefixtures("few_bootstraps")
N, BOX = 200, 16
OF_BLOBS, QUIET = ((4, 1, 0), (-1, -4, 2)), (-3, 3, -2)


def ball(centre_px: tuple[float, float, float], box: int = BOX, radius_px: float = 2.6) -> np.ndarray:
    """Mask (D, D, D) [z, y, x] of a ball about x, y, z from the voxel D//2, with a soft edge."""
    z, y, x = np.indices((box,) * 3) - box // 2
    distance = np.sqrt(sum((axis - c) ** 2 for axis, c in zip((x, y, z), centre_px, strict=True)))
    return (1 / (1 + np.exp((distance - radius_px) / 0.3))).astype(np.float32)


def fit(store, focus):
    return fit_linear_model(store, np.arange(N), focus=focus, max_frequency=0.4, iterations=20)


@pytest.fixture(scope="module")
def store():
    """Two blobs that come and go, each by itself."""
    return blob_store(N, snr=0.3, frequencies=(0.5, 0.4))


@pytest.fixture(scope="module")
def models(store):
    return [fit(store, ball(place)) for place in OF_BLOBS]


@pytest.fixture(scope="module")
def whole(store):
    return fit(store, None)


@pytest.mark.parametrize("blob", [0, 1])
def test_what_varies_inside_of_the_mask_alone_is_found(store, models, whole, blob):
    model = models[blob]
    assert model.held_out.n_components == 1 and model.held_out.n_clear == 1
    assert model.verdict.startswith("inside the focus mask: heterogeneity found")
    z = model.latents.mean[:, 0].numpy()
    ours, other = (
        max(score, 1 - score) for score in (roc_auc_score(store.presence[:, b], z) for b in (blob, 1 - blob))
    )
    best = max(
        max(score, 1 - score)
        for score in (roc_auc_score(store.presence[:, blob], one) for one in whole.latents.mean.T.numpy())
    )
    assert ours > best - 0.01 and other < 0.6
    outside_of_mask = torch.as_tensor(ball(OF_BLOBS[blob]) < 0.01)
    power = model.maps.basis[0].square()
    assert power[outside_of_mask].sum() < 0.02 * power.sum()
    assert (model.maps.local_variance[outside_of_mask] < 0.05 * model.maps.local_variance.max()).all()


def test_nothing_is_found_where_nothing_varies_though_other_places_do(store):
    model = fit(store, ball(QUIET))
    assert not model.heterogeneous and model.held_out.n_components == 0
    assert model.verdict.startswith("inside the focus mask: no heterogeneity found")


def test_nuisance_is_integrated_out_as_of_the_joint_gaussian():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, 12, 5))
    a, b = torch.as_tensor(root.transpose(0, 2, 1) @ root), torch.as_tensor(rng.normal(size=(4, 5)))
    own_a, own_b = Nuisance(torch.zeros(3, 2, 2, 2), torch.zeros(3, 2)).marginal(a, b)
    covariance = np.linalg.inv(a.numpy() + np.eye(5))  # with z ~ N(0, 1) of all five
    mean = np.einsum("nij,nj->ni", covariance, b.numpy())
    own = np.linalg.inv(own_a.numpy() + np.eye(2))
    np.testing.assert_allclose(own, covariance[:, :2, :2], rtol=1e-9)
    np.testing.assert_allclose(np.einsum("nij,nj->ni", own, own_b.numpy()), mean[:, :2], rtol=1e-9)


def test_posterior_with_nuisance_is_that_of_its_marginal_likelihood(store, models):
    observations = Observations(store, np.arange(20), max_frequency=0.4)
    model = models[0]
    maps = model.maps.basis, model.maps.basis_variance
    latents, _ = expectation(observations, model.maps.mean, *maps, accumulate=False)
    assert latents.mean.shape == (20, 1 + len(model.maps.mean.nuisance.maps))
    a, b = latent_likelihood(observations, model.maps.mean, *maps)
    np.testing.assert_allclose(latents.mean[:, 0], b[:, 0] / (a[:, 0, 0] + 1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(latents.mean[:, 0], model.latents.mean[:20, 0], rtol=1e-2, atol=1e-3)
    # Outside, the images say as much as if the nuisance were not there; what they say inside is less.
    alone, _ = likelihood(observations, replace(model.maps.mean, nuisance=None), *maps)
    assert (a[:, 0, 0] < alone[:, 0, 0]).all()


def test_maps_of_both_places_stay_where_they_belong(store):
    observations = Observations(store, np.arange(N), max_frequency=0.4)
    mean = focused(mean_map(observations), ball(OF_BLOBS[0]))
    start = torch.as_tensor(store.presence - store.presence.mean(0), dtype=torch.float32)
    fitted = expectation_maximisation(observations, mean, observations, start[:, :1], 5, aside=start[:, 1:])
    maps = fitted.with_errors_of(mean).nuisance.maps[0], fitted.fine_basis(BOX)[0]
    for found, true in zip(maps, (store.maps[2], store.maps[1]), strict=True):
        assert np.corrcoef(found.flatten(), true.flatten())[0, 1] ** 2 > 0.5
    assert fitted.aside.shape == (N, 1)
    assert abs(np.corrcoef(fitted.aside[:, 0], store.presence[:, 1])[0, 1]) > 0.9


def test_outside_reaches_to_the_masks_surface():
    focus = torch.as_tensor(ball((0, 0, 0), 32, 8.0))
    mask = outside(focus, 2.0)
    assert (mask[focus < 0.01] > 0.9).all() and mask[16, 16, 16] < 0.01
    assert mask[16, 16, 16 + 8] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("focus", "said"),
    [(np.zeros((BOX,) * 3), "0 % of the particle"), (np.ones((BOX,) * 3), "1e+02 % of the particle")],
)
def test_a_mask_of_nothing_or_everything_is_refused(store, focus, said):
    mean = mean_map(Observations(store, np.arange(20), max_frequency=0.4))
    with pytest.raises(InputError, match="--focus-mask"):
        focused(mean, focus)


def write_mask(path, mask, pixel_size_A=14.0):
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(mask)
        mrc.voxel_size = pixel_size_A
    return path


def test_the_command_and_what_follows_it(tiny_store, tmp_path, run_script):
    mask = write_mask(tmp_path / "focus.mrc", ball((2, 0, 0), 24, 4.0))
    options = ("--zdim", 2, "-n", 2, "--focus-mask", mask)
    run_script("train_linear", tiny_store, "-o", tmp_path / "linear", *options)
    config = read_yaml(tmp_path / "linear" / "config.yaml")
    assert config["training_args"]["focus_mask"] == str(mask)
    run_script(
        "states", tiny_store, "--linear", tmp_path / "linear", "-o", tmp_path / "states", "--states", 2
    )
    said = run_script(
        "train_vae", tiny_store, "-o", tmp_path / "vae", "--init", tmp_path / "linear", "-n", 1, "-b", 8,
        "--dec-dim", 16, "--pe-dim", 3,
    )  # fmt: skip
    assert "outside of a focus mask" in said.stderr + said.stdout
    wrong = write_mask(tmp_path / "wrong.mrc", ball((2, 0, 0), 16, 4.0))
    refused = run_script("train_linear", tiny_store, "-o", tmp_path / "x", "--focus-mask", wrong, check=False)
    assert refused.returncode == 1 and "a mask of shape (16, 16, 16)" in refused.stderr


def test_the_key_of_the_configuration_becomes_the_option():
    assert command_line("linear", {"focus_mask": "a b.mrc"}) == "--focus-mask 'a b.mrc'"
