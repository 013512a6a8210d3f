"""Properties of the network: half plane against full plane, packing, sampling, pooling, encodings."""

from typing import get_args

import numpy as np
import pytest
import torch

from tomohet.model.decoder import (
    Decoder,
    FixedPoints,
    half_space_sign,
    latents_at_once,
    read_hartley,
    read_hartley_gradient,
)
from tomohet.model.encoder import TiltEncoder
from tomohet.model.loss import kl_divergence, reconstruction_loss, scaled_kl
from tomohet.model.pooling import AttentionBlock, pad_tilts, pool
from tomohet.model.positional import encode_into, frequency_matrix, reference_columns
from tomohet.model.rows import pack_rows
from tomohet.options.kinds import Encoding
from tomohet.physics.lattice import half_ball, half_plane

BOX = 16
HP = half_plane(BOX)
TILTS = torch.tensor([3, 1, 4])
ENCODINGS = get_args(Encoding)
ENCODINGS_AND_ACTIVATIONS = [(e, a) for e in ENCODINGS for a in ("relu", "leaky_relu")]


@pytest.fixture
def images():
    """Half planes, rotations, transfer functions, weights and prefix lengths of 8 images."""
    draw = torch.Generator().manual_seed(3)
    m = int(TILTS.sum())
    fourier = torch.randn(m, HP.n, 2, generator=draw)
    rotation = torch.linalg.qr(torch.randn(m, 3, 3, generator=draw, dtype=torch.float64))[0].float()
    transfer = torch.rand(m, HP.n, generator=draw) * 2 - 1
    weight = torch.rand(m, HP.n, generator=draw)
    prefix = torch.randint(5, HP.n + 1, (m,), generator=draw)
    return torch.view_as_complex(fourier), rotation, transfer, weight, prefix, TILTS, HP.frequency


def make_decoder(**options):
    torch.manual_seed(1)
    return Decoder(BOX, 4, hidden_layers=2, width=24, **options)


def full_plane_loss(decoder, images, z):
    """The published loss written out: Hartley values at +k and -k of a Hermitian volume, image by image."""
    fourier, rotation, transfer, weight, prefix, tilts, frequency = images
    particle = torch.repeat_interleave(torch.arange(len(tilts)), tilts)
    total, count = 0.0, 0
    for image in range(len(fourier)):
        n = int(prefix[image])
        for direction in (1, -1):
            k = direction * torch.nn.functional.pad(frequency[:n], (0, 1)) @ rotation[image]
            sign = half_space_sign(k)
            features = torch.empty(n, decoder.n_features)
            encode_into(features, k * sign[:, None], decoder.freqs)
            features = features[:, torch.argsort(decoder.columns)]
            out = decoder.decoder(torch.cat((features, z[particle[image]].expand(n, -1)), 1))
            hartley = out[:, 0] - sign * out[:, 1]
            data = fourier[image, :n].real - direction * fourier[image, :n].imag
            total = total + (weight[image, :n] * (transfer[image, :n] * hartley - data) ** 2).sum()
            count += n
    return total / count


@pytest.mark.parametrize(("encoding", "activation"), ENCODINGS_AND_ACTIVATIONS)
def test_half_plane_loss_and_gradients_equal_the_full_plane(images, encoding, activation):
    decoder = make_decoder(encoding=encoding, activation=activation)
    z = torch.randn(3, 4, generator=torch.Generator().manual_seed(5)).requires_grad_()
    parameters = [z, *decoder.decoder.parameters()]
    rows = pack_rows(*images)
    fast = reconstruction_loss(decoder, z, rows, chunk_rows=100)
    slow = full_plane_loss(decoder, images, z)
    assert fast.item() == pytest.approx(slow.item(), rel=1e-6)
    for ours, expected in zip(
        torch.autograd.grad(fast, parameters), torch.autograd.grad(slow, parameters), strict=True
    ):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("hermitian", [True, False])
def test_chunks_do_not_change_the_loss(images, hermitian):
    decoder = make_decoder(hermitian=hermitian)
    rows = pack_rows(*images, hermitian=hermitian)
    z = torch.zeros(3, 4)
    whole = reconstruction_loss(decoder, z, rows, chunk_rows=10**6)
    for chunk_rows in (1, 7, 100):
        assert reconstruction_loss(decoder, z, rows, chunk_rows=chunk_rows).item() == pytest.approx(
            whole.item(), rel=1e-5
        )


