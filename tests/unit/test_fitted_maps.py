"""Fitted maps of a linear model in the units of another store of the same images, and their posteriors."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from blob_store import BlobStore, blob_store

from tomohet.linear.fitted_maps import FittedMaps
from tomohet.physics.shells import shell_power
from tomohet.physics.slicing import gather, transform
from tomohet.reconstruction.noise import Noise
from tomohet.reconstruction.nuisance import Nuisance
from tomohet.reconstruction.observations import DOSE_BINS, DOSE_STEP_E_A2, Observations

N = 6
CPU = torch.device("cpu")


@dataclass
class ScaledStore(BlobStore):
    """Images divided by their own noise, whose grey values on the common scale are `scale` times larger."""

    @property
    def gain(self) -> np.ndarray:
        return np.full(len(self.images), self.scale, np.float32)


def scaled(store, scale):
    """The store at another common scale: what is stored stays, since every image keeps its own noise."""
    fields = {name: getattr(store, name) for name in BlobStore.__dataclass_fields__}
    return ScaledStore(**fields | {"scale": scale})


@pytest.fixture(scope="module")
def store():
    return blob_store(N, snr=0.3, noise=(1.0, 4.0))


@pytest.fixture(scope="module")
def fitted(store):
    """The true maps, fitted to images of scale 1."""
    shells, rows = store.box // 2 + 1, store.half_plane.prefix(0.4 * store.box)
    tensors = {
        "mean": store.maps[0],
        "basis": store.maps[1:],
        "mask": torch.ones(store.maps[0].shape),
        "power": shell_power(store.maps[0]),
        "basis_variance": 0.3 * shell_power(store.maps[1:], shells),
        "noise": torch.full((rows,), 2.0),
        "tomogram_noise": torch.tensor([[2.0], [8.0]]).expand(2, rows),
        "local_variance": torch.ones(store.maps[0].shape),
        "spectral_variance": torch.ones(shells),
    }
    about = {"max_frequency": 0.4, "tomograms": ["0", "1"], "scale": 1.0}
    return FittedMaps.of_tensors(tensors, **about, pixel_size_A=store.pixel_size_A, tilt_shift_px=0.5)


def test_maps_have_the_same_grey_values_at_any_scale(store, fitted):
    """Fitted at 6 grey values per unit, asked for at 2: three units for one, and ninefold power."""
    again = replace(fitted, scale=6.0).for_store(scaled(store, 2.0), CPU)
    torch.testing.assert_close(2 * again.mean.volume, 6 * store.maps[0])
    torch.testing.assert_close(2 * again.basis, 6 * store.maps[1:])
    torch.testing.assert_close(again.mean.power, shell_power(again.mean.volume))
    assert torch.equal(again.mean.mask, fitted.mean.mask)
    torch.testing.assert_close(again.basis_variance, 0.3 * shell_power(again.basis))
    assert again.scale == 2.0 and again.mean.tilt_shift_px == fitted.mean.tilt_shift_px


def test_nuisance_maps_are_scaled_as_basis_maps(store, fitted):
    nuisance = Nuisance(fitted.basis[:1], fitted.basis_variance[:1])
    whole = replace(fitted, mean=replace(fitted.mean, nuisance=nuisance))
    again = whole.for_store(scaled(store, 2.0), CPU)
    torch.testing.assert_close(again.mean.nuisance.maps, again.basis[:1])
    torch.testing.assert_close(again.mean.nuisance.variance, again.basis_variance[:1])


def test_image_shifts_keep_their_length(store, fitted):
    """Half a pixel at twice the store's pixel size is a whole one."""
    coarse = replace(fitted, pixel_size_A=2 * store.pixel_size_A)
    assert coarse.for_store(store, CPU).mean.tilt_shift_px == 1.0


def test_tensors_are_read_as_they_are_written(store, fitted):
    """Also with noise by dose, and nuisance maps."""
    by_dose = torch.rand(2, DOSE_BINS, 5, generator=torch.Generator().manual_seed(0))
    noise = replace(fitted.mean.noise, by_dose=by_dose)
    nuisance = Nuisance(fitted.basis[:1], fitted.basis_variance[:1])
    written = replace(fitted, mean=replace(fitted.mean, noise=noise, nuisance=nuisance))
    about = {name: getattr(fitted, name) for name in ("max_frequency", "tomograms", "scale", "pixel_size_A")}
    again = FittedMaps.of_tensors(written.tensors(), **about, tilt_shift_px=0.5)
    for name, tensor in written.tensors().items():
        assert torch.equal(again.tensors()[name], tensor), name
    assert again.mean.tilt_shift_px == 0.5 and again.mean.nuisance is not None


