"""Several processes fit the linear model as one does: two of them, on CPU, with gloo."""

import json

import numpy as np
import pandas as pd
import torch
from several_processes import run

from tomohet.files.pickles import load_latents
from tomohet.model.load import read_weights

# What another order of sums in single precision changes in the latents of so few particles: a fit by one
# process that takes its chunks backwards differs as much.
ROUNDING = 0.1


def folders_of_one_and_two(tiny_store, tmp_path, run_script, *options):
    one, two = tmp_path / "one", tmp_path / "two"
    # An odd number of particles: parts of different size.
    few = ("--use-first-nptcls", 23, "-n", 2, "--max-frequency", 0.4, *options, "--device", "cpu")
    run_script("train_linear", tiny_store, "-o", one, *few)
    run(2, "train_linear", tiny_store, "-o", two, *few)
    return one, two


def test_two_processes_choose_what_one_chooses(tiny_store, tmp_path, run_script):
    """How many maps, and whether there is anything; so few particles leave open how noise turns the maps."""
    mine, theirs = (
        json.loads((folder / "summary.json").read_text())
        for folder in folders_of_one_and_two(tiny_store, tmp_path, run_script)
    )
    for name in ("n_particles", "zdim", "heterogeneity_found"):
        assert theirs[name] == mine[name]


def test_two_processes_give_the_model_of_one(tiny_store, tmp_path, run_script):
    one, two = folders_of_one_and_two(tiny_store, tmp_path, run_script, "--zdim", 2)
    (mine, _), (theirs, _) = (load_latents(folder / "z.train.pkl") for folder in (one, two))
    assert len(theirs) == 23
    np.testing.assert_allclose(theirs, mine, atol=ROUNDING)
    covariances = (np.load(folder / "covariance.npy") for folder in (one, two))
    np.testing.assert_allclose(*covariances, atol=ROUNDING)
    mine, theirs = (read_weights(folder / "weights.pkl") for folder in (one, two))
    for group in ("model_state_dict", "posterior"):
        for name, tensor in mine[group].items():
            assert (theirs[group][name] - tensor).abs().max() <= ROUNDING * tensor.abs().max(), name
    tables = (pd.read_parquet(folder / "particles.parquet") for folder in (one, two))
    pd.testing.assert_frame_equal(*tables, rtol=0, atol=ROUNDING)
    mine, theirs = (json.loads((folder / "summary.json").read_text()) for folder in (one, two))
    for name in ("held_out_moments", "held_out_moments_by_chance"):
        np.testing.assert_allclose(theirs[name], mine[name], atol=ROUNDING * np.abs(mine[name]).max())
    assert theirs["heterogeneity_found"] == mine["heterogeneity_found"]


def test_weights_hold_the_noise_of_every_tomogram(tiny_store, tiny_linear):
    posterior = read_weights(tiny_linear / "weights.pkl")["posterior"]
    names = pd.read_parquet(tiny_store / "particles.parquet")["tomogram"].nunique()
    assert posterior["tomogram_noise"].shape == (names, len(posterior["noise"]))
    assert torch.isfinite(posterior["tomogram_noise"]).all() and (posterior["tomogram_noise"] > 0).all()
