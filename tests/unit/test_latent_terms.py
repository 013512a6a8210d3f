"""Terms of the log-likelihood of latents, compared with automatic differentiation."""

import numpy as np
import pytest
import torch

from tomohet.model.decoder import Decoder
from tomohet.model.latent_terms import depends_on_latents, latent_terms, misfits, network_share
from tomohet.model.mlp import scale_, scale_inputs_
from tomohet.model.rows import pack_rows
from tomohet.physics.lattice import half_plane

BOX, ZDIM, N_BASIS = 12, 4, 2
HP = half_plane(BOX)
TILTS = np.array([5, 2, 3, 1])


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def rows():
    """Of particles with different numbers of rows, the third with none."""
    m = int(TILTS.sum())
    prefix = np.random.default_rng(0).integers(5, HP.n, m)
    prefix[7:10] = 0
    return pack_rows(
        torch.view_as_complex(draw(m, HP.n, 2)),
        torch.linalg.qr(draw(m, 3, 3, seed=1))[0],
        draw(m, HP.n, seed=2),
        draw(m, HP.n, seed=3).abs(),
        prefix,
        TILTS,
        HP.frequency,
    )


def make_decoder(n_basis=0, **options):
    torch.manual_seed(0)
    decoder = Decoder(BOX, ZDIM, 2, 16, per_axis=3, n_basis=n_basis, **options)
    if n_basis:
        decoder.base.fill(draw(BOX, BOX, BOX), draw(n_basis, BOX, BOX, BOX))
    return decoder


def network_value(decoder, k, z):
    """(rows, 2) by the modules themselves, differentiable in `z` (rows, K)."""
    features = torch.zeros(len(k), decoder.n_features)
    features[:, decoder.columns] = decoder.folded().features(k)
    return decoder.decoder(torch.cat([features, z], dim=1))


def base_value(decoder, k, z):
    slices = torch.view_as_real(decoder.base.slices(k))
    return slices[:, 0] + torch.einsum("rj,rjc->rc", z[:, : decoder.base.n_basis], slices[:, 1:])


def whitened(decoder, rows, particle, z):
    """Residual and prediction of one particle's rows, flat, each divided by its noise."""
    own = rows.particle == particle
    root, k = rows.weight[own, None].sqrt(), rows.k[own]
    z = z.expand(len(k), -1)
    value = network_value(decoder, k, z)
    if decoder.base is not None:
        value = value + base_value(decoder, k, z)
    predicted = root * rows.transfer[own, None] * value
    return (root * rows.value[own] - predicted).flatten(), predicted.flatten()


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize("n_basis", [0, N_BASIS])
def test_terms_are_those_of_automatic_differentiation(rows, n_basis, activation):
    decoder, z = make_decoder(n_basis, activation=activation), draw(len(TILTS), ZDIM, seed=4)
    found = latent_terms(decoder, rows, z)
    assert all(not x[2].any() for x in vars(found).values())
    for particle in (0, 1, 3):
        residual, _ = whitened(decoder, rows, particle, z[particle])

        def predicted(x, particle=particle):
            return whitened(decoder, rows, particle, x)[1]

        jacobian = torch.autograd.functional.jacobian(predicted, z[particle])
        expected = residual.square().sum(), 2 * jacobian.T @ residual, 2 * jacobian.T @ jacobian
        for ours, theirs in zip(vars(found).values(), expected, strict=True):
            torch.testing.assert_close(ours[particle], theirs, rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize("chunk_rows", [7, 97])
def test_terms_and_share_do_not_depend_on_chunks(rows, chunk_rows):
    decoder, z = make_decoder(N_BASIS), draw(len(TILTS), ZDIM)
    whole, parts = (latent_terms(decoder, rows, z, size) for size in (len(rows), chunk_rows))
    for ours, theirs in zip(vars(whole).values(), vars(parts).values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)
    shares = [network_share(decoder, rows, z, chunk_rows=size) for size in (len(rows), chunk_rows)]
    torch.testing.assert_close(*shares, rtol=1e-4, atol=1e-3)


def test_share_is_the_direct_sum(rows):
    decoder, z = make_decoder(N_BASIS), draw(len(TILTS), ZDIM)
    found = network_share(decoder, rows, z)[:, 0]
    latents, h, w = z[rows.particle], rows.transfer[:, None], rows.weight[:, None]
    added = h * network_value(decoder, rows.k, latents).detach()
    rest = rows.value - h * base_value(decoder, rows.k, latents)
    for particle in range(len(TILTS)):
        own = rows.particle == particle
        expected = [(w * added * x)[own].sum().item() for x in (rest, added)]
        assert found[particle].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_shares_of_scaled_latents_are_those_of_scaled_weights(rows):
    decoder, z = make_decoder(N_BASIS), draw(len(TILTS), ZDIM)
    found = network_share(decoder, rows, z, (1.0, 0.5, 0.0))
    for number, factor in enumerate((1.0, 0.5, 0.0)):  # of what the factor before has left
        scale_inputs_(decoder.decoder.affine_layers()[0], decoder.n_features, factor)
        torch.testing.assert_close(network_share(decoder, rows, z)[:, 0], found[:, number])


@pytest.mark.parametrize("share", [0.3, 1.7])
def test_a_scaled_network_gains_what_its_share_promises(rows, share):
    decoder, z = make_decoder(N_BASIS), draw(len(TILTS), ZDIM)
    product, power = network_share(decoder, rows, z)[:, 0].unbind(1)
    scale_(decoder.decoder.affine_layers()[-1], share)
    scaled = latent_terms(decoder, rows, z).misfit
    scale_(decoder.decoder.affine_layers()[-1], 0)
    silent = latent_terms(decoder, rows, z).misfit
    torch.testing.assert_close(
        silent - scaled, 2 * share * product - share**2 * power, rtol=1e-3, atol=1e-3 * silent.max().item()
    )


@pytest.mark.parametrize("n_basis", [0, N_BASIS])
def test_misfits_are_those_of_the_terms(rows, n_basis):
    decoder, z = make_decoder(n_basis), draw(len(TILTS), ZDIM)
    expected = latent_terms(decoder, rows, z).misfit
    for chunk_rows in (None, 7):
        torch.testing.assert_close(misfits(decoder, rows, z, chunk_rows), expected, rtol=1e-4, atol=1e-3)


def test_a_network_without_latents_has_the_bases_derivatives(rows):
    decoder, z = make_decoder(N_BASIS), draw(len(TILTS), ZDIM)
    scale_inputs_(decoder.decoder.affine_layers()[0], decoder.n_features, 1e-6)
    assert depends_on_latents(decoder)
    expected = latent_terms(decoder, rows, z)
    scale_inputs_(decoder.decoder.affine_layers()[0], decoder.n_features, 0)
    assert not depends_on_latents(decoder)
    for ours, theirs in zip(
        vars(latent_terms(decoder, rows, z)).values(), vars(expected).values(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


def test_terms_in_bfloat16_are_close(rows):
    decoder, z = make_decoder(N_BASIS), draw(len(TILTS), ZDIM)
    for function in (lambda **o: vars(latent_terms(decoder, rows, z, **o)).values(),
                     lambda **o: [misfits(decoder, rows, z, **o)],
                     lambda **o: [network_share(decoder, rows, z, (1.0, 0.5), **o)]):  # fmt: skip
        for half, single in zip(function(dtype=torch.bfloat16), function(), strict=True):
            assert half.dtype == torch.float32
            torch.testing.assert_close(half, single, rtol=0.02, atol=0.01 * single.abs().max().item())
