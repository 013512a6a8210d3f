"""Kernels compiled for a card, at the sizes of a real network: numbers, choice, repeats, capture.

`tests/unit/test_kernels.py` runs on the card as well, at ragged sizes.
"""

import numpy as np
import pytest
import torch

from tomohet.model.decoder import Decoder
from tomohet.model.rows import PackedRows
from tomohet.model.sweep import DecoderSweep, sweep_class

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

CUDA = torch.device("cuda")
BOX, ZDIM, WIDTH, PARTICLES, ROWS = 64, 128, 512, 8, 70_000
CHUNK_ROWS = 32_768


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Decoder(BOX, ZDIM, 3, WIDTH).to(CUDA)


@pytest.fixture(scope="module")
def rows():
    draw = torch.Generator(CUDA).manual_seed(0)
    offsets = np.linspace(0, ROWS, PARTICLES + 1).astype(int)
    numbers = torch.arange(PARTICLES, device=CUDA)
    sizes = torch.as_tensor(np.diff(offsets), device=CUDA)
    return PackedRows(
        k=torch.rand(ROWS, 3, generator=draw, device=CUDA) - 0.5,
        value=torch.randn(ROWS, 2, generator=draw, device=CUDA),
        transfer=torch.rand(ROWS, generator=draw, device=CUDA) * 2 - 1,
        weight=torch.rand(ROWS, generator=draw, device=CUDA),
        particle=torch.repeat_interleave(numbers, sizes),
        offsets=offsets,
        full_count=ROWS,
    )


@pytest.fixture(scope="module")
def z():
    return torch.randn(PARTICLES, ZDIM, generator=torch.Generator(CUDA).manual_seed(1), device=CUDA)


@torch.no_grad()
def totals(kind, network, rows, z, dtype):
    return kind(network.folded(dtype), rows, z, CHUNK_ROWS, network.base).run().totals()


def half_precision():
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


@pytest.fixture
def kernels(network, z):
    """The sweep that training takes on this card."""
    kind = sweep_class(network.folded(half_precision()), z)
    if kind is DecoderSweep:
        pytest.skip("no kernels on this machine: the log of tomohet.model.kernels.trial says why")
    return kind


@pytest.mark.parametrize("half", [True, False])
def test_errors_are_those_of_the_reference(kernels, network, rows, z, half):
    dtype = half_precision() if half else torch.float32
    found = totals(kernels, network, rows, z, dtype)
    reference = totals(DecoderSweep, network, rows, z, dtype)
    exact = totals(DecoderSweep, network, rows, z, torch.float32)
    for one, other, number in zip(found, reference, exact, strict=True):
        assert (one - number).norm() <= 1.5 * (other - number).norm() + 1e-4 * number.norm()


def test_results_repeat_bit_for_bit(kernels, network, rows, z):
    once, again = (totals(kernels, network, rows, z, half_precision()) for _ in range(2))
    assert all(map(torch.equal, once, again))


def test_the_fastest_way_is_found_once(kernels, network, rows, z, caplog, monkeypatch):
    from tomohet.model.kernels import choice

    monkeypatch.setattr(choice, "_fastest", {})
    with caplog.at_level("INFO", logger=choice.__name__):
        totals(kernels, network, rows, z, half_precision())
        lines = [record.message for record in caplog.records if record.name == choice.__name__]
        totals(kernels, network, rows, z, half_precision())
    assert lines and len(lines) == len(choice._fastest)
    assert len([one for one in caplog.records if one.name == choice.__name__]) == len(lines)
    for line in lines:
        print(f"| {line} |")


def test_a_sweep_can_be_captured(kernels, network, rows, z):
    folded = network.folded(half_precision())
    with torch.no_grad():
        expected = kernels(folded, rows, z, CHUNK_ROWS).run().totals()  # every choice is made here
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            kernels(folded, rows, z, CHUNK_ROWS).run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = kernels(folded, rows, z, CHUNK_ROWS).run().totals()
    graph.replay()
    torch.cuda.synchronize()
    assert all(map(torch.equal, found, expected))
