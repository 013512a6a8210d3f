"""Two threads: a second training gives the files of the first to the last bit."""

import pytest
import torch

from conftest import TINY_NETWORK


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_second_training_is_the_first(two_threads, without_figures, tiny_store, tmp_path, run_script):
    for run in ("first", "second"):
        run_script("train_vae", tiny_store, "-o", tmp_path / run, *TINY_NETWORK, "--device", "cpu")
    assert torch.get_num_threads() == 2
    for file in ("weights.pkl", "z.train.pkl"):
        first, second = ((tmp_path / run / file).read_bytes() for run in ("first", "second"))
        assert first == second, file
