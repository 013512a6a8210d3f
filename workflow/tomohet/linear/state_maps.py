"""Maps of discrete states, from all images, each weighted by how probable its particle's state is.

d_s = e_s - sum_t g_t e_t by maximum a posteriori under the spectral prior of power c_s P for e_s. With g the
states' shares, the mean of the states is the mean map: what is noise in it, or missing from it, does not come
back in every state. c_s follows from d_s and its posterior variance (`prior_power`).

Which particle is in which state the linear model has said. Maps of single states are no better judges: each
is made of fewer images, and particles' own noise in it speaks for the state that they are in already.
"""

import torch
from torch import Tensor

from tomohet.linear.em import CG_ITERATIONS
from tomohet.linear.prior_power import prior_scales
from tomohet.physics import slicing
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.prior import SpectralPrior, conjugate_gradients, preconditioner, shell_precision

FIRST_PRIOR_SCALE = 1.0
LEAST_PART = 0.05


def state_maps(observations: Observations, mean: MeanMap, responsibility: Tensor) -> tuple[Tensor, Tensor]:
    """Difference of every state's map from the mean map, (S, D, D, D), and prior scale (S,).

    mean: mask and power are those of the differences' prior; responsibility (N, S): probability of every
    state given a particle's images.
    """
    data, weight = _scattered(observations, mean, responsibility)
    centre = responsibility.mean(0)
    # Power of d_s over that of e, were that of all states the same.
    part = (1 - 2 * centre + centre.square().sum()).clamp_min(LEAST_PART)
    precision, everywhere = (
        shell_precision(weight, len(mean.mask), len(mean.power)),
        torch.ones_like(mean.mask),
    )
    scales = torch.full_like(centre, FIRST_PRIOR_SCALE)
    first = _solve(data, weight, mean, scales, centre)
    scales = prior_scales(first, mean, precision, scales * part, everywhere) / part
    return _solve(data, weight, mean, scales, centre), scales


def _scattered(observations: Observations, mean: MeanMap, responsibility: Tensor) -> tuple[Tensor, Tensor]:
    """Normal equations of the state maps: data and weight tables (voxels, S), in one pass over the images."""
    size = (slicing.PADDING * observations.box) ** 3, responsibility.shape[1]
    data = torch.zeros(size, dtype=torch.complex64, device=observations.device)
    weight = torch.zeros(size, device=observations.device)
    table = slicing.transform(mean.volume[None])
    for chunk in mean.noise.whitened(observations):
        slices = slicing.gather(table, chunk.index, chunk.corner_weight)[..., 0]
        residual = chunk.numerator - chunk.weight * slices
        own = responsibility[chunk.part][chunk.owner][:, None]
        slicing.scatter(data, chunk.index, chunk.corner_weight, residual[..., None] * own)
        slicing.scatter(weight, chunk.index, chunk.corner_weight, chunk.weight[..., None] * own)
    return data, weight


def _solve(data: Tensor, weight: Tensor, mean: MeanMap, scales: Tensor, centre: Tensor) -> Tensor:
    """Difference maps (S, D, D, D) by conjugate gradients, for prior scales (S,) and centre g (S,)."""
    box = len(mean.mask)
    kernels, prior = slicing.toeplitz_kernel(weight, box), SpectralPrior(mean.mask, mean.power)
    # What unit power of each e_t, in column t, gives to every d_s.
    mixing = (torch.eye(len(scales), device=scales.device) - centre) * scales.sqrt()

    def colour(white: Tensor) -> Tensor:
        return prior.colour(torch.tensordot(mixing, white, dims=1))

    def adjoint(maps: Tensor) -> Tensor:
        return torch.tensordot(mixing.T, prior.colour_adjoint(maps), dims=1)

    def apply(white: Tensor) -> Tensor:
        return white + adjoint(2 * slicing.toeplitz_apply(kernels, colour(white)))

    right = adjoint(2 * slicing.transform_adjoint(data, box))
    precision = mixing.square().T @ shell_precision(weight, box, len(mean.power))
    inverse = preconditioner(precision * mean.power, box)
    return colour(conjugate_gradients(apply, right, torch.zeros_like(right), CG_ITERATIONS, inverse))