def test_threads_do_not_change_the_loss(images, torch_threads):
    torch_threads(3)
    decoder = make_decoder()
    rows = pack_rows(*images)
    z = torch.randn(3, 4).requires_grad_()
    parameters = [z, *decoder.decoder.parameters()]
    shared = reconstruction_loss(decoder, z, rows, chunk_rows=50)
    found = torch.autograd.grad(shared, parameters)
    values = decoder.fourier(rows.k, z.detach(), chunk_rows=50)
    torch_threads(1)
    alone = reconstruction_loss(decoder, z, rows, chunk_rows=50)
    assert shared.item() == pytest.approx(alone.item(), rel=1e-6)
    for ours, expected in zip(found, torch.autograd.grad(alone, parameters), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))
    torch.testing.assert_close(values, decoder.fourier(rows.k, z.detach(), chunk_rows=50))


def test_first_residual_layer_splits_too(images):
    """With as many inputs as hidden units the first layer is residual, z columns included."""
    torch.manual_seed(2)
    decoder = Decoder(BOX, 4, hidden_layers=1, width=6 * 4 + 4, per_axis=4)
    z = torch.randn(3, 4)
    fast = reconstruction_loss(decoder, z, pack_rows(*images))
    assert fast.item() == pytest.approx(full_plane_loss(decoder, images, z).item(), rel=1e-6)


def test_random_rows_keep_the_expectation(images):
    decoder = make_decoder()
    z = torch.zeros(3, 4)
    exact = reconstruction_loss(decoder, z, pack_rows(*images)).item()
    draw = torch.Generator().manual_seed(0)
    sampled = torch.tensor(
        [
            reconstruction_loss(decoder, z, pack_rows(*images, fraction=0.3, generator=draw)).item()
            for _ in range(400)
        ]
    )
    error = sampled.std() / len(sampled) ** 0.5
    assert abs(sampled.mean() - exact) < 4 * error
    assert error < 0.02 * exact


def test_random_rows_are_a_fraction_of_each_prefix(images):
    exact = pack_rows(*images)
    sampled = pack_rows(*images, fraction=0.25, generator=torch.Generator().manual_seed(0))
    assert len(exact) == exact.full_count == sampled.full_count == int(images[4].sum())
    assert abs(len(sampled) - 0.25 * len(exact)) <= len(images[4])


def test_decoded_values_are_hermitian():
    decoder = make_decoder()
    k = torch.rand(50, 3) - 0.5
    z = torch.randn(2, 4)
    torch.testing.assert_close(decoder.fourier(-k, z), decoder.fourier(k, z).conj())


