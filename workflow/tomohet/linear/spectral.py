"""Where EM starts: the leading eigenvectors of the particles' kernel matrix."""

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor


def kernel_spectrum(maps: Tensor, n_vectors: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest eigenvalues (n,) descending and eigenvectors (N, n) of K_pq = <X_p, X_q>, diagonal set to zero.

    The diagonal holds every particle's noise power; without it a noisy particle is no special direction. The
    sign of each vector is fixed (its largest entry is positive), so that the start is the same every time.
    """
    flat = maps.flatten(1)
    flat = flat - flat.mean(0)
    own = flat.square().sum(1).double().cpu().numpy()
    count = len(flat)

    def product(vector: np.ndarray) -> np.ndarray:
        x = flat.new_tensor(vector.reshape(count))
        return (flat @ (flat.T @ x)).double().cpu().numpy() - own * vector.reshape(count)

    operator = LinearOperator((count, count), matvec=product, dtype=np.float64)
    values, vectors = eigsh(operator, k=n_vectors, which="LA", v0=np.ones(count) / np.sqrt(count))
    order = np.argsort(values)[::-1]
    vectors = vectors[:, order]
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(n_vectors)])
    return values[order], vectors * signs
