"""Forward model of a tilt image: the transfer function between the slice of the map and the stored image."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from tomohet.physics.ctf import contrast_transfer
from tomohet.physics.dose import attenuation, b_factor_attenuation, optimal_dose_prefix, optimal_frequency
from tomohet.physics.lattice import HalfPlane

Tensor = torch.Tensor

EXTRACTION_KV = 300.0  # extraction programs compute dose weights for this voltage, whatever the actual one is
# Amplitude of the rounding noise of float16 stacks. Factors below it make the signal unrecoverable.
ROUNDING = 1e-5
# Columns of a measured dose weight: its values at equally spaced frequencies, the last at Nyquist.
MEASURED = tuple(f"measured_weight_{number:02d}" for number in range(1, 21))


class ImageParameters(NamedTuple):
    """Parameters of m tilt images; every field has m as its first axis.

    During extraction the images were multiplied by p = C W s: by their CTF C (ctf_premultiplied), by the dose
    weight W (dose_weighted; `extraction_dose_weight`) and by the amplitude s (scale_factor).

    rotation : (m, 3, 3) volume -> image; a slice samples the map's transform at k2 @ rotation
    defocus_u_A, defocus_v_A : Å, positive is underfocus
    dose_e_A2 : cumulative
    scale_factor : s; 1 stands for none. It is 0 for tilts that were excluded but not hidden: their images
        contain nothing and get no weight. A negative s inverts the sign of the image, and of its weight
    cut_off : whether W is 0 beyond the optimal dose
    measured_weight : (m, `MEASURED`) W itself if no known formula gives it; NaN for other images, (m, 0) if
        there is no such image
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
    scale_factor: Tensor
    dose_b_factor_A2: Tensor
    cut_off: Tensor
    measured_weight: Tensor

    def take(self, index: Tensor | slice) -> "ImageParameters":
        """Return the parameters of some of the images."""
        return ImageParameters(*(field[index] for field in self))

    def to(self, device: torch.device | str) -> "ImageParameters":
        """Return the same parameters on another device; from page-locked memory without waiting for it."""
        return ImageParameters(*(field.to(device, non_blocking=True) for field in self))

    def pinned(self) -> "ImageParameters":
        """Return the same parameters in page-locked memory."""
        return ImageParameters(*(field.pin_memory() for field in self))


_ROTATION_COLUMNS = [f"r{row}{column}" for row in range(3) for column in range(3)]
_FLAGS = ("ctf_premultiplied", "dose_weighted", "cut_off")


def image_parameters(images: pd.DataFrame, device: torch.device | str = "cpu") -> ImageParameters:
    """Read parameters from the rows of an image table (columns as in the prepared store), in row order.

    No input file states `cut_off` or `MEASURED`. In tables without these columns, `cut_off` is False and the
    weight unknown (`particles.measured_filter` adds them).
    """
    rotation = torch.as_tensor(images[_ROTATION_COLUMNS].to_numpy("float32", copy=True), device=device)
    fields = {"rotation": rotation.reshape(-1, 3, 3)}
    measured = list(MEASURED) if MEASURED[0] in images else []
    weights = images[measured].to_numpy("float32", copy=True)
    fields["measured_weight"] = torch.as_tensor(weights, device=device)
    for name in ImageParameters._fields[1:-1]:
        kind = "bool" if name in _FLAGS else "float32"
        known = name in images or name != "cut_off"
        column = images[name].to_numpy(kind, copy=True) if known else np.zeros(len(images), bool)
        fields[name] = torch.as_tensor(column, device=device)
    return ImageParameters(**fields)


def ctf_of(params: ImageParameters, hp: HalfPlane) -> Tensor:
    """Compute the CTF (m, n) of the images at the points of the half-plane."""
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
    """Compute the amplitude (m, n) that remains after radiation damage; it is never 0."""
    return attenuation(
        _frequency_invA(params, hp.radius.double() / hp.box), params.dose_e_A2, params.voltage_kV
    )


def extraction_dose_weight(params: ImageParameters, hp: HalfPlane) -> Tensor:
    """Compute W (m, n), the dose weight that images marked dose_weighted were multiplied by."""
    return dose_weight_at(params, hp.radius.double() / hp.box)


def dose_weight_at(params: ImageParameters, radius_cpp: Tensor) -> Tensor:
    """Compute W (m, n) at frequencies (n,) in cycles per pixel.

    W is exp(-B dose k^2 / 4) if dose_b_factor_A2 is above 0, and otherwise exp(-dose / 2 Nc(k)) with the
    constants of 300 kV at any voltage. Sources: RELION 5, damage.cpp, `weightImage`; Warp,
    TiltSeries.ReconstructParticleSeries.cs, `RelionWeights`. Both programs keep frequencies beyond the
    optimal dose. With `cut_off` W is 0 there, as in Grant & Grigorieff (2015, eLife). A measured weight
    replaces either formula; it is linear between its frequencies.
    """
    s_invA, extraction_kV = (
        _frequency_invA(params, radius_cpp),
        torch.full_like(params.voltage_kV, EXTRACTION_KV),
    )
    weight = attenuation(s_invA, params.dose_e_A2, extraction_kV)
    b_factor = params.dose_b_factor_A2
    weight = torch.where(
        b_factor[:, None] > 0, b_factor_attenuation(s_invA, b_factor * params.dose_e_A2), weight
    )
    beyond = s_invA > optimal_frequency(params.dose_e_A2, extraction_kV)[:, None]
    weight = weight.masked_fill(params.cut_off[:, None] & beyond, 0)
    if params.measured_weight.shape[1]:
        known = params.measured_weight[:, :1].isnan()
        weight = torch.where(known, weight, _between(params.measured_weight, radius_cpp))
    return weight