@pytest.mark.parametrize("scale", [0.25, 3.0])
def test_latents_do_not_depend_on_the_scale(store, fitted, scale):
    """Nor do the particles' maps, on which a network is taught."""
    particles = np.arange(N)
    stores = scaled(store, 1), scaled(store, scale)
    maps = [fitted.for_store(one, CPU) for one in stores]
    expected, found = (own.posterior(one, particles) for own, one in zip(maps, stores, strict=True))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert found[:, 0].std() > 0.1
    one, other = (own.particle_maps(s, particles).float() for own, s in zip(maps, stores, strict=True))
    torch.testing.assert_close(other, one, rtol=1e-2, atol=1e-2)


def test_posterior_of_uncertain_basis_maps_equals_dense_algebra(store, fitted):
    """Precision: 1 for the prior, and h^2 (|S U_j|^2 + V_j) / (s^2 / 2) summed over all rows, written out."""
    particles = np.arange(N)
    found = replace(fitted, mean=replace(fitted.mean, tilt_shift_px=0.0)).posterior(store, particles)
    (chunk,) = Observations(store, particles, max_frequency=0.4).chunks()
    shell = store.half_plane.radius[: chunk.data.shape[1]].round().long()
    variance = (0.3 * shell_power(store.maps[1:]))[:, shell].double().numpy()
    slices = gather(transform(store.maps), chunk.index, chunk.corner_weight).to(torch.complex128).numpy()
    h, data = chunk.transfer.double().numpy(), chunk.data.to(torch.complex128).numpy()
    for particle in particles:
        mine = chunk.owner.numpy() == particle
        noise = 8.0 if store.tomogram[particle] == 1 else 2.0
        h_mine, basis, residual = h[mine], slices[mine][..., 1:], data[mine] - h[mine] * slices[mine][..., 0]
        design = h_mine[..., None] * basis
        gram = np.einsum("mnj,mnk->jk", design.conj(), design).real
        gram += np.diag(np.einsum("mn,jn->j", h_mine**2, variance))
        precision = np.eye(2) + 2 * gram / noise
        right = 2 * np.einsum("mnj,mn->j", design.conj(), residual).real / noise
        np.testing.assert_allclose(
            found[particle, 0], np.linalg.solve(precision, right), rtol=1e-3, atol=1e-4
        )
        np.testing.assert_allclose(
            found[particle, 1], np.log(np.diag(np.linalg.inv(precision))), rtol=1e-3, atol=1e-3
        )


def with_noise(maps, noise):
    return replace(maps, mean=replace(maps.mean, noise=noise))


def test_noise_of_images_is_their_tomograms_times_their_own(store, fitted):
    """Tomogram 0: twice the common noise; tomogram 1: half of it, on geometric average; one image thrice."""
    common = torch.linspace(1, 5, 40)
    uneven = torch.tensor([0.25, 1.0]).repeat(20)
    noise = Noise(common, torch.stack([2 * common, uneven * common]))
    noisy = replace(store)
    noisy.noise_factor = np.where(np.arange(len(store.images)) == 4, 3, 1).astype(np.float32)
    rows = np.array([0, 4, 5, store.offsets[2], store.offsets[3] + 1])
    assert store.tomogram[store.images.particle[rows]].tolist() == [0, 0, 0, 1, 1]
    found = with_noise(fitted, noise).relative_noise(noisy, rows)
    np.testing.assert_allclose(found, [2, 6, 2, 0.5, 0.5], rtol=1e-5)


def test_noise_of_images_depends_on_their_dose(store, fitted):
    """By dose twice the common noise up to 6 e/Å^2, three times beyond, of each shell alike."""
    rows = np.arange(len(store.images))
    shells = int(store.half_plane.shell.max()) + 1
    common = 1.0 + torch.arange(shells)
    by_dose = torch.where(torch.arange(DOSE_BINS) * DOSE_STEP_E_A2 > 6, 3.0, 2.0)[:, None] * common
    of_rows = common[store.half_plane.shell[: len(fitted.mean.noise.common)]]
    noise = Noise(of_rows, of_rows.expand(2, -1), by_dose.expand(2, -1, -1))
    found = with_noise(fitted, noise).relative_noise(store, rows)
    late = store.images["dose_e_A2"].to_numpy() > 6
    expected = np.where(late, 3.0, 2.0) * store.noise_factor
    assert 0 < late.sum() < len(rows)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
