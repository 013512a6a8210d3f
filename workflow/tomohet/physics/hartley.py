"""The Hartley transform, in which tomoDRGN states its networks' volumes."""

import torch

Tensor = torch.Tensor


def hartley2(images: Tensor) -> Tensor:
    """Compute the Hartley transform Re F - Im F of images (..., D, D).

    It is not normalised; the zero frequency is at [D//2, D//2].
    """
    transform = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(images, dim=(-2, -1))), dim=(-2, -1))
    return transform.real - transform.imag


def ihartley3(hartley: Tensor) -> Tensor:
    """Return volumes (..., D, D, D) from their Hartley transforms, with the zero frequency at the centre."""
    axes = (-3, -2, -1)
    transform = torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(hartley, dim=axes), dim=axes), dim=axes)
    return (transform.real - transform.imag) / hartley.shape[-1] ** 3


def symmetrise(hartley: Tensor) -> Tensor:
    """Append the first row and column of (..., D, D) at the end, (..., D+1, D+1), so that -k mirrors k."""
    with_row = torch.cat([hartley, hartley[..., :1, :]], dim=-2)
    return torch.cat([with_row, with_row[..., :, :1]], dim=-1)


def hartley_values(half_planes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the Hartley values of half-planes at +k and at -k: Re F - Im F and Re F + Im F."""
    return half_planes.real - half_planes.imag, half_planes.real + half_planes.imag
