"""The pre-flight check: is this particle set what it claims to be, and fit for heterogeneity analysis?

Every check returns one `Check`: "pass", "look" (unusual, the user should look) or "stop" (cannot be right).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.spatial import cKDTree

from tomohet.particles.table import ParticleSet
from tomohet.physics.ctf import electron_wavelength_A

Verdict = Literal["pass", "look", "stop"]
SEVERITY: tuple[Verdict, ...] = ("pass", "look", "stop")

USUAL_VOLTAGES_KV = (100, 120, 200, 300)
USUAL_DEFOCUS_A = (1_000.0, 100_000.0)  # medians outside are another unit
MOST_ASTIGMATISM_A = 15_000.0
MOST_DOSE_E_A2 = 250.0
MOST_TILT_DEG = 75.0
ORIENTATION_BINS = (8, 16)  # in cos(polar angle) and azimuth: bins of equal area
NEAR_DUPLICATE = 0.1  # of the box


@dataclass(frozen=True)
class Check:
    """One verdict with its reason, and what to do about it (empty when all is well)."""

    name: str
    verdict: Verdict
    message: str
    remedy: str = ""


def validate(particle_set: ParticleSet) -> list[Check]:
    """All checks that need the tables alone."""
    checks = [
        _counts(particle_set),
        _tilts_per_particle(particle_set),
        _pixel_size(particle_set),
        _shifts(particle_set),
        _microscope(particle_set),
        _defocus(particle_set),
        _ctf_sampling(particle_set),
        _dose(particle_set),
        _tilts(particle_set),
        _flags(particle_set),
        _orientations(particle_set),
        _duplicates(particle_set),
    ]
    return checks + [Check("reader", "look", remark, "check the file") for remark in particle_set.remarks]


def overall(checks: list[Check]) -> Verdict:
    """The most severe verdict."""
    return SEVERITY[max(SEVERITY.index(check.verdict) for check in checks)]


def counts(particle_set: ParticleSet) -> dict[str, dict[str, int]]:
    """Particles, images and tomograms in the input and kept."""
    with_images = particle_set.particles[particle_set.particles["n_tilts"] > 0]
    kept = {
        "particles": len(with_images),
        "images": len(particle_set.images),
        "tomograms": int(with_images["tomogram"].nunique()),
    }
    return {"in": dict(particle_set.n_input), "kept": kept}


def _counts(s: ParticleSet) -> Check:
    number = counts(s)
    text = ", ".join(f"{number['kept'][key]} of {number['in'][key]} {key}" for key in number["kept"])
    if number["kept"]["particles"] < number["in"]["particles"]:
        return Check("counts", "look", f"{text} can be used", "particles without a visible tilt are left out")
    hidden = number["in"]["images"] - number["kept"]["images"]
    return Check("counts", "pass", f"{text} can be used; {hidden} tilts are hidden")


def _tilts_per_particle(s: ParticleSet) -> Check:
    n = s.particles["n_tilts"][s.particles["n_tilts"] > 0]
    text = f"{n.min()} to {n.max()} tilt images per particle, median {n.median():g}"
    if n.max() == 1:
        remedy = "give the image series (one row per tilt image), not the volume series"
        return Check("tilts per particle", "stop", "every particle has a single image", remedy)
    if n.min() < n.median() / 2:
        few = int((n < n.median() / 2).sum())
        remedy = "consider --use-first-ntilts, which drops particles with few tilts"
        return Check("tilts per particle", "look", f"{text}; {few} particles have less than half", remedy)
    return Check("tilts per particle", "pass", text)


def _pixel_size(s: ParticleSet) -> Check:
    stated, header = s.pixel_size_A, s.header_pixel_size_A
    text = f"{stated:.4g} Å per pixel, box {s.box} px = {s.box * stated:.4g} Å, Nyquist {2 * stated:.4g} Å"
    # Programs that know no pixel size write 0 or 1 into the header.
    if header not in (0.0, 1.0) and abs(header / stated - 1) > 0.01:
        remedy = "find out which is right; the STAR file's is used"
        return Check("pixel size", "look", f"{text}; the stacks' headers say {header:.4g} Å", remedy)
    return Check("pixel size", "pass", text)


def _shifts(s: ParticleSet) -> Check:
    length = np.hypot(s.images["shift_x_px"], s.images["shift_y_px"]).to_numpy()
    text = f"image shifts up to {length.max():.3g} px"
    if (outside := int((length > s.box / 2).sum())) > 0:
        remedy = "re-extract at the refined positions; is the unit of the origins right (px, Å)?"
        return Check("shifts", "stop", f"{text}: {outside} images are moved out of their box", remedy)
    if length.max() > s.box / 4:
        return Check("shifts", "look", f"{text}, more than a quarter of the box", "re-extract, re-centred")
    return Check("shifts", "pass", text)


def _microscope(s: ParticleSet) -> Check:
    images = s.images
    voltage, cs = images["voltage_kV"], images["cs_mm"]
    amplitude = images["amplitude_contrast"]
    text = f"{voltage.median():g} kV, Cs {cs.median():g} mm, amplitude contrast {amplitude.median():g}"
    if (
        not voltage.between(50, 1500).all()
        or not cs.between(0, 10).all()
        or not amplitude.between(0, 1).all()
    ):
        return Check("microscope", "stop", text, "expected kV, mm and a fraction from 0 to 1")
    unusual = sorted(set(voltage) - set(USUAL_VOLTAGES_KV))
    if unusual:
        return Check(
            "microscope", "look", f"{text}; unusual voltage {unusual[0]:g} kV", "check the optics table"
        )
    return Check("microscope", "pass", text)


def _defocus(s: ParticleSet) -> Check:
    u, v = s.images["defocus_u_A"], s.images["defocus_v_A"]
    mean = (u + v) / 2
    low, median, high = mean.min(), mean.median(), mean.max()
    text = f"defocus {low / 1e4:.3g} to {high / 1e4:.3g} µm, median {median / 1e4:.3g} µm"
    if not USUAL_DEFOCUS_A[0] <= median <= USUAL_DEFOCUS_A[1]:
        return Check("defocus", "stop", text, "expected Å, positive for underfocus")
    if low < 0:
        return Check(
            "defocus", "look", f"{text}; {int((mean < 0).sum())} images are overfocused", "check the CTF fit"
        )
    if (u - v).abs().max() > MOST_ASTIGMATISM_A:
        largest = (u - v).abs().max() / 1e4
        return Check(
            "defocus", "look", f"{text}, astigmatism up to {largest:.2g} µm", "check the CTF fits of these"
        )
    return Check("defocus", "pass", text)


def _ctf_sampling(s: ParticleSet) -> Check:
    """CTF oscillations are sampled while the delocalisation lambda * defocus * s stays in half the box."""
    defocus_A = float(s.images[["defocus_u_A", "defocus_v_A"]].abs().max().max())
    wavelength_A = float(electron_wavelength_A(torch.tensor(s.images["voltage_kV"].iloc[0])))
    finest_A = 2 * wavelength_A * defocus_A / (s.box * s.pixel_size_A)
    if finest_A > 2 * s.pixel_size_A:
        text = (
            f"at the largest defocus the CTF oscillates faster than the box samples beyond {finest_A:.3g} Å"
        )
        return Check("CTF sampling", "look", text, "extract with a larger box for finer detail")
    return Check("CTF sampling", "pass", "the box samples the CTF's oscillations up to Nyquist")


def _dose(s: ParticleSet) -> Check:
    dose = s.images["dose_e_A2"]
    text = f"cumulative dose {dose.min():.3g} to {dose.max():.3g} e/Å²"
    if dose.min() < 0:
        remedy = "expected rlnCtfBfactor = -4 * dose or rlnMicrographPreExposure >= 0"
        return Check("dose", "stop", f"{text}: negative", remedy)
    if dose.max() == 0:
        return Check(
            "dose", "look", "all doses are 0: dose weighting will do nothing", "add the doses to the file"
        )
    if dose.max() > MOST_DOSE_E_A2:
        return Check(
            "dose", "look", f"{text}: very high", "is the unit e/Å², and the exposure per tilt right?"
        )
    if repeated := int(s.images.duplicated(["particle", "dose_e_A2"]).sum()):
        return Check("dose", "look", f"{text}; {repeated} tilts share their dose with another", "check them")
    return Check("dose", "pass", text)


def _tilts(s: ParticleSet) -> Check:
    tilt = s.images["tilt_deg"]
    text = f"stage tilts up to {tilt.max():.3g}°"
    if tilt.max() == 0:
        return Check(
            "tilt angles", "look", "all tilts are 0°: tilt weighting will do nothing", "check the file"
        )
    if tilt.max() > MOST_TILT_DEG:
        steep = int((tilt > MOST_TILT_DEG).sum())
        return Check(
            "tilt angles", "look", f"{text}; {steep} images above {MOST_TILT_DEG:g}°", "check the file"
        )
    return Check("tilt angles", "pass", text)


def _flags(s: ParticleSet) -> Check:
    premultiplied = s.images["ctf_premultiplied"]
    if premultiplied.nunique() > 1:
        text = f"{int(premultiplied.sum())} of {len(premultiplied)} images are marked CTF-premultiplied"
        return Check("CTF flag", "look", text, "extract all particles in one way")
    text = "images are marked CTF-premultiplied: contrast is kept"
    if not premultiplied.iloc[0]:
        text = "images are not CTF-premultiplied: contrast is inverted unless --uninvert-data"
    return Check("CTF flag", "pass", text)


def _orientations(s: ParticleSet) -> Check:
    """Views of the particles: how many equal-area bins of the sphere are filled, against chance."""
    views = viewing_directions(s)
    polar = np.clip(((views[:, 2] + 1) / 2 * ORIENTATION_BINS[0]).astype(int), 0, ORIENTATION_BINS[0] - 1)
    azimuth = (np.arctan2(views[:, 1], views[:, 0]) / (2 * np.pi) % 1 * ORIENTATION_BINS[1]).astype(int)
    n_bins = ORIENTATION_BINS[0] * ORIENTATION_BINS[1]
    filled = len(np.unique(polar * ORIENTATION_BINS[1] + azimuth))
    expected = n_bins * (1 - (1 - 1 / n_bins) ** len(views))
    text = f"views fill {filled} of {n_bins} parts of the sphere ({expected:.0f} expected if uniform)"
    if len(views) > 1 and np.ptp(views, axis=0).max() < 1e-6:
        return Check(
            "orientations", "stop", "all particles have the same orientation", "refine their poses first"
        )
    if filled < expected / 2:
        return Check("orientations", "look", text, "expect maps smeared along the missing views")
    return Check("orientations", "pass", text)


def viewing_directions(s: ParticleSet) -> np.ndarray:
    """Direction of the beam in each particle's own frame at its least exposed tilt, unit vectors (n, 3)."""
    least = s.images.groupby("particle")["dose_e_A2"].idxmin()
    return s.rotations()[least.to_numpy()][:, 2, :]


def _duplicates(s: ParticleSet) -> Check:
    known = s.particles.dropna(subset=["x_A", "y_A", "z_A"])
    if known.empty:
        return Check("near duplicates", "pass", "positions are unknown, not checked")
    distance_A = NEAR_DUPLICATE * s.box * s.pixel_size_A
    pairs = sum(
        len(cKDTree(members[["x_A", "y_A", "z_A"]].to_numpy(float)).query_pairs(distance_A))
        for _, members in known.groupby("tomogram")
    )
    text = f"{pairs} pairs of particles are closer than {distance_A:.3g} Å"
    if pairs:
        return Check(
            "near duplicates", "look", text, "remove duplicates unless they are meant (symmetry expansion)"
        )
    return Check("near duplicates", "pass", text)
