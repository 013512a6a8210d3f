"""Central slices through volumes, and their exact adjoint, for many volumes at once.

A volume of box D is divided by the transform of the interpolation kernel, padded to 2 D and Fourier
transformed into a table of shape (voxels, channels). A slice is a trilinear gather from that table, and its
adjoint a trilinear scatter into one. Everything is a sum over 8 corners, done for all channels together.
(Non-uniform FFT with a linear kernel: Fessler & Sutton, IEEE Trans. Signal Process. 2003.)
"""

from functools import lru_cache

import torch
from torch import Tensor

from tomohet.physics.insertion import add_rows

PADDING = 2
SCATTER_BYTES = 2**30  # of products held at once on a GPU


@lru_cache(maxsize=8)
def kernel_transform(box: int, width: int, device: torch.device) -> Tensor:
    """Return the transform (width,)*3 of the trilinear kernel on a padded grid, centred.

    It is sinc^2 along each axis.
    """
    position = torch.arange(width, device=device, dtype=torch.float64) - width // 2
    axis = torch.sinc(position / (PADDING * box)) ** 2
    return (axis[:, None, None] * axis[:, None] * axis).float()


def inner_box(box: int) -> slice:
    """Return the position of a box, centre on centre, along each axis of its padded box."""
    start = PADDING * box // 2 - box // 2
    return slice(start, start + box)


def transform(volumes: Tensor) -> Tensor:
    """Compute the table of the padded transforms of real volumes (c, D, D, D) -> ((2D)^3, c) complex64."""
    box = volumes.shape[-1]
    size = PADDING * box
    padded = volumes.new_zeros(len(volumes), size, size, size)
    inner = inner_box(box)
    padded[:, inner, inner, inner] = volumes / kernel_transform(box, box, volumes.device)
    spectra = torch.fft.fftn(torch.fft.ifftshift(padded, dim=(1, 2, 3)), dim=(1, 2, 3))
    return spectra.flatten(1).T.contiguous()


def transform_adjoint(table: Tensor, box: int) -> Tensor:
    """Apply the adjoint of `transform`: table ((2D)^3, c) complex -> real volumes (c, D, D, D)."""
    size, inner = PADDING * box, inner_box(box)
    volumes = torch.fft.ifftn(table.T.reshape(-1, size, size, size), dim=(1, 2, 3), norm="forward").real
    volumes = torch.fft.fftshift(volumes, dim=(1, 2, 3))[:, inner, inner, inner]
    return volumes / kernel_transform(box, box, volumes.device)


def corners(k: Tensor, rotation: Tensor, box: int) -> tuple[Tensor, Tensor]:
    """Find grid voxels around rotated slice points, and their trilinear weights.

    k : (n, 2) lattice points (kx, ky) of a box
    rotation : (m, 3, 3) volume -> image; the slice of an image lies at k3 = (kx, ky, 0) R

    Returns indices (m, n, 8) into the padded grid [z, y, x] and weights (m, n, 8).
    """
    return corners_at(k.to(rotation.dtype) @ rotation[:, :2, :], box)


def corners_at(points: Tensor, box: int) -> tuple[Tensor, Tensor]:
    """Find corners as `corners`, for points (..., 3) given as (x, y, z) in lattice steps of the box."""
    size = PADDING * box
    points = PADDING * points
    low = torch.floor(points)
    fraction = points - low
    low = low.long()
    x, y, z = (torch.stack((low[..., i], low[..., i] + 1), -1) % size for i in range(3))
    wx, wy, wz = (torch.stack((1 - fraction[..., i], fraction[..., i]), -1) for i in range(3))
    index = (z[..., :, None, None] * size + y[..., None, :, None]) * size + x[..., None, None, :]
    weight = wz[..., :, None, None] * wy[..., None, :, None] * wx[..., None, None, :]
    return index.flatten(-3), weight.flatten(-3)


def gather(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Gather slices from a table (voxels, c) complex: (m, n, 8) corners -> (m, n, c) complex."""
    real = torch.view_as_real(table).flatten(1)
    rows = torch.nn.functional.embedding_bag(
        index.reshape(-1, 8), real, per_sample_weights=weight.reshape(-1, 8), mode="sum"
    )
    return torch.view_as_complex(rows.reshape(*index.shape[:-1], table.shape[1], 2))


def project(volumes: Tensor, rotation: Tensor, k: Tensor) -> Tensor:
    """Return half planes (m, n, c) complex64 of projections of volumes (c, D, D, D) along m directions.

    rotation (m, 3, 3), volume -> image; k (n, 2) lattice points.
    """
    return gather(transform(volumes), *corners(k, rotation, volumes.shape[-1]))


def scatter(table: Tensor, index: Tensor, weight: Tensor, values: Tensor) -> None:
    """Apply the adjoint of `gather`, adding into `table` in place.

    table (voxels, c), contiguous, real or complex; values (m, n, c) of the same kind.
    """
    if table.is_complex():
        table = torch.view_as_real(table).flatten(1)
        values = torch.view_as_real(values.resolve_conj()).flatten(-2)
    values = values.reshape(-1, table.shape[1])
    index, weight = index.reshape(-1, 8), weight.reshape(-1, 8)
    if not table.is_cuda:
        add_rows(table.numpy(), index.numpy(), weight.numpy(), values.contiguous().numpy())
        return
    # All channels of a voxel are added at once, contiguous in memory, with few enough points for the products
    # to fit.
    at_once = max(1, SCATTER_BYTES // (8 * table.shape[1] * table.element_size()))
    for first in range(0, len(values), at_once):
        some = slice(first, first + at_once)
        products = values[some, None] * weight[some, :, None]
        table.index_add_(0, index[some].flatten(), products.flatten(0, 1))


def toeplitz_kernel(table: Tensor, box: int) -> Tensor:
    """Compute spectra of the normal operator S^H diag(w) S from scattered weights.

    table : ((2D)^3, c) real, `scatter` of the weights w of all half-plane points

    Returns (c, 2D, 2D, D+1) real, for `toeplitz_apply`. The kernel is divided by the interpolation kernel's
    transform at each lag.
    """
    size = PADDING * box
    lags = torch.fft.ifftn(
        table.T.reshape(-1, size, size, size).to(torch.complex64), dim=(1, 2, 3), norm="forward"
    )
    apodisation = torch.fft.ifftshift(kernel_transform(box, size, table.device))
    return torch.fft.rfftn(lags.real / apodisation, dim=(1, 2, 3)).real


def toeplitz_apply(kernel: Tensor, volumes: Tensor) -> Tensor:
    """Apply normal operators: kernel (..., 2D, 2D, D+1) to volumes (..., D, D, D), with broadcasting."""
    box = volumes.shape[-1]
    size = PADDING * box
    spectra = torch.fft.rfftn(volumes, s=(size, size, size), dim=(-3, -2, -1))
    result = torch.fft.irfftn(kernel * spectra, s=(size, size, size), dim=(-3, -2, -1))
    return result[..., :box, :box, :box]
