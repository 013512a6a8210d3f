"""The linear model is the same on CUDA as on the CPU."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))

from blob_store import blob_store

from tomohet.linear.fit import fit_linear_model
from tomohet.physics import slicing
from tomohet.reconstruction.observations import ROWS_PER_CHUNK

N = 60


@pytest.mark.parametrize("channels", [1, 4, 55])
def test_scatter_on_cuda_equals_the_cpu(channels, monkeypatch):
    monkeypatch.setattr(slicing, "SCATTER_BYTES", 100_000)
    generator = torch.Generator().manual_seed(0)
    points = 20 * (torch.rand(7, 300, 3, generator=generator) - 0.5)
    values = torch.randn(7, 300, channels, generator=generator)
    tables = []
    for device in ("cpu", "cuda"):
        table = torch.zeros(32**3, channels, device=device)
        slicing.scatter(table, *slicing.corners_at(points.to(device), 16), values.to(device))
        tables.append(table.cpu())
    torch.testing.assert_close(*tables, rtol=1e-4, atol=1e-4)


def test_a_fit_on_cuda_equals_the_cpu(monkeypatch):
    monkeypatch.setitem(ROWS_PER_CHUNK, "cuda", 20_000)
    store = blob_store(N, snr=0.3, noise=(1.0, 2.0))
    fit = {"zdim": 2, "iterations": 3, "max_frequency": 0.4}
    cpu, cuda = (fit_linear_model(store, np.arange(N), device=device, **fit) for device in ("cpu", "cuda"))
    torch.testing.assert_close(cuda.latents.mean.cpu(), cpu.latents.mean, rtol=0.01, atol=0.01)
    torch.testing.assert_close(cuda.latents.covariance.cpu(), cpu.latents.covariance, rtol=0.02, atol=1e-3)
    torch.testing.assert_close(
        cuda.maps.mean.noise.by_tomogram.cpu(), cpu.maps.mean.noise.by_tomogram, rtol=1e-3, atol=1e-3
    )
    assert (cuda.maps.basis.cpu() - cpu.maps.basis).norm() < 0.02 * cpu.maps.basis.norm()
