"""Eigenvectors of the particles' Gram (kernel) matrix, by matrix-free Lanczos iteration.

EM starts from the leading eigenvectors. The matrix is K_pq = <X_p, X_q> with the difference maps X_p of the
particles (`reconstruction.particle_maps`). The mean of X over the particles is subtracted. The diagonal,
which contains the noise power of each particle, is set to zero, so that a noisy particle is not a leading
direction. Only products with vectors are needed, X (X^T v). They run over blocks of the maps; the mean is
applied to the vectors.
"""

from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from tomohet.processes import ALONE, Processes
from tomohet.reconstruction.particle_maps import DifferenceMaps

BLOCK_BYTES = 2**23  # of one block of maps in single precision
# Residual of the eigenvectors relative to the eigenvalue.
TOLERANCE = 1e-4


class Kernel:
    """Gram matrix of difference maps.

    maps : of the process's part of n_particles
    """

    def __init__(self, maps: DifferenceMaps, processes: Processes, n_particles: int) -> None:
        self.processes, self.n_particles = processes, n_particles
        self._unit, self._rms = maps.unit, maps.rms[:, None]
        self._diagonal = self._joined(self._powers())

    def product(self, vector: Tensor) -> Tensor:
        """Return K v for a vector (N, 1) of all particles."""
        own = (vector - vector.mean(0))[self.processes.part(self.n_particles)]
        result = self._joined(self._inner(self._summed(own)))
        return result - result.mean(0) - self._diagonal * vector

    def _powers(self) -> Tensor:
        """Squared norms (n, 1) of X_p minus the mean."""
        mean = self._summed(torch.ones_like(self._rms)) / self.n_particles
        powers = mean.square().sum(0) - 2 * self._inner(mean)
        for part, unit in self._blocks():
            each = unit[:, None]
            powers[part] += self._rms[part] * ((each @ each.mT)[:, 0] * self._rms[part])
        return powers

    def _summed(self, vector: Tensor) -> Tensor:
        """Sum X_p v_p over the particles of all processes, (voxels, 1), for this process's vector (n, 1)."""
        total = vector.new_zeros(1, self._unit.shape[1])
        for part, unit in self._blocks():
            total += (self._rms[part] * vector[part]).T @ unit
        return self.processes.add_up(total).T

    def _inner(self, one_map: Tensor) -> Tensor:
        """Inner products (n, 1) of X_p with a map (voxels, 1)."""
        found = torch.empty_like(self._rms)
        for part, unit in self._blocks():
            found[part] = self._rms[part] * (unit @ one_map)
        return found

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        n, voxels = self._unit.shape
        at_once = max(1, BLOCK_BYTES // (4 * voxels))
        single = torch.empty(at_once, voxels, device=self._unit.device)
        for start in range(0, n, at_once):
            part = slice(start, min(start + at_once, n))
            # Reuse the same memory: allocating fresh pages takes longer than the products.
            yield part, single[: part.stop - start].copy_(self._unit[part])

    def _joined(self, own: Tensor) -> Tensor:
        return self.processes.joined_parts(own, self.n_particles)


def kernel_spectrum(
    maps: DifferenceMaps, n_vectors: int, processes: Processes = ALONE, n_particles: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest eigenvalues (n,), descending, and the eigenvectors (N, n).

    The sign of each vector is fixed (its largest entry is positive), so that the start is reproducible. All
    processes receive the eigenvectors of all particles. Each step of the iteration adds up one map and one
    vector over the processes.

    maps : of the process's part of n_particles
    """
    count = n_particles or len(maps.rms)
    kernel = Kernel(maps, processes, count)

    def product(vector: np.ndarray) -> np.ndarray:
        found = kernel.product(maps.rms.new_tensor(vector).reshape(count, 1))
        return found[:, 0].double().cpu().numpy()

    operator = LinearOperator((count, count), matvec=product, dtype=np.float64)
    start = np.ones(count) / np.sqrt(count)
    values, vectors = eigsh(operator, k=n_vectors, which="LA", v0=start, tol=TOLERANCE)
    order = np.argsort(values)[::-1]
    vectors = vectors[:, order]
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(n_vectors)])
    return values[order], vectors * signs
