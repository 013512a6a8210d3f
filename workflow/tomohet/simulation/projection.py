"""Tilt images of a specimen: slices of its maps, microscope, dose, shift; and CTF premultiplication."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tomohet.physics.ctf import contrast_transfer
from tomohet.physics.fourier import inverse2, transform2
from tomohet.physics.imaging import (
    ImageParameters,
    ctf_of,
    dose_attenuation,
    dose_weight_at,
    image_parameters,
    tilt_attenuation,
)
from tomohet.physics.lattice import HalfPlane, half_plane, shift_half_planes
from tomohet.physics.nonuniform import fourier_sums
from tomohet.physics.slicing import corners_at, gather, transform
from tomohet.simulation.specimen import Specimen

# Edge, in boxes, of the canvas on which a particle's surroundings are imaged before they are cropped.
CANVAS = 2


class MapSlices:
    """Central slices of maps (c, D, D, D): exact on a CPU, interpolated in padded transforms on a GPU."""

    def __init__(self, maps: Tensor) -> None:
        self.maps, self.table = (None, transform(maps)) if maps.is_cuda else (maps, None)
        self.box = maps.shape[-1]

    def at(self, frequency_cpp: Tensor, rotation: Tensor) -> Tensor:
        """Return slices (m, n, c) complex64 at frequencies (n, 2), cycles per pixel.

        rotation : (m, 3, 3), volume -> image
        """
        points = frequency_cpp.to(rotation.dtype) @ rotation[:, :2]
        if self.table is None:
            return fourier_sums(self.maps, points)
        return gather(self.table, *corners_at(self.box * points, self.box))


class Slices:
    """Central slices of a specimen's core and blocks, for any orientation and angle of the moving block.

    The slices are those of images of `canvas` times the edge of the specimen's box.
    """

    def __init__(self, specimen: Specimen, device: torch.device | str, canvas: int = 1) -> None:
        self.half_plane: HalfPlane = half_plane(canvas * specimen.box, device)
        self.moving = specimen.moving
        self.n_blocks = len(specimen.blocks)
        self.hinge = specimen.hinge
        self.pixel_size_A = specimen.pixel_size_A
        maps = torch.as_tensor(np.concatenate([specimen.core[None], specimen.blocks]), device=device)
        # Sums of the maps are their transforms at zero frequency.
        self.mass = maps.sum(dim=(1, 2, 3))
        still = [i for i in range(len(maps)) if self.moving is None or i != self.moving + 1]
        self.still = torch.as_tensor(still, device=device)
        self.still_maps = MapSlices(maps[still])
        self.moving_map = None if self.moving is None else MapSlices(maps[self.moving + 1][None])

    def of(self, rotation: Tensor, angle_deg: np.ndarray) -> Tensor:
        """Return slices (m, n, 1 + b) complex of the core and of every block.

        rotation (m, 3, 3), volume -> image; angle_deg (m,). The block rotated by M about the hinge h equals
        the block at rest, seen with the rotation R M and moved in the image by R (h - M h). This is exact for
        any angle.
        """
        hp = self.half_plane
        shape = (len(rotation), hp.n, 1 + self.n_blocks)
        slices = torch.zeros(shape, dtype=torch.complex64, device=rotation.device)
        slices[..., self.still] = self.of_still(rotation)
        if self.moving is not None:
            slices[..., self.moving + 1] = self.of_moving(rotation, angle_deg)
        return slices

    def of_still(self, rotation: Tensor) -> Tensor:
        """Return slices (m, n, u) complex of the core and the fixed blocks, in the order of `still`."""
        return self.still_maps.at(self.half_plane.frequency, rotation)

    def of_moving(self, rotation: Tensor, angle_deg: np.ndarray) -> Tensor:
        """Return slices (m, n) complex of the moving block alone."""
        hp = self.half_plane
        turn = self.hinge.rotations(np.asarray(angle_deg))
        hinge_px = self.hinge.point_A / self.pixel_size_A
        offset_px = torch.as_tensor(hinge_px - turn @ hinge_px).to(rotation)
        turn = torch.as_tensor(turn).to(rotation)
        moved = self.moving_map.at(hp.frequency, rotation @ turn)[..., 0]
        shift_px = torch.einsum("mij,mj->mi", rotation[:, :2], offset_px)
        return shift_half_planes(moved, shift_px, hp)


class Camera:
    """Camera that records tilt images of particles of a specimen: the box, or a `canvas` times wider area."""

    def __init__(
        self, specimen: Specimen, amplitude_loss: bool, device: torch.device | str, canvas: int = 1
    ) -> None:
        self.slices = Slices(specimen, device, canvas)
        self.amplitude_loss = amplitude_loss
        self.device = device

    def clean(self, images: pd.DataFrame, presence: np.ndarray, angle_deg: np.ndarray) -> Tensor:
        """Return images (m, D, D) as the camera sees them without noise: protein is dark.

        images : m rows of an image table
        presence, angle_deg : (m, b) and (m,), state of each image's particle
        """
        rotation = image_parameters(images, self.device).rotation
        weights = torch.as_tensor(np.insert(presence, 0, 1, axis=1), device=self.device).float()
        slices = torch.einsum("mnu,mu->mn", self.slices.of(rotation, angle_deg), weights.to(torch.complex64))
        return self.develop(slices[:, None], (weights @ self.slices.mass)[:, None], images)[:, 0]

    def develop(self, slices: Tensor, mass: Tensor, images: pd.DataFrame) -> Tensor:
        """Make clean images (m, c, D, D) of slices (m, c, n), with zero-frequency values (m, c).

        The transform is C exp(-dose / 2 Nc) [cos tilt] times the slice, with content displaced by minus the
        shift.
        """
        parameters = image_parameters(images, self.device)
        hp = self.slices.half_plane
        values = slices * camera_transfer(parameters, hp, self.amplitude_loss)[:, None]
        shift = shifts_px(images, self.device)
        layout = hp.scatter(shift_half_planes(values.transpose(0, 1), -shift, hp).transpose(0, 1))
        layout[..., 0, 0] = mass * self._at_zero_frequency(parameters)
        return inverse2(layout, hp.box)

    def _at_zero_frequency(self, parameters: ImageParameters) -> Tensor:
        """Return the transfer (m, 1) at zero frequency, where dose leaves the full amplitude."""
        ctf = ctf_at(parameters, torch.zeros(1, 2, device=self.device))
        return ctf * tilt_attenuation(parameters) if self.amplitude_loss else ctf


def camera_transfer(parameters: ImageParameters, hp: HalfPlane, amplitude_loss: bool) -> Tensor:
    """Return the transfer (m, n) from slice to recorded image.

    It includes the CTF, radiation damage, and cos(tilt) if requested.
    """
    h = ctf_of(parameters, hp) * dose_attenuation(parameters, hp)
    return h * tilt_attenuation(parameters) if amplitude_loss else h


def shifts_px(images: pd.DataFrame, device: torch.device | str) -> Tensor:
    """Return shifts (m, 2) as (x, y) of the rows of an image table."""
    shifts = images[["shift_x_px", "shift_y_px"]].to_numpy("float32", copy=True)
    return torch.as_tensor(shifts, device=device)


def ctf_at(parameters: ImageParameters, frequency_cpp: Tensor) -> Tensor:
    """Return the CTF (m, n) at any frequencies (n, 2), cycles per pixel."""
    return contrast_transfer(
        frequency_cpp,
        parameters.pixel_size_A,
        parameters.defocus_u_A,
        parameters.defocus_v_A,
        parameters.defocus_angle_deg,
        parameters.voltage_kV,
        parameters.cs_mm,
        parameters.amplitude_contrast,
        parameters.phase_shift_deg,
    )


def premultiplied(recorded: Tensor, images: pd.DataFrame) -> Tensor:
    """Multiply recorded images (m, ..., D, D) by p = C W s, as the rows of an image table state.

    p is described in `physics.imaging.ImageParameters`. WarpTools and RELION extract in this way: the signal
    becomes C^2 W times the damage, the noise p, and protein becomes light.
    """
    box, device = recorded.shape[-1], recorded.device
    ky, kx = torch.meshgrid(
        torch.fft.fftfreq(box, device=device), torch.fft.rfftfreq(box, device=device), indexing="ij"
    )
    frequency = torch.stack([kx.flatten(), ky.flatten()], dim=-1)
    weight = extraction_weight(image_parameters(images, device), frequency)
    shape = (len(recorded), *(1,) * (recorded.ndim - 3), box, box // 2 + 1)
    return inverse2(transform2(recorded) * weight.reshape(shape), box)


def extraction_weight(parameters: ImageParameters, frequency_cpp: Tensor) -> Tensor:
    """Return p = C W s (m, n) at frequencies (n, 2), cycles per pixel.

    Each factor is included only where the images carry it.
    """
    weight = parameters.scale_factor[:, None] * torch.where(
        parameters.ctf_premultiplied[:, None], ctf_at(parameters, frequency_cpp), 1.0
    )
    by_dose = dose_weight_at(parameters, frequency_cpp.double().norm(dim=-1))
    return torch.where(parameters.dose_weighted[:, None], weight * by_dose, weight)


def middle(images: Tensor) -> Tensor:
    """Crop the middle box (..., D, D), centre on centre, of images (..., E, E) of `CANVAS` boxes."""
    box = images.shape[-1] // CANVAS
    start = images.shape[-1] // 2 - box // 2
    return images[..., start : start + box, start : start + box]


def variance_in_circle(images: Tensor) -> Tensor:
    """Compute the variance (m,) of each image's pixels within the circle of diameter D about its centre."""
    box = images.shape[-1]
    axis = torch.arange(box, device=images.device) - box // 2
    inside = axis[:, None] ** 2 + axis**2 <= (box / 2) ** 2
    return images[:, inside].var(dim=1)
