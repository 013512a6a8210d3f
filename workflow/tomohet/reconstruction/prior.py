"""The spectral prior of a map: independent Fourier coefficients of given power, inside a mask.

A map is m(x) F^-1[a(k) F(v)](x) with white v, mask m and amplitude a = sqrt(P / D^3), so that E|F|^2 = P
(accuracy of linear heterogeneity models depends on the shape of P first of all: most rows hold no signal).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tomohet.physics.slicing import PADDING


def shell_index(box: int, device: torch.device | str = "cpu") -> Tensor:
    """Rounded |k| of every point of an rfftn layout, (D, D, D//2+1) int64."""
    full = torch.fft.fftfreq(box, 1 / box, device=device)
    half = torch.fft.rfftfreq(box, 1 / box, device=device)
    return torch.sqrt(full[:, None, None] ** 2 + full[:, None] ** 2 + half**2).round().long()


def shell_power(volumes: Tensor, n_shells: int | None = None) -> Tensor:
    """Mean |F|^2 in shells of volumes (..., D, D, D): (..., n_shells), default D//2 + 1 shells."""
    box = volumes.shape[-1]
    shells = shell_index(box, volumes.device).flatten()
    n_shells = n_shells or box // 2 + 1
    power = torch.fft.rfftn(volumes, dim=(-3, -2, -1)).abs().square().flatten(-3)
    keep = shells < n_shells
    sums = power.new_zeros(*power.shape[:-1], n_shells)
    sums.index_add_(-1, shells[keep], power[..., keep])
    return sums / torch.bincount(shells[keep], minlength=n_shells)


class SpectralPrior:
    """Whitening of maps by a mask (D, D, D) and a power spectrum (D//2+1,) per shell."""

    def __init__(self, mask: Tensor, power: Tensor) -> None:
        self.mask, self.power = mask, power
        box = mask.shape[-1]
        shells = shell_index(box, mask.device)
        inside = shells < len(power)
        self.amplitude = torch.where(
            inside,
            torch.sqrt(power[shells.clamp(max=len(power) - 1)] / box**3),
            torch.zeros_like(mask[:1, :1, :1]),
        )

    def colour(self, white: Tensor) -> Tensor:
        """White variables (..., D, D, D) -> maps."""
        size = self.mask.shape
        spectra = torch.fft.rfftn(white, dim=(-3, -2, -1)) * self.amplitude
        return self.mask * torch.fft.irfftn(spectra, s=size, dim=(-3, -2, -1))

    def colour_adjoint(self, maps: Tensor) -> Tensor:
        """Adjoint of `colour`."""
        size = self.mask.shape
        spectra = torch.fft.rfftn(self.mask * maps, dim=(-3, -2, -1)) * self.amplitude
        return torch.fft.irfftn(spectra, s=size, dim=(-3, -2, -1))


def shell_precision(weight: Tensor, box: int, n_shells: int) -> Tensor:
    """Data precision of a Fourier coefficient of c maps per shell, (c, n_shells).

    weight (voxels, c): scattered weights.
    Each coefficient of the map's own grid gathers 8 voxels of the padded one, at k and at -k.
    """
    grids = weight.T.reshape(-1, *(PADDING * box,) * 3)
    shells = shell_index(PADDING * box, grids.device) // PADDING
    half = (
        grids[..., : PADDING * box // 2 + 1]
        + torch.roll(grids.flip(-3, -2, -1), (1, 1, 1), (-3, -2, -1))[..., : PADDING * box // 2 + 1]
    )
    keep = shells < n_shells
    sums = half.new_zeros(len(half), n_shells).index_add_(1, shells[keep], half[:, keep])
    return PADDING**3 * sums / torch.bincount(shells[keep], minlength=n_shells)


def preconditioner(information: Tensor, box: int) -> Callable[[Tensor], Tensor]:
    """An approximate inverse of the normal operator of maps' white variables (..., D, D, D).

    information (..., n_shells): precision of the data times power of the prior, per shell. Without a mask,
    and with data that are the same all over a shell, it is the inverse. What is left to conjugate gradients
    are the mask and differences within shells.
    """
    shells = shell_index(box, information.device)
    n_shells = information.shape[-1]
    inverse = torch.where(shells < n_shells, 1 / (1 + information[..., shells.clamp(max=n_shells - 1)]), 1)

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
