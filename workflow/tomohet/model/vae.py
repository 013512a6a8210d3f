"""The heterogeneity network: tilt images to a latent distribution, a latent to Fourier values of a volume."""

import numpy as np
import torch
from torch import Tensor, nn

from tomohet.model.decoder import Decoder
from tomohet.model.encoder import TiltEncoder, encoder_points
from tomohet.model.settings import DecoderShape, Network
from tomohet.model.taught import MAP_BOX, FreeLatents, MapEncoder, TaughtEncoder
from tomohet.physics.lattice import half_plane


class HeterogeneityVAE(nn.Module):
    """A variational autoencoder of particles.

    `encoder` maps its input (attribute `sees`: images, back-projected maps or nothing) and tilt counts to
    (mu, logvar); any module with the same call can replace it. `decoder` is the volume.
    """

    def __init__(self, encoder: nn.Module, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def encode(
        self, seen: Tensor | None, tilts: np.ndarray | Tensor, start: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return (mu, logvar), (P, zdim) each, from the encoder's input and the number of tilts (P,).

        start : (P, 2, K) posteriors of the linear model, for a network that starts from one
        """
        return self.encoder(seen, tilts) if start is None else self.encoder(seen, tilts, start)


def sample_latent(
    mu: Tensor, logvar: Tensor, generator: torch.Generator, of: int | None = None, first: int = 0
) -> Tensor:
    """Draw z = mu + exp(logvar / 2) eps (reparametrisation).

    of, first : the particles are number `first` and following of `of` particles, and get the draws that they
        would get in one batch of all
    """
    eps = torch.randn(of or len(mu), mu.shape[1], generator=generator, device=mu.device)
    return mu + torch.exp(logvar / 2) * eps[first : first + len(mu)]


def build_vae(box: int, network: Network, seed: int) -> HeterogeneityVAE:
    """Build a network with an encoder and random weights, for images of `box` px.

    The same seed gives the same weights. The state of PyTorch's own generator is left unchanged.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HeterogeneityVAE(_build_encoder(box, network), _build_decoder(box, network.decoder, seed))


def _build_encoder(box: int, network: Network) -> nn.Module:
    shape, decoder = network.encoder, network.decoder
    if shape is None:
        raise ValueError("this network has no encoder")
    if shape.source == "free":
        return FreeLatents(decoder.zdim)
    if shape.source == "backprojected":
        size = {"layers": shape.layers_b, "width": shape.width_b, "activation": decoder.activation}
        return TaughtEncoder(MapEncoder(MAP_BOX**3, decoder.zdim, **size))
    encoder = TiltEncoder(
        encoder_points(half_plane(box), shape.mask_px),
        decoder.zdim,
        layers_a=shape.layers_a,
        width_a=shape.width_a,
        out_a=shape.out_a,
        layers_b=shape.layers_b,
        width_b=shape.width_b,
        pooling=shape.pooling,
        longest=shape.longest,
        activation=decoder.activation,
        seeds=shape.seeds,
        heads=shape.heads,
        layer_norm=shape.layer_norm,
    )
    return TaughtEncoder(encoder) if decoder.n_basis else encoder


def build_decoder(box: int, shape: DecoderShape, seed: int) -> Decoder:
    """Build a decoder with random weights, for images of `box` px; seeds act as in `build_vae`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _build_decoder(box, shape, seed)


def _build_decoder(box: int, shape: DecoderShape, seed: int) -> Decoder:
    return Decoder(
        box,
        shape.zdim,
        shape.layers,
        shape.width,
        activation=shape.activation,
        encoding=shape.encoding,
        per_axis=shape.per_axis,
        feat_sigma=shape.feat_sigma,
        extent=shape.extent,
        hermitian=shape.hermitian,
        n_basis=shape.n_basis,
        generator=torch.Generator().manual_seed(seed),
    )
