"""Likelihood of a batch: every Fourier point is an independent measurement with its own noise variance.

The mean squared residual that trains a decoder has no absolute scale. A posterior of a latent needs the size
of residuals relative to the noise, which the linear model has measured shell by shell.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tomohet.model.rows import PackedRows, pack_rows
from tomohet.physics.imaging import physical_transfer
from tomohet.physics.lattice import HalfPlane
from tomohet.training.batches import Batch

LEAST_TRANSFER = 1e-3


@dataclass(frozen=True)
class Likelihood:
    """Gaussian likelihood of images.

    noise : (n,) variance of the complex noise of an untreated image at the first n half-plane points, the
        points that the linear model was fitted to
    """

    half_plane: HalfPlane
    noise: Tensor

    def everywhere(self) -> "Likelihood":
        """Extend the likelihood to all half-plane points.

        Points beyond the last fitted shell get its noise variance.
        """
        beyond = self.noise[-1:].expand(self.half_plane.n - len(self.noise))
        return replace(self, noise=torch.cat([self.noise, beyond]))

    def rows(self, batch: Batch) -> PackedRows:
        """Pack the batch as Fourier points with weights 1 / variance.

        The sum of weighted squared residuals is minus the log-likelihood. Images that were multiplied by
        their transfer function are divided by its square root, so that the noise of every point is that of an
        untreated image (`reconstruction.observations`).
        """
        transfer, gain = physical_transfer(batch.params, self.half_plane, dose=True, tilt=True)
        own = batch.gain[:, None]
        gain = gain * torch.where(batch.params.ctf_premultiplied[:, None], 1 / own, own)
        n = len(self.noise)
        weight = 1 / self.noise if batch.noise is None else 1 / (self.noise * batch.noise[:, None])
        root = (gain * transfer * own)[:, :n].clamp_min(0).sqrt()
        return pack_rows(
            batch.fourier[:, :n] * gain[:, :n] / root.clamp_min(LEAST_TRANSFER),
            batch.params.rotation,
            root,
            weight.expand_as(root).contiguous(),
            batch.prefix.clip(max=n),
            batch.tilts,
            self.half_plane.frequency,
        )
