"""Images as weighted observations of a slice: against the likelihood of what the camera recorded."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from blob_store import BlobStore, blob_store

from tomohet.physics.imaging import image_parameters, physical_transfer
from tomohet.reconstruction.half_maps import accumulate
from tomohet.reconstruction.observations import Observations

N = 4


@dataclass
class GainedStore(BlobStore):
    """Images with signals of their own size, and noise of a known size: `gain` and `noise_factor` (m,)."""

    gain: np.ndarray = None
    noise_factor: np.ndarray = None


def gained(store, gain, noise_factor=None, **columns):
    """The store with images of these gains and noise; columns: of its table, instead of what is there."""
    m = len(store.images)
    gain = np.broadcast_to(np.asarray(gain, np.float32), m)
    factor = np.broadcast_to(np.asarray(1 if noise_factor is None else noise_factor, np.float32), m)
    fields = {name: getattr(store, name) for name in BlobStore.__dataclass_fields__}
    images = store.images.assign(**columns)
    return GainedStore(**fields | {"images": images}, gain=gain, noise_factor=factor)


def only_chunk(store, **options):
    (chunk,) = Observations(store, np.arange(N), **options).chunks()
    return chunk


@pytest.fixture(scope="module")
def store():
    return blob_store(N, snr=0.3)


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


def test_numerator_less_weight_times_slice_is_the_slope_of_the_likelihood(store, rng):
    """log p = -sum |y - gain h V|^2 / f for raw images, whose noise has the variance f; by autograd."""
    m = len(store.images)
    gain, factor = rng.uniform(0.5, 3, m), rng.uniform(0.3, 4, m)
    chunk = only_chunk(gained(store, gain, factor))
    hp = store.half_plane
    value = torch.randn(m, hp.n, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    h, _ = physical_transfer(image_parameters(store.images), hp, dose=True, tilt=True)
    gain, factor = (torch.tensor(x, dtype=torch.float32)[:, None] for x in (gain, factor))
    residual = store.values - gain * h * torch.view_as_complex(value)
    log_p = -(residual.abs().square() / factor).sum()
    (slope,) = torch.autograd.grad(log_p, value)
    found = chunk.numerator - chunk.weight * torch.view_as_complex(value.detach())
    torch.testing.assert_close(torch.view_as_real(2 * found), slope, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(chunk.transfer, gain * h)
    torch.testing.assert_close(chunk.noise_gain, factor.expand(-1, hp.n))


@pytest.fixture(params=[1.0, 0.2, 7.0])
def extracted(store, request):
    """Recordings as they are, and multiplied by their CTF and a number; these factors (m, n)."""
    plain = {"dose_e_A2": 0.0, "tilt_deg": 0.0}
    params = image_parameters(store.images.assign(**plain))
    factor = request.param * physical_transfer(params, store.half_plane, dose=False, tilt=False)[0]
    multiplied = replace(store, values=factor * store.values)
    return (
        gained(store, 1, **plain),
        gained(multiplied, request.param, ctf_premultiplied=True, **plain),
        factor,
    )


def test_what_extraction_multiplied_in_changes_nothing(extracted):
    """Images say of the slice what the recording itself says; signal and noise alike were multiplied."""
    raw, treated = (only_chunk(one) for one in extracted[:2])
    factor = extracted[2]
    torch.testing.assert_close(treated.numerator, raw.numerator, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(treated.weight, raw.weight, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(treated.transfer, factor * raw.transfer, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(treated.noise_gain, factor.square(), rtol=1e-4, atol=1e-5)


def test_nor_does_it_change_what_half_maps_are_made_of(extracted):
    rows = np.arange(len(extracted[0].images))
    sums = [
        accumulate(one, rows, rows % 2, recon_dose_weight=False, recon_tilt_weight=False)
        for one in extracted[:2]
    ]
    for raw, treated in zip(*sums, strict=True):
        torch.testing.assert_close(treated.sums, raw.sums, rtol=1e-4, atol=1e-3)


def test_the_window_leaves_its_share_of_the_noise(store):
    whole, windowed = (only_chunk(gained(replace(store, window_power=w), 1)) for w in (1.0, 0.5))
    torch.testing.assert_close(windowed.noise_gain, whole.noise_gain / 2)
    torch.testing.assert_close(windowed.weight, whole.weight)


def test_an_image_of_twice_the_signal_is_worth_four(store):
    """Twice the signal beside the same noise says as much as four images of half its values and gain 1."""
    m = len(store.images)
    part = np.arange(m) % 2
    options = {"recon_dose_weight": True, "recon_tilt_weight": True}
    strong = accumulate(gained(store, np.where(np.arange(m) < 7, 2, 1)), np.arange(m), part, **options)
    halved = torch.where(torch.arange(m) < 7, 0.5, 1)[:, None] * store.values
    rows = np.repeat(np.arange(m), np.where(np.arange(m) < 7, 4, 1))
    many = accumulate(gained(replace(store, values=halved), 1), rows, part[rows], **options)
    for one, other in zip(strong, many, strict=True):
        torch.testing.assert_close(one.sums, other.sums, rtol=1e-4, atol=1e-3)


def test_chunks_hold_the_images_of_their_particles(store, monkeypatch):
    """Two particles at a time: 9 tilts of even ones, 8 of odd ones."""
    n = store.half_plane.n
    monkeypatch.setitem(Observations.__init__.__globals__["ROWS_PER_CHUNK"], "cpu", 18 * n)
    named = replace(store, tomogram=np.array(["b", "a", "b", "c"]))
    observations = Observations(named, np.arange(N))
    chunks = list(observations.chunks())
    assert observations.tomograms == ["a", "b", "c"]
    assert sum(chunk.n_particles for chunk in chunks) == N and len(chunks) > 1
    owner = np.concatenate([chunk.owner.numpy() + chunk.part.start for chunk in chunks])
    assert owner.tolist() == store.images.particle.tolist()
    tomogram = np.concatenate([chunk.tomogram.numpy() for chunk in chunks])
    assert np.array_equal(np.array(["a", "b", "c"])[tomogram], named.tomogram[owner])
    assert torch.equal(torch.cat([chunk.data for chunk in chunks]), store.values)
    for chunk in chunks:
        assert chunk.counts.tolist() == np.bincount(owner)[chunk.part].tolist()
