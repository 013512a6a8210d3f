"""A linear latent model as the base of a network: the decoder's value is mean + sum_j z_j U_j + MLP(k, z)."""

import torch
from torch import Tensor, nn

from tomohet.physics.fourier_grids import crop_fourier
from tomohet.physics.slicing import corners_at, gather, transform


class LinearBase(nn.Module):
    """Mean and basis maps (eigenvolumes) of a linear model, sampled anywhere in Fourier space.

    mean (D, D, D) and basis (K, D, D, D) are buffers, in the units of the prepared images. z_1 ... z_K are
    the first K of the network's latents. The maps are not trained: the network learns the difference from
    them.
    """

    def __init__(self, box: int, n_basis: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.basis: Tensor
        self.box, self.n_basis = box, n_basis
        self.register_buffer("mean", torch.zeros(box, box, box))
        self.register_buffer("basis", torch.zeros(n_basis, box, box, box))
        self._table: Tensor | None = None

    def fill(self, mean: Tensor, basis: Tensor) -> None:
        """Take the maps of a fitted model."""
        self.mean.copy_(mean)
        self.basis.copy_(basis)
        self._table = None

    def slices(self, k: Tensor) -> Tensor:
        """Return values (rows, K + 1) complex64 of mean and basis maps at `k` (rows, 3), cycles/px."""
        if self._table is None or self._table.device != k.device:
            # The maps keep their mean levels, which are part of the fit inside the edges of the box.
            self._table = transform(torch.cat([self.mean[None], self.basis]))
        return gather(self._table, *corners_at(k * self.box, self.box))

    def values(self, k: Tensor, z: Tensor) -> Tensor:
        """Return values (m, rows) at `k` (rows, 3) for latents (m, zdim)."""
        slices = self.slices(k)
        return slices[:, 0] + z[:, : self.n_basis].to(slices.dtype) @ slices[:, 1:].T

    def volumes(self, z: Tensor, box: int) -> Tensor:
        """Make real maps (m, d, d, d) with mean 0 from latents (m, zdim); d is `box`, by Fourier cropping."""
        maps = self.mean + torch.einsum("mj,jzyx->mzyx", z[:, : self.n_basis].to(self.basis), self.basis)
        maps = maps - maps.mean((1, 2, 3), keepdim=True)
        return maps if box == self.box else crop_fourier(maps, box)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._table = None
