"""The noise of images, by Fourier shell and tomogram.

Tomograms differ in thickness, defocus and dose: one variance for all would give the noisy ones too much
weight and make latents of their particles large. What the few images of a tomogram cannot tell, all images
say.

Images end in a round window. There is no noise outside it, and neighbouring Fourier coefficients have noise
in common: sums over them, such as maps, hold more of it than independent noise of the same variance would
leave. How much more, the window's mean square says, because inside the window noise is what it was. Without
this the maps' precision is overstated by 80 % (radii .8 and .9), and latents follow noise.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tomohet.particles.noise_levels import shrunk
from tomohet.physics.slicing import gather, transform
from tomohet.reconstruction.observations import Chunk, Observations


@dataclass(frozen=True)
class Noise:
    """Variance of the complex noise of an untreated image at each half-plane row, constant within a shell.

    common (rows,): of all images; by_tomogram (T, rows): in the order of `Observations.tomograms`.
    """

    common: Tensor
    by_tomogram: Tensor

    @classmethod
    def same(cls, variance: Tensor, n_tomograms: int) -> "Noise":
        """One variance (rows,) for all tomograms."""
        return cls(variance, variance.expand(n_tomograms, -1))

    def whitened(self, observations: Observations) -> Iterator[Chunk]:
        """The observations' chunks with numerator and weight divided by the noise of their images."""
        for chunk in observations.chunks():
            variance = self.by_tomogram[:, : observations.n_rows][chunk.tomogram]
            yield replace(chunk, numerator=chunk.numerator / variance, weight=chunk.weight / variance)


def residual_noise(observations: Observations, volume: Tensor) -> Noise:
    """Mean |y - h S mu|^2 over the images, per shell for all of them and for each tomogram.

    A tomogram's variances are those of all images times its own level, times its own deviation from that in
    each shell; of both, what chance explains is left out (`noise_levels.shrunk`), so that many images decide
    for themselves and few follow the others.
    """
    table = transform(volume[None])
    shape = (len(observations.tomograms), observations.n_shells)
    # Power, noise gain and number of the images' rows.
    sums = volume.new_zeros(3, *shape, dtype=torch.float64)
    points = torch.zeros(shape[1], device=volume.device).index_add_(
        0, observations.shell, torch.ones_like(observations.shell, dtype=torch.float32)
    )
    for chunk in observations.chunks():
        residual = chunk.data - chunk.transfer * gather(table, chunk.index, chunk.corner_weight)[..., 0]
        for number, rows in enumerate((residual.abs().square(), chunk.noise_gain)):
            shells = rows.new_zeros(len(rows), shape[1]).index_add_(1, observations.shell, rows)
            sums[number].index_add_(0, chunk.tomogram, shells.double())
        counts = points.double().expand(len(chunk.tomogram), -1)
        sums[2].index_add_(0, chunk.tomogram, counts)
    power, gain, count = observations.processes.add_up(sums)
    common = power.sum(0) / gain.sum(0).clamp_min(1e-12)
    expected = gain * common.clamp_min(1e-30)
    level = shrunk(_log_ratio(power.sum(1), expected.sum(1)), count.sum(1))[:, None]
    # In units of the tomogram's own level each shell counts alike.
    shells = shrunk(_log_ratio(power, expected * level.exp()), count)
    ratio = torch.exp(level + shells)
    rows = observations.shell
    return Noise(common[rows].float(), (common * ratio)[:, rows].float())


def _log_ratio(power: Tensor, expected: Tensor) -> Tensor:
    known = (power > 0) & (expected > 0)
    return torch.where(known, torch.log(power.clamp_min(1e-30) / expected.clamp_min(1e-30)), 0.0)
