"""Maximum a posteriori mean map of a set of particles, with its noise and its power spectrum.

    mu = argmin sum |y - h S mu|^2 / s2 + |v|^2   with mu = M P^(1/2) v.

The noise s2 and the power P of each shell are estimated alternately with the map. The mask M is a sphere in
the first round, and then a tight mask around the map.
"""

import logging
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tomohet.physics.fourier_grids import crop_fourier, on_grid
from tomohet.physics.masks import sphere_mask, tight_mask
from tomohet.physics.shells import shell_power
from tomohet.physics.slicing import transform_adjoint
from tomohet.reconstruction.noise import Noise, residual_noise
from tomohet.reconstruction.nuisance import Nuisance
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.pose_errors import PoseErrors
from tomohet.reconstruction.prior import SpectralPrior
from tomohet.reconstruction.solve import NormalEquations

log = logging.getLogger(__name__)

CG_ITERATIONS = 20
# Parts that only few particles have lie outside the consensus density; the mask leaves room for them.
MARGIN = 1 / 6
# Number of particles from which the initial noise is estimated.
FIRST_LOOK = 32


@dataclass(frozen=True)
class MeanMap:
    """Mean map and the assumptions of the forward model.

    volume, mask : (D, D, D)
    noise : noise of the images
    power : (D//2+1,) |F|^2 of the map per shell
    errors : pose errors about the map; None treats the poses as exact
    focus : (D, D, D) mask inside which differences are of interest; None stands for everywhere
    nuisance : known differences that are not of interest
    tilt_shift_px : standard deviation of image shifts along x and y, px of the store
    """

    volume: Tensor
    mask: Tensor
    noise: Noise
    power: Tensor
    errors: PoseErrors | None = None
    focus: Tensor | None = None
    nuisance: Nuisance | None = None
    tilt_shift_px: float = 0.0

    def cropped(self, box: int) -> "MeanMap":
        """Return the mean map on a coarser grid, with the same coefficients of the Fourier transform."""
        return replace(
            self,
            volume=on_grid(self.volume, box),
            mask=crop_fourier(self.mask, box).clamp(0, 1),
            power=self.power[: box // 2 + 1],
            errors=self.errors and self.errors.cropped(box),
            focus=None if self.focus is None else crop_fourier(self.focus, box).clamp(0, 1),
            nuisance=self.nuisance and self.nuisance.on_grid(box),
        )

    def marginal(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Integrate pose errors and nuisance latents out of A and b; return A (N, K, K) and b (N, K)."""
        for other in (self.errors, self.nuisance):
            a, b = (a, b) if other is None else other.marginal(a, b)
        return a, b


def mean_map(observations: Observations, *, rounds: int = 3, mask: Tensor | None = None) -> MeanMap:
    """Estimate the mean map (real space [z, y, x], in the units of the store's images).

    mask : (D, D, D) fixed mask; default: a sphere in the first round, and then a tight mask around the map
    """
    box, device = observations.box, observations.device
    if observations.box != observations.store.box:
        raise ValueError("the mean map is made at the store's box")
    current = mask if mask is not None else torch.as_tensor(sphere_mask(box, edge_px=2.0), device=device)
    noise = Noise.same(_initial_noise(observations).expand(observations.n_rows), len(observations.tomograms))
    volume, power = None, None
    for iteration in range(rounds):
        equations = _normal_equations(observations, noise)
        if volume is None:
            power = shell_power(_gridded(equations))
        (volume,) = equations.solve(SpectralPrior(current, _positive(power)), CG_ITERATIONS)
        noise = residual_noise(observations, volume)
        power = shell_power(volume)
        if mask is None:
            pixel_size_A = observations.store.pixel_size_A
            density = volume.cpu().numpy()
            tight = tight_mask(density, pixel_size_A, dilate_A=MARGIN * box * pixel_size_A)
            current = torch.as_tensor(tight, device=device)
        log.info(
            "mean map, iteration %d: noise %.3g to %.3g, mask %.1f %% of the box",
            iteration + 1,
            noise.common.min().item(),
            noise.common.max().item(),
            100 * (current > 0.5).float().mean().item(),
        )
    return MeanMap(volume * current, current, noise, _positive(shell_power(volume * current)))


def _normal_equations(observations: Observations, noise: Noise) -> NormalEquations:
    """Accumulate the normal equations of the mean map over all processes."""
    equations = NormalEquations(observations.box, 1, observations.device)
    for chunk in noise.whitened(observations):
        equations.add(chunk, chunk.numerator[..., None], chunk.weight[..., None])
    return equations.add_up(observations.processes)


def _gridded(equations: NormalEquations) -> Tensor:
    """Return a first map: data divided by weight on the grid, where there are data."""
    weight, box = equations.weight, equations.box
    floor = 0.1 * weight[weight > 0].mean()
    return transform_adjoint(equations.data / (weight + floor), box)[0] * (2 / (2 * box) ** 3)


def _initial_noise(observations: Observations) -> Tensor:
    """Return the mean power of some images, which is mostly noise."""
    power, gain = 0.0, 0.0
    for chunk in observations.first(FIRST_LOOK).chunks():
        power = power + chunk.data.abs().square().sum()
        gain = gain + chunk.noise_gain.sum()
    return power / gain


def _positive(power: Tensor) -> Tensor:
    """Return a power spectrum without empty shells: at least 1e-6 of the largest shell."""
    return power.clamp_min(1e-6 * power.max())
