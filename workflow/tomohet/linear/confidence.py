"""Confidence of a particle's map: the fraction of its variance that the particle's own images determine."""

import numpy as np
import pandas as pd
import torch

from tomohet.linear.likelihood import Latents


def confidence(latents: Latents, basis: torch.Tensor) -> torch.Tensor:
    """Return (N,) fraction of the variance of each particle's map that its images determine, 0 to 1.

    The prior variance of a particle's map is tr(G), with the Gram matrix G_jl = <U_j, U_l> of the basis maps
    (K, D, D, D). The posterior variance is tr(G C), with the posterior covariance C of the latents. The
    confidence is 1 - tr(G C) / tr(G). Latents therefore count by their power in the maps: an undetermined
    latent that hardly changes the map does not lower the confidence. At 0 the latents are those of the mean
    particle, whatever the particle is; near 1 they are determined by its images.
    """
    flat = basis.flatten(1)
    gram = flat @ flat.T
    left = torch.einsum("jl,plj->p", gram, latents.covariance) / gram.trace()
    return (1 - left).clamp(0, 1)


def particle_columns(latents: Latents, basis: torch.Tensor, particles: np.ndarray) -> pd.DataFrame:
    """Return the linear model's columns of the round's particle table, a row per particle (store ordinals).

    The columns are particle, linear_confidence (`confidence`), and linear_z1 ... linear_zK. linear_zj is the
    posterior mean of a latent in standard deviations over the particles; the latent with the most power in
    the maps comes first.
    """
    z = latents.mean.cpu().numpy()
    columns = {f"linear_z{number}": column for number, column in enumerate(z.T, start=1)}
    settled = confidence(latents, basis).cpu().numpy()
    return pd.DataFrame({"particle": particles, "linear_confidence": settled} | columns)
