"""The distribution of the particles' latents: a mixture of Gaussians, learnt from all particles.

The images of a particle measure z = A^-1 b with precision A. Expectation maximisation finds the distribution
of the true latents behind that noise ("extreme deconvolution": Bovy, Hogg & Roweis, Ann. Appl. Stat. 2011,
with the measurements in information form). The posterior under this prior draws a particle to where others
are: to a state, or to the curve of a motion.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

COMPONENTS = (1, 2, 3, 4, 6, 8)
ITERATIONS = 60
MOST_PARTICLES = 5000  # the mixture is fitted to this number of particles at most
# Every component's covariance is regularised by one imaginary particle of this variance.
LEAST_VARIANCE = 0.05


@dataclass(frozen=True)
class LatentPrior:
    """A mixture of M Gaussians: weight (M,), mean (M, K) and covariance (M, K, K), float64."""

    weight: Tensor
    mean: Tensor
    covariance: Tensor

    def to(self, device: torch.device | str) -> "LatentPrior":
        """Copy the prior to another device."""
        return LatentPrior(*(x.to(device) for x in vars(self).values()))

    def posterior(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Compute mean (N, K) and covariance (N, K, K) of the latents.

        a : (N, K, K) precisions of the measurements
        b : (N, K) precision times measured latent, A z
        """
        evidence, mean, covariance = self._by_component(a.double(), b.double())
        share = torch.softmax(evidence, 1)
        total = torch.einsum("nm,nmk->nk", share, mean)
        off = mean - total[:, None]
        spread = torch.einsum("nm,nmkl->nkl", share, covariance + off[..., None] * off[..., None, :])
        return total.to(b.dtype), spread.to(b.dtype)

    def minus_log(self, z: Tensor) -> Tensor:
        """Compute (N,) -log p(z) up to a constant."""
        off = z.double()[:, None] - self.mean
        form = (off * torch.linalg.solve(self.covariance, off[..., None])[..., 0]).sum(-1)
        terms = torch.log(self.weight) - torch.logdet(self.covariance) / 2 - form / 2
        return -torch.logsumexp(terms, 1).to(z.dtype)

    def _by_component(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the log evidence (N, M) and the posteriors (N, M, K), (N, M, K, K) of every component."""
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
    """Return the prior with a single component, N(0, 1)."""
    one = {"dtype": torch.float64, "device": device}
    return LatentPrior(torch.ones(1, **one), torch.zeros(1, zdim, **one), torch.eye(zdim, **one)[None])


def fit_latent_prior(a: Tensor, b: Tensor, seed: int) -> LatentPrior:
    """Fit the mixture to measurements `a` (N, K, K), `b` (N, K); BIC chooses the number of components."""
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
    """Fit a mixture of `components` Gaussians by EM, started from k-means of the posterior means.

    Returns the mixture and its log evidence.
    """
    # On import it would hold up every command that opens a model by a second.
    from sklearn.cluster import KMeans

    zdim = b.shape[1]
    eye = torch.eye(zdim, dtype=a.dtype, device=a.device)
    z = torch.linalg.solve(a + eye, b[..., None])[..., 0]
    # The type checker takes `n_init` for text.
    means = KMeans(components, n_init=4, random_state=seed)  # pyright: ignore[reportArgumentType]
    labels = means.fit_predict(z.cpu().numpy())
    share = torch.nn.functional.one_hot(torch.as_tensor(labels, device=a.device).long(), components)
    mean, covariance = z[:, None].expand(-1, components, -1), (0 * eye).expand(len(z), components, -1, -1)
    prior = _updated(share.to(a), mean, covariance)
    for _ in range(ITERATIONS):
        evidence, mean, covariance = prior._by_component(a, b)
        prior = _updated(torch.softmax(evidence, 1), mean, covariance)
    evidence, _, _ = prior._by_component(a, b)
    return prior, torch.logsumexp(evidence, 1).sum().item()


def _updated(share: Tensor, mean: Tensor, covariance: Tensor) -> LatentPrior:
    """Update the components from the particles' responsibilities (N, M) and posteriors per component."""
    count = share.sum(0)
    centre = torch.einsum("nm,nmk->mk", share, mean) / count[:, None].clamp_min(1e-9)
    off = mean - centre
    spread = torch.einsum("nm,nmkl->mkl", share, covariance + off[..., None] * off[..., None, :])
    eye = torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device)
    spread = (spread + LEAST_VARIANCE * eye) / (count + 1)[:, None, None]
    return LatentPrior((count + 1e-9) / (count + 1e-9).sum(), centre, spread)
