"""The spectral prior of a map: independent Fourier coefficients of given power, inside a mask.

A map is m(x) F^-1[a(k) F(v)](x) with white v, mask m and amplitude a = sqrt(P / D^3), so that E|F|^2 = P
(accuracy of linear heterogeneity models depends on the shape of P first of all: most rows hold no signal).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tomohet.physics.shells import at_points, nearest_grid, shell_points, shell_sums
from tomohet.physics.slicing import PADDING


class SpectralPrior:
    """Whitening of maps by a mask (..., D, D, D) and a power spectrum (..., n_shells).

    mixing (S, S): map s is the sum over t of mixing_st times a map of this mask and power; None: each map has
    white variables of its own.
    """

    def __init__(self, mask: Tensor, power: Tensor, mixing: Tensor | None = None) -> None:
        self.mask, self.power, self.mixing = mask, power, mixing
        box = mask.shape[-1]
        shells = nearest_grid(box, mask.device)
        self.amplitude = at_points(torch.sqrt(power / box**3), shells, beyond=0.0)

    def colour(self, white: Tensor) -> Tensor:
        """White variables (..., D, D, D) -> maps."""
        if self.mixing is not None:
            white = torch.tensordot(self.mixing, white, dims=1)
        return self.mask * self._filtered(white)

    def colour_adjoint(self, maps: Tensor) -> Tensor:
        """Adjoint of `colour`."""
        white = self._filtered(self.mask * maps)
        return white if self.mixing is None else torch.tensordot(self.mixing.T, white, dims=1)

    def information(self, precision: Tensor) -> Tensor:
        """What data of a precision (S, n_shells) of the maps say of each white variable, (S, n_shells)."""
        if self.mixing is not None:
            precision = self.mixing.square().T @ precision
        return precision * self.power

    def _filtered(self, volumes: Tensor) -> Tensor:
        spectra = torch.fft.rfftn(volumes, dim=(-3, -2, -1)) * self.amplitude
        return torch.fft.irfftn(spectra, s=self.mask.shape[-3:], dim=(-3, -2, -1))


def shell_precision(weight: Tensor, box: int, n_shells: int) -> Tensor:
    """Data precision of a Fourier coefficient of c maps per shell, (c, n_shells).

    weight (voxels, c): scattered weights.
    Each coefficient of the map's own grid gathers 8 voxels of the padded one, at k and at -k. Shell 0 has the
    precision of shell 1: images hold nothing at k = 0, but the mask spreads it to its neighbours.
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
    """An approximate inverse of the normal operator of maps' white variables (..., D, D, D).

    information (..., n_shells): precision of the data times power of the prior, per shell. Without a mask,
    and with data that are the same all over a shell, it is the inverse. What is left to conjugate gradients
    are the mask and differences within shells.
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

    precondition: about the operator's inverse, symmetric and positive as well.
    """
    x = start.clone()
    residual = right - apply(x)
    shown = precondition(residual)
    direction = shown.clone()
    size = (residual * shown).sum()
    floor = 1e-12 * (right * precondition(right)).sum()
    for _ in range(iterations):
        image = apply(direction)
        # Without asking a GPU whether it has been solved already: then nothing moves any more.
        goes_on = size > floor
        step = torch.where(goes_on, size / (direction * image).sum(), 0)
        x += step * direction
        residual -= step * image
        shown = precondition(residual)
        new_size = (residual * shown).sum()
        direction = shown + torch.where(goes_on, new_size / size, 0) * direction
        size = new_size
    return x
