"""Test of premultiplication by the noise spectrum: noise dominates a tilt image, so no map is needed.

The camera's noise has a smooth spectrum. Multiplication by the CTF C colours it: its power becomes
proportional to C^2, with zeros at the zeros of C. The power of image i at frequency k is modelled as

    E|y|^2 = a_t s_g [(1 - m) + m C_i(k)^2].

s_g is free in every group g of images of similar dose and every shell (detector, dose weights, thickness),
a_t in every tomogram (its grey scale), and C has each image's own defocus and astigmatism. m = 0 is raw or
phase-flipped data (which power cannot separate), m = 1 premultiplied. |y|^2 of noise is exponentially
distributed, which gives the likelihood of m in closed form: s_g is the group's mean of |y|^2 over the bracket
and a_t, and a_t likewise (Whittle). Signal adds C^2 in raw data too, so only the outer shells are used, where
noise dominates.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tomohet.particles.scores import z_over_particles
from tomohet.particles.table import ParticleSet
from tomohet.physics.ctf import electron_wavelength_A
from tomohet.physics.imaging import ctf_of
from tomohet.preflight.sample import Sample, draw_sample

OUTER = 0.5  # fraction of the sample's Nyquist frequency beyond which noise dominates a tilt image
DOSE_GROUPS = 8
SHARES = np.linspace(0.02, 0.98, 25)
PHASE_BINS = 60
SCALE_ROUNDS = 2  # one round would suffice if all tomograms had the same doses
SORTING_ROUNDS = 4


@dataclass(frozen=True)
class PowerSpectrum:
    """Radial means over the sampled images, and the same aligned by the phase of the CTF.

    frequency_1_A, power, ctf2, ctf4 : (n,) mean power (relative to the whole image's), mean C^2 and C^4 per
        shell
    background : (n,) smooth part of the power
    phase_cycles : (m,) argument of the CTF's sine over pi, so that zeros lie at whole numbers
    aligned_power : (m,) power over its group's mean at the same shell
    expected_raw, expected_premultiplied : (m,) expectation of aligned_power

    Empty bins are NaN.
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
    """Compute the average power spectrum of a random sample of images; InputError as `draw_sample`."""
    return spectrum_of(draw_sample(particle_set, max_images=n_images, seed=seed))


def spectrum_of(sample: Sample) -> PowerSpectrum:
    """Compute the average power spectrum of a sample."""
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
    """Return minus the argument of the CTF's sine over pi, (m, k).

    It is an integer at each zero and grows outwards.
    """
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


def modulation(sample: Sample) -> tuple[float, float]:
    """Estimate the fraction m of the outer power that follows C^2, and z of "premultiplied" over "raw".

    z is the mean over its standard error, over particles, of the log-likelihood of m = 0.98 minus that of m =
    0.02.
    """
    outer = _outer(sample)
    grey, likelihood = None, []
    for share in SHARES:
        bracket = 1 - share + share * outer.ctf2
        scale, grey = outer.scales(bracket, grey)  # starting from the scales of the previous m
        likelihood.append(outer.log_likelihood(bracket * scale, grey))
    best = float(SHARES[int(np.argmax([float(one.sum()) for one in likelihood]))])
    return best, z_over_particles((likelihood[-1] - likelihood[0]).numpy(), sample.particle)


def modulation_by_tomogram(sample: Sample) -> dict[str, float]:
    """Compute z of "premultiplied" over "raw" for each tomogram, by name; 0 for a single particle.

    Spectra s_g are shared. Each tomogram gets the m that fits it better, and the spectra are estimated again;
    this is repeated, because otherwise raw tomograms would blur the spectra of premultiplied ones. Of two
    starts, all raw and all premultiplied, the result of higher likelihood counts.
    """
    outer = _outer(sample)
    score = max((_sorted_tomograms(outer, start) for start in (False, True)), key=lambda end: end[1])[0]
    members = pd.Series(sample.tomogram).groupby(sample.tomogram).indices
    return {str(name): z_over_particles(score[here], sample.particle[here]) for name, here in members.items()}


def _sorted_tomograms(outer: "_Outer", start: bool) -> tuple[np.ndarray, float]:
    """Assign each tomogram its m from one start.

    Returns the log-likelihood of m = 0.98 minus that of m = 0.02 of each image (m,), and that of the
    assignment.
    """
    ends = [1 - share + share * outer.ctf2 for share in (SHARES[0], SHARES[-1])]
    premultiplied = torch.full((len(outer.names),), start)
    for _ in range(SORTING_ROUNDS):
        scale, _ = outer.scales(torch.where(premultiplied[outer.tomogram, None], ends[1], ends[0]))
        raw, treated = (outer.log_likelihood(end * scale, outer.grey(end * scale)) for end in ends)
        score = treated - raw
        by_tomogram = torch.zeros(len(outer.names), dtype=torch.float64)
        premultiplied = by_tomogram.index_add_(0, outer.tomogram, score) > 0
    best = torch.where(premultiplied[outer.tomogram], treated, raw)
    return score.numpy(), float(best.sum())


@dataclass(frozen=True)
class _Outer:
    """Outer shells: power, C^2 and group (m, k) of each value; tomogram (m,) of images, and their names."""

    power: Tensor
    ctf2: Tensor
    group: Tensor
    n_groups: int
    tomogram: Tensor
    names: np.ndarray

    def scales(self, bracket: Tensor, grey: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Estimate s_g (m, k) of each value and a_t (tomograms,) for a bracket (m, k); grey: initial a_t."""
        grey = torch.ones(len(self.names)) if grey is None else grey
        for _ in range(SCALE_ROUNDS):
            power = self.power / (bracket * grey[self.tomogram, None])
            scale = _by(power, self.group, self.n_groups)[self.group].clamp(min=1e-12)
            grey = self.grey(bracket * scale)
        return scale, grey

    def grey(self, expected: Tensor) -> Tensor:
        """Estimate a_t (tomograms,) for given expected power."""
        ratio = (self.power / expected).mean(1)
        return _by(ratio, self.tomogram, len(self.names)).clamp(min=1e-12)

    def log_likelihood(self, expected: Tensor, grey: Tensor) -> Tensor:
        """Compute the log-likelihood of each image (m,), float64."""
        expected = expected * grey[self.tomogram, None]
        return -(torch.log(expected) + self.power / expected).sum(1).double()


def _outer(sample: Sample) -> _Outer:
    columns = slice(sample.half_plane.prefix(OUTER * sample.box / 2), None)
    names, tomogram = np.unique(sample.tomogram, return_inverse=True)
    return _Outer(
        sample.data[:, columns].abs().square(),
        ctf_of(sample.params, sample.half_plane)[:, columns].square(),
        *_groups(sample, columns),
        torch.as_tensor(tomogram),
        names,
    )


def _groups(sample: Sample, columns: slice) -> tuple[Tensor, int]:
    """Return the group (m, k) of each value, by rank of the dose and shell; and the number of groups."""
    rank = np.unique(sample.params.dose_e_A2.numpy(), return_inverse=True)[1]
    dose = torch.as_tensor(rank * DOSE_GROUPS // (rank.max() + 1))
    n_shells = sample.box // 2 + 1
    return dose[:, None] * n_shells + sample.half_plane.shell[columns], DOSE_GROUPS * n_shells


def _by(values: Tensor, index: Tensor, n: int) -> Tensor:
    """Average values that share an index, (n,)."""
    flat = index.flatten()
    sums = torch.zeros(n, dtype=torch.float64).index_add_(0, flat, values.flatten().double())
    return (sums / torch.bincount(flat, minlength=n).clamp(min=1)).float()
