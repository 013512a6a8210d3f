"""Images part by part: those of the store, in order, one part ahead on a GPU, errors where they belong."""

import threading

import numpy as np
import pytest
import torch
from blob_store import blob_store

from tomohet.errors import InputError
from tomohet.particles import ahead
from tomohet.physics.imaging import ImageParameters, image_parameters

CPU = torch.device("cpu")


class GPU:
    """Stands for a GPU: tensors stay where they are, and page-locked memory is ordinary memory."""

    type = "cuda"


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    to = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(
        torch.Tensor, "to", lambda self, where, **_: self if where is GPU else to(self, where)
    )


@pytest.mark.parametrize("device", [CPU, GPU])
def test_images_and_parameters_are_those_of_the_rows(as_on_a_gpu, device):
    store = blob_store(6, snr=0.3, box=16)
    parts = np.array_split(np.random.default_rng(0).permutation(len(store.images)), 4)
    found = list(ahead.images_on(device, store, parts))
    assert len(found) == 4
    for part, (rows, images, params) in zip(parts, found, strict=True):
        assert rows is part
        torch.testing.assert_close(images, store.half_planes(part))
        expected = image_parameters(store.images.iloc[part])
        for name in ImageParameters._fields:
            assert torch.equal(getattr(params, name), getattr(expected, name))


def test_one_part_is_read_ahead_and_no_more():
    begun, gates = [], [threading.Event() for _ in range(4)]

    def read(item):
        begun.append(item)
        assert gates[item].wait(20)
        return 10 * item

    gates[0].set()
    coming = ahead._one_ahead(read, range(4))
    assert next(coming) == 0
    gates[1].set()
    assert next(coming) == 10
    assert set(begun) <= {0, 1, 2}
    for gate in gates:
        gate.set()
    assert list(coming) == [20, 30] and begun == [0, 1, 2, 3]
    assert list(ahead._one_ahead(read, [])) == []


@pytest.mark.parametrize("device", [CPU, GPU])
def test_what_is_refused_ends_the_reading_with_its_error(as_on_a_gpu, device):
    store, seen = blob_store(6, snr=0.3, box=16), []
    parts = np.array_split(np.arange(len(store.images)), 6)

    def examine(stored, rows):
        assert stored.shape == (len(rows), store.half_plane.n, 2)
        if rows[0] == parts[2][0]:
            raise InputError("image is not finite")

    with pytest.raises(InputError, match="not finite"):
        for rows, *_ in ahead.images_on(device, store, parts, examine):
            seen.append(rows[0])
    assert seen == [parts[0][0], parts[1][0]]
    assert not [one for one in threading.enumerate() if one.name.startswith("ThreadPoolExecutor")]
