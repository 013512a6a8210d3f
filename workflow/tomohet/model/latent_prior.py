"""How the particles' latents are distributed, learnt from all of them: a mixture of Gaussians.

Each particle's images say z = A^-1 b with precision A; how the true latents lie behind that noise is found by
expectation maximisation ("extreme deconvolution": Bovy, Hogg & Roweis, Ann. Appl. Stat. 2011, with the
measurements in information form). The posterior under it draws a particle to where others are: to a state, or
to the curve of a motion.
"""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

COMPONENTS = (1, 2, 3, 4, 6, 8)
ITERATIONS = 60
MOST_PARTICLES = 5000  # that the mixture is fitted to
# A component's covariance is as if one more particle of this variance had been seen.
LEAST_VARIANCE = 0.05


@dataclass(frozen=True)
class LatentPrior:
    """weight (M,), mean (M, K) and covariance (M, K, K) of the components, float64."""

    weight: Tensor
    mean: Tensor
    covariance: Tensor

    def to(self, device: torch.device | str) -> "LatentPrior":
        """The same on another device."""
        return LatentPrior(*(x.to(device) for x in vars(self).values()))

    def posterior(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (N, K) and covariance (N, K, K) for precisions `a` (N, K, K) and A z measured, `b` (N, K)."""
        evidence, mean, covariance = self._by_component(a.double(), b.double())
        share = torch.softmax(evidence, 1)
        total = torch.einsum("nm,nmk->nk", share, mean)
        off = mean - total[:, None]
        spread = torch.einsum("nm,nmkl->nkl", share, covariance + off[..., None] * off[..., None, :])
        return total.to(b.dtype), spread.to(b.dtype)

    def minus_log(self, z: Tensor) -> Tensor:
        """(N,) -log p(z) but for a constant."""
        off = z.double()[:, None] - self.mean
        form = (off * torch.linalg.solve(self.covariance, off[..., None])[..., 0]).sum(-1)
        terms = torch.log(self.weight) - torch.logdet(self.covariance) / 2 - form / 2
        return -torch.logsumexp(terms, 1).to(z.dtype)

    def _by_component(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log evidence (N, M) and the posteriors (N, M, K), (N, M, K, K) of every component."""
        prior = torch.linalg.inv(self.covariance)
        pull = torch.einsum("mkl,ml->mk", prior, self.mean)
        precision = a[:, None] + prior
        covariance = torch.linalg.inv(precision)
        right = b[:, None] + pull
        mean = torch.einsum("nmkl,nml->nmk", covariance, right)
        quadratic = (right * mean).sum(-1) - (pull * self.mean).sum(-1)
        determinants = torch.logdet(prior) - torch.logdet(precision)
        return torch.log(self.weight) + (determinants + quadratic) / 2, mean, covariance


def standard_prior(zdim: int, device: torch.device | str = "cpu") -> LatentPrior:
    """One component: N(0, 1)."""
    one = {"dtype": torch.float64, "device": device}
    return LatentPrior(torch.ones(1, **one), torch.zeros(1, zdim, **one), torch.eye(zdim, **one)[None])


def fit_latent_prior(a: Tensor, b: Tensor, seed: int) -> LatentPrior:
    """The mixture for measurements `a` (N, K, K), `b` (N, K); its number of components is BIC's choice."""
    if len(a) > MOST_PARTICLES:
        chosen = np.random.default_rng([seed, 5]).choice(len(a), MOST_PARTICLES, replace=False)
        chosen = torch.as_tensor(np.sort(chosen), device=a.device)
        a, b = a[chosen], b[chosen]
    a, b = a.double(), b.double()
    n, zdim = b.shape
    found = [_fit(a, b, m, seed) for m in COMPONENTS if m * (zdim + 2) <= n]
    if not found:
        return standard_prior(zdim, a.device)
    penalty = np.log(n) / 2
    bic = [
        evidence - penalty * len(prior.weight) * (1 + zdim + zdim * (zdim + 1) / 2)
        for prior, evidence in found
    ]
    return found[int(np.argmax(bic))][0]


def _fit(a: Tensor, b: Tensor, components: int, seed: int) -> tuple[LatentPrior, float]:
    """A mixture of so many components by EM from k-means of the posterior means, and its log evidence."""
    zdim = b.shape[1]
    eye = torch.eye(zdim, dtype=a.dtype, device=a.device)
    z = torch.linalg.solve(a + eye, b[..., None])[..., 0]
    labels = KMeans(components, n_init=4, random_state=seed).fit_predict(z.cpu().numpy())
    share = torch.nn.functional.one_hot(torch.as_tensor(labels, device=a.device).long(), components)
    mean, covariance = z[:, None].expand(-1, components, -1), (0 * eye).expand(len(z), components, -1, -1)
    prior = _updated(share.to(a), mean, covariance)
    for _ in range(ITERATIONS):
        evidence, mean, covariance = prior._by_component(a, b)
        prior = _updated(torch.softmax(evidence, 1), mean, covariance)
    evidence, _, _ = prior._by_component(a, b)
    return prior, torch.logsumexp(evidence, 1).sum().item()


def _updated(share: Tensor, mean: Tensor, covariance: Tensor) -> LatentPrior:
    """The components from the particles' shares (N, M) and posteriors under each of them."""
    count = share.sum(0)
    centre = torch.einsum("nm,nmk->mk", share, mean) / count[:, None].clamp_min(1e-9)
    off = mean - centre
    spread = torch.einsum("nm,nmkl->mkl", share, covariance + off[..., None] * off[..., None, :])
    eye = torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device)
    spread = (spread + LEAST_VARIANCE * eye) / (count + 1)[:, None, None]
    return LatentPrior((count + 1e-9) / (count + 1e-9).sum(), centre, spread)
