"""Points of Fourier space that are stored: half-planes of images and half-balls of volumes.

Real images have F(-k) = conj F(k). Only one point of each pair +-k is therefore stored, up to the Nyquist
circle |k| <= D/2 and without k = 0. The transform is that of `physics.fourier`.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch

from tomohet.physics.fourier import inverse2, inverse3, transform2
from tomohet.physics.shells import shell_of

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

    def first(self, n: int) -> "HalfPlane":
        """Return the n points of smallest |k|."""
        return HalfPlane(self.box, self.k[:n], self.radius[:n], self.frequency[:n])

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
    half = half_box(box)
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
    half = half_box(box)
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


def half_box(box: int) -> int:
    """Return half the side of a box; raise ValueError if the side is odd or below 4."""
    if box % 2 or box < 4:
        raise ValueError(f"the box must be an even number of at least 4 pixels, found {box}")
    return box // 2


def _ascending(squared: Tensor, k: Tensor, half: int) -> Tensor:
    """Order points by |k|^2, then by the coordinates of k from first to last."""
    key = squared
    for coordinate in k.unbind(-1):
        key = key * (2 * half + 1) + coordinate + half
    return torch.argsort(key)


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
