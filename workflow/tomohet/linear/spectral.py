"""Where EM starts: the leading eigenvectors of the particles' kernel matrix."""

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from tomohet.processes import ALONE, Processes


def kernel_spectrum(
    maps: Tensor, n_vectors: int, processes: Processes = ALONE, n_maps: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Largest eigenvalues (n,) descending and eigenvectors (N, n) of K_pq = <X_p, X_q>, diagonal set to zero.

    The diagonal holds every particle's noise power; without it a noisy particle is no special direction. The
    sign of each vector is fixed (its largest entry is positive), so that the start is the same every time.
    maps: the process's part of n_maps; all processes get the eigenvectors of all, each step of the iteration
    adding up one map and one vector.
    """
    count = n_maps or len(maps)
    flat = maps.flatten(1)
    flat = flat - processes.add_up(flat.sum(0)) / count
    part = processes.part(count)

    def joined(own: Tensor) -> np.ndarray:
        return processes.joined_parts(own, count).double().cpu().numpy()

    diagonal = joined(flat.square().sum(1))

    def product(vector: np.ndarray) -> np.ndarray:
        vector = vector.reshape(count)
        combined = processes.add_up(flat.T @ flat.new_tensor(vector[part]))
        return joined(flat @ combined) - diagonal * vector

    operator = LinearOperator((count, count), matvec=product, dtype=np.float64)
    values, vectors = eigsh(operator, k=n_vectors, which="LA", v0=np.ones(count) / np.sqrt(count))
    order = np.argsort(values)[::-1]
    vectors = vectors[:, order]
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(n_vectors)])
    return values[order], vectors * signs
