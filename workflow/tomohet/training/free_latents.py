"""Latents in closed form: Gauss-Newton steps on each particle's own images, with the decoder held fixed.

The pose is part of the forward model, so no encoder has to learn what an image shows in every pose. With a
linear decoder and a normal prior the first step gives the linear model's posterior.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tomohet.device import sent
from tomohet.model.decoder import Decoder
from tomohet.model.latent_prior import LatentPrior
from tomohet.model.latent_terms import LatentTerms, depends_on_latents, latent_terms
from tomohet.model.taught import FreeLatents, padded
from tomohet.model.vae import HeterogeneityVAE
from tomohet.training.batches import ParticleImages
from tomohet.training.latents import infer_latents
from tomohet.training.likelihood import Likelihood

PARTICLES_AT_ONCE = 32
STEPS = 2


@dataclass(frozen=True)
class Inferred:
    """Latents of P particles: posterior mean and variance (P, K), and what the images measured.

    precision, b : (P, K, K) and (P, K) of `as_measured`, where the decoder was linearised last
    """

    mean: Tensor
    variance: Tensor
    precision: Tensor
    b: Tensor


def free_latents(
    decoder: Decoder,
    images: ParticleImages,
    likelihood: Likelihood,
    z: Tensor,
    prior: LatentPrior,
    steps: int = STEPS,
    terms: LatentTerms | None = None,
    dtype: torch.dtype = torch.float32,
) -> Inferred:
    """Infer the latents of all particles of `images`, starting from `z` (P, K).

    terms : `all_terms` at `z`, where they are known
    dtype : as of `latent_terms`

    Where a step has made a particle less likely, the next step starts from the linearisation before it. One
    step is exact where the network does not depend on the latents.
    """
    steps = steps if depends_on_latents(decoder) else 1
    a, b, kept, best = None, None, z, None
    for _ in range(steps):
        if terms is None:
            terms = all_terms(decoder, images, likelihood, z, dtype)
        worth = terms.misfit + prior.minus_log(z)
        found_a, found_b = as_measured(terms, z)
        terms = None
        if best is None:
            best, a, b = worth, found_a, found_b
        else:
            better = worth <= best
            best = torch.where(better, worth, best)
            a = torch.where(better[:, None, None], found_a, a)
            b = torch.where(better[:, None], found_b, b)
            kept = torch.where(better[:, None], z, kept)
        z, covariance = prior.posterior(a, b)
    failed = (z - kept).abs().amax(1) > 10  # standard deviations: the linearisation does not hold so far
    mean = torch.where(failed[:, None], kept, z)
    return Inferred(mean, torch.diagonal(covariance, dim1=1, dim2=2), a, b)


def latents_of(
    model: HeterogeneityVAE, images: ParticleImages, likelihood: Likelihood | None
) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and log variance (P, zdim) of all particles, by the model's encoder or in closed form.

    likelihood : for a network that started from a linear model; `images.start` then holds the linear
        posteriors

    Particles without an image get NaN.
    """
    prior = model.encoder.prior if isinstance(model.encoder, FreeLatents) else None
    if prior is None:
        return infer_latents(model, images)
    start = padded(images.start, model.decoder.zdim)[:, 0]
    inferred = free_latents(model.decoder, images, likelihood, start, prior.to(start.device))
    found = torch.stack((inferred.mean, inferred.variance.log()))
    found[:, torch.as_tensor(images.tilts == 0, device=found.device)] = torch.nan
    mu, logvar = found.cpu().numpy()
    return mu, logvar


def as_measured(terms: LatentTerms, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return precision A (P, K, K) and b (P, K) of the latents that the images measure.

    b is A z + gradient.
    """
    return terms.precision, terms.gradient + (terms.precision @ z[..., None])[..., 0]


@torch.no_grad()
def all_terms(
    decoder: Decoder,
    images: ParticleImages,
    likelihood: Likelihood,
    z: Tensor,
    dtype: torch.dtype = torch.float32,
) -> LatentTerms:
    """Compute the terms of all particles at latents `z` (P, K); zeros for particles without an image."""
    zdim = z.shape[1]
    present = np.flatnonzero(images.tilts > 0)
    groups = images.own_groups(present, PARTICLES_AT_ONCE)
    found = []
    for own, batch in zip(groups, images.batches(groups), strict=True):
        terms = latent_terms(decoder, likelihood.rows(batch), z[sent(own, z.device)], dtype=dtype)
        found.append(torch.cat([terms.misfit[:, None], terms.gradient, terms.precision.flatten(1)], dim=1))
    width = 1 + zdim + zdim**2
    values = torch.cat(found).cpu().numpy() if found else np.zeros((0, width), np.float32)
    gathered = images.processes.gathered(present[images.mine[present]], values, len(images), images.device)
    misfit, gradient, precision = (
        torch.as_tensor(gathered, device=z.device).nan_to_num().split([1, zdim, zdim**2], dim=1)
    )
    return LatentTerms(misfit[:, 0], gradient, precision.view(-1, zdim, zdim))
