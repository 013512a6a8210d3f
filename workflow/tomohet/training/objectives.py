"""Losses of one batch: for the heterogeneity network and for a homogeneous volume."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tomohet.model.decoder import Decoder
from tomohet.model.loss import kl_divergence, reconstruction_loss, scaled_kl
from tomohet.model.rows import PackedRows, pack_rows
from tomohet.model.vae import HeterogeneityVAE, sample_latent
from tomohet.physics.imaging import loss_weight, physical_transfer, transfer
from tomohet.physics.lattice import HalfPlane
from tomohet.processes import ALONE, Processes
from tomohet.training.batches import Batch
from tomohet.training.latents import encode
from tomohet.training.schedules import beta_at


@dataclass(frozen=True)
class DataTerm:
    """The reconstruction term: how decoded values are compared with the images.

    half_plane : lattice of the images
    dose_weight, tilt_weight : weight residuals by dose attenuation and by cos(tilt)
    physical : model the images as the camera recorded them, including radiation damage and the loss of signal
        with the tilt (`physics.imaging.physical_transfer`); else follow the published rule
        (`physics.imaging.transfer`)
    rows_per_image : fraction of each image's Fourier points drawn per step
    dtype : of the decoder's hidden layers
    point_weight : (n,) further weight of each half-plane point (`training.noise`), None for 1
    """

    half_plane: HalfPlane
    dose_weight: bool
    tilt_weight: bool
    physical: bool
    rows_per_image: float
    dtype: torch.dtype
    point_weight: Tensor | None = None

    def rows(self, batch: Batch, hermitian: bool, generator: torch.Generator) -> PackedRows:
        """Pack the batch's Fourier points with transfer functions and weights."""
        if self.physical:
            signal, _ = physical_transfer(batch.params, self.half_plane, dose=True, tilt=True)
        else:
            signal = transfer(batch.params, self.half_plane, batch.dose_weighted)
        weight = loss_weight(batch.params, self.half_plane, self.dose_weight, self.tilt_weight)
        if self.point_weight is not None:
            weight = weight * self.point_weight
        return pack_rows(
            batch.fourier,
            batch.params.rotation,
            signal * batch.gain[:, None],
            weight,
            batch.prefix,
            batch.tilts,
            self.half_plane.frequency,
            hermitian=hermitian,
            fraction=self.rows_per_image,
            generator=generator,
            full_count=batch.whole.rows,
            length=batch.length,
        )

    def loss(self, decoder: Decoder, z: Tensor, batch: Batch, generator: torch.Generator) -> Tensor:
        """Compute the sum of weighted squared residuals per Fourier point of the whole batch."""
        rows = self.rows(batch, decoder.hermitian, generator)
        return reconstruction_loss(decoder, z, rows, dtype=self.dtype)


@dataclass(frozen=True)
class VaeObjective:
    """Reconstruction plus beta-weighted KL term; `total_particles` is epochs times particles."""

    model: HeterogeneityVAE
    data: DataTerm
    beta: str | float
    beta_control: float | None
    total_particles: int
    processes: Processes = ALONE

    def losses(self, batch: Batch, seen: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Compute (total, gen, scaled KL) of a batch after `seen` particles.

        For a part of a batch, these are the part's contributions.
        """
        return self.losses_at(batch, self.beta_after(seen), generator)

    def beta_after(self, seen: int) -> float:
        """Return beta after `seen` particles."""
        return beta_at(self.beta, seen, self.total_particles)

    @property
    def exchanges(self) -> bool:
        """Whether the losses need numbers of other processes."""
        return self.beta_control is not None and self.processes.size > 1

    def losses_at(
        self, batch: Batch, beta: float | Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the same as `losses` from beta."""
        whole = batch.whole
        mu, logvar = encode(self.model, batch, self.data.half_plane)
        z = sample_latent(mu, logvar, generator, whole.particles, whole.first)
        gen = self.data.loss(self.model.decoder, z, batch, generator)
        kl = kl_divergence(mu, logvar) * (len(mu) / whole.particles)
        if self.exchanges:
            # The term is not linear in KL: every process needs the whole batch's value, and differentiates
            # its own contribution.
            kl = kl + (self.processes.add_up(kl.detach().clone()) - kl.detach())
            kld = scaled_kl(kl, beta, self.beta_control, whole.points)
            kld = kld - kld.detach() * (1 - 1 / self.processes.size)
        else:
            kld = scaled_kl(kl, beta, self.beta_control, whole.points)
        return gen + kld, gen, kld


@dataclass(frozen=True)
class VolumeObjective:
    """Reconstruction by one volume for all particles."""

    model: Decoder
    data: DataTerm
    exchanges = False

    def losses(self, batch: Batch, seen: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Compute (total, gen, 0) of a batch."""
        return self.losses_at(batch, self.beta_after(seen), generator)

    def beta_after(self, seen: int) -> float:
        """Return 0: there is no KL term."""
        return 0.0

    def losses_at(
        self, batch: Batch, beta: float | Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the same as `losses`."""
        no_latent = batch.fourier.real.new_zeros(len(batch.tilts), 0)
        gen = self.data.loss(self.model, no_latent, batch, generator)
        return gen, gen, torch.zeros_like(gen)
