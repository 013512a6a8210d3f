"""Checks of microscope, defocus and CTF."""

import numpy as np
import pandas as pd
import torch

from tomohet.particles.table import ParticleSet, outside_bounds
from tomohet.physics.ctf import electron_wavelength_A
from tomohet.preflight.check import Check

USUAL_VOLTAGES_KV = (100, 120, 200, 300)
USUAL_DEFOCUS_A = (1_000.0, 100_000.0)  # a median outside this range is in another unit
MOST_ASTIGMATISM_A = 15_000.0
LEAST_OUTLIER_A = 5_000.0  # smallest difference from the series for a tilt to count as a failed CTF fit
OUTLIER_SPREADS = 6.0
SPREAD_OF_MAD = 1.4826  # standard deviation over median absolute deviation of a normal distribution


def check_microscope(s: ParticleSet) -> Check:
    """Check voltage, spherical aberration and amplitude contrast for units and usual ranges."""
    images = s.images
    voltage, cs, amplitude = images["voltage_kV"], images["cs_mm"], images["amplitude_contrast"]
    text = f"{voltage.median():g} kV, Cs {cs.median():g} mm, amplitude contrast {amplitude.median():g}"
    if any(outside_bounds(images, name).any() for name in ("voltage_kV", "cs_mm", "amplitude_contrast")):
        return Check("microscope", "stop", text, "expected kV, mm and a fraction from 0 to 1")
    unusual = sorted(set(voltage.unique()) - set(USUAL_VOLTAGES_KV))
    if unusual:
        text = f"{text}; unusual voltage {unusual[0]:g} kV"
        return Check("microscope", "look", text, "check the optics table")
    return Check("microscope", "pass", text)


def check_defocus(s: ParticleSet) -> Check:
    """Check range, sign and astigmatism of the defocus."""
    u, v = s.images["defocus_u_A"], s.images["defocus_v_A"]
    mean = (u + v) / 2
    low, median, high = mean.min(), mean.median(), mean.max()
    text = f"{low / 1e4:.3g} to {high / 1e4:.3g} µm, median {median / 1e4:.3g} µm"
    if not USUAL_DEFOCUS_A[0] <= median <= USUAL_DEFOCUS_A[1]:
        return Check("defocus", "stop", text, "expected Å, positive for underfocus")
    if low < 0:
        text = f"{text}; {int((mean < 0).sum()):,} images are overfocused"
        return Check("defocus", "look", text, "check the CTF fit")
    if (u - v).abs().max() > MOST_ASTIGMATISM_A:
        text = f"{text}, astigmatism up to {(u - v).abs().max() / 1e4:.2g} µm"
        return Check("defocus", "look", text, "check the CTF fits of these images")
    return Check("defocus", "pass", text)


def defocus_per_tilt(s: ParticleSet) -> pd.DataFrame:
    """Tabulate one row per tilt of every tomogram.

    Columns: tomogram, dose_e_A2, tilt_deg, defocus_A (median), outlier. An outlier lies far from the median
    of its tilt series, in units of the series' own spread.
    """
    images = s.images
    tomogram = s.particles["tomogram"].set_axis(s.particles["particle"])
    codes, names = pd.factorize(images["particle"].map(tomogram))
    table = pd.DataFrame(
        {
            "tomogram": codes,
            "dose_e_A2": images["dose_e_A2"].to_numpy().round(2),
            "tilt_deg": images["tilt_deg"].to_numpy().round(1),
            "defocus_A": ((images["defocus_u_A"] + images["defocus_v_A"]) / 2).to_numpy(),
        }
    )
    tilts = table.groupby(["tomogram", "dose_e_A2", "tilt_deg"], as_index=False)["defocus_A"].median()
    series = tilts.groupby("tomogram")["defocus_A"]
    away = (tilts["defocus_A"] - series.transform("median")).abs()
    spread = SPREAD_OF_MAD * away.groupby(tilts["tomogram"]).transform("median")
    tilts["outlier"] = away > np.maximum(LEAST_OUTLIER_A, OUTLIER_SPREADS * spread)
    tilts["tomogram"] = names.to_numpy()[tilts["tomogram"]]
    return tilts


def check_defocus_outliers(s: ParticleSet) -> Check:
    """Check for single tilts whose defocus differs from the rest of their tilt series."""
    tilts = defocus_per_tilt(s)
    wrong = tilts[tilts["outlier"]]
    if len(wrong):
        first = wrong.iloc[0]
        return Check(
            "defocus of tilts",
            "look",
            f"{len(wrong):,} of {len(tilts):,} tilts differ from their series: {first['tomogram']} at "
            f"{first['tilt_deg']:g}°, {first['defocus_A'] / 1e4:.3g} µm",
            "check the CTF fits of these tilts, or exclude them",
        )
    return Check("defocus of tilts", "pass", f"no tilt of {len(tilts):,} differs from its series")


def check_ctf_sampling(s: ParticleSet) -> Check:
    """Check that the box samples CTF oscillations.

    It does while the delocalisation lambda * defocus * s stays within half the box.
    """
    defocus_A = float(s.images[["defocus_u_A", "defocus_v_A"]].abs().max().max())
    wavelength_A = float(electron_wavelength_A(torch.tensor(s.images["voltage_kV"].iloc[0])))
    finest_A = 2 * wavelength_A * defocus_A / (s.box * s.pixel_size_A)
    if finest_A > 2 * s.pixel_size_A:
        text = (
            f"at the largest defocus the CTF oscillates faster than the box samples beyond {finest_A:.3g} Å"
        )
        return Check("CTF sampling", "look", text, "extract with a larger box for finer detail")
    return Check("CTF sampling", "pass", "the box samples the CTF's oscillations up to Nyquist")
