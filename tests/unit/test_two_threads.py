"""Two threads: a second training gives the files of the first to the last bit."""

import torch

from conftest import TINY_NETWORK


def test_a_second_training_is_the_first(torch_threads, without_figures, tiny_store, tmp_path, run_script):
    torch_threads(2)
    for run in ("first", "second"):
        run_script("train_vae", tiny_store, "-o", tmp_path / run, *TINY_NETWORK, "--device", "cpu")
    assert torch.get_num_threads() == 2
    for file in ("weights.pkl", "z.train.pkl"):
        first, second = ((tmp_path / run / file).read_bytes() for run in ("first", "second"))
        assert first == second, file
