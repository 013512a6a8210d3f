"""Eigendecomposition of the particles' Gram (kernel) matrix, by matrix-free Lanczos iteration.

EM starts from the leading eigenvectors; the kernel test uses the eigenvalues. The matrix is K_pq = <Y_p, Y_q>
with Y_p = sum_g s_pg X_pg, where X_pg is the difference map of the tilt group g of particle p, and s_pg its
sign. The mean of Y over the particles is subtracted. The diagonal, which contains the noise power of each
particle, is set to zero, so that a noisy particle is not a leading direction. Only products with vectors are
needed, Y (Y^T v). They run over blocks of the maps; signs and means are applied to the vectors.
"""

from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from tomohet.processes import ALONE, Processes
from tomohet.reconstruction.particle_maps import DifferenceMaps

BLOCK_BYTES = 2**23  # of one block of maps in single precision
LANCZOS_STEPS = 60
# Residual of the eigenvectors relative to the eigenvalue; the relative error of the eigenvalues is its
# square.
TOLERANCE = 1e-4


class Kernels:
    """Gram matrices of S sign patterns of the same difference maps.

    maps : of the process's part of n_particles
    signs : (n, groups, S) +1 or -1, for the same particles
    """

    def __init__(
        self,
        maps: DifferenceMaps,
        signs: Tensor,
        processes: Processes = ALONE,
        n_particles: int | None = None,
    ) -> None:
        self.processes, self.n_particles = processes, n_particles or len(maps.rms)
        self._unit = maps.unit
        self._factor = maps.rms[..., None] * signs
        self._diagonal = self._joined(self._powers())

    def product(self, vectors: Tensor) -> Tensor:
        """Return K v for vectors (N, S) of all particles, one vector for each kernel."""
        own = (vectors - vectors.mean(0))[self.processes.part(self.n_particles)]
        result = self._joined(self._inner(self._summed(own)))
        return result - result.mean(0) - self._diagonal * vectors

    def _powers(self) -> Tensor:
        """Squared norms (n, S) of Y_p minus the mean."""
        mean = self._summed(torch.ones_like(self._factor[:, 0])) / self.n_particles
        powers = mean.square().sum(0) - 2 * self._inner(mean)
        for part, unit in self._blocks():
            factor = self._factor[part]
            powers[part] += (factor * (unit @ unit.mT @ factor)).sum(1)
        return powers

    def _summed(self, vectors: Tensor) -> Tensor:
        """Sum Y_p v_p over the particles of all processes, (voxels, S), for this process's vectors (n, S)."""
        total = vectors.new_zeros(vectors.shape[1], self._unit.shape[2])
        for part, unit in self._blocks():
            weights = self._factor[part] * vectors[part, None]
            total += weights.flatten(0, 1).T @ unit.flatten(0, 1)
        return self.processes.add_up(total).T

    def _inner(self, maps: Tensor) -> Tensor:
        """Inner products (n, S) of Y_p with maps (voxels, S)."""
        found = torch.empty_like(self._factor[:, 0])
        for part, unit in self._blocks():
            found[part] = (self._factor[part] * (unit @ maps)).sum(1)
        return found

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        n, groups, voxels = self._unit.shape
        at_once = max(1, BLOCK_BYTES // (4 * groups * voxels))
        single = torch.empty(at_once, groups, voxels, device=self._unit.device)
        for start in range(0, n, at_once):
            part = slice(start, min(start + at_once, n))
            # Reuse the same memory: allocating fresh pages takes longer than the products.
            yield part, single[: part.stop - start].copy_(self._unit[part])

    def _joined(self, own: Tensor) -> Tensor:
        return self.processes.joined_parts(own, self.n_particles)


def kernel_spectrum(
    maps: DifferenceMaps, n_vectors: int, processes: Processes = ALONE, n_particles: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest eigenvalues (n,), descending, and the eigenvectors (N, n) for all signs +1.

    The sign of each vector is fixed (its largest entry is positive), so that the start is reproducible. All
    processes receive the eigenvectors of all particles. Each step of the iteration adds up one map and one
    vector over the processes.

    maps : of the process's part of n_particles
    """
    kernel = Kernels(maps, torch.ones_like(maps.rms)[..., None], processes, n_particles)
    count = kernel.n_particles

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


def largest_eigenvalues(kernels: Kernels, start: Tensor, n: int, steps: int = LANCZOS_STEPS) -> np.ndarray:
    """Return (S, n) largest eigenvalues of each kernel, descending, by Lanczos iteration without restarts.

    All kernels iterate in step. The error of the leading eigenvalue is small compared with its variation by
    noise. Lower eigenvalues that are close to each other may be a few per cent too low.

    start : (N, S) random vectors
    """
    count, n_kernels = start.shape
    steps = min(steps, count)
    basis = start.new_zeros(n_kernels, steps, count)
    projected = start.new_zeros(n_kernels, steps, steps)
    vector = start.T
    for step in range(steps):
        basis[:, step] = vector / torch.linalg.vector_norm(vector, dim=1, keepdim=True).clamp_min(1e-30)
        vector = kernels.product(basis[:, step].T).T
        known = basis[:, : step + 1]
        # Orthogonalise twice in single precision: the remainder along known directions grows with every step.
        for _ in range(2):
            along = known @ vector[..., None]
            vector = vector - (known.mT @ along)[..., 0]
            projected[:, step, : step + 1] += along[..., 0]
    values = torch.linalg.eigvalsh(projected.double())  # uses the lower triangle
    return values.flip(1)[:, :n].cpu().numpy()
