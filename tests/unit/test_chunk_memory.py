"""How many points a GPU sweeps at once follows from its memory."""

from types import SimpleNamespace

import pytest
import torch

from tomohet.model import loss
from tomohet.model.decoder import CUDA_CHUNK_ROWS, Decoder


@pytest.mark.parametrize(("gigabytes", "expected"), [(80, 1.2e6), (8, CUDA_CHUNK_ROWS)])
def test_a_sweep_takes_a_share_of_the_memory(monkeypatch, gigabytes, expected):
    card = SimpleNamespace(total_memory=gigabytes * 10**9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    decoder = Decoder(96, 128, 3, 512)
    rows = loss._cuda_chunk_rows(decoder, torch.bfloat16, torch.device("cuda"))
    assert rows == pytest.approx(expected, rel=0.35)
    taken = rows * loss.row_bytes(decoder, torch.bfloat16)
    assert rows == CUDA_CHUNK_ROWS or taken <= loss.SHARE_OF_CUDA_MEMORY * card.total_memory


def test_a_point_takes_its_activations(monkeypatch):
    small, wide = (loss.row_bytes(Decoder(24, 2, 3, width), torch.float32) for width in (64, 128))
    assert wide - small == 4 * 64 * (5 + 2)
    both = loss.row_bytes(Decoder(24, 2, 3, 64, hermitian=False), torch.float32)
    assert both - loss.OTHER_BYTES == 2 * (small - loss.OTHER_BYTES)
