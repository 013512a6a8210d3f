"""Weights in the published layout (tomoDRGN 1.0) for our network, and its volumes.

The published encoder reads the Hartley image row by row; ours reads +k and then -k in order of |k|. The
columns of the first layer are permuted accordingly. The published decoder is not Hermitian and is rebuilt
with `hermitian=False`.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from tomohet.model.decoder import Decoder, FixedPoints, latents_at_once, maps_at_once
from tomohet.model.encoder import hartley_columns
from tomohet.physics.hartley import ihartley3
from tomohet.physics.lattice import HalfPlane

FIRST_ENCODER_LAYERS = ("encoder.encoder_a.main.0.weight", "encoder.encoder_a.main.0.linear.weight")


def from_published(state: dict[str, Tensor], hp: HalfPlane) -> dict[str, Tensor]:
    """Convert a published `model_state_dict`: permute the columns of encoder A's first layer to our order."""
    state = dict(state)
    for name in FIRST_ENCODER_LAYERS:
        if name in state:
            weight = state[name]
            state[name] = weight[:, hartley_columns(hp, weight.shape[1] // 2).to(weight.device)]
    return state


class PublishedVolumes:
    """The volumes of a decoder that is not Hermitian, made as the published program makes them.

    Every point of the ball is decoded, including the zero frequency. Of a pair at Nyquist, the negative
    frequency is used.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.decoder, self.box, self.zdim = decoder, decoder.box, decoder.zdim

    def volumes(self, z: Tensor, box: int | None = None) -> Tensor:
        """Decode real maps (m, d, d, d) of latents (m, zdim), d = `box`.

        Only frequencies of that box are decoded.
        """
        return torch.cat(list(self.decode(z, box, batch=len(z))))

    @torch.no_grad()
    def decode(
        self, z: Tensor, box: int | None = None, *, batch: int = 32, radius: float | None = None, **_how
    ) -> Iterator[Tensor]:
        """Yield maps as `Decoder.decode` does, but always in float32.

        Such maps are compared with those of the published program.
        """
        box = box or self.box
        axis = torch.arange(-(box // 2), box // 2, device=z.device)
        k = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).flip(-1)  # (x, y, z)
        inside = k.square().sum(-1) <= (min(box // 2, radius or box) + 1e-4) ** 2
        points = FixedPoints(self.decoder.folded(), k[inside].float() / self.box)
        for some in z.split(latents_at_once(len(k[inside]), batch)):
            for values in points.values(some).split(maps_at_once(box, z.device)):
                hartley = values.real.new_zeros(len(values), *inside.shape)
                hartley[:, inside] = values.real - values.imag
                yield ihartley3(hartley) * (box / self.box) ** 3
