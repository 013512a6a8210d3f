"""Trainings that are killed, stopped and repeated, as a user or a cluster does it."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from tomohet.cli import SCRIPTS, options_of
from tomohet.commands import train_vae
from tomohet.errors import InputError
from tomohet.model.load import read_weights

OPTIONS = (
    "--zdim 2 -n 3 -b 1 --dec-dim 16 --dec-layers 1 --enc-dim-A 16 --out-dim-A 8 --enc-dim-B 16 --pe-dim 3 "
    "--lr 0.001 --rows-per-image 0.5 --march 0.9 --checkpoint-minutes 0"
).split()


def run(store, folder):
    """The command in this process: the same computation as in a process of its own, without its start."""
    train_vae.run(options_of("train_vae", [str(store), "-o", str(folder), *OPTIONS]))


def start_until_mid_epoch(store, folder):
    """A training in a process of its own that has saved a checkpoint inside its second epoch."""
    command = [sys.executable, str(SCRIPTS / "train_vae.py"), str(store), "-o", str(folder), *OPTIONS]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    checkpoint = folder / "checkpoint.pkl"
    while process.poll() is None:
        if checkpoint.is_file():
            position = read_weights(checkpoint)["position"]
            if position["epoch"] >= 1 and position["step"] > 2:
                return process
        time.sleep(0.005)
    pytest.fail(f"the training ended before it could be stopped:\n{process.stderr.read()}")


@pytest.fixture(scope="module")
def uninterrupted(tiny_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    run(tiny_store, folder)
    return folder


def assert_same_result(folder, uninterrupted):
    ours, theirs = (read_weights(f / "weights.pkl")["model_state_dict"] for f in (folder, uninterrupted))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for name in ("z.train.pkl", "z.1.train.pkl", "reconstruct.2.mrc"):
        # The first 1024 bytes of a map hold the time of writing.
        found, expected = (np.fromfile(where / name, np.uint8)[1024:] for where in (folder, uninterrupted))
        np.testing.assert_array_equal(found, expected, err_msg=name)


def test_killed_training_ends_as_the_uninterrupted_one(tiny_store, tmp_path, uninterrupted):
    process = start_until_mid_epoch(tiny_store, tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert not (tmp_path / "weights.pkl").exists()
    run(tiny_store, tmp_path)
    assert_same_result(tmp_path, uninterrupted)


def test_terminated_training_saves_and_says_so(tiny_store, tmp_path, uninterrupted):
    process = start_until_mid_epoch(tiny_store, tmp_path)
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(InputError, match="is writing there"):
        run(tiny_store, tmp_path)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM in epoch" in said
    run(tiny_store, tmp_path)
    assert_same_result(tmp_path, uninterrupted)
    assert "stopped by SIGTERM" in (tmp_path / "run.log").read_text()


def test_repeated_training_does_nothing(tiny_store, uninterrupted):
    before = (uninterrupted / "loss.csv").stat().st_mtime_ns
    run(tiny_store, uninterrupted)
    assert (uninterrupted / "loss.csv").stat().st_mtime_ns == before
