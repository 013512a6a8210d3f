"""Latents of particles: one deterministic pass over all their tilts, in float32."""

import logging

import numpy as np
import torch
from torch import Tensor

from tomohet.errors import InputError
from tomohet.model.vae import HeterogeneityVAE
from tomohet.physics.imaging import encoder_view
from tomohet.physics.lattice import HalfPlane
from tomohet.training.batches import Batch, ParticleImages

log = logging.getLogger(__name__)

PARTICLES_AT_ONCE = 64


def encode(model: HeterogeneityVAE, batch: Batch, half_plane: HalfPlane) -> tuple[Tensor, Tensor]:
    """Encode a batch: return (mu, logvar) of its particles, (P, zdim) each, from the encoder's input."""
    seen = None
    if model.encoder.sees == "images":
        seen = encoder_view(batch.fourier, batch.params, half_plane)
    elif model.encoder.sees == "maps":
        seen = batch.maps
    return model.encode(seen, batch.tilts, batch.start)


def infer_latents(
    model: HeterogeneityVAE,
    images: ParticleImages,
    batch_size: int = PARTICLES_AT_ONCE,
    log_interval: int | None = None,
    only: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Infer mean and log variance (P, zdim) of every particle's latent; NaN for particles without an image.

    log_interval : particles between log lines, None for no lines
    only : positions of the particles to infer, None for all; the others get NaN

    Raises InputError when the network gives numbers that are not finite.
    """
    present = np.flatnonzero(images.tilts > 0)
    if only is not None:
        present = np.intersect1d(present, only)
    groups, own = images.own_groups(present, batch_size), present[images.mine[present]]
    found, done = [], 0
    with torch.no_grad():
        for batch in images.batches(groups):
            found.append(torch.stack(encode(model, batch, images.half_plane)))
            before, done = done, done + batch.whole.particles
            if log_interval and done // log_interval > before // log_interval:
                log.info("latents of %d of %d particles", done, len(own))
    latents = (
        torch.cat(found, dim=1).movedim(0, 1).cpu().numpy() if found else np.zeros((0, 2, model.decoder.zdim))
    )
    latents = images.processes.gathered(own, latents, len(images), images.device)
    broken = ~np.isfinite(latents[present]).all((1, 2))
    if broken.any():
        raise InputError(
            f"the latents of {broken.sum()} particles are not finite (the first is number "
            f"{present[broken][0]} of the selected particles): training diverged; go back to earlier weights"
        )
    return np.ascontiguousarray(latents[:, 0]), np.ascontiguousarray(latents[:, 1])


def gaussian_divergence(
    mu1: np.ndarray, logvar1: np.ndarray, mu2: np.ndarray, logvar2: np.ndarray
) -> np.ndarray:
    """Compute KL(N1 || N2) of diagonal Gaussians, one number per row of the (P, zdim) parameters."""
    ratio = np.exp(logvar1 - logvar2)
    return 0.5 * (ratio + logvar2 - logvar1 + (mu2 - mu1) ** 2 * np.exp(-logvar2) - 1).sum(1)
