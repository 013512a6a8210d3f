"""MAP reconstruction of the maps of discrete states, from all images weighted by responsibilities.

The unknowns are differences from the mean map, d_s = e_s - sum_t pi_t e_t, with mixing weights pi. The prior
of e_s has the power c_s P. The mean of the states is therefore the mean map, whose noise and missing
information do not recur in every state. c_s is estimated from d_s and its posterior variance (`prior_power`).

Assignments come from the linear model. Re-assigning particles to the state maps does not help: each map is
reconstructed from fewer images, and the noise of a particle in its own map favours its present state.
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
    """Reconstruct each state's difference from the mean map (S, D, D, D), and its prior scale (S,).

    mean : mean map; its mask and power are those of the differences' prior
    responsibility : (N, S) probability of each state given a particle's images
    """
    equations = _equations(observations, mean, responsibility)
    centre = responsibility.mean(0)
    # Power of d_s relative to the power of e, if all states had the same power.
    part = (1 - 2 * centre + centre.square().sum()).clamp_min(LEAST_PART)
    precision, everywhere = equations.precision(len(mean.power)), torch.ones_like(mean.mask)
    scales = torch.full_like(centre, FIRST_PRIOR_SCALE)
    first = _solve(equations, mean, scales, centre)
    scales = prior_scales(first, mean, precision, scales * part, everywhere) / part
    return _solve(equations, mean, scales, centre), scales


def _equations(observations: Observations, mean: MeanMap, responsibility: Tensor) -> NormalEquations:
    """Build the normal equations of the state maps, in one pass over the images of all processes."""
    equations = NormalEquations(observations.box, responsibility.shape[1], observations.device)
    for seen in residuals(observations, mean):
        chunk = seen.chunk
        own = responsibility[chunk.part][chunk.owner][:, None]
        equations.add(chunk, seen.residual[..., None] * own, chunk.weight[..., None] * own)
    return equations.add_up(observations.processes)


def _solve(equations: NormalEquations, mean: MeanMap, scales: Tensor, centre: Tensor) -> Tensor:
    """Solve for difference maps (S, D, D, D), given prior scales (S,) and mixing weights `centre` (S,)."""
    # Column t is the contribution of e_t, with unit power, to each d_s.
    mixing = (torch.eye(len(scales), device=scales.device) - centre) * scales.sqrt()
    return equations.solve(SpectralPrior(mean.mask, mean.power, mixing), CG_ITERATIONS)
