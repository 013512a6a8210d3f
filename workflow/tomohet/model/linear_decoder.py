"""The linear latent model as a decoder: a mean map plus basis maps weighted by the latents."""

from collections.abc import Iterator

from torch import Tensor

from tomohet.model.decoder import maps_at_once
from tomohet.model.linear_base import LinearBase


class LinearDecoder(LinearBase):
    """Volumes mean + sum_j z_j U_j, in the units of the prepared images; all latents belong to basis maps."""

    def __init__(self, box: int, zdim: int) -> None:
        super().__init__(box, zdim)
        self.zdim = zdim

    def volumes(self, z: Tensor, box: int | None = None) -> Tensor:
        """Make real maps (m, d, d, d) with mean 0 from latents (m, zdim); d is `box`, by Fourier cropping."""
        return super().volumes(z, box or self.box)

    def decode(self, z: Tensor, box: int | None = None, **_how) -> Iterator[Tensor]:
        """Yield the maps of `volumes` a few at a time; the options of a network's decoding have no effect."""
        for some in z.split(maps_at_once(self.box, z.device)):
            yield self.volumes(some, box)
