"""A fitted linear model read again: its maps and noise in the units of another store of the same images."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from blob_store import BlobStore, blob_store

from tomohet.linear.inference import Teacher
from tomohet.model.settings import LinearFit, LinearSettings, TrainedParticles
from tomohet.physics.shells import shell_power
from tomohet.physics.slicing import gather, transform
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
def teacher(store):
    """The true maps, fitted to images of scale 1."""
    shells, rows = store.box // 2 + 1, store.half_plane.prefix(0.4 * store.box)
    state = {
        "mean": store.maps[0],
        "basis": store.maps[1:],
        "mask": torch.ones(store.maps[0].shape),
        "power": shell_power(store.maps[0]),
        "basis_variance": 0.3 * shell_power(store.maps[1:], shells),
        "noise": torch.full((rows,), 2.0),
        "tomogram_noise": torch.tensor([[2.0], [8.0]]).expand(2, rows),
    }
    fit = LinearFit(0.4, pose_deviation=[0.0, 0.0], tilt_shift_A=0.0, tomograms=["0", "1"])
    settings = LinearSettings(store.box, store.pixel_size_A, 1.0, 0, TrainedParticles(), n_basis=2, fit=fit)
    return Teacher(Path("linear"), settings, fit, state)


def test_maps_have_the_same_grey_values_at_any_scale(store, teacher):
    """Fitted at 6 grey values per unit, asked for at 2: three units for one, and ninefold power."""
    fitted = replace(teacher, settings=replace(teacher.settings, scale=6.0))
    other = scaled(store, 2.0)
    mean, basis = fitted.maps(other, 1)
    torch.testing.assert_close(2 * mean, 6 * store.maps[0])
    torch.testing.assert_close(2 * basis, 6 * store.maps[1:2])
    again = fitted.mean_map(other, CPU)
    torch.testing.assert_close(again.volume, mean)
    torch.testing.assert_close(again.power, shell_power(again.volume))
    assert torch.equal(again.mask, teacher.state["mask"])
    variance = fitted.basis_variance(other, CPU)
    torch.testing.assert_close(variance, 0.3 * shell_power(fitted.maps(other, 2)[1]))


@pytest.mark.parametrize("scale", [0.25, 3.0])
def test_latents_do_not_depend_on_the_scale(store, teacher, scale):
    """Nor do the particles' maps, on which a network is taught."""
    particles = np.arange(N)
    expected, found = (
        teacher.posterior(one, particles, CPU) for one in (scaled(store, 1), scaled(store, scale))
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert found[:, 0].std() > 0.1
    one, other = (teacher.particle_maps(s, particles, CPU).float() for s in (store, scaled(store, scale)))
    torch.testing.assert_close(other, one, rtol=1e-2, atol=1e-2)


def test_posterior_of_uncertain_basis_maps_equals_dense_algebra(store, teacher):
    """Precision: 1 for the prior, and h^2 (|S U_j|^2 + V_j) / (s^2 / 2) summed over all rows, written out."""
    particles = np.arange(N)
    found = teacher.posterior(store, particles, CPU)
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


def test_noise_of_images_is_their_tomograms_times_their_own(store, teacher):
    """Tomogram 0: twice the common noise; tomogram 1: half of it, on geometric average; one image thrice."""
    common = torch.linspace(1, 5, 40)
    uneven = torch.tensor([0.25, 1.0]).repeat(20)
    noise = {"noise": common, "tomogram_noise": torch.stack([2 * common, uneven * common])}
    noisy = replace(store)
    noisy.noise_factor = np.where(np.arange(len(store.images)) == 4, 3, 1).astype(np.float32)
    rows = np.array([0, 4, 5, store.offsets[2], store.offsets[3] + 1])
    assert store.tomogram[store.images.particle[rows]].tolist() == [0, 0, 0, 1, 1]
    found = replace(teacher, state=teacher.state | noise).relative_noise(noisy, rows, CPU)
    np.testing.assert_allclose(found, [2, 6, 2, 0.5, 0.5], rtol=1e-5)


def test_noise_of_images_depends_on_their_dose(store, teacher):
    """By dose twice the common noise up to 6 e/Å^2, three times beyond, of each shell alike."""
    rows = np.arange(len(store.images))
    shells = int(store.half_plane.shell.max()) + 1
    common = 1.0 + torch.arange(shells)
    by_dose = torch.where(torch.arange(DOSE_BINS) * DOSE_STEP_E_A2 > 6, 3.0, 2.0)[:, None] * common
    of_rows = common[store.half_plane.shell[: len(teacher.state["noise"])]]
    noise = {
        "noise": of_rows,
        "tomogram_noise": of_rows.expand(2, -1),
        "dose_noise": by_dose.expand(2, -1, -1),
    }
    found = replace(teacher, state=teacher.state | noise).relative_noise(store, rows, CPU)
    late = store.images["dose_e_A2"].to_numpy() > 6
    expected = np.where(late, 3.0, 2.0) * store.noise_factor
    assert 0 < late.sum() < len(rows)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
