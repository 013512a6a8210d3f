"""A network that starts from a linear model: it begins at the model's solution, with correct gradients."""

import numpy as np
import pytest
import torch
from blob_store import blob_store

from tomohet.files.pickles import load_latents
from tomohet.linear.fit import fit_linear_model
from tomohet.model.encoder import TiltEncoder
from tomohet.model.linear_base import LinearBase
from tomohet.model.linear_decoder import LinearDecoder
from tomohet.model.loss import reconstruction_loss
from tomohet.model.mlp import linear_parameters
from tomohet.model.rows import pack_rows
from tomohet.model.settings import DecoderShape
from tomohet.model.taught import TaughtEncoder, stack_posterior
from tomohet.model.vae import build_decoder
from tomohet.physics.imaging import image_parameters, physical_transfer

BOX, ZDIM = 16, 5
DECODER = DecoderShape(
    zdim=ZDIM,
    layers=1,
    width=16,
    activation="relu",
    encoding="gaussian",
    per_axis=3,
    feat_sigma=0.5,
    extent=0.5,
    hermitian=True,
    n_basis=2,
)


@pytest.fixture(scope="module")
def store():
    return blob_store(8, snr=0.5, box=BOX)


@pytest.fixture(scope="module")
def decoder(store):
    decoder = build_decoder(BOX, DECODER, seed=0)
    decoder.base.fill(store.maps[0], store.maps[1:])
    return decoder


@pytest.fixture(scope="module")
def rows(store):
    params, hp = image_parameters(store.images), store.half_plane
    transfer, _ = physical_transfer(params, hp, dose=True, tilt=True)
    count = torch.full((len(store.images),), hp.n)
    tilts = torch.as_tensor(np.diff(store.offsets))
    weight = torch.rand(transfer.shape, generator=torch.Generator().manual_seed(0))
    return pack_rows(store.values, params.rotation, transfer, weight, count, tilts, hp.frequency)


def test_base_values_are_the_transform_of_its_maps(store):
    base = LinearBase(BOX, 2)
    base.fill(store.maps[0], store.maps[1:])
    k = (torch.rand(300, 3, generator=torch.Generator().manual_seed(0)) - 0.5) * 0.6
    found = base.values(k, torch.tensor([[0.5, -1.0, 9.0]]))[0]
    volume = store.maps[0] + 0.5 * store.maps[1] - store.maps[2]
    axis = torch.arange(BOX) - BOX // 2.0
    x, y, z = (torch.exp(-2j * torch.pi * k[:, i, None] * axis) for i in range(3))
    exact = torch.einsum("zyx,rz,ry,rx->r", volume.to(torch.complex64), z, y, x)
    assert (found - exact).norm() < 0.03 * exact.norm()


def test_gradients_equal_finite_differences(decoder, rows):
    z = torch.randn(rows.particles, ZDIM, generator=torch.Generator().manual_seed(1), requires_grad=True)
    reconstruction_loss(decoder, z, rows).backward()
    step = 1e-2
    for particle, latent in [(0, 0), (3, 1), (5, 4)]:
        losses = []
        for sign in (1, -1):
            moved = z.detach().clone()
            moved[particle, latent] += sign * step
            losses.append(reconstruction_loss(decoder, moved, rows).item())
        numeric = (losses[0] - losses[1]) / (2 * step)
        assert float(z.grad[particle, latent]) == pytest.approx(numeric, rel=0.05, abs=2e-5)


def test_chunks_do_not_change_loss_and_gradients(decoder, rows):
    results = []
    for chunk_rows in (len(rows), 97):
        z = torch.ones(rows.particles, ZDIM, requires_grad=True)
        loss = reconstruction_loss(decoder, z, rows, chunk_rows=chunk_rows)
        loss.backward()
        results.append((loss.detach(), z.grad))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-5, atol=0)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("box", [BOX, 12])
def test_a_silent_network_decodes_the_linear_model(store, box):
    decoder = build_decoder(BOX, DECODER, seed=0)
    decoder.base.fill(store.maps[0], store.maps[1:])
    with torch.no_grad():
        for parameter in linear_parameters(decoder.decoder.affine_layers()[-1]):
            parameter.zero_()
    linear = LinearDecoder(BOX, 2)
    linear.load_state_dict({"mean": store.maps[0], "basis": store.maps[1:]})
    z = torch.randn(3, ZDIM, generator=torch.Generator().manual_seed(0))
    expected = linear.volumes(z[:, :2], box)
    torch.testing.assert_close(
        decoder.volumes(z, box), expected, rtol=1e-4, atol=1e-4 * expected.max().item()
    )


def test_the_encoder_starts_at_the_posterior():
    encoder = TaughtEncoder(TiltEncoder(20, ZDIM, width_a=8, out_a=4, width_b=8))
    mu, logvar = torch.randn(2, 2), torch.randn(2, 2)
    images = torch.randn(7, 20, dtype=torch.complex64)
    found_mu, found_logvar = encoder(images, torch.tensor([3, 4]), stack_posterior(mu, logvar))
    torch.testing.assert_close(found_mu, torch.nn.functional.pad(mu, (0, 3)))
    torch.testing.assert_close(found_logvar, torch.nn.functional.pad(logvar, (0, 3)))


def test_training_and_evaluation_agree_on_latents(tiny_store, tmp_path, run_script):
    """A network with fewer latents than the linear model has basis maps starts from the first of them."""
    run_script("train_linear", tiny_store, "-o", tmp_path / "linear", "--zdim", 3, "-n", 2)
    small = "--dec-dim 16 --dec-layers 1 --enc-dim-A 16 --out-dim-A 8 --enc-dim-B 16 --pe-dim 3".split()
    small += ["--lr", "0.00001"]
    vae = tmp_path / "vae"
    run_script(
        "train_vae",
        tiny_store,
        "-o",
        vae,
        "--zdim",
        2,
        "-n",
        1,
        "-b",
        8,
        "--init",
        tmp_path / "linear",
        "--encoder",
        "tilts",
        *small,
    )
    linear, _ = load_latents(tmp_path / "linear" / "z.train.pkl")
    trained, _ = load_latents(vae / "z.train.pkl")
    assert np.abs(trained - linear[:, :2]).max() < 0.1 * linear.std()
    weights = ["-w", vae / "weights.pkl", "-c", vae / "config.pkl"]
    run_script("eval_images", tiny_store, *weights, "--out-z", tmp_path / "z.pkl")
    evaluated, _ = load_latents(tmp_path / "z.pkl")
    np.testing.assert_allclose(evaluated, trained, rtol=1e-3, atol=1e-4)


def test_a_fit_without_particles_to_spare_is_refused(tiny_store, tmp_path, run_script):
    done = run_script("train_linear", tiny_store, "-o", tmp_path, "--zdim", 999, check=False)
    assert done.returncode == 1
    assert "--zdim 999: expected 1 to" in done.stderr
    done = run_script("train_linear", tiny_store, "-o", tmp_path, "--use-first-nptcls", 1, check=False)
    assert done.returncode and "1 particle; a linear model needs at least 2" in done.stderr


def test_latents_of_noise_are_small(store):
    noise = blob_store(60, snr=1e-6, box=BOX)
    model = fit_linear_model(noise, np.arange(60), zdim=2, iterations=3, max_frequency=0.4)
    power = model.maps.basis.square().sum((1, 2, 3)) / model.maps.mean.volume.square().sum()
    assert torch.isfinite(power).all()
    assert torch.isfinite(model.latents.mean).all()
