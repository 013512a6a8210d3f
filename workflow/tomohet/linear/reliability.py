"""Reliability of latents: the fraction of their variance that is structure, from held-out tilt images."""

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from tomohet.linear.prediction import SplitLikelihood


def auc_of_halves(reliability: np.ndarray) -> np.ndarray:
    """Return the AUC with which latents of this reliability separate two equally populated classes.

    Classes that are d noise standard deviations apart have the reliability (d/2)^2 / (1 + (d/2)^2) and the
    AUC Phi(d / sqrt 2).
    """
    return norm.cdf(np.sqrt(2 * reliability / (1 - reliability).clip(1e-9)))


def by_all_images(shared: np.ndarray, every: int) -> np.ndarray:
    """Extrapolate the structural fraction of the variance from the training images to all images.

    The training images are all but each `every`th image; with more images, noise averages out.
    """
    shared = shared.clip(0, 1)
    odds = shared / (1 - shared).clip(1e-9) * every / (every - 1)
    return odds / (1 + odds)


def shared_variance(first: SplitLikelihood, second: SplitLikelihood) -> tuple[np.ndarray, np.ndarray]:
    """Return (K,) structural fraction of the training images' latents, and its standard error.

    The gradients of the two halves of the held-out images along a latent z, minus the prediction from the
    other latents, are g_1 and g_2. The estimate is cov(z, g_1 + g_2)^2 / (4 var(z) cov(g_1, g_2)), a squared
    correlation that chance may lift above 1. Noise of any size cancels in expectation. The standard error is
    a jackknife over particles (with all copies of a particle together). NaN if no particle has two held-out
    halves.
    """
    if not (first.new_a.any() and second.new_a.any()):
        return (np.full(first.b.shape[1], np.nan),) * 2
    z = first.used - first.used.mean(0)
    seen = []
    for look in (first, second):
        own = look.new_a.diagonal(dim1=1, dim2=2) * z
        along = look.new_b - (look.new_a @ z[..., None])[..., 0] + own
        seen.append(along - along.mean(0))
    terms = torch.stack([z * (seen[0] + seen[1]), z.square(), seen[0] * seen[1]]).double()

    def share(sums: Tensor) -> Tensor:
        together, power, common = sums
        return torch.where(common > 0, together.clamp_min(0).square() / (4 * power * common), 0)

    by_source = first.of_sources(terms.transpose(0, 1)).transpose(0, 1)
    count = by_source.shape[1]
    without = share(by_source.sum(1, keepdim=True) - by_source)
    error = (count - 1) * (without - without.mean(0)).square().mean(0)
    return share(terms.mean(1)).cpu().numpy(), error.sqrt().cpu().numpy()
