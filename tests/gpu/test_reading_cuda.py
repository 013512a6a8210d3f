"""Images on CUDA: the same batches from the card, from the machine's memory and from the file."""

import numpy as np
import pytest
import torch

from tomohet.particles.store import open_store
from tomohet.training import order
from tomohet.training.batches import ParticleImages
from tomohet.training.reading import Loading, StoredImages

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

CUDA = torch.device("cuda", 0)


@pytest.fixture
def store(tiny_store, monkeypatch):
    """The tiny store, divided into windows as far larger ones are."""
    store = open_store(tiny_store)
    monkeypatch.setattr(order, "WINDOW_BYTES", store.data.nbytes // 4)
    monkeypatch.setattr(order, "BLOCK_BYTES", store.data.nbytes // 12)
    return store


def batches(store, **options):
    images = ParticleImages(store, np.arange(len(store.particles)), CUDA, batch_size=2, **options)
    for seed in range(3):
        yield from images.batches(images.shuffled(np.random.default_rng(seed)))


@pytest.mark.parametrize("place", ["memory", "file"])
@pytest.mark.parametrize("pinned", [True, False])
def test_batches_are_those_held_on_the_card(store, place, pinned):
    """While the device is busy, so that a copy that is not waited for would be noticed."""
    loading = Loading(workers=2, ahead=4, pinned=pinned, persistent=True)
    busy = torch.randn(2048, 2048, device=CUDA)
    held, copied = batches(store, place="device"), batches(store, place=place, loading=loading)
    differences = []
    for ours, theirs in zip(copied, held, strict=True):
        busy = torch.tanh(busy @ busy)
        assert ours.fourier.device == CUDA
        differences += [
            (ours.fourier - theirs.fourier).abs().max(),
            (ours.params.rotation - theirs.params.rotation).abs().max(),
        ]
    assert torch.stack(differences).max().item() == 0


@pytest.mark.parametrize("pinned", [True, False])
def test_copies_come_from_page_locked_memory_if_asked_for(store, monkeypatch, pinned):
    found, to = [], torch.Tensor.to

    def spied(tensor, *args, **options):
        if tensor.dim() == 3 and tensor.device.type == "cpu":
            found.append(tensor.is_pinned())
        return to(tensor, *args, **options)

    images = StoredImages(store, np.arange(40), CUDA, Loading(lazy=True, pinned=pinned))
    monkeypatch.setattr(torch.Tensor, "to", spied)
    list(images.batches([[np.arange(10), np.arange(10, 20)]]))
    assert found == [pinned, pinned]
