"""Radiation damage: the decay of the signal with the dose (Grant & Grigorieff 2015, eLife)."""

import torch

from tomohet.physics.lattice import HalfPlane

Tensor = torch.Tensor

# Ne = a s^b + c at 300 kV, in e-/Å^2, s in 1/Å; the dose with the best signal-to-noise ratio is 2.51284 Ne.
_A, _B, _C = 0.24499, -1.6649, 2.8141
_OPTIMAL = 2.51284


def _voltage_factor(voltage_kV: Tensor) -> Tensor:
    """Return the critical dose relative to 300 kV: 0.8 at 200 kV (as published).

    At other voltages the damage per electron follows the inelastic cross-section, proportional to 1/beta^2
    with beta the electron's speed over that of light; this law gives 0.803 at 200 kV.
    """
    voltage = voltage_kV.double()
    beta_squared = 1 - 1 / (1 + voltage / 510.99895) ** 2
    beta_squared_300 = 1 - 1 / (1 + 300 / 510.99895) ** 2
    factor = beta_squared / beta_squared_300
    factor = torch.where((voltage - 300).abs() < 0.5, torch.ones_like(factor), factor)
    return torch.where((voltage - 200).abs() < 0.5, torch.full_like(factor, 0.8), factor)


def critical_dose(s_invA: Tensor, voltage_kV: Tensor) -> Tensor:
    """Return the dose (e-/Å^2) after which the signal power at s (1/Å) has fallen to 1/e.

    The result is float64, and infinite at s = 0. s_invA (n,) or (m, n) and voltage_kV (m,) give (m, n).
    """
    return (_A * s_invA.double() ** _B + _C) * _voltage_factor(voltage_kV)[:, None]


def optimal_frequency(dose_e_A2: Tensor, voltage_kV: Tensor) -> Tensor:
    """Return the highest useful frequency of images, 1/Å, (m,) float64: where the dose is 2.51284 Ne(s)."""
    reduced = dose_e_A2.double() / (_OPTIMAL * _voltage_factor(voltage_kV)) - _C
    return torch.where(reduced <= 0, torch.inf, (reduced.clamp(min=1e-12) / _A) ** (1 / _B))


def attenuation(s_invA: Tensor, dose_e_A2: Tensor, voltage_kV: Tensor) -> Tensor:
    """Return the amplitude left at s after the dose, exp(-dose / (2 Ne)): (m, n) float32, 1 at s = 0.

    s_invA (n,) or (m, n) in 1/Å; dose (m,) cumulative, e-/Å^2; voltage (m,) in kV.
    """
    return torch.exp(-0.5 * dose_e_A2.double()[:, None] / critical_dose(s_invA, voltage_kV)).float()


def b_factor_attenuation(s_invA: Tensor, b_factor_A2: Tensor) -> Tensor:
    """Return exp(-B s^2 / 4) at s (m, n) in 1/Å for B (m,) in Å^2: (m, n) float32."""
    return torch.exp(-0.25 * b_factor_A2.double()[:, None] * s_invA.double().square()).float()


def dose_weight(s_invA: Tensor, dose_e_A2: Tensor, voltage_kV: Tensor) -> Tensor:
    """Return `attenuation`, set to 0 beyond the optimal dose of the frequency."""
    useful = s_invA.double() <= optimal_frequency(dose_e_A2, voltage_kV)[:, None]
    return attenuation(s_invA, dose_e_A2, voltage_kV) * useful


def optimal_dose_prefix(hp: HalfPlane, pixel_size_A: Tensor, dose_e_A2: Tensor, voltage_kV: Tensor) -> Tensor:
    """Count the leading points of the half plane to which an image of this dose contributes: (m,) int64.

    The useful frequencies form a disc, hence a prefix of the points sorted by |k|.
    """
    limit_px = optimal_frequency(dose_e_A2, voltage_kV) * pixel_size_A.double() * hp.box
    return torch.searchsorted(hp.radius.double(), limit_px, right=True)
