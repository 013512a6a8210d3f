"""The encoder: encoder A for each tilt image, pooling over tilts, then encoder B to mu and log variance."""

import numpy as np
import torch
from torch import Tensor, nn

from tomohet.model.mlp import ResidualMLP, make_activation
from tomohet.model.pooling import SetEncoder, pad_tilts, pool
from tomohet.physics.lattice import HalfPlane


class TiltEncoder(nn.Module):
    """Map the tilt images of particles to mean and log variance of their latents.

    Parameters
    ----------
    n_points : number of half-plane points that the encoder sees; they are the first ones of the half plane
    zdim : latent size
    layers_a, width_a, out_a : encoder A, per tilt
    layers_b, width_b : encoder B, per particle
    pooling : one of `options.kinds.Pooling`
    longest : the largest number of tilts: the number of places of `concatenate`, and of every pooling where
        only the device knows the number of tilts
    seeds, heads, layer_norm : of the set encoder

    """

    sees = "images"

    def __init__(
        self,
        n_points: int,
        zdim: int,
        *,
        layers_a: int = 3,
        width_a: int = 256,
        out_a: int = 128,
        layers_b: int = 3,
        width_b: int = 256,
        pooling: str = "mean",
        longest: int = 1,
        activation: str = "relu",
        seeds: int = 1,
        heads: int = 4,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.n_points, self.zdim, self.pooling, self.longest = n_points, zdim, pooling, longest
        self.encoder_a = ResidualMLP(2 * n_points, layers_a, width_a, out_a, activation)
        self.activation = make_activation(activation)
        if pooling == "set_encoder":
            self.set_encoder = SetEncoder(out_a, width_b, 2 * zdim, seeds, heads, layer_norm)
        else:
            n_pooled = out_a * (longest if pooling == "concatenate" else 1)
            self.encoder_b = ResidualMLP(n_pooled, layers_b, width_b, 2 * zdim, activation)

    def forward(self, images: Tensor, tilts: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
        """Encode the images of P particles, one particle after another.

        Parameters
        ----------
        images : (m, n) complex half planes, phases flipped (`physics.imaging.encoder_view`)
        tilts : (P,) number of images of each particle, an array on the host or a tensor on the device

        Returns
        -------
        mu, logvar : (P, zdim) each

        """
        features = self.encoder_a(hartley_features(images[:, : self.n_points]))
        known = not isinstance(tilts, Tensor)
        longest = int(tilts.max()) if known and self.pooling != "concatenate" else self.longest
        padded, mask = pad_tilts(features, tilts, longest)
        if self.pooling == "set_encoder":
            return self.set_encoder(padded, mask).split(self.zdim, dim=1)
        pooled = self.activation(pool(padded, mask, self.pooling))
        return self.encoder_b(pooled).split(self.zdim, dim=1)


def hartley_features(half_planes: Tensor) -> Tensor:
    """Return the Hartley values (m, 2 n) at +k and then at -k of half planes (m, n).

    They are the real inputs of the network.
    """
    return torch.cat((half_planes.real - half_planes.imag, half_planes.real + half_planes.imag), dim=1)


def encoder_points(hp: HalfPlane, mask_diameter: int | None) -> int:
    """Count the half-plane points inside an encoder mask of the given diameter in px of the D+1 lattice.

    None or -1 means all points. The published rule is |k| <= (diameter - 1) / 2.
    """
    if mask_diameter is None or mask_diameter < 0:
        return hp.n
    return hp.prefix((mask_diameter - 1) / 2)


def hartley_columns(hp: HalfPlane, n_points: int) -> Tensor:
    """Return the position of each of our encoder inputs in the published order: (2 n_points,).

    The published order is that of the masked pixels of the (D+1) x (D+1) Hartley image with its zero
    frequency in the middle, row by row. `weight[:, hartley_columns]` turns a published first layer into ours.
    """
    k = hp.k[:n_points].long()
    k = torch.cat((k, -k))
    half = hp.box // 2
    pixel = (k[:, 1] + half) * (hp.box + 1) + k[:, 0] + half
    return torch.argsort(torch.argsort(pixel))
