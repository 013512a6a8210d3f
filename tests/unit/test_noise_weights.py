"""Weights of the loss from the noise of each Fourier shell."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from blob_store import blob_store

from tomohet.training.noise import point_weights, shell_noise, write_noise

CPU = torch.device("cpu")
BOX = 16


@pytest.fixture(scope="module")
def coloured():
    """Particles whose noise variance falls from 8 in the first shells to 2 in the last, and that variance."""
    store = blob_store(150, snr=0.3, box=BOX)
    wanted = 2 + 6 * torch.exp(-store.half_plane.shell / 4.0)
    draw = torch.Generator().manual_seed(1)
    more = torch.randn(*store.values.shape, 2, generator=draw) * torch.sqrt((wanted - 2) / 2)[:, None]
    return replace(store, values=store.values + torch.view_as_complex(more)), wanted


def test_noise_of_each_shell_is_found(coloured):
    store, wanted = coloured
    noise = shell_noise(store, np.arange(150), 0.5, CPU, seed=0)
    assert noise.shape == (store.half_plane.n,)
    np.testing.assert_allclose(noise, wanted, rtol=0.08)


def test_points_beyond_the_highest_frequency_have_the_last_shells_noise(coloured):
    store, wanted = coloured
    noise = shell_noise(store, np.arange(150), 0.25, CPU, seed=0)
    inside = store.half_plane.prefix(0.25 * BOX)
    np.testing.assert_allclose(noise[:inside], wanted[:inside], rtol=0.08)
    assert (noise[inside:] == noise[inside - 1]).all()


def test_weights_are_the_inverse_noise_with_mean_one(coloured, tmp_path):
    store, wanted = coloured
    weights = point_weights(wanted)
    assert weights.mean() == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(weights * wanted, (weights * wanted)[:1].expand(len(wanted)))
    write_noise(tmp_path / "noise.csv", store, wanted)
    table = np.genfromtxt(tmp_path / "noise.csv", delimiter=",", names=True)
    assert table["resolution_A"][0] == BOX * store.pixel_size_A
    np.testing.assert_allclose(
        table["variance"], [2 + 6 * np.exp(-s / 4) for s in range(1, BOX // 2 + 1)], rtol=1e-5
    )
