"""Differences between particles that are not asked for: latents of maps of their own, integrated out.

Such as those outside of a focus mask, and those that conditions of imaging explain (`linear.explained`).

What varies outside of the mask is in the same tilt images, above and below what is inside. It is no noise: it
is the same in all tilts of a particle, and so looks like structure inside. A few basis maps outside of the
mask take it up (`linear.basis_maps` fits them beside the others); their latents z ~ N(0, 1) are no part of
the answer. Every test and posterior of the others has them integrated out.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tomohet.physics.fourier import crop_fourier, pad_fourier
from tomohet.reconstruction.pose_errors import without_last


@dataclass(frozen=True)
class Nuisance:
    """maps (K, D, D, D), and variance (K, shells) of their coefficients, of any grid."""

    maps: Tensor
    variance: Tensor

    def on_grid(self, box: int) -> "Nuisance":
        """The same on a coarser or finer grid, as `MeanMap.cropped`."""
        own = self.maps.shape[-1]
        if box == own:
            return self
        finer = (own / box) ** 3
        if box > own:
            return replace(self, maps=finer * pad_fourier(self.maps, box))
        return replace(self, maps=finer * torch.stack([crop_fourier(one, box) for one in self.maps]))

    def beside(self, others: "Nuisance | None") -> "Nuisance | None":
        """These maps and others; None where there is not any."""
        if others is None:
            return self if len(self.maps) else None
        return Nuisance(torch.cat([self.maps, others.maps]), torch.cat([self.variance, others.variance]))

    def marginal(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """A (N, L, L) and b (N, L) of the latents before, the last ones, of these maps, integrated out."""
        a, k = a.clone(), len(self.maps)
        a[:, -k:, -k:] += torch.eye(k, dtype=a.dtype, device=a.device)
        return without_last(a, b, k)


def outside(focus: Tensor, sigma_px: float) -> Tensor:
    """Mask (D, D, D) of the nuisance maps of a focus mask: 1 outside, and less within about sigma_px of its
    surface, so that what stands outside and reaches in by the images' resolution counts as outside."""
    box = focus.shape[-1]
    axis = torch.exp(-2 * (torch.pi * sigma_px * torch.fft.fftfreq(box, device=focus.device)) ** 2)
    gaussian = axis[:, None, None] * axis[:, None] * axis[: box // 2 + 1]
    smoothed = torch.fft.irfftn(torch.fft.rfftn(focus) * gaussian, s=focus.shape)
    return (2 * (1 - smoothed)).clamp(0, 1)
