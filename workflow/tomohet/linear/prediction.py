"""What a particle's images say of others of its images, under the linear model."""

import torch
from torch import Tensor


def leading(k: int, *tables: Tensor) -> list[Tensor]:
    """The part of tables (N, K) and (N, K, K) that belongs to the first k latents."""
    return [table[(slice(None),) + (slice(k),) * (table.ndim - 1)] for table in tables]


def predictive_gain(a: Tensor, b: Tensor, new_a: Tensor, new_b: Tensor) -> Tensor:
    """(N,) log p(new images | images) - log p(new images | z = 0), z integrated over its posterior.

    a, new_a (N, K, K) and b, new_b (N, K) as of `em.likelihood`. With P = a + 1 the posterior's precision:
    (log |P| - log |P + a'| + (b + b') (P + a')^-1 (b + b') - b P^-1 b) / 2.
    """
    precision = (a + torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)).double()
    both, sum_b = precision + new_a, (b + new_b).double()
    quadratic = _quadratic(both, sum_b) - _quadratic(precision, b.double())
    return (torch.logdet(precision) - torch.logdet(both) + quadratic) / 2


def _quadratic(matrix: Tensor, vector: Tensor) -> Tensor:
    return (vector * torch.linalg.solve(matrix, vector[..., None])[..., 0]).sum(-1)
