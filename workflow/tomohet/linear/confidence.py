"""How much of what distinguishes a particle its own images have settled."""

import numpy as np
import pandas as pd
import torch

from tomohet.linear.likelihood import Latents


def confidence(latents: Latents, basis: torch.Tensor) -> torch.Tensor:
    """(N,) settled share of the variance of each particle's map under basis maps (K, D, D, D), 0 to 1.

    Before its images are seen a particle's map deviates from the mean by tr(G), with G the basis maps' inner
    products; after them its posterior of covariance C leaves tr(G C). A latent counts by its power in the
    maps: a direction that hardly changes them may stay unknown. 0: the particle's latents are those of the
    mean particle, whatever it is; near 1: they are its own.
    """
    flat = basis.flatten(1)
    gram = flat @ flat.T
    left = torch.einsum("jl,plj->p", gram, latents.covariance) / gram.trace()
    return (1 - left).clamp(0, 1)


def particle_columns(latents: Latents, basis: torch.Tensor, particles: np.ndarray) -> pd.DataFrame:
    """What the round's particle table takes of the linear model, a row per particle (store ordinals).

    particle, linear_confidence (`confidence`), and linear_z1 ... linear_zK: the posterior mean of each
    latent in standard deviations over the particles, the latent with the most power in the maps first.
    """
    z = latents.mean.cpu().numpy()
    columns = {f"linear_z{number}": column for number, column in enumerate(z.T, start=1)}
    settled = confidence(latents, basis).cpu().numpy()
    return pd.DataFrame({"particle": particles, "linear_confidence": settled} | columns)
