"""Was the data multiplied by its CTF? The noise tells: it dominates a tilt image, and no map is needed.

The camera's noise has a smooth spectrum. Multiplication by the CTF C colours it: its power becomes
proportional to C^2, with zeros at the zeros of C. So the power of image i at frequency k is modelled as

    E|y|^2 = a_t s_g [(1 - m) + m C_i(k)^2],

s_g free in every group g of images of similar dose and every shell (detector, dose weights, thickness), a_t
in every tomogram (its grey scale), C with each image's own defocus and astigmatism. m = 0 is raw or
phase-flipped data (which power cannot tell apart), m = 1 premultiplied. |y|^2 of noise is exponentially
distributed, which makes the likelihood of m closed: s_g is the group's mean of |y|^2 over the bracket and
a_t, and a_t likewise (Whittle). Signal adds C^2 in raw data too, so only the outer shells are used, where
noise dominates.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import norm
from scipy.stats import t as student_t
from torch import Tensor

from tomohet.particles.table import ParticleSet
from tomohet.physics.ctf import electron_wavelength_A
from tomohet.physics.imaging import ctf_of
from tomohet.preflight.sample import Sample, draw_sample

OUTER = 0.5  # of the sample's Nyquist frequency: beyond, noise dominates a tilt image
DOSE_GROUPS = 8
SHARES = np.linspace(0.02, 0.98, 25)
PHASE_BINS = 60
SCALE_ROUNDS = 2  # one would do if all tomograms had the same doses
LEAST_PROBABILITY = 1e-300  # of a normal deviate: less than this underflows


@dataclass(frozen=True)
class PowerSpectrum:
    """Radial means over the sampled images, and the same aligned by the phase of the CTF.

    frequency_1_A, power, ctf2, ctf4 (n,): mean power (relative to the whole image's), mean C^2 and C^4 per
    shell; background (n,): its smooth part, power / background is free of it. phase_cycles (m,): argument of
    the CTF's sine over pi, so that zeros lie at whole numbers; aligned_power (m,): power over its group's
    mean at the same shell; expected_raw, expected_premultiplied (m,): what that would be. Empty bins are NaN.
    """

    frequency_1_A: np.ndarray
    power: np.ndarray
    background: np.ndarray
    ctf2: np.ndarray
    ctf4: np.ndarray
    phase_cycles: np.ndarray
    aligned_power: np.ndarray
    expected_raw: np.ndarray
    expected_premultiplied: np.ndarray


def power_spectrum(particle_set: ParticleSet, *, n_images: int = 1500, seed: int = 0) -> PowerSpectrum:
    """Average power spectrum of a random sample of images; InputError as `draw_sample`."""
    return spectrum_of(draw_sample(particle_set, max_images=n_images, seed=seed))


def spectrum_of(sample: Sample) -> PowerSpectrum:
    """Average power spectrum of a sample."""
    hp = sample.half_plane
    power, ctf2 = sample.data.abs().square(), ctf_of(sample.params, hp).square()
    radial = [_by(values.mean(0), hp.shell, hp.box // 2 + 1)[1:].numpy() for values in (power, ctf2, ctf2**2)]
    frequency = np.arange(1, hp.box // 2 + 1) / (hp.box * sample.pixel_size_A)
    background = np.exp(np.polyval(np.polyfit(frequency, np.log(radial[0] + 1e-12), 3), frequency))
    outer = slice(hp.prefix(OUTER * hp.box / 2), None)
    group, n_groups = _groups(sample, outer)
    expected = ctf2[:, outer] / _by(ctf2[:, outer], group, n_groups)[group].clamp(min=1e-6)
    relative = power[:, outer] / _by(power[:, outer], group, n_groups)[group].clamp(min=1e-12)
    phase = ctf_phase_cycles(sample)[:, outer].flatten()
    low, high = float(phase.quantile(0.02)) if phase.numel() < 1e7 else 0.0, float(phase.max())
    bins = ((phase - low) / max(high - low, 1e-6) * PHASE_BINS).long().clamp(0, PHASE_BINS - 1)
    count = torch.bincount(bins, minlength=PHASE_BINS)
    aligned, premultiplied = (
        torch.where(count > 20, _by(v.flatten(), bins, PHASE_BINS), torch.nan).numpy()
        for v in (relative, expected)
    )
    return PowerSpectrum(
        frequency,
        radial[0],
        background,
        radial[1],
        radial[2],
        low + (np.arange(PHASE_BINS) + 0.5) * (high - low) / PHASE_BINS,
        aligned,
        np.ones(PHASE_BINS),
        premultiplied,
    )


def ctf_phase_cycles(sample: Sample) -> Tensor:
    """Minus the argument of the CTF's sine over pi, (m, k): whole numbers at the zeros, growing outwards."""
    p, hp = sample.params, sample.half_plane
    wavelength = electron_wavelength_A(p.voltage_kV)[:, None]
    kx, ky = (hp.frequency.double() / p.pixel_size_A.double()[:, None, None]).unbind(-1)
    s2 = kx**2 + ky**2
    turn = 2 * (torch.atan2(ky, kx) - torch.deg2rad(p.defocus_angle_deg.double())[:, None])
    u, v = p.defocus_u_A.double()[:, None], p.defocus_v_A.double()[:, None]
    defocus = (u + v) / 2 + (u - v) / 2 * torch.cos(turn)
    constant = torch.deg2rad(p.phase_shift_deg.double()) + torch.asin(p.amplitude_contrast.double())
    spherical = p.cs_mm.double()[:, None] * 1e7 * wavelength**3 * s2**2 / 2
    return (wavelength * defocus * s2 - spherical + constant[:, None] / torch.pi).float()


class Modulation(NamedTuple):
    """The share m of the outer power that follows C^2, and z of "premultiplied" over "raw".

    z is the mean over its standard error, over particles, of the log-likelihood of m = 0.98 minus that of
    m = 0.02. z_of_tomogram: the same from the particles of one tomogram, by name; 0 for a single particle.
    """

    share: float
    z: float
    z_of_tomogram: dict[str, float]


def modulation(sample: Sample) -> Modulation:
    """How much of the power at high frequency follows the square of the CTF."""
    outer = slice(sample.half_plane.prefix(OUTER * sample.box / 2), None)
    power = sample.data[:, outer].abs().square()
    ctf2 = ctf_of(sample.params, sample.half_plane)[:, outer].square()
    group, n_groups = _groups(sample, outer)
    names, tomogram = np.unique(sample.tomogram, return_inverse=True)
    tomogram = torch.as_tensor(tomogram)
    grey = torch.ones(len(names))

    def per_image(share: float) -> Tensor:
        """Log-likelihood (m,); the grey scales start from those of the share before."""
        nonlocal grey
        bracket = 1 - share + share * ctf2
        for _ in range(SCALE_ROUNDS):
            scale = _by(power / bracket / grey[tomogram, None], group, n_groups)[group].clamp(min=1e-12)
            grey = _by((power / bracket / scale).mean(1), tomogram, len(names)).clamp(min=1e-12)
        expected = bracket * scale * grey[tomogram, None]
        return -(torch.log(expected) + power / expected).sum(1).double()

    likelihood = [per_image(float(share)) for share in SHARES]
    best = float(SHARES[int(np.argmax([float(one.sum()) for one in likelihood]))])
    score = (likelihood[-1] - likelihood[0]).numpy()
    of_tomogram = {
        str(name): z_over_particles(score[here], sample.particle[here])
        for name, here in pd.Series(sample.tomogram).groupby(sample.tomogram).indices.items()
    }
    return Modulation(best, z_over_particles(score, sample.particle), of_tomogram)


def z_over_particles(score: np.ndarray, particle: np.ndarray) -> float:
    """Mean over standard error of scores (m,) of images, summed within particles, as a normal deviate.

    Over n particles that ratio is Student's t with n - 1 degrees of freedom; returned is the z of equal
    probability (`normal_deviate`). 0 for a single particle.
    """
    sums = np.bincount(np.unique(particle, return_inverse=True)[1], score)
    spread = sums.std(ddof=1) * np.sqrt(len(sums)) if len(sums) > 1 else 0.0
    if not spread > 0:
        return 0.0
    ratio = float(sums.sum() / spread)
    return normal_deviate(float(student_t.sf(abs(ratio), len(sums) - 1)), ratio)


def normal_deviate(tail: float, sign: float) -> float:
    """The normal deviate of this sign with the probability `tail` beyond it; 37 at most."""
    return float(np.copysign(norm.isf(max(tail, LEAST_PROBABILITY)), sign))


def _groups(sample: Sample, columns: slice) -> tuple[Tensor, int]:
    """Group (m, k) of each value, by rank of the dose and shell; and their number."""
    rank = np.unique(sample.params.dose_e_A2.numpy(), return_inverse=True)[1]
    dose = torch.as_tensor(rank * DOSE_GROUPS // (rank.max() + 1))
    n_shells = sample.box // 2 + 1
    return dose[:, None] * n_shells + sample.half_plane.shell[columns], DOSE_GROUPS * n_shells


def _by(values: Tensor, index: Tensor, n: int) -> Tensor:
    """Means (n,) of values that share an index."""
    flat = index.flatten()
    sums = torch.zeros(n, dtype=torch.float64).index_add_(0, flat, values.flatten().double())
    return (sums / torch.bincount(flat, minlength=n).clamp(min=1)).float()
