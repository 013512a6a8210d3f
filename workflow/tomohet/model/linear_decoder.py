"""The linear latent model as a decoder: a mean map plus basis maps weighted by the latents."""

import torch
from torch import Tensor, nn

from tomohet.physics.fourier import crop_fourier


class LinearDecoder(nn.Module):
    """Volumes mu + sum_j z_j U_j, in the units of the prepared images.

    mean (D, D, D) and basis (K, D, D, D) are buffers, so that `state_dict` holds all of the model.
    """

    def __init__(self, box: int, zdim: int) -> None:
        super().__init__()
        self.box, self.zdim = box, zdim
        self.register_buffer("mean", torch.zeros(box, box, box))
        self.register_buffer("basis", torch.zeros(zdim, box, box, box))

    def volumes(self, z: Tensor, box: int | None = None) -> Tensor:
        """Real maps (m, d, d, d) with mean 0 for latents (m, zdim); d is `box`, by Fourier cropping."""
        maps = self.mean + torch.einsum("mj,jzyx->mzyx", z.to(self.basis), self.basis)
        maps = maps - maps.mean((1, 2, 3), keepdim=True)
        return maps if box in (None, self.box) else crop_fourier(maps, box)
