"""The network against the numbers of tomoDRGN 1.0 (shared/golden, specification K.1)."""

import json

import numpy as np
import pytest
import torch

from tomohet.model.decoder import Decoder
from tomohet.model.encoder import hartley_columns
from tomohet.model.loss import kl_divergence, reconstruction_loss, scaled_kl
from tomohet.model.mlp import linear_parameters
from tomohet.model.published import from_published
from tomohet.model.rows import pack_rows
from tomohet.model.settings import DecoderShape, EncoderShape, Network
from tomohet.model.vae import build_vae
from tomohet.physics.hartley import ihartley3
from tomohet.physics.lattice import half_ball, half_plane

BOX, ZDIM = 32, 8
HP = half_plane(BOX)
NETWORK = Network(
    DecoderShape(
        zdim=ZDIM, layers=3, width=256, activation="relu", encoding="gaussian", per_axis=None,
        feat_sigma=0.5, extent=0.5, hermitian=False,
    ),
    EncoderShape(
        layers_a=2, width_a=64, out_a=64, longest=8, layers_b=4, width_b=32, mask_px=None,
        pooling="concatenate", seeds=1, heads=4, layer_norm=False,
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def golden(shared):
    return np.load(shared / "golden/vae8_10076_model.npz")


@pytest.fixture(scope="module")
def data(shared):
    return np.load(shared / "golden/10076_data.npz")


@pytest.fixture(scope="module")
def published_state(shared):
    arrays = np.load(shared / "golden/ckpt_vae8_10076/state_dict.npz")
    return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@pytest.fixture(scope="module")
def network(published_state):
    model = build_vae(BOX, NETWORK, seed=0)
    model.load_state_dict(from_published(published_state, HP))
    return model.eval()


def half_planes_of(hartley):
    """Half planes (m, n) of flattened Hartley images (m, 33 * 33)."""
    hartley = torch.as_tensor(np.asarray(hartley), dtype=torch.float32).reshape(-1, 33, 33)
    kx, ky = HP.k.long().unbind(-1)
    plus, minus = hartley[:, 16 + ky, 16 + kx], hartley[:, 16 - ky, 16 - kx]
    return torch.complex((plus + minus) / 2, (minus - plus) / 2)


def on_half_plane(even):
    """Values of an even function on the half plane, from (m, 33 * 33)."""
    kx, ky = HP.k.long().unbind(-1)
    return torch.as_tensor(np.asarray(even), dtype=torch.float32).reshape(-1, 33, 33)[:, 16 + ky, 16 + kx]


def golden_rows(golden, case, hermitian=False):
    ctf = on_half_plane(golden[f"{case}_ctf"])
    flipped = half_planes_of(golden[f"{case}_preprocessed"])
    weight = on_half_plane(golden[f"{case}_weights"])
    mask = on_half_plane(golden[f"{case}_mask"])
    particles = golden[f"{case}_ctf"].shape[0]
    return pack_rows(
        flipped * ctf.sign(),
        torch.from_numpy(golden[f"{case}_rots"]).reshape(-1, 3, 3),
        ctf,
        weight,
        mask.sum(1).long(),
        torch.full((particles,), 8),
        HP.frequency,
        hermitian=hermitian,
    )


@pytest.mark.parametrize("case", ["p0", "plast", "batch3"])
def test_latents_of_the_published_encoder(network, golden, case):
    images = half_planes_of(golden[f"{case}_preprocessed"])
    mu, logvar = network.encode(images, np.full(len(images) // 8, 8))
    np.testing.assert_allclose(mu.detach(), golden[f"{case}_z_mu"], atol=2e-6)
    np.testing.assert_allclose(logvar.detach(), golden[f"{case}_z_logvar"], atol=2e-6)


def test_published_columns_are_the_masked_pixels_in_order(data):
    mask = torch.from_numpy(data["lattice_circular_mask"])
    pixel = torch.arange(33 * 33)[mask]
    k = torch.cat((HP.k, -HP.k)).long()
    np.testing.assert_array_equal(pixel[hartley_columns(HP, HP.n)], (k[:, 1] + 16) * 33 + k[:, 0] + 16)


@pytest.mark.parametrize("case", ["p0", "plast", "batch3"])
def test_decoded_values_of_the_published_decoder(network, golden, case):
    rows = golden_rows(golden, case)
    z = torch.from_numpy(golden[f"{case}_z_mu"])
    decoded = torch.cat(
        [network.decoder.fourier(rows.k[rows.particle == p], z[p : p + 1])[0] for p in range(len(z))]
    )
    # The golden values run over every masked Hartley pixel; ours over one of each pair.
    hartley = golden[f"{case}_decoded_flat"].reshape(-1, 796)
    ours = decoded.reshape(-1, HP.n)
    columns = hartley_columns(HP, HP.n)
    expected = hartley[:, columns]
    np.testing.assert_allclose(
        torch.cat((ours.real - ours.imag, ours.real + ours.imag), 1), expected, atol=1e-4
    )


@pytest.mark.parametrize("case", ["p0", "plast", "batch3"])
def test_loss_of_the_published_network(network, golden, shared, case):
    facts = json.loads((shared / "golden/vae8_10076_model_facts.json").read_text())[case]
    images = half_planes_of(golden[f"{case}_preprocessed"])
    mu, logvar = network.encode(images, np.full(len(images) // 8, 8))
    gen = reconstruction_loss(network.decoder, mu, golden_rows(golden, case))
    kl = scaled_kl(kl_divergence(mu, logvar), facts["beta"], None, 6368)
    assert gen.item() == pytest.approx(facts["gen_loss"], abs=1e-6)
    assert kl.item() == pytest.approx(facts["kld_loss_beta_scaled"], abs=1e-8)
    assert (gen + kl).item() == pytest.approx(facts["loss"], abs=1e-6)


def test_gradients_of_the_published_network(network, golden, shared):
    expected = np.load(shared / "golden/vae8_10076_grads_p0.npz")
    images = half_planes_of(golden["p0_preprocessed"])
    network.zero_grad()
    mu, logvar = network.encode(images, np.array([8]))
    kl = scaled_kl(kl_divergence(mu, logvar), 0.125, None, 6368)
    (reconstruction_loss(network.decoder, mu, golden_rows(golden, "p0"), chunk_rows=1000) + kl).backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    assert set(gradients) == set(expected.files)
    columns = hartley_columns(HP, HP.n)
    for name, gradient in gradients.items():
        published = torch.from_numpy(expected[name])
        if name == "encoder.encoder_a.main.0.weight":
            published = published[:, columns]
        scale = published.abs().max().item()
        np.testing.assert_allclose(gradient, published, atol=2e-5 * scale, err_msg=name)


def test_volumes_of_the_published_decoder(network, golden, data, shared):
    ball = half_ball(BOX)
    values = network.decoder.fourier(ball.frequency, torch.from_numpy(golden["evalvol_z"]))
    kx, ky, kz = ball.k.long().unbind(-1)
    hartley = torch.from_numpy(golden["evalvol_hartley33"])
    np.testing.assert_allclose(values.real - values.imag, hartley[:, kz + 16, ky + 16, kx + 16], atol=1e-4)
    volumes = ball.volume(values)
    published = torch.from_numpy(golden["evalvol_real32"])
    published = published - published.mean((1, 2, 3), keepdim=True)
    ratio = published.std() / volumes.std()
    # The published inverse keeps one of the two Nyquist points on each axis: three coefficients differ.
    assert (volumes * ratio - published).abs().max() < 2e-3 * published.abs().max()


Z_K1 = torch.tensor([[0.5, -1.0]])


@pytest.fixture
def k1_decoder():
    decoder = Decoder(8, 2, hidden_layers=1, width=8, encoding="geom_lowf", hermitian=False)
    with torch.no_grad():
        for number, parameter in enumerate(
            p for layer in decoder.decoder.affine_layers() for p in linear_parameters(layer)
        ):
            parameter.copy_(
                0.1 * torch.cos(torch.arange(parameter.numel()) + float(number)).view_as(parameter)
            )
    return decoder


def test_decoder_value_of_k1(k1_decoder):
    k = torch.tensor([[0.1, -0.2, 0.3], [0.0, 0.25, -0.5]])
    values = k1_decoder.fourier(k, Z_K1)
    np.testing.assert_allclose((values.real - values.imag)[0], [-0.043334, -0.044681], atol=1e-6)


def test_volume_of_k1(k1_decoder):
    axis = torch.linspace(-0.5, 0.5, 9)
    kz, ky, kx = torch.meshgrid(axis, axis, axis, indexing="ij")
    k = torch.stack((kx, ky, kz), -1).reshape(-1, 3)
    values = k1_decoder.fourier(k, Z_K1)[0]
    hartley = ((values.real - values.imag) * (k.norm(dim=1) <= 0.5)).reshape(9, 9, 9)
    volume = 2 * ihartley3(hartley[:-1, :-1, :-1])
    found = [volume[4, 4, 4], volume[4, 4, 5], volume[0, 0, 0], volume.std(correction=0)]
    np.testing.assert_allclose(found, [-0.056776, -0.027206, -0.004801, 0.004115], atol=1e-6)


@pytest.mark.parametrize(
    ("premultiplied", "expected"),
    [(False, (0.5520577, 0.5487403, 0.0033175)), (True, (0.5814711, 0.5781537, 0.0033175))],
)
def test_loss_of_k1(premultiplied, expected):
    axis = np.arange(-4, 5)
    squared = axis[:, None] ** 2 + axis[None, :] ** 2
    i = np.flatnonzero(np.tile(((squared > 0) & (squared <= 16)).ravel(), 2))
    y, v, c = np.sin(i), np.cos(np.arange(96)), np.cos(0.3 * i)
    w = 0.5 + 0.5 * np.sin(i) ** 2
    h = c * c * w if premultiplied else c
    gen = np.mean(w * (h * v - y) ** 2)
    kl = kl_divergence(torch.tensor([[0.5, -1.0]]), torch.tensor([[0.1, -0.2]]))
    scaled = scaled_kl(kl, 0.5, None, 96).item()
    np.testing.assert_allclose((gen + scaled, gen, scaled), expected, atol=2e-7)
