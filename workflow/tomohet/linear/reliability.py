"""How much of the particles' latents is structure, by tilt images that were not used."""

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from tomohet.linear.prediction import SplitLikelihood


def auc_of_halves(reliability: np.ndarray) -> np.ndarray:
    """With which latents of such reliability would tell two equal halves of the particles apart.

    Halves d standard deviations of the noise apart have the reliability (d/2)^2 / (1 + (d/2)^2), and the AUC
    Phi(d / sqrt 2).
    """
    return norm.cdf(np.sqrt(2 * reliability / (1 - reliability).clip(1e-9)))


def by_all_images(shared: np.ndarray, every: int) -> np.ndarray:
    """Share of structure in latents by all images, from that by the images used, which are all but
    each `every`th: noise averages out."""
    shared = shared.clip(0, 1)
    odds = shared / (1 - shared).clip(1e-9) * every / (every - 1)
    return odds / (1 + odds)


def shared_variance(first: SplitLikelihood, second: SplitLikelihood) -> tuple[np.ndarray, np.ndarray]:
    """(K,) squared correlation of the latents by the images used with what other images see, as estimated
    (chance may lift it above 1), and its standard error by the jackknife over particles (all copies of one
    together).

    With g_1 and g_2 what two halves of other images see along a latent z, what the other latents predict
    taken off, cov(z, g_1 + g_2)^2 / (4 var(z) cov(g_1, g_2)): noise, however much, has no part in it. NaN
    where no particle has tilt images for two halves.
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
