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

from tomohet.physics.fourier_grids import on_grid, smooth
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
        """Return the maps on a coarser or finer grid."""
        return replace(self, maps=on_grid(self.maps, box))

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
    return (2 * (1 - smooth(focus, sigma_px))).clamp(0, 1)
