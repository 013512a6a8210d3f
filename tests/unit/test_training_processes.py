"""Several processes train as one does: two of them, on CPU, with gloo."""

import signal
import time

import numpy as np
import pandas as pd
import pytest
import torch
from several_processes import run, start

from tomohet.files.pickles import load_latents
from tomohet.model.load import read_weights
from tomohet.processes import Processes

pytestmark = pytest.mark.unit

SMALL = (
    "--zdim 2 -n 2 -b 5 --dec-dim 16 --dec-layers 1 --enc-dim-A 16 --out-dim-A 8 --enc-layers-A 1 "
    "--enc-dim-B 16 --enc-layers-B 1 --pe-dim 3 --lr 0.001 --device cpu --no-amp"
).split()


def train(size, store, folder, *options):
    run(size, "train_vae", store, "-o", folder, *SMALL, *options)
    return folder


def assert_same_training(one, other, rtol=2e-4):
    losses = [pd.read_csv(folder / "loss.csv")[["gen", "kld", "total"]] for folder in (one, other)]
    np.testing.assert_allclose(*losses, rtol=rtol)
    mine, theirs = (read_weights(folder / "weights.pkl")["model_state_dict"] for folder in (one, other))
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name], rtol=rtol, atol=2e-5)
    np.testing.assert_allclose(
        load_latents(one / "z.train.pkl")[0], load_latents(other / "z.train.pkl")[0], atol=1e-4
    )


# Tilts held out, and particles that are no multiple of the batch: the last one is smaller than the processes.
UNEVEN = ("--fraction-train", 0.6, "--use-first-nptcls", 11, "-n", 1)


@pytest.mark.parametrize(
    "options", [("--beta-control", 0.1, "--beta", 1.0), UNEVEN], ids=["beta-control", "uneven"]
)
def test_two_processes_give_the_result_of_one(tiny_store, tmp_path, options):
    one = train(1, tiny_store, tmp_path / "one", *options)
    two = train(2, tiny_store, tmp_path / "two", *options)
    assert_same_training(one, two)
    if "--fraction-train" in options:
        np.testing.assert_allclose(
            load_latents(one / "z.test.pkl")[0], load_latents(two / "z.test.pkl")[0], atol=1e-4
        )


def one_and_two_from_the_linear_model(tiny_store, tiny_linear, tmp_path, encoder):
    options = ("--init", tiny_linear, "--encoder", encoder)
    return [train(size, tiny_store, tmp_path / str(size), *options) for size in (1, 2)]


def test_two_processes_start_from_the_linear_model_as_one_does(tiny_store, tiny_linear, tmp_path):
    one, two = one_and_two_from_the_linear_model(tiny_store, tiny_linear, tmp_path, "free")
    assert_same_training(one, two)
    judged = [pd.read_csv(folder / "held_out.csv") for folder in (one, two)]
    pd.testing.assert_frame_equal(*judged, rtol=1e-2, atol=1e-2)


def test_two_processes_read_the_particle_maps_of_one(tiny_store, tiny_linear, tmp_path):
    """The released encoder starts at 0, where rounding changes its small KL term by some thousandths."""
    folders = one_and_two_from_the_linear_model(tiny_store, tiny_linear, tmp_path, "backprojected")
    one, two = (pd.read_csv(folder / "loss.csv")[["gen", "kld", "total"]] for folder in folders)
    np.testing.assert_allclose(one.iloc[0], two.iloc[0], rtol=2e-6)
    np.testing.assert_allclose(one[["gen", "total"]], two[["gen", "total"]], rtol=2e-4)
    np.testing.assert_allclose(one["kld"], two["kld"], rtol=0.03)


def test_a_run_goes_on_with_another_number_of_processes(tiny_store, tmp_path):
    whole = train(1, tiny_store, tmp_path / "whole")
    folder = train(2, tiny_store, tmp_path / "parts", "-n", 1)
    train(1, tiny_store, folder, "-n", 2)
    assert "continuing at epoch 1" in (folder / "run.log").read_text()
    assert_same_training(whole, folder)


def test_a_signal_to_one_process_stops_all_of_them(tiny_store, tmp_path):
    folder = tmp_path / "run"
    processes = start(2, "train_vae", tiny_store, "-o", folder, *SMALL, "-n", 500)
    deadline = time.monotonic() + 120
    while not (folder / "loss.csv").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 128 + signal.SIGTERM
    position = read_weights(folder / "checkpoint.pkl")["position"]
    assert 0 < position["epoch"] < 500


def test_parts_cover_every_batch_once():
    for size in (1, 2, 3, 8):
        for n in (1, 2, 7, 16):
            parts = [np.arange(n)[Processes(rank, size).part(n)] for rank in range(size)]
            assert np.concatenate(parts).tolist() == list(range(n))