def _between(measured: Tensor, radius_cpp: Tensor) -> Tensor:
    """Interpolate measured weights (m, `MEASURED`) at frequencies (n,) in cycles per pixel: (m, n).

    The weight is 1 at frequency 0.
    """
    place = (radius_cpp * 2 * len(MEASURED)).clamp(0, len(MEASURED)).float()
    below = place.floor().long().clamp(max=len(MEASURED) - 1)
    from_zero = torch.cat([torch.ones_like(measured[:, :1]), measured], dim=1)
    return torch.lerp(from_zero[:, below], from_zero[:, below + 1], place - below)


def _frequency_invA(params: ImageParameters, radius_cpp: Tensor) -> Tensor:
    """Convert frequencies (n,) in cycles per pixel to 1/Å, (m, n) float64."""
    return radius_cpp / params.pixel_size_A.double()[:, None]


def tilt_attenuation(params: ImageParameters) -> Tensor:
    """Return cos(tilt) (m, 1): the specimen is 1/cos(tilt) times thicker along the beam."""
    return torch.cos(torch.deg2rad(params.tilt_deg))[:, None]


def transfer(params: ImageParameters, hp: HalfPlane, any_dose_weighted: bool | None = None) -> Tensor:
    """Compute h (m, n) in F = h V(slice) of the stored images: C times the p = C W s of premultiplied images.

    Factors that were multiplied into the images are always modelled.

    any_dose_weighted : whether any image has a dose weight; None checks, which waits for a GPU
    """
    ctf = ctf_of(params, hp)
    h = torch.where(params.ctf_premultiplied[:, None], ctf.square(), ctf) * params.scale_factor[:, None]
    if params.dose_weighted.any() if any_dose_weighted is None else any_dose_weighted:
        h = torch.where(params.dose_weighted[:, None], h * extraction_dose_weight(params, hp), h)
    return h


def loss_weight(
    params: ImageParameters, hp: HalfPlane, recon_dose_weight: bool, recon_tilt_weight: bool
) -> Tensor:
    """Compute weights (m, n) of the squared residuals: dose weight times cos(tilt).

    The dose weight is 0 beyond the optimal dose. Either factor is 1 if its flag is off.
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
    """Flip the phases of half-planes (m, n) by the sign of the CTF, except in premultiplied images."""
    sign = torch.sign(ctf_of(params, hp))
    return half_planes * torch.where(params.ctf_premultiplied[:, None], torch.ones_like(sign), sign)


def physical_transfer(
    params: ImageParameters, hp: HalfPlane, dose: bool, tilt: bool
) -> tuple[Tensor, Tensor]:
    """Compute h and g (m, n) for least squares: the map's slice is sum(g F) / sum(g h).

    The camera recorded q V + white noise. q is C, times the dose attenuation if `dose`, times cos(tilt) if
    `tilt`. The factor p = C W s was multiplied in afterwards and scales signal and noise alike: F = p (q V +
    noise). Therefore h = p q, and the optimal weight is g = q / p. p determines only g: the weight of the map
    in the normal equations, g h = q^2, is that of the recorded image for any p other than 0. Without `dose`,
    W remains a weight (g is not divided by it), because undoing it would amplify the high frequencies that
    damage has weakened.

    Where W and s are below the rounding noise, they are not undone: g contains W s / ((W s)^2 + `ROUNDING`^2)
    instead of 1 / (W s). Images with s = 0 therefore have h = g = 0.
    """
    ctf = ctf_of(params, hp)
    premultiplied, weighted = params.ctf_premultiplied[:, None], params.dose_weighted[:, None]
    g = torch.where(premultiplied, torch.ones_like(ctf), ctf)
    h = torch.where(premultiplied, ctf.square(), ctf)
    if dose:
        fade = dose_attenuation(params, hp)
        g, h = g * fade, h * fade
    multiplied = divided = params.scale_factor[:, None].expand_as(ctf)
    # Checking whether any image is weighted waits for a GPU.
    if dose or weighted.any():
        by_dose = torch.where(weighted, multiplied * extraction_dose_weight(params, hp), multiplied)
        multiplied, divided = by_dose, by_dose if dose else divided
    g, h = g * divided / (divided.square() + ROUNDING**2), h * multiplied
    if tilt:
        cosine = tilt_attenuation(params)
        g, h = g * cosine, h * cosine
    return h, g
