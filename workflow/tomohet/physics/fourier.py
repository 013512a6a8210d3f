"""Fourier half-planes of images, half-balls of volumes, and the Hartley transform.

The origin is pixel D//2 of a box of even size D; F(k) = sum_x f(x) exp(-2 pi i k.x/D), without a normalising
factor. Real images have F(-k) = conj F(k). Only one point of each pair +-k is therefore stored, up to the
Nyquist circle |k| <= D/2 and without k = 0.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch

from tomohet.physics.shells import between_shells, radius_grid, shell_of

Tensor = torch.Tensor


@dataclass(frozen=True, eq=False)
class HalfPlane:
    """Lattice points of an image's transform, sorted by |k| (then kx, ky).

    box : D
    k : (n, 2) int16 as (kx, ky), with kx > 0, or kx = 0 and ky > 0
    radius : (n,) float32, |k|
    frequency : (n, 2) float32, cycles per pixel
    """

    box: int
    k: Tensor
    radius: Tensor
    frequency: Tensor

    @property
    def n(self) -> int:
        """Number of points."""
        return len(self.k)

    @property
    def shell(self) -> Tensor:
        """(n,) int64 Fourier shell of each point (`physics.shells`)."""
        return shell_of(self.radius)

    def to(self, device: torch.device | str) -> "HalfPlane":
        """Return the same half-plane on another device."""
        return half_plane(self.box, device)

    def prefix(self, radius: float) -> int:
        """Return the number of points with |k| <= radius, which come first."""
        return int(torch.searchsorted(self.radius, torch.tensor(radius + 1e-4, device=self.radius.device)))

    def _index(self) -> Tensor:
        kx, ky = self.k.long().unbind(-1)
        return (ky % self.box) * (self.box // 2 + 1) + kx

    def gather(self, transform: Tensor) -> Tensor:
        """Return values (..., n) of transforms (..., D, D//2+1) as from rfft2, origin at pixel D//2."""
        return transform.flatten(-2)[..., self._index()]

    def scatter(self, values: Tensor) -> Tensor:
        """Return the rfft2 layout (..., D, D//2+1) of values (..., n); zero outside the half-plane."""
        flat = values.new_zeros((*values.shape[:-1], self.box * (self.box // 2 + 1)))
        flat[..., self._index()] = values
        transform = flat.unflatten(-1, (self.box, self.box // 2 + 1))
        # The column kx = 0 contains both ky and -ky.
        half = self.box // 2
        transform[..., half + 1 :, 0] = transform[..., 1:half, 0].flip(-1).conj()
        return transform


@lru_cache(maxsize=32)
def half_plane(box: int, device: torch.device | str = "cpu") -> HalfPlane:
    """Return the half-plane of images of `box` x `box` pixels (cached per box and device).

    Raises ValueError if the box is odd.
    """
    half = _half_box(box)
    if torch.device(device).type != "cpu":
        on_cpu = half_plane(box)
        return replace(
            on_cpu, **{name: getattr(on_cpu, name).to(device) for name in ("k", "radius", "frequency")}
        )
    ky, kx = torch.meshgrid(torch.arange(-half, half + 1), torch.arange(0, half + 1), indexing="ij")
    kx, ky = kx.flatten(), ky.flatten()
    squared = kx**2 + ky**2
    keep = (squared <= half**2) & ((kx > 0) | (ky > 0))
    k = torch.stack([kx[keep], ky[keep]], dim=-1)
    k = k[_ascending(squared[keep], k, half)]
    return HalfPlane(box, k.to(torch.int16), k.double().norm(dim=-1).float(), (k.double() / box).float())


@dataclass(frozen=True, eq=False)
class HalfBall:
    """Lattice points of a volume's transform, sorted by |k| (then kx, ky, kz).

    box : D
    k : (n, 3) int16 as (kx, ky, kz), one point of each pair +-k with |k| <= D/2, without k = 0: kx > 0, or kx
        = 0 and ky > 0, or kx = ky = 0 and kz > 0
    radius : (n,) float32
    frequency : (n, 3) float32, cycles per pixel
    """

    box: int
    k: Tensor
    radius: Tensor
    frequency: Tensor

    @property
    def n(self) -> int:
        """Number of points."""
        return len(self.k)

    @cached_property
    def _index(self) -> Tensor:
        """Positions of the points in the layout of rfftn."""
        return self._place(self.k.long())

    @cached_property
    def _mirrored(self) -> tuple[Tensor, Tensor]:
        """Points of the plane kx = 0, which also contains -k, and the positions of -k."""
        points = torch.nonzero(self.k[:, 0] == 0)[:, 0]
        return points, self._place(-self.k[points].long())

    def _place(self, k: Tensor) -> Tensor:
        kx, ky, kz = k.unbind(-1)
        return ((kz % self.box) * self.box + ky % self.box) * (self.box // 2 + 1) + kx

    def gather(self, transform: Tensor) -> Tensor:
        """Return values (..., n) of transforms (..., D, D, D//2+1) as from rfftn, origin at voxel D//2."""
        return transform.flatten(-3)[..., self._index]

    def scatter(self, values: Tensor) -> Tensor:
        """Return the rfftn layout (..., D, D, D//2+1) of values (..., n); zero outside the ball."""
        flat = values.new_zeros((*values.shape[:-1], self.box * self.box * (self.box // 2 + 1)))
        points, mirrored = self._mirrored
        flat[..., mirrored] = values[..., points].conj()
        flat[..., self._index] = values
        return flat.unflatten(-1, (self.box, self.box, self.box // 2 + 1))

    def volume(self, values: Tensor, box: int | None = None) -> Tensor:
        """Return real maps (m, D, D, D) [z, y, x] with mean 0 from transform values (m, n).

        box : box of the map whose transform the values belong to, if it is larger than the ball's box. That
            map is then resampled to D voxels along each axis, with its density unchanged. Default: the ball's
            own box
        """
        scale = (self.box / (box or self.box)) ** 3
        return inverse3(self.scatter(values), self.box) * scale


@lru_cache(maxsize=8)
def half_ball(box: int, device: torch.device | str = "cpu") -> HalfBall:
    """Return the half-ball of volumes of `box`^3 voxels (cached per box and device).

    Raises ValueError if the box is odd.
    """
    half = _half_box(box)
    if torch.device(device).type != "cpu":
        on_cpu = half_ball(box)
        return replace(
            on_cpu, **{name: getattr(on_cpu, name).to(device) for name in ("k", "radius", "frequency")}
        )
    axis = torch.arange(-half, half + 1)
    kx, ky, kz = (a.flatten() for a in torch.meshgrid(torch.arange(0, half + 1), axis, axis, indexing="ij"))
    squared = kx**2 + ky**2 + kz**2
    keep = (squared <= half**2) & ((kx > 0) | (ky > 0) | ((ky == 0) & (kz > 0)))
    k = torch.stack([kx, ky, kz], dim=-1)[keep]
    k = k[_ascending(squared[keep], k, half)]
    return HalfBall(box, k.to(torch.int16), k.double().norm(dim=-1).float(), (k.double() / box).float())


def _half_box(box: int) -> int:
    if box % 2 or box < 4:
        raise ValueError(f"the box must be an even number of at least 4 pixels, found {box}")
    return box // 2


def _ascending(squared: Tensor, k: Tensor, half: int) -> Tensor:
    """Order points by |k|^2, then by the coordinates of k from first to last."""
    key = squared
    for coordinate in k.unbind(-1):
        key = key * (2 * half + 1) + coordinate + half
    return torch.argsort(key)


def transform2(images: Tensor) -> Tensor:
    """Compute rfft2 of images (..., D, D) with the origin at pixel D//2: (..., D, D//2+1).

    Rows are in FFT order.
    """
    return torch.fft.rfft2(torch.fft.ifftshift(images, dim=(-2, -1)))


def inverse2(transform: Tensor, box: int) -> Tensor:
    """Invert `transform2`: images (..., D, D)."""
    return torch.fft.fftshift(torch.fft.irfft2(transform, s=(box, box)), dim=(-2, -1))


def transform3(volumes: Tensor) -> Tensor:
    """Compute rfftn of volumes (..., D, D, D) with the origin at voxel D//2: (..., D, D, D//2+1).

    kz and ky are in FFT order.
    """
    return torch.fft.rfftn(torch.fft.ifftshift(volumes, dim=(-3, -2, -1)), dim=(-3, -2, -1))


def inverse3(transform: Tensor, box: int) -> Tensor:
    """Invert `transform3`: volumes (..., D, D, D)."""
    real = torch.fft.irfftn(transform, s=(box, box, box), dim=(-3, -2, -1))
    return torch.fft.fftshift(real, dim=(-3, -2, -1))


def lowpass(
    volumes: Tensor | np.ndarray, pixel_size_A: float, resolution_A: float, edge_shells: float = 2.0
) -> Tensor | np.ndarray:
    """Low-pass filter maps (..., D, D, D) at a resolution in Å; arrays give arrays, tensors give tensors.

    The raised-cosine edge of `edge_shells` Fourier pixels is centred at the resolution. An edge of 0 is a
    sharp cut-off that keeps |k| <= D pixel_size / resolution.
    """
    maps = torch.as_tensor(volumes).float()
    box = maps.shape[-1]
    beyond = radius_grid(box, maps.device) - box * pixel_size_A / resolution_A
    if edge_shells > 0:
        weight = 0.5 * (1 + torch.cos(math.pi * (beyond / edge_shells + 0.5).clamp(0, 1)))
    else:
        weight = (beyond <= 1e-4).float()
    filtered = inverse3(transform3(maps) * weight, box)
    return filtered if isinstance(volumes, Tensor) else filtered.numpy()


def multiply_shells(volume: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Multiply the transform of a map (D, D, D) by weights (D//2+1,) per shell (`shells.between_shells`)."""
    maps = torch.as_tensor(volume).float()
    box = maps.shape[-1]
    return inverse3(transform3(maps) * between_shells(weight, radius_grid(box)), box).numpy()


def mirror_z(volume: np.ndarray) -> np.ndarray:
    """Change the handedness of a map [z, y, x]: z -> -z about voxel D//2, which stays in place."""
    return np.roll(volume[::-1], 1, axis=0)


def crop_fourier(volumes: Tensor, box: int) -> Tensor:
    """Resample maps (..., D, D, D) to a smaller even box by cropping their transforms; density is unchanged.

    Both ends of the new box's Nyquist planes have equal weight. Raises ValueError unless 4 <= box <= D, even.
    """
    full = volumes.shape[-1]
    half = _half_box(box)
    if box > full:
        raise ValueError(f"cannot crop a box of {full} to a larger one of {box}")
    if box == full:
        return volumes
    spectrum = transform3(volumes)[..., : half + 1]
    for axis in (-3, -2):
        low = spectrum.narrow(axis, 0, half)
        high = spectrum.narrow(axis, full - half + 1, half - 1)
        nyquist = (spectrum.narrow(axis, half, 1) + spectrum.narrow(axis, full - half, 1)) / 2
        spectrum = torch.cat([low, nyquist, high], dim=axis)
    # Along x, irfftn takes the Hermitian part of the Nyquist plane.
    return inverse3(spectrum, box) * (box / full) ** 3


def pad_fourier(volumes: Tensor, box: int) -> Tensor:
    """Resample maps (..., d, d, d) to a larger even box by padding their transforms; density is unchanged.

    Coefficients at the old Nyquist frequency are shared by both ends. Raises ValueError if the box is smaller
    or odd.
    """
    small = volumes.shape[-1]
    _half_box(box)
    if box < small:
        raise ValueError(f"cannot pad a box of {small} to a smaller one of {box}")
    if box == small:
        return volumes
    half = _half_box(small)
    spectrum = transform3(volumes)
    for axis in (-3, -2):
        low, nyquist, high = spectrum.split([half, 1, half - 1], dim=axis)
        between = list(spectrum.shape)
        between[axis] = box - small - 1
        spectrum = torch.cat([low, nyquist / 2, spectrum.new_zeros(between), nyquist / 2, high], dim=axis)
    spectrum[..., half] /= 2
    return inverse3(torch.nn.functional.pad(spectrum, (0, (box - small) // 2)), box) * (box / small) ** 3


def on_grid(maps: Tensor, box: int) -> Tensor:
    """Return maps (..., D, D, D) with the same Fourier coefficients on a coarser or finer grid of `box`."""
    own = maps.shape[-1]
    if box == own:
        return maps
    return (own / box) ** 3 * (crop_fourier(maps, box) if box < own else pad_fourier(maps, box))


def smooth(volume: Tensor, sigma_px: float) -> Tensor:
    """Convolve a map (D, D, D) with a Gaussian of the given standard deviation."""
    box = volume.shape[-1]
    axis = torch.exp(-2 * (torch.pi * sigma_px * torch.fft.fftfreq(box, device=volume.device)) ** 2)
    gaussian = axis[:, None, None] * axis[:, None] * axis[: box // 2 + 1]
    return torch.fft.irfftn(torch.fft.rfftn(volume) * gaussian, s=volume.shape)


def images_to_half_planes(images: Tensor, window: Tensor | None = None) -> Tensor:
    """Return half-planes (m, n) complex64 of real images (m, D, D), times `window` (D, D) if given."""
    images = images.float()
    if window is not None:
        images = images * window
    return half_plane(images.shape[-1], images.device).gather(transform2(images))


def half_planes_to_images(half_planes: Tensor, hp: HalfPlane) -> Tensor:
    """Return real images (m, D, D) with mean 0 from half-planes (m, n)."""
    return inverse2(hp.scatter(half_planes), hp.box)


def shift_half_planes(half_planes: Tensor, shift_px: Tensor, hp: HalfPlane) -> Tensor:
    """Shift the content of images by +shift: multiply half-planes (m, n) by exp(-2 pi i k.t/D).

    shift_px : (m, 2) as (x, y), x along columns and y along rows, in pixels
    """
    # Only sums and products of real numbers: the rounding of matrix products and complex products depends on
    # the position in a batch, and an image must not depend on its neighbours.
    x, y = shift_px.to(hp.frequency).unsqueeze(-1).unbind(-2)
    angle = -2 * math.pi * (x * hp.frequency[:, 0] + y * hp.frequency[:, 1])
    cos, sin = torch.cos(angle), torch.sin(angle)
    real, imag = half_planes.real, half_planes.imag
    return torch.complex(real * cos - imag * sin, real * sin + imag * cos)


def cosine_window(box: int, r_in: float, r_out: float, device: torch.device | str = "cpu") -> Tensor:
    """Return a round window (D, D) float32: 1 within `r_in`, 0 from `r_out` on, a raised cosine in between.

    Radii are fractions of D/2. Raises ValueError unless 0 <= r_in < r_out.
    """
    if not 0 <= r_in < r_out:
        raise ValueError(f"the window needs 0 <= inner radius < outer radius, found {r_in} and {r_out}")
    axis = (torch.arange(box, dtype=torch.float64, device=device) - box // 2) / (box / 2)
    radius = torch.hypot(axis[:, None], axis[None, :])
    fall = ((radius - r_in) / (r_out - r_in)).clamp(0, 1)
    return (0.5 * (1 + torch.cos(math.pi * fall))).float()


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
