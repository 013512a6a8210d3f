"""The forward model of a tilt image: which transfer function stands between the map's slice and the data."""

from typing import NamedTuple

import pandas as pd
import torch

from tomohet.physics.ctf import contrast_transfer
from tomohet.physics.dose import attenuation, optimal_dose_prefix
from tomohet.physics.fourier import HalfPlane

Tensor = torch.Tensor


class ImageParameters(NamedTuple):
    """What is known of m tilt images before looking at them; every field has m as its first axis.

    rotation: (m, 3, 3), volume -> image; a slice samples the map's transform at k2 @ rotation. Defocus in
    Å, positive is underfocus. dose: cumulative. ctf_premultiplied: the images were multiplied by their CTF
    when extracted. dose_weighted: they were multiplied by the dose attenuation.
    """

    rotation: Tensor
    pixel_size_A: Tensor
    defocus_u_A: Tensor
    defocus_v_A: Tensor
    defocus_angle_deg: Tensor
    voltage_kV: Tensor
    cs_mm: Tensor
    amplitude_contrast: Tensor
    phase_shift_deg: Tensor
    dose_e_A2: Tensor
    tilt_deg: Tensor
    ctf_premultiplied: Tensor
    dose_weighted: Tensor

    def take(self, index: Tensor | slice) -> "ImageParameters":
        """The parameters of some of the images."""
        return ImageParameters(*(field[index] for field in self))

    def to(self, device: torch.device | str) -> "ImageParameters":
        """The same parameters on another device."""
        return ImageParameters(*(field.to(device) for field in self))


_ROTATION_COLUMNS = [f"r{row}{column}" for row in range(3) for column in range(3)]
_FLAGS = ("ctf_premultiplied", "dose_weighted")


def image_parameters(images: pd.DataFrame, device: torch.device | str = "cpu") -> ImageParameters:
    """Parameters of the rows of an image table (columns as in the prepared store), in row order."""
    rotation = torch.as_tensor(images[_ROTATION_COLUMNS].to_numpy("float32", copy=True), device=device)
    fields = {"rotation": rotation.reshape(-1, 3, 3)}
    for name in ImageParameters._fields[1:]:
        fields[name] = torch.as_tensor(
            images[name].to_numpy("bool" if name in _FLAGS else "float32", copy=True), device=device
        )
    return ImageParameters(**fields)


def ctf_of(params: ImageParameters, hp: HalfPlane) -> Tensor:
    """CTF (m, n) of the images at the points of the half-plane."""
    return contrast_transfer(
        hp.frequency,
        params.pixel_size_A,
        params.defocus_u_A,
        params.defocus_v_A,
        params.defocus_angle_deg,
        params.voltage_kV,
        params.cs_mm,
        params.amplitude_contrast,
        params.phase_shift_deg,
    )


def dose_attenuation(params: ImageParameters, hp: HalfPlane) -> Tensor:
    """Amplitude (m, n) that radiation damage leaves, never 0."""
    s_invA = hp.radius.double() / (params.pixel_size_A.double()[:, None] * hp.box)
    return attenuation(s_invA, params.dose_e_A2, params.voltage_kV)


def tilt_attenuation(params: ImageParameters) -> Tensor:
    """cos(tilt) (m, 1): the specimen is 1/cos(tilt) thicker along the beam."""
    return torch.cos(torch.deg2rad(params.tilt_deg))[:, None]


def transfer(params: ImageParameters, hp: HalfPlane, any_dose_weighted: bool | None = None) -> Tensor:
    """h (m, n) in F = h V(slice), as the data were made: C, C^2 when premultiplied, times the dose weights
    they carry.

    Dose weights that were multiplied into the images are always modelled. `any_dose_weighted` tells whether
    an image carries them; None looks, for which a GPU has to be waited for.
    """
    ctf = ctf_of(params, hp)
    h = torch.where(params.ctf_premultiplied[:, None], ctf.square(), ctf)
    if params.dose_weighted.any() if any_dose_weighted is None else any_dose_weighted:
        h = torch.where(params.dose_weighted[:, None], h * dose_attenuation(params, hp), h)
    return h


def loss_weight(
    params: ImageParameters, hp: HalfPlane, recon_dose_weight: bool, recon_tilt_weight: bool
) -> Tensor:
    """Weight (m, n) of the squared residuals: dose weight (0 beyond the optimal dose) times cos(tilt).

    Either factor is 1 when its flag is off.
    """
    weight = torch.ones(len(params.dose_e_A2), hp.n, device=hp.radius.device)
    if recon_dose_weight:
        prefix = optimal_dose_prefix(hp, params.pixel_size_A, params.dose_e_A2, params.voltage_kV)
        useful = torch.arange(hp.n, device=prefix.device) < prefix[:, None]
        weight = dose_attenuation(params, hp) * useful
    if recon_tilt_weight:
        weight = weight * tilt_attenuation(params)
    return weight


def encoder_view(half_planes: Tensor, params: ImageParameters, hp: HalfPlane) -> Tensor:
    """Half-planes (m, n) with phases flipped by the sign of the CTF, unless it was multiplied in already."""
    sign = torch.sign(ctf_of(params, hp))
    return half_planes * torch.where(params.ctf_premultiplied[:, None], torch.ones_like(sign), sign)


def physical_transfer(
    params: ImageParameters, hp: HalfPlane, dose: bool, tilt: bool
) -> tuple[Tensor, Tensor]:
    """h and g (m, n) for least squares: the map's slice follows from sum(g F) / sum(g h).

    The camera recorded q V + white noise, with q = C, times the dose attenuation if `dose`, times cos(tilt)
    if `tilt`. What was multiplied in afterwards (C when premultiplied, the dose weight W when weighted)
    scales signal and noise alike: F = p (q V + noise), so h = p q and the optimal weight is g = q / p. With
    `dose` off, W stays a weight (g is not divided by it), because undoing it would amplify what damage left
    of the high frequencies.
    """
    ctf = ctf_of(params, hp)
    premultiplied, weighted = params.ctf_premultiplied[:, None], params.dose_weighted[:, None]
    g = torch.where(premultiplied, torch.ones_like(ctf), ctf)
    h = torch.where(premultiplied, ctf.square(), ctf)
    if dose or weighted.any():
        fade = dose_attenuation(params, hp)
        h = torch.where(weighted, h * fade, h)
        if dose:
            h = h * fade
            g = torch.where(weighted, g, g * fade)
    if tilt:
        cosine = tilt_attenuation(params)
        g, h = g * cosine, h * cosine
    return h, g
