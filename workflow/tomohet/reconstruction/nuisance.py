"""Nuisance basis maps: differences between particles that are modelled and integrated out.

Nuisance maps lie outside a focus mask, or are explained by imaging conditions (`linear.explained`). Density
outside the mask projects onto the same pixels as density inside, from above and below. It is not noise: it is
the same in all tilts of a particle, and looks like structure inside the mask. A few basis maps outside the
mask describe it (`linear.basis_maps` fits them together with the others). Their latents z ~ N(0, 1) are
integrated out of every test and every posterior.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tomohet.physics.fourier import crop_fourier, pad_fourier
from tomohet.reconstruction.pose_errors import without_last


@dataclass(frozen=True)
class Nuisance:
    """Nuisance maps.

    maps : (K, D, D, D)
    variance : (K, shells) posterior variance of their Fourier coefficients; valid on any grid
    """

    maps: Tensor
    variance: Tensor

    def on_grid(self, box: int) -> "Nuisance":
        """Return the maps on a coarser or finer grid, in the convention of `MeanMap.cropped`."""
        own = self.maps.shape[-1]
        if box == own:
            return self
        finer = (own / box) ** 3
        if box > own:
            return replace(self, maps=finer * pad_fourier(self.maps, box))
        return replace(self, maps=finer * torch.stack([crop_fourier(one, box) for one in self.maps]))

    def beside(self, others: "Nuisance | None") -> "Nuisance | None":
        """Concatenate these maps and others; None if there are no maps."""
        if others is None:
            return self if len(self.maps) else None
        return Nuisance(torch.cat([self.maps, others.maps]), torch.cat([self.variance, others.variance]))

    def marginal(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Integrate the last latents, which belong to these maps, out of A (N, L, L) and b (N, L)."""
        a, k = a.clone(), len(self.maps)
        a[:, -k:, -k:] += torch.eye(k, dtype=a.dtype, device=a.device)
        return without_last(a, b, k)


def outside(focus: Tensor, sigma_px: float) -> Tensor:
    """Return the mask (D, D, D) of the nuisance maps outside a focus mask.

    It is 1 outside, and decreases within about sigma_px of the surface. Density outside that blurs into the
    focus mask at the images' resolution therefore counts as outside.
    """
    box = focus.shape[-1]
    axis = torch.exp(-2 * (torch.pi * sigma_px * torch.fft.fftfreq(box, device=focus.device)) ** 2)
    gaussian = axis[:, None, None] * axis[:, None] * axis[: box // 2 + 1]
    smoothed = torch.fft.irfftn(torch.fft.rfftn(focus) * gaussian, s=focus.shape)
    return (2 * (1 - smoothed)).clamp(0, 1)
