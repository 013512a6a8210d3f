"""Trainings that are killed, stopped and repeated, as a user or a cluster does it."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from tomohet.cli import SCRIPTS
from tomohet.model.load import read_weights

OPTIONS = (
    "--zdim 2 -n 3 -b 1 --dec-dim 16 --dec-layers 1 --enc-dim-A 16 --out-dim-A 8 --enc-dim-B 16 --pe-dim 3 "
    "--lr 0.001 --rows-per-image 0.5 --checkpoint-minutes 0"
).split()


def command(store, folder):
    return [sys.executable, str(SCRIPTS / "train_vae.py"), str(store), "-o", str(folder), *OPTIONS]


def run(store, folder):
    return subprocess.run(command(store, folder), capture_output=True, text=True, check=True)


def start_until_mid_epoch(store, folder):
    """A training that has saved a checkpoint inside its second epoch."""
    process = subprocess.Popen(command(store, folder), stderr=subprocess.PIPE, text=True)
    checkpoint = folder / "checkpoint.pkl"
    while process.poll() is None:
        if checkpoint.is_file():
            position = read_weights(checkpoint)["position"]
            if position["epoch"] >= 1 and position["step"] > 2:
                return process
        time.sleep(0.005)
    pytest.fail(f"the training ended before it could be stopped:\n{process.stderr.read()}")


def weights(folder):
    return read_weights(folder / "weights.pkl")["model_state_dict"]


@pytest.fixture(scope="module")
def uninterrupted(tiny_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    run(tiny_store, folder)
    return folder


def assert_same_result(folder, uninterrupted):
    ours, theirs = weights(folder), weights(uninterrupted)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for name in ("z.train.pkl", "z.1.train.pkl", "reconstruct.2.mrc"):
        found, expected = (np.fromfile(where / name, np.uint8)[1024:] for where in (folder, uninterrupted))
        np.testing.assert_array_equal(found, expected, err_msg=name)


def test_killed_training_ends_as_the_uninterrupted_one(tiny_store, tmp_path, uninterrupted):
    process = start_until_mid_epoch(tiny_store, tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "weights.pkl").exists()
    again = run(tiny_store, tmp_path)
    assert "continuing at epoch" in again.stderr
    assert_same_result(tmp_path, uninterrupted)


def test_terminated_training_saves_and_says_so(tiny_store, tmp_path, uninterrupted):
    process = start_until_mid_epoch(tiny_store, tmp_path)
    refused = subprocess.run(command(tiny_store, tmp_path), capture_output=True, text=True)
    assert refused.returncode == 1 and "another training" in refused.stderr
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM in epoch" in said
    run(tiny_store, tmp_path)
    assert_same_result(tmp_path, uninterrupted)
    assert "stopped by SIGTERM" in (tmp_path / "run.log").read_text()


def test_repeated_training_does_nothing(tiny_store, uninterrupted):
    before = (uninterrupted / "loss.csv").stat().st_mtime_ns
    run(tiny_store, uninterrupted)
    assert (uninterrupted / "loss.csv").stat().st_mtime_ns == before
