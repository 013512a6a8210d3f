"""The linear latent model as a decoder: a mean map plus basis maps weighted by the latents."""

from torch import Tensor

from tomohet.model.linear_base import LinearBase


class LinearDecoder(LinearBase):
    """Volumes mean + sum_j z_j U_j, in the units of the prepared images; all latents belong to basis maps."""

    def __init__(self, box: int, zdim: int) -> None:
        super().__init__(box, zdim)
        self.zdim = zdim

    def volumes(self, z: Tensor, box: int | None = None) -> Tensor:
        """Real maps (m, d, d, d) with mean 0 for latents (m, zdim); d is `box`, by Fourier cropping."""
        return super().volumes(z, box or self.box)
