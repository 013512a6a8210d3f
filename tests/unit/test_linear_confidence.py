"""How sure the linear model is of each particle, and where that is written."""

import numpy as np
import pandas as pd
import pytest
import torch
from blob_store import blob_store

from tomohet.files.pickles import load_latents
from tomohet.linear.confidence import confidence, particle_columns
from tomohet.linear.em import expectation
from tomohet.linear.likelihood import Latents
from tomohet.reconstruction.mean_map import mean_map
from tomohet.reconstruction.observations import Observations
from tomohet.rounds.table import particle_table

N = 40


def settled(store):
    """Confidence (N,) under the true maps."""
    observations = Observations(store, np.arange(N), max_frequency=0.4)
    basis = store.maps[1:]
    latents, _ = expectation(observations, mean_map(observations), basis, accumulate=False)
    return confidence(latents, basis).numpy()


def test_more_tilts_settle_more():
    store = blob_store(N, snr=0.03)
    number = np.arange(len(store.images)) - store.offsets[store.images["particle"]]
    few = store.restricted((store.images["particle"].to_numpy() % 2 == 0) | (number < 3))
    found = settled(few)
    assert found[::2].min() > found[1::2].max()
    assert (found > 0).all() and (found < 1).all()


def test_less_noise_settles_more():
    noisy, middling, clean = (settled(blob_store(N, snr=snr)) for snr in (0.003, 0.03, 0.3))
    assert (noisy < middling).all() and (middling < clean).all()
    assert clean.min() > 0.9 and noisy.max() < 0.5


def test_a_latent_counts_by_its_power_in_the_maps():
    basis = torch.zeros(2, 4, 4, 4)
    basis[0, 0, 0, 0], basis[1, 1, 1, 1] = 3.0, 1.0
    covariance = torch.stack([torch.diag(torch.tensor(d)) for d in ([0.0, 1.0], [1.0, 0.0], [1.2, 1.2])])
    found = confidence(Latents(torch.zeros(3, 2), covariance), basis)
    np.testing.assert_allclose(found, [0.9, 0.1, 0.0], atol=1e-6)


def test_correlated_uncertainty_counts_in_the_maps_it_changes():
    """Of two equal basis maps only the sum shows: what is known of it is known of the particle."""
    basis = torch.ones(2, 2, 2, 2)
    opposite = torch.tensor([[[0.5, -0.5], [-0.5, 0.5]]])
    assert confidence(Latents(torch.zeros(1, 2), opposite), basis).item() == pytest.approx(1)


def test_the_command_writes_columns_that_join_the_rounds_table(tiny_store, tmp_path, run_script):
    run_script("train_linear", tiny_store, "-o", tmp_path / "linear", "--zdim", 2, "-n", 1)
    mu, logvar = load_latents(tmp_path / "linear" / "z.train.pkl")
    covariance = np.load(tmp_path / "linear" / "covariance.npy")
    assert covariance.dtype == np.float32
    np.testing.assert_allclose(covariance[:, [0, 1], [0, 1]], np.exp(logvar), rtol=1e-5)
    np.testing.assert_allclose(covariance, covariance.transpose(0, 2, 1), atol=1e-5)
    table = particle_table(pd.read_parquet(tiny_store / "particles.parquet"), np.arange(len(mu)), tmp_path)
    assert table["linear_confidence"].between(0, 1).all()
    np.testing.assert_array_equal(table[["linear_z1", "linear_z2"]], mu)


def test_columns_name_the_stores_particles():
    table = particle_columns(
        Latents(torch.ones(2, 1), torch.ones(2, 1, 1) / 2), torch.ones(1, 2, 2, 2), np.array([4, 9])
    )
    assert table["particle"].tolist() == [4, 9] and table["linear_confidence"].tolist() == [0.5, 0.5]
