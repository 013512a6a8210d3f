"""The contrast transfer function of the microscope."""

import math

import torch

Tensor = torch.Tensor


def electron_wavelength_A(voltage_kV: Tensor) -> Tensor:
    """Return the relativistic electron wavelength in Å: 12.2639 / sqrt(V + 0.97845e-6 V^2), V in volts."""
    volts = voltage_kV.double() * 1e3
    return 12.2639 / torch.sqrt(volts + 0.97845e-6 * volts**2)


def contrast_transfer(
    frequency_cpp: Tensor,
    pixel_size_A: Tensor,
    defocus_u_A: Tensor,
    defocus_v_A: Tensor,
    defocus_angle_deg: Tensor,
    voltage_kV: Tensor,
    cs_mm: Tensor,
    amplitude_contrast: Tensor,
    phase_shift_deg: Tensor,
) -> Tensor:
    """Compute the CTF (m, n) float32 of m images at n frequencies.

    frequency_cpp : (n, 2) as (kx, ky), cycles per pixel
    all others : (m,) pixel size and defocus in Å (positive is underfocus), angle of defocus U from the x axis
        in degrees, voltage in kV, Cs in mm

    CTF = sin(-pi z lambda s^2 + pi/2 Cs lambda^3 s^4 - phase - arcsin(w)), with the astigmatic defocus z = (U
    + V)/2 + (U - V)/2 cos 2(azimuth - angle) (Rohou & Grigorieff 2015, J. Struct. Biol. 192:216). At zero
    frequency it is -sin(phase + arcsin w): negative for underfocus.
    """
    kx, ky = frequency_cpp.double().unbind(-1)
    s2 = kx**2 + ky**2
    # z s^2 is linear in (s^2, s^2 cos 2 azimuth, s^2 sin 2 azimuth) = (kx^2 + ky^2, kx^2 - ky^2, 2 kx ky),
    # so the phases of all images are one matrix product, in double precision because they reach hundreds of
    # radians.
    basis = torch.stack([s2, kx**2 - ky**2, 2 * kx * ky, s2**2, torch.ones_like(s2)])
    wavelength = electron_wavelength_A(voltage_kV)
    pixel = pixel_size_A.double()
    mean_defocus = (defocus_u_A.double() + defocus_v_A.double()) / 2
    astigmatism = (defocus_u_A.double() - defocus_v_A.double()) / 2
    twice_angle = 2 * torch.deg2rad(defocus_angle_deg.double())
    defocus_term = -math.pi * wavelength / pixel**2
    coefficients = torch.stack(
        [
            defocus_term * mean_defocus,
            defocus_term * astigmatism * torch.cos(twice_angle),
            defocus_term * astigmatism * torch.sin(twice_angle),
            math.pi / 2 * cs_mm.double() * 1e7 * wavelength**3 / pixel**4,
            -torch.deg2rad(phase_shift_deg.double()) - torch.asin(amplitude_contrast.double()),
        ],
        dim=-1,
    )
    turns = (coefficients / (2 * math.pi)) @ basis
    return torch.sin((turns - torch.round(turns)).float() * (2 * math.pi))
