"""Maps of discrete states, from all images, each weighted by how probable its particle's state is.

d_s = e_s - sum_t g_t e_t by maximum a posteriori under the spectral prior of power c_s P for e_s. With g the
states' shares, the mean of the states is the mean map: what is noise in it, or missing from it, does not come
back in every state. c_s follows from d_s and its posterior variance (`prior_power`).

Which particle is in which state the linear model has said. Maps of single states are no better judges: each
is made of fewer images, and particles' own noise in it speaks for the state that they are in already.
"""

import torch
from torch import Tensor

from tomohet.linear.basis_maps import CG_ITERATIONS
from tomohet.linear.prior_power import prior_scales
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.prior import SpectralPrior
from tomohet.reconstruction.residuals import residuals
from tomohet.reconstruction.solve import NormalEquations

FIRST_PRIOR_SCALE = 1.0
LEAST_PART = 0.05


def state_maps(observations: Observations, mean: MeanMap, responsibility: Tensor) -> tuple[Tensor, Tensor]:
    """Difference of every state's map from the mean map, (S, D, D, D), and prior scale (S,).

    mean: mask and power are those of the differences' prior; responsibility (N, S): probability of every
    state given a particle's images.
    """
    equations = _equations(observations, mean, responsibility)
    centre = responsibility.mean(0)
    # Power of d_s over that of e, were that of all states the same.
    part = (1 - 2 * centre + centre.square().sum()).clamp_min(LEAST_PART)
    precision, everywhere = equations.precision(len(mean.power)), torch.ones_like(mean.mask)
    scales = torch.full_like(centre, FIRST_PRIOR_SCALE)
    first = _solve(equations, mean, scales, centre)
    scales = prior_scales(first, mean, precision, scales * part, everywhere) / part
    return _solve(equations, mean, scales, centre), scales


def _equations(observations: Observations, mean: MeanMap, responsibility: Tensor) -> NormalEquations:
    """Normal equations of the state maps, in one pass over the images of all processes."""
    equations = NormalEquations(observations.box, responsibility.shape[1], observations.device)
    for seen in residuals(observations, mean):
        chunk = seen.chunk
        own = responsibility[chunk.part][chunk.owner][:, None]
        equations.add(chunk, seen.residual[..., None] * own, chunk.weight[..., None] * own)
    return equations.add_up(observations.processes)


def _solve(equations: NormalEquations, mean: MeanMap, scales: Tensor, centre: Tensor) -> Tensor:
    """Difference maps (S, D, D, D), for prior scales (S,) and centre g (S,)."""
    # What unit power of each e_t, in column t, gives to every d_s.
    mixing = (torch.eye(len(scales), device=scales.device) - centre) * scales.sqrt()
    return equations.solve(SpectralPrior(mean.mask, mean.power, mixing), CG_ITERATIONS)
