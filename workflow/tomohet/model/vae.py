"""The heterogeneity network: tilt images to a latent distribution, a latent to Fourier values of a volume."""

import numpy as np
import torch
from torch import Tensor, nn

from tomohet.model.decoder import Decoder
from tomohet.model.encoder import TiltEncoder, encoder_points
from tomohet.model.taught import MAP_BOX, FreeLatents, MapEncoder, TaughtEncoder
from tomohet.physics.fourier import half_plane


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


def build_vae(box: int, model_args: dict, seed: int) -> HeterogeneityVAE:
    """Build a network with random weights, from `model_args` as in config.pkl.

    The same seed gives the same weights. The state of PyTorch's own generator is left unchanged.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HeterogeneityVAE(_build_encoder(box, model_args), build_decoder(box, model_args, seed))


def _build_encoder(box: int, model_args: dict) -> nn.Module:
    kind = model_args.get("encoder", "tilts")
    if kind == "free":
        return FreeLatents(model_args["zdim"])
    if kind == "backprojected":
        shape = {"layers": model_args["qlayersB"], "width": model_args["qdimB"]}
        activation = model_args["activation"]
        return TaughtEncoder(MapEncoder(MAP_BOX**3, model_args["zdim"], **shape, activation=activation))
    encoder = TiltEncoder(
        encoder_points(half_plane(box), model_args["enc_mask"]),
        model_args["zdim"],
        layers_a=model_args["qlayersA"],
        width_a=model_args["qdimA"],
        out_a=model_args["out_dimA"],
        layers_b=model_args["qlayersB"],
        width_b=model_args["qdimB"],
        pooling=model_args["pooling_function"],
        longest=model_args["ntilts"],
        activation=model_args["activation"],
        seeds=model_args["num_seeds"],
        heads=model_args["num_heads"],
        layer_norm=model_args["layer_norm"],
    )
    return TaughtEncoder(encoder) if model_args.get("n_basis") else encoder


def build_decoder(box: int, model_args: dict, seed: int) -> Decoder:
    """Build a decoder with random weights from `model_args` as in config.pkl.

    `zdim` is 0 for a homogeneous volume.
    """
    return Decoder(
        box,
        model_args["zdim"],
        model_args["players"],
        model_args["pdim"],
        activation=model_args["activation"],
        encoding=model_args["pe_type"],
        per_axis=model_args["pe_dim"],
        feat_sigma=model_args["feat_sigma"],
        extent=model_args["l_extent"],
        hermitian=model_args["hermitian"],
        n_basis=model_args.get("n_basis", 0),
        generator=torch.Generator().manual_seed(seed),
    )
