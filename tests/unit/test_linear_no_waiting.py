"""A pass of EM never waits for a GPU: nothing of it depends on values that only the device knows.

It runs on tensors without values (PyTorch's fake tensors), on which reading one, or a shape that depends on
one, is an error. What adds up slices differs between CPU and GPU and is left out.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from blob_store import blob_store
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from tomohet.linear.em import expectation, first_equations
from tomohet.physics.slicing import kernel_transform
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.noise import Noise, residual_noise
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.particle_maps import particle_maps

N, BOX, SMALL = 6, 16, 12
HALF_PLANE = ("k", "radius", "frequency")


def without_values(tensor):
    return torch.empty(tensor.shape, dtype=tensor.dtype)


@pytest.fixture
def observed(monkeypatch):
    """Observations whose tensors have no values; none of these stays in a cache."""
    kernel_transform.cache_clear()
    store = blob_store(N, snr=0.3, box=BOX)
    assert len(store.noise_factor) == len(store.images)  # computed from values, once per store
    # What is known of a box is worked out on the host.
    known = [Observations(store, np.arange(N), max_frequency=0.4, box=box) for box in (BOX, SMALL)]
    kernel_transform.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True):
        for observations in known:
            fields = {name: without_values(getattr(observations.half_plane, name)) for name in HALF_PLANE}
            observations.half_plane = replace(observations.half_plane, **fields)
            observations.shell = without_values(observations.shell)
            observations.spectral_shell = without_values(observations.spectral_shell)
        for module in ("reconstruction.solve", "reconstruction.particle_maps"):
            monkeypatch.setattr(f"tomohet.{module}.scatter", lambda *_: None)
        yield known
    kernel_transform.cache_clear()


def test_a_pass_reads_nothing_from_the_device(observed, monkeypatch):
    observations, small = observed
    maps = torch.zeros(3, BOX, BOX, BOX)
    noise = Noise.same(torch.ones(observations.n_rows), 1)
    mean = MeanMap(maps[0], torch.ones_like(maps[0]), noise, torch.ones(BOX // 2 + 1))
    assert residual_noise(observations, mean.volume).common.shape == (observations.n_rows,)
    first_equations(observations, mean, torch.zeros(N, 2))
    latents, equations = expectation(observations, mean, maps[1:], accumulate=True)
    assert latents.mean.shape == (N, 2) and equations.weight.shape[1] == 3
    # The guard itself: reading a latent is what a pass must not do.
    with pytest.raises(DataDependentOutputException):
        latents.mean.sum().item()
    # A map's shells are counted once per fit, which reads their number.
    power = torch.ones(SMALL // 2 + 1)
    monkeypatch.setattr("tomohet.reconstruction.particle_maps.shell_power", lambda _: power)
    assert particle_maps(small, mean).unit.shape == (N, SMALL**3)