@pytest.mark.parametrize("box", [BOX, 8])
def test_a_decoded_map_has_the_decoders_values_at_its_lattice_points(box):
    """Wave number k of a map of D or fewer voxels is the frequency k / D: its Fourier sum, written out."""
    decoder = make_decoder(encoding="linear_lowf")  # periodic functions tell integers from fractions
    z = torch.randn(1, 4, generator=torch.Generator().manual_seed(0))
    density = decoder.volumes(z, box)[0].double() * (BOX / box) ** 3
    z_px, y_px, x_px = torch.meshgrid(*3 * [torch.arange(box) - box // 2], indexing="ij")
    for k in ((1, 0, 0), (0, 2, -1), (2, -1, 3), (0, 0, 1)):
        wave = torch.exp(-2j * torch.pi * (k[0] * x_px + k[1] * y_px + k[2] * z_px) / box)
        expected = decoder.fourier(torch.tensor([k]) / BOX, z)[0, 0]
        assert complex((density * wave).sum()) == pytest.approx(complex(expected), rel=1e-3)


def test_latents_share_a_pass_as_far_as_their_values_fit():
    """8 bytes of each of 2^26 points for two latents make 2^30, the limit."""
    shared = [latents_at_once(points, 32) for points in (0, 2**20, 2**26, 2**26 + 1, 2**30)]
    assert shared == [32, 32, 2, 1, 1]


def test_latents_in_batches_decode_as_one_by_one():
    decoder = make_decoder()
    k = half_ball(BOX).frequency
    z = torch.randn(5, 4)
    together = decoder.fourier(k, z, chunk_rows=7000)
    for number in range(5):
        alone = decoder.fourier(k, z[number : number + 1], chunk_rows=500)[0]
        torch.testing.assert_close(together[number], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("encoding", [e for e in ENCODINGS if e not in ("gaussian", "none")])
def test_axis_encodings_have_the_published_layout(encoding):
    n, half = 5, BOX // 2
    frequencies = frequency_matrix(encoding, half, n, 0.5, torch.Generator())
    k = torch.rand(4, 3) - 0.5
    features = torch.empty(4, 6 * n)
    encode_into(features, k, frequencies)
    along_axis = frequencies[:n, 0]
    published = torch.cat(
        [
            torch.cat(((k[:, a, None] * along_axis).sin(), (k[:, a, None] * along_axis).cos()), 1)
            for a in range(3)
        ],
        1,
    )
    torch.testing.assert_close(features, published[:, reference_columns(encoding, n)])


@pytest.mark.parametrize(
    ("encoding", "first", "last"),
    [
        ("geom_ft", 100.531, 6.2832), ("geom_full", 100.531, 1.0), ("geom_lowf", 16, 1),
        ("geom_nohighf", 16, 6.2832), ("linear_lowf", 1, 16),
    ],
)  # fmt: skip
def test_first_and_last_frequency_at_box_32(encoding, first, last):
    frequencies = frequency_matrix(encoding, 16, 16, 0.5, torch.Generator())[:16, 0]
    assert frequencies[[0, -1]].tolist() == pytest.approx([first, last], rel=1e-5)


@pytest.mark.parametrize("pooling", ["concatenate", "max", "mean", "median", "set_encoder"])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_pooling_takes_ragged_tilts(pooling, layer_norm):
    """A batch of particles gives what each gives alone, and all but `concatenate` forget the order."""
    torch.manual_seed(4)
    encoder = TiltEncoder(
        HP.n, 3, width_a=16, out_a=12, width_b=8, pooling=pooling, longest=4, heads=2, layer_norm=layer_norm
    )
    images = torch.randn(8, HP.n, dtype=torch.complex64)
    together = torch.cat(encoder(images, TILTS), 1)
    start = 0
    for number, tilts in enumerate(TILTS.tolist()):
        own = images[start : start + tilts]
        start += tilts
        alone = torch.cat(encoder(own, np.array([tilts])), 1)[0]
        torch.testing.assert_close(together[number], alone, rtol=1e-4, atol=1e-5)
        reversed_order = torch.cat(encoder(own.flip(0), np.array([tilts])), 1)[0]
        same = torch.allclose(alone, reversed_order, rtol=1e-4, atol=1e-5)
        assert same == (pooling != "concatenate" or tilts == 1)


@pytest.mark.parametrize("function", ["max", "mean", "median"])
def test_pooling_is_that_of_each_particles_own_tilts(function):
    features = torch.randn(8, 5, generator=torch.Generator().manual_seed(0)) - 2
    padded, mask = pad_tilts(features, TILTS.numpy(), 6)
    on_device = pad_tilts(features, TILTS, 6)
    torch.testing.assert_close((padded, mask), on_device)
    own = features.split(TILTS.tolist())
    expected = [getattr(np, function)(one.numpy(), axis=0) for one in own]
    torch.testing.assert_close(pool(padded, mask, function), torch.tensor(np.stack(expected)))
    # A particle of more tilts than the network takes is cut.
    first_two = pad_tilts(features, TILTS.numpy(), 2)[0]
    torch.testing.assert_close(first_two[2], own[2][:2])


@pytest.mark.parametrize("layer_norm", [False, True])
def test_the_attention_block_is_torchs_with_another_scale(layer_norm):
    """Q + attention, then x + relu(W x); scores over the root of the whole width, not of one head's."""
    torch.manual_seed(0)
    dim, heads = 12, 3
    block = AttentionBlock(5, 7, dim, heads, layer_norm)
    projections = (block.fc_q, block.fc_k, block.fc_v)
    attention = torch.nn.MultiheadAttention(dim, heads, batch_first=True)
    attention.in_proj_weight.data = torch.eye(dim).repeat(3, 1)
    attention.out_proj.weight.data = torch.eye(dim)
    queries, keys = torch.randn(2, 4, 5), torch.randn(2, 6, 7)
    mask = torch.arange(6) < torch.tensor([[6], [4]])
    q, k, v = (layer(x) for layer, x in zip(projections, (queries, keys, keys), strict=True))
    attended, _ = attention(q / heads**0.5, k, v, key_padding_mask=~mask)
    first, last = block.norms if layer_norm else 2 * [torch.nn.Identity()]
    hidden = first(q + attended)
    expected = last(hidden + torch.relu(block.fc_o(hidden)))
    torch.testing.assert_close(block(queries, keys, mask), expected)


def test_more_seeds_read_out_more():
    torch.manual_seed(4)
    encoder = TiltEncoder(HP.n, 3, pooling="set_encoder", seeds=3)
    mu, logvar = encoder(torch.randn(8, HP.n, dtype=torch.complex64), TILTS)
    assert mu.shape == logvar.shape == (3, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_a_latent_is_decoded_to_the_bit_whatever_is_decoded_with_it(dtype, activation):
    torch.manual_seed(0)
    decoder, z = Decoder(20, 6, 2, 48, activation=activation), torch.randn(9, 6)
    points = FixedPoints(decoder.folded(), half_ball(20).frequency, chunk_rows=700, dtype=dtype)
    with torch.no_grad():
        together = points.values(z)
        alone = torch.cat([points.values(some) for some in (z[:1], z[1:4], z[4:])])
    assert torch.equal(together, alone)


def test_hartley_values_are_read_as_real_and_imaginary_parts():
    """a - b is H(k) = Re - Im at k, and H(-k) = Re + Im at -k."""
    real, imaginary = torch.tensor([3.0, -1.0]), torch.tensor([0.5, 4.0])
    second = torch.tensor([1.0, 2.0, -3.0, 0.0])
    hartley = torch.cat((real - imaginary, real + imaginary))
    found = read_hartley(torch.stack((hartley + second, second), dim=1))
    torch.testing.assert_close(found, torch.stack((real, imaginary), dim=1))


def test_gradient_through_hartley_values_is_autograds():
    draw = torch.Generator().manual_seed(0)
    out = torch.randn(14, 2, generator=draw).requires_grad_()
    gradient = torch.randn(7, 2, generator=draw)
    (expected,) = torch.autograd.grad(read_hartley(out), out, gradient)
    torch.testing.assert_close(read_hartley_gradient(gradient), expected)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_network_sees_coordinates_within_its_extent(encoding):
    """At half the extent, what it says of k is what it says of k / 2 at the whole one."""
    whole, half = (make_decoder(encoding=encoding, extent=extent) for extent in (0.5, 0.25))
    k = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    z = torch.randn(2, 4, generator=torch.Generator().manual_seed(1))
    found = half.fourier(k, z)
    torch.testing.assert_close(found, whole.fourier(k / 2, z), rtol=1e-4, atol=1e-5)
    assert (found - whole.fourier(k, z)).abs().max() > 1e-3


def test_divergence_of_two_gaussians_by_hand():
    """KL(N(m, v) || N(0, 1)) = (m^2 + v - 1 - log v) / 2, summed over latents, averaged over particles."""
    mu = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    logvar = torch.log(torch.tensor([[1.0, 4.0], [1.0, 0.5]]))
    by_hand = [0.5 + (3 - 2 * 0.693147) / 2, 4.5 + (-0.5 + 0.693147) / 2]
    assert kl_divergence(mu, logvar).item() == pytest.approx(sum(by_hand) / 2, rel=1e-6)


def test_the_divergence_enters_per_point_of_the_full_plane():
    """beta KL / N; with a target, control (target - KL)^2 / N, on either side of it."""
    assert scaled_kl(torch.tensor(3.0), 0.5, None, 100).item() == pytest.approx(0.015)
    for kl in (3.0, 7.0):
        assert scaled_kl(torch.tensor(kl), 5.0, 0.1, 100).item() == pytest.approx(0.004)
