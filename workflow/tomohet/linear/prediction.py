"""Prediction of a particle's held-out images from its training images, under the linear model."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tomohet.particles.copies import numbered_sources
from tomohet.particles.store import Store
from tomohet.reconstruction.pose_errors import without_last

TABLES = ("a", "b", "new_a", "new_b")


@dataclass(frozen=True)
class SplitLikelihood:
    """Likelihoods of training and held-out images of the same particles, log p(y | z) = b z - z A z / 2.

    a, b : (N, K, K) and (N, K) of the training images, as from `likelihood`
    new_a, new_b : the same of the held-out images
    source : (N,) number of the particle whose images each particle has; None without copies
        (`particles.copies`)
    """

    a: Tensor
    b: Tensor
    new_a: Tensor
    new_b: Tensor
    source: Tensor | None = None

    @property
    def used(self) -> Tensor:
        """(N, K) latents from the training images."""
        return torch.linalg.solve(self.a + self._prior, self.b[..., None])[..., 0]

    @property
    def latents(self) -> Tensor:
        """(N, K) latents from all images."""
        a, b = self.all_images
        return torch.linalg.solve(a + self._prior, b[..., None])[..., 0]

    @property
    def all_images(self) -> tuple[Tensor, Tensor]:
        """(N, K, K) and (N, K) of all images."""
        return self.a + self.new_a, self.b + self.new_b

    def along(self, directions: Tensor) -> "SplitLikelihood":
        """Transform to latents along orthonormal directions, the columns of (K, k)."""
        a, new_a = (directions.T @ table @ directions for table in (self.a, self.new_a))
        return SplitLikelihood(a, self.b @ directions, new_a, self.new_b @ directions, self.source)

    def without(self, directions: Tensor) -> "SplitLikelihood":
        """Integrate out the latents along orthonormal directions, the columns of (K, J).

        The remaining latents lie along directions that are orthogonal to these.
        """
        n = directions.shape[1]
        turned = self.along(torch.linalg.qr(directions, mode="complete").Q.roll(-n, dims=1))
        unit = torch.zeros_like(turned._prior)
        unit.diagonal()[len(unit) - n :] = 1
        both_a, both_b = turned.all_images
        used = without_last(turned.a + unit, turned.b, n)
        both = without_last(both_a + unit, both_b, n)
        new = (whole - own for whole, own in zip(both, used, strict=True))
        return SplitLikelihood(*used, *new, self.source)

    def leading(self, k: int) -> "SplitLikelihood":
        """Keep the first k latents, with the others fixed at 0."""
        a, new_a = (table[:, :k, :k] for table in (self.a, self.new_a))
        return SplitLikelihood(a, self.b[:, :k], new_a, self.new_b[:, :k], self.source)

    def of_sources(self, values: Tensor) -> Tensor:
        """Sum values (N, ...) over the copies of each particle, which are not independent, to (S, ...)."""
        return summed_copies(values, self.source)

    @property
    def gain(self) -> Tensor:
        """(N,) log p(held out | training) - log p(held out | z = 0), with z integrated over its posterior.

        With the posterior precision P = A + 1 this is (log |P| - log |P + A'| + (b + b') (P + A')^-1 (b + b')
        - b P^-1 b) / 2.
        """
        precision = (self.a + self._prior).double()
        both, b, sum_b = precision + self.new_a, self.b.double(), (self.b + self.new_b).double()
        quadratic = _quadratic(both, sum_b) - _quadratic(precision, b)
        return (torch.logdet(precision) - torch.logdet(both) + quadratic) / 2

    @property
    def _prior(self) -> Tensor:
        return torch.eye(self.b.shape[1], dtype=self.b.dtype, device=self.b.device)


def source_tensor(store: Store, particles: np.ndarray, device: torch.device | str) -> Tensor | None:
    """Return `SplitLikelihood.source` of particles (store ordinals)."""
    numbers = numbered_sources(store.particles, particles)
    return None if numbers is None else torch.as_tensor(numbers, device=device)


def summed_copies(values: Tensor, source: Tensor | None) -> Tensor:
    """Sum values (N, ...) over particles of the same source (N,), numbered from 0, to (S, ...).

    Without copies (None) the values are returned unchanged.
    """
    if source is None:
        return values
    return values.new_zeros(int(source.max()) + 1, *values.shape[1:]).index_add_(0, source, values)


def _quadratic(matrix: Tensor, vector: Tensor) -> Tensor:
    return (vector * torch.linalg.solve(matrix, vector[..., None])[..., 0]).sum(-1)
