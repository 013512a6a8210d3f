"""Noise spectra of tilt images by Fourier shell, tomogram and dose, from residuals of the mean map.

Tomograms differ in thickness, defocus and dose. A single variance would give noisy tomograms too much weight,
and make the latents of their particles large. Within a tomogram, structures in the ice fade with the dose, as
the particle does, and become fainter with the tilt. Per-tomogram estimates are shrunk towards the global
spectrum.

Images end in a round window. There is no noise outside the window, and the noise of neighbouring Fourier
coefficients is correlated. Sums over coefficients, such as maps, therefore contain more noise than
independent noise of the same variance would give. The factor is 1 / (mean square of the window), because the
noise inside the window has its full variance. Without this correction the precision of maps is overestimated
by 80 % (radii 0.8 and 0.9), and latents follow noise.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tomohet.particles.noise_levels import shrunk
from tomohet.physics.slicing import gather, transform
from tomohet.reconstruction.observations import DOSE_BINS, Chunk, Observations


@dataclass(frozen=True)
class Noise:
    """Variance of the complex noise of an untreated image at each half-plane point, constant within a shell.

    common : (rows,) of all images
    by_tomogram : (T, rows) in the order of `Observations.tomograms`
    by_dose : (T, B, shells) of each tomogram's images of similar dose (`observations.dose_bins`); None if all
        images have the tomogram's noise
    """

    common: Tensor
    by_tomogram: Tensor
    by_dose: Tensor | None = None

    @classmethod
    def same(cls, variance: Tensor, n_tomograms: int) -> "Noise":
        """Use one variance (rows,) for all tomograms."""
        return cls(variance, variance.expand(n_tomograms, -1))

    def of_tomograms(self, known: list[str], names: list[str]) -> "Noise":
        """Return the noise of tomograms by name; unknown tomograms have the common noise.

        known : names of the tomograms of this noise, in order
        """
        number = {name: index for index, name in enumerate(known)}

        def selected(of_each: Tensor, typical: Tensor) -> Tensor:
            return torch.stack([of_each[number[name]] if name in number else typical for name in names])

        by_dose = self.by_dose
        if by_dose is not None:
            by_dose = selected(by_dose, by_dose.log().mean(0).exp())
        return Noise(self.common, selected(self.by_tomogram, self.common), by_dose)

    def to(self, device: torch.device | str) -> "Noise":
        """Return the noise on a device."""
        by_dose = None if self.by_dose is None else self.by_dose.to(device)
        return Noise(self.common.to(device), self.by_tomogram.to(device), by_dose)

    def whitened(self, observations: Observations) -> Iterator[Chunk]:
        """Yield the observations' chunks with numerator and weight divided by the noise of their images."""
        for chunk in observations.chunks():
            if self.by_dose is None:
                variance = self.by_tomogram[:, : observations.n_rows][chunk.tomogram]
            else:
                variance = self.by_dose[chunk.tomogram, chunk.dose_bin][:, observations.shell]
            yield replace(chunk, numerator=chunk.numerator / variance, weight=chunk.weight / variance)


def residual_noise(observations: Observations, volume: Tensor) -> Noise:
    """Estimate the noise from the mean |y - h S mu|^2 per shell: global, by tomogram, and by dose.

    The noise of a tomogram is the global spectrum, times the level of the tomogram, times its deviation in
    each shell. The noise of a dose bin is the tomogram's noise, times the factor that this dose has in all
    tomograms, times the level of the bin in the tomogram, times its deviation in each shell. All deviations
    are shrunk by the part that chance explains (`noise_levels.shrunk`): large groups of images determine
    their own noise, and small groups follow the others.
    """
    power, gain, count = observations.processes.add_up(_sums(observations, volume))
    of_tomogram = [sums.sum(1) for sums in (power, gain, count)]
    common = of_tomogram[0].sum(0) / of_tomogram[1].sum(0).clamp_min(1e-12)
    tomogram = common.clamp_min(1e-30) * torch.exp(_deviations(*of_tomogram, common.clamp_min(1e-30)))
    # Dose factors in all tomograms: the power of each tomogram is divided by its own variance.
    of_dose = [sums.sum(0) for sums in (power / tomogram[:, None], gain, count)]
    dose = torch.exp(shrunk(_log_ratio(*of_dose[:2]), of_dose[2]))
    expected = tomogram[:, None] * dose
    both = [sums.flatten(0, 1) for sums in (power, gain, count)]
    own = _deviations(*both, expected.flatten(0, 1)).unflatten(0, power.shape[:2])
    rows = observations.shell
    by_dose = (expected * torch.exp(own)).float()
    return Noise(common[rows].float(), tomogram[:, rows].float(), by_dose)


def _sums(observations: Observations, volume: Tensor) -> Tensor:
    """Sum power of residuals, noise gain and number of non-empty points, (3, T, B, shells)."""
    table = transform(volume[None])
    shape = (len(observations.tomograms), DOSE_BINS, observations.n_shells)
    sums = volume.new_zeros(3, shape[0] * shape[1], shape[2], dtype=torch.float64)
    for chunk in observations.chunks():
        residual = chunk.data - chunk.transfer * gather(table, chunk.index, chunk.corner_weight)[..., 0]
        held = chunk.noise_gain > 0
        group = chunk.tomogram * shape[1] + chunk.dose_bin
        for number, rows in enumerate((residual.abs().square() * held, chunk.noise_gain, held.float())):
            shells = rows.new_zeros(len(rows), shape[2]).index_add_(1, observations.shell, rows)
            sums[number].index_add_(0, group, shells.double())
    return sums.unflatten(1, shape[:2])


def _deviations(power: Tensor, gain: Tensor, count: Tensor, variance: Tensor) -> Tensor:
    """Return the log ratio (G, shells) of each group's variance to `variance`: level and shell deviations."""
    expected = gain * variance
    level = shrunk(_log_ratio(power.sum(1), expected.sum(1)), count.sum(1))[:, None]
    # Relative to the group's level, all shells count equally.
    return level + shrunk(_log_ratio(power, expected * level.exp()), count)


def _log_ratio(power: Tensor, expected: Tensor) -> Tensor:
    known = (power > 0) & (expected > 0)
    return torch.where(known, torch.log(power.clamp_min(1e-30) / expected.clamp_min(1e-30)), 0.0)
