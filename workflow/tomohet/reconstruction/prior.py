"""Spectral prior of a map (independent Fourier coefficients inside a mask), and conjugate gradients.

A map is m(x) F^-1[a(k) F(v)](x) with white noise v, mask m and amplitude a = sqrt(P / D^3), so that E|F|^2 =
P. The accuracy of linear heterogeneity models depends mostly on the shape of P, because most Fourier points
contain no signal.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tomohet.physics.shells import at_points, nearest_grid, shell_points, shell_sums
from tomohet.physics.slicing import PADDING


class SpectralPrior:
    """Whitening of maps by a mask (..., D, D, D) and a power spectrum (..., n_shells).

    mixing : (S, S) map s is the sum over t of mixing_st times a map with this mask and power; None gives each
        map white variables of its own
    """

    def __init__(self, mask: Tensor, power: Tensor, mixing: Tensor | None = None) -> None:
        self.mask, self.power, self.mixing = mask, power, mixing
        box = mask.shape[-1]
        shells = nearest_grid(box, mask.device)
        self.amplitude = at_points(torch.sqrt(power / box**3), shells, beyond=0.0)

    def colour(self, white: Tensor) -> Tensor:
        """Transform white variables (..., D, D, D) to maps."""
        if self.mixing is not None:
            white = torch.tensordot(self.mixing, white, dims=1)
        return self.mask * self._filtered(white)

    def colour_adjoint(self, maps: Tensor) -> Tensor:
        """Apply the adjoint of `colour`."""
        white = self._filtered(self.mask * maps)
        return white if self.mixing is None else torch.tensordot(self.mixing.T, white, dims=1)

    def information(self, precision: Tensor) -> Tensor:
        """Return the information about each white variable, given the data precision (S, n_shells)."""
        if self.mixing is not None:
            precision = self.mixing.square().T @ precision
        return precision * self.power

    def _filtered(self, volumes: Tensor) -> Tensor:
        spectra = torch.fft.rfftn(volumes, dim=(-3, -2, -1)) * self.amplitude
        return torch.fft.irfftn(spectra, s=self.mask.shape[-3:], dim=(-3, -2, -1))


def shell_precision(weight: Tensor, box: int, n_shells: int) -> Tensor:
    """Return the data precision of a Fourier coefficient of c maps per shell, (c, n_shells).

    Each coefficient of the map's own grid gathers 8 voxels of the padded grid, at k and at -k. Shell 0 has
    the precision of shell 1: images contain no data at k = 0, but the mask spreads it to its neighbours.

    weight : (voxels, c) scattered weights
    """
    grids = weight.T.reshape(-1, *(PADDING * box,) * 3)
    shells = nearest_grid(box, grids.device, finer=PADDING)
    half = (
        grids[..., : PADDING * box // 2 + 1]
        + torch.roll(grids.flip(-3, -2, -1), (1, 1, 1), (-3, -2, -1))[..., : PADDING * box // 2 + 1]
    )
    precision = PADDING**3 * shell_sums(half, shells, n_shells) / shell_points(shells, n_shells)
    precision[:, 0] = precision[:, 1]
    return precision


def preconditioner(information: Tensor, box: int) -> Callable[[Tensor], Tensor]:
    """Return an approximate inverse of the normal operator of white variables (..., D, D, D).

    It is exact without a mask, and if the data are uniform within each shell. Conjugate gradients account for
    the mask and for differences within shells.

    information : (..., n_shells) precision of the data times power of the prior
    """
    inverse = at_points(1 / (1 + information), nearest_grid(box, information.device), beyond=1.0)

    def apply(white: Tensor) -> Tensor:
        spectra = torch.fft.rfftn(white, dim=(-3, -2, -1)) * inverse
        return torch.fft.irfftn(spectra, s=(box, box, box), dim=(-3, -2, -1))

    return apply


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor],
    right: Tensor,
    start: Tensor,
    iterations: int,
    precondition: Callable[[Tensor], Tensor] = lambda residual: residual,
) -> Tensor:
    """Solve apply(x) = right for a symmetric positive operator on tensors of any shape.

    precondition : approximate inverse of the operator, symmetric and positive as well
    """
    x = start.clone()
    residual = right - apply(x)
    shown = precondition(residual)
    direction = shown.clone()
    size = (residual * shown).sum()
    floor = 1e-12 * (right * precondition(right)).sum()
    for _ in range(iterations):
        image = apply(direction)
        # The test for convergence stays on the GPU; after convergence the updates are 0.
        goes_on = size > floor
        step = torch.where(goes_on, size / (direction * image).sum(), 0)
        x += step * direction
        residual -= step * image
        shown = precondition(residual)
        new_size = (residual * shown).sum()
        direction = shown + torch.where(goes_on, new_size / size, 0) * direction
        size = new_size
    return x
