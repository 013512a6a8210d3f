"""Regularised least-squares maps from scattered slices: the solver of all reconstructions.

The maps U_s = P_s v_s, with white variables v, minimise |v|^2 + sum_st U_s T_st U_t - 2 B_s U_s. B_s is the
adjoint transform of the scattered data, and T_st the Toeplitz operator of the scattered weights. The mean map
is a single map. Basis maps are coupled by weights for each pair of maps (`linear.em`). Maps of states are not
coupled (`linear.state_maps`).
"""

from functools import partial

import torch
from torch import Tensor

from tomohet.physics.slicing import (
    PADDING,
    scatter,
    toeplitz_apply,
    toeplitz_kernel,
    transform_adjoint,
)
from tomohet.processes import Processes
from tomohet.reconstruction.observations import Chunk
from tomohet.reconstruction.prior import SpectralPrior, conjugate_gradients, preconditioner, shell_precision


class NormalEquations:
    """Accumulated normal equations of S maps of box D.

    data : ((2D)^3, S) complex64 scattered data
    weight : ((2D)^3, T) float32 scattered weights, of each map (T = S), or of each pair of maps (`coupled`, T
        = S (S + 1) / 2) in the order of `pairs` (2, T)
    """

    def __init__(self, box: int, n_maps: int, device: torch.device, *, coupled: bool = False) -> None:
        size = (PADDING * box) ** 3
        self.box, self.n_maps, self.coupled = box, n_maps, coupled
        own = torch.arange(n_maps, device=device).expand(2, -1)
        self.pairs = torch.tril_indices(n_maps, n_maps, device=device) if coupled else own
        self.data = torch.zeros(size, n_maps, dtype=torch.complex64, device=device)
        self.weight = torch.zeros(size, self.pairs.shape[1], device=device)

    def add(self, chunk: Chunk, data: Tensor, weights: Tensor) -> None:
        """Add slices of images: data (m, n, S) complex and weights (m, n, T)."""
        scatter(self.data, chunk.index, chunk.corner_weight, data)
        scatter(self.weight, chunk.index, chunk.corner_weight, weights)

    def add_up(self, processes: Processes) -> "NormalEquations":
        """Sum over all processes, in place."""
        processes.add_up(torch.view_as_real(self.data))
        processes.add_up(self.weight)
        return self

    def precision(self, n_shells: int) -> Tensor:
        """Return the data precision of a Fourier coefficient of each map per shell, (S, n_shells)."""
        own = self.weight[:, self.pairs[0] == self.pairs[1]] if self.coupled else self.weight
        return shell_precision(own, self.box, n_shells)

    def solve(self, prior: SpectralPrior, iterations: int) -> Tensor:
        """Return maps (S, D, D, D) after `iterations` steps of conjugate gradients on the white variables.

        The iteration starts from zero.
        """
        normal = self._normal_operator()

        def apply(white: Tensor) -> Tensor:
            return white + prior.colour_adjoint(2 * normal(prior.colour(white)))

        right = prior.colour_adjoint(2 * transform_adjoint(self.data, self.box))
        information = prior.information(self.precision(prior.power.shape[-1]))
        inverse = preconditioner(information, self.box)
        return prior.colour(conjugate_gradients(apply, right, torch.zeros_like(right), iterations, inverse))

    def _normal_operator(self) -> partial:
        """Return the operator that takes maps (S, D, D, D) to sum_t T_st U_t."""
        kernel = toeplitz_kernel(self.weight, self.box)
        if not self.coupled:
            return partial(toeplitz_apply, kernel)
        full = kernel.new_empty(self.n_maps, self.n_maps, *kernel.shape[1:])
        full[self.pairs[0], self.pairs[1]] = kernel
        full[self.pairs[1], self.pairs[0]] = kernel
        return partial(toeplitz_apply_block, full)


def toeplitz_apply_block(kernel: Tensor, maps: Tensor) -> Tensor:
    """Return sum_t T_st U_t for kernels (S, S, 2D, 2D, D+1) and maps (S, D, D, D)."""
    box = maps.shape[-1]
    size = (PADDING * box,) * 3
    spectra = torch.fft.rfftn(maps, s=size, dim=(-3, -2, -1))
    product = torch.einsum("jlzyx,lzyx->jzyx", kernel.to(spectra.dtype), spectra)
    return torch.fft.irfftn(product, s=size, dim=(-3, -2, -1))[..., :box, :box, :box]
