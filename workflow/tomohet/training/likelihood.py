"""Images of a batch as independent measurements of a particle's Fourier values, each with its own variance.

The mean squared residual that trains a decoder has no scale. What a particle's latent may be is a question of
likelihood: how large a residual is beside the noise, which the linear model has measured shell by shell.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tomohet.model.rows import PackedRows, pack_rows
from tomohet.physics.fourier import HalfPlane
from tomohet.physics.imaging import physical_transfer
from tomohet.training.batches import Batch

LEAST_TRANSFER = 1e-3


@dataclass(frozen=True)
class Likelihood:
    """noise (n,): variance of the complex noise of an untreated image at the first n half-plane points, those
    that the linear model was fitted to."""

    half_plane: HalfPlane
    noise: Tensor

    def everywhere(self) -> "Likelihood":
        """The same for all half-plane points: beyond the last shell that was fitted noise is as there."""
        beyond = self.noise[-1:].expand(self.half_plane.n - len(self.noise))
        return replace(self, noise=torch.cat([self.noise, beyond]))

    def rows(self, batch: Batch) -> PackedRows:
        """Rows whose squared residuals, weighted by 1 / variance, add up to minus the log-likelihood.

        Images that were multiplied by their transfer function are divided by its root again, so that the
        noise of every row is that of an untreated image (`reconstruction.observations`).
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
