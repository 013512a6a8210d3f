"""Checks of dose and tilt: the table, compared with the poses of a particle's images.

The poses of two images of a particle differ only by the stage: R_i R_j^T = T_i T_j^T, a rotation about the
tilt axis, which lies in the image plane. Poses therefore determine the tilts, with their sign and axis.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation
from scipy.stats import rankdata

from tomohet.particles.table import ROTATION_COLUMNS, ParticleSet
from tomohet.preflight.check import Check

MOST_DOSE_E_A2 = 250.0
MOST_TILT_DEG = 75.0
LARGEST_GAP_DEG = 12.0
DOSE_RANGE = 1.3  # ratio of total doses of tilt series above which the verdict is "look"
EXAMINED = 400  # particles whose poses are followed through their tilts
POSE_TOLERANCE_DEG = 6.0  # separately refined tilts vary by a few degrees
AXIS_TOLERANCE_DEG = 15.0  # for the mean; random axes have a mean of 33 degrees
FOLLOWS = 0.9  # rank correlation


@dataclass(frozen=True)
class TiltSchemes:
    """Tilts of up to `EXAMINED` particles, spread over the tomograms, from their poses.

    table : one row per image, sorted by particle and dose: particle, tomogram, dose_e_A2, tilt_deg as stated,
        signed_deg from the poses
    axis_deg : angle of the tilt axis out of the image plane, by particle
    deviation_deg : median difference between stated tilts and those from poses, by particle
    scheme : name, by particle
    """

    table: pd.DataFrame
    particle: np.ndarray
    axis_deg: np.ndarray
    deviation_deg: np.ndarray
    scheme: np.ndarray


def tilt_schemes(s: ParticleSet) -> TiltSchemes:
    """Follow the poses of some particles through their tilts.

    The particles with most tilts of every tomogram come first.
    """
    ranked = s.particles[s.particles["n_tilts"] > 0].sort_values("n_tilts", ascending=False, kind="stable")
    order = ranked.groupby("tomogram").cumcount().sort_values(kind="stable").index[:EXAMINED]
    chosen = s.particles.loc[order].set_index("particle")["tomogram"]
    images = s.images[s.images["particle"].isin(chosen.index)]
    images = images.sort_values(["particle", "dose_e_A2"], kind="stable", ignore_index=True)
    particle, first, own = np.unique(images["particle"], return_index=True, return_inverse=True)
    reference = images.groupby("particle")["tilt_deg"].idxmin().to_numpy()
    rotation = images[list(ROTATION_COLUMNS)].to_numpy(np.float64).reshape(-1, 3, 3)
    relative = rotation @ rotation[reference][own].transpose(0, 2, 1)
    turn = np.degrees(Rotation.from_matrix(relative).as_rotvec())
    axis = _principal(turn, own, len(particle))
    posed = (turn * axis[own]).sum(1)
    stated = images["tilt_deg"].to_numpy()
    # The reference's own tilt is small and of unknown sign: the sign that agrees better is used.
    candidates = [posed + sign * stated[reference][own] for sign in (1, -1)]
    misfit = [np.bincount(own, np.abs(np.abs(c) - stated)) for c in candidates]
    signed = np.where((misfit[0] <= misfit[1])[own], *candidates)
    off_axis = np.linalg.norm(turn - posed[:, None] * axis[own], axis=1)
    deviation = pd.Series(np.hypot(np.abs(signed) - stated, off_axis)).groupby(own).median().to_numpy()
    table = images[["particle", "dose_e_A2", "tilt_deg"]].assign(
        tomogram=images["particle"].map(chosen), signed_deg=signed
    )
    scheme = [name_scheme(one) for one in np.split(signed, first[1:])]
    steep = np.degrees(np.arcsin(np.clip(np.abs(axis[:, 2]), 0, 1)))
    return TiltSchemes(table, particle, steep, deviation, np.array(scheme))


def name_scheme(signed_deg: np.ndarray) -> str:
    """Name the acquisition scheme of tilts in order of their dose."""
    if len(signed_deg) < 4 or np.ptp(signed_deg) < 1:
        return "unknown"
    order = np.arange(len(signed_deg))
    if abs(_rank_correlation(signed_deg, order)) > FOLLOWS:
        return "unidirectional"
    away = np.abs(signed_deg - signed_deg[0]).round()  # of two equal tilts either may come first
    turns = int((np.diff(np.sign(np.diff(signed_deg))) != 0).sum())
    if turns <= 3 and len(signed_deg) > 8:
        return "bidirectional"
    return "dose-symmetric" if _rank_correlation(away, order) > FOLLOWS else "irregular"


def check_dose(s: ParticleSet) -> Check:
    """Check the range of the dose, within images, tilt series and the set."""
    dose = s.images["dose_e_A2"]
    text = f"cumulative dose {dose.min():.3g} to {dose.max():.3g} e/Å²"
    if dose.min() < 0:
        remedy = "expected rlnCtfBfactor = -4 * dose or rlnMicrographPreExposure >= 0"
        return Check("dose", "stop", f"{text}: negative", remedy)
    if dose.max() == 0:
        text = "all doses are 0: dose weighting will do nothing"
        return Check("dose", "look", text, "add the doses to the file")
    if dose.max() > MOST_DOSE_E_A2:
        remedy = "is the unit e/Å², and the exposure per tilt right?"
        return Check("dose", "look", f"{text}: very high", remedy)
    if repeated := int(s.images.duplicated(["particle", "dose_e_A2"]).sum()):
        text = f"{text}; {repeated:,} tilts share their dose with another"
        return Check("dose", "look", text, "check the order of exposures")
    total = dose.groupby(s.images["particle"].map(_tomogram(s))).max()
    if total.max() > DOSE_RANGE * total.min():
        text = f"{text}; tilt series end at {total.min():.3g} to {total.max():.3g} e/Å²"
        return Check("dose", "look", text, "were some tilt series cut short, or exposed otherwise?")
    return Check("dose", "pass", text)


def check_tilts(s: ParticleSet, schemes: TiltSchemes) -> Check:
    """Check range, sampling and gaps of the tilts."""
    tilt = s.images["tilt_deg"]
    if tilt.max() == 0:
        text = "all tilts are 0°: tilt weighting will do nothing"
        return Check("tilt angles", "look", text, "check the file")
    steps = np.concatenate(
        [np.diff(np.unique(one.round(1))) for _, one in schemes.table.groupby("tomogram")["signed_deg"]]
    )
    # Separately refined tilts differ slightly between particles of a tomogram: such differences are no steps.
    steps = steps[steps > 0.7]
    text = f"up to {tilt.max():.3g}°"
    if len(steps):
        text += f", steps of {np.median(steps):.2g}°, largest gap {steps.max():.3g}°"
    if tilt.max() > MOST_TILT_DEG:
        steep = int((tilt > MOST_TILT_DEG).sum())
        text = f"{text}; {steep:,} images above {MOST_TILT_DEG:g}°"
        return Check("tilt angles", "look", text, "check the file")
    if len(steps) and steps.max() > LARGEST_GAP_DEG:
        return Check("tilt angles", "look", text, "were tilts lost, or excluded on purpose?")
    return Check("tilt angles", "pass", text)


def check_scheme(schemes: TiltSchemes) -> Check:
    """Check that dose and tilt follow one of the schemes by which tilt series are recorded."""
    names, n = np.unique(schemes.scheme, return_counts=True)
    text = ", ".join(
        f"{name} ({count})" for name, count in sorted(zip(names, n, strict=True), key=lambda x: -x[1])
    )
    text = f"{text} of {n.sum()} particles examined" if len(names) > 1 else str(names[0])
    if (schemes.scheme == "irregular").mean() > 0.2:
        return Check(
            "tilt scheme", "look", f"{text}: tilts and doses follow no known scheme",
            "do the doses belong to their tilts?",
        )  # fmt: skip
    lowest = schemes.table.sort_values("dose_e_A2", kind="stable").groupby("particle")["tilt_deg"].first()
    return Check("tilt scheme", "pass", f"{text}; the first exposure is at {lowest.median():.2g}°")


def check_poses(schemes: TiltSchemes) -> Check:
    """Check that the poses of a particle's images rotate as the stage did."""
    deviation, axis = float(np.median(schemes.deviation_deg)), float(np.mean(schemes.axis_deg))
    text = (
        f"poses follow the stated tilts within {deviation:.1f}°, tilt axis {axis:.1f}° out of the image plane"
    )
    if np.ptp(schemes.table["signed_deg"]) < 1e-3 or deviation > POSE_TOLERANCE_DEG:
        text = f"the poses of a particle's images differ from its tilts by {deviation:.2g}°"
        return Check("poses", "look", text, "are the angles those of every tilt image, and in degrees?")
    if axis > AXIS_TOLERANCE_DEG:
        text = f"the tilt axis of the poses points {axis:.2g}° out of the image plane"
        return Check("poses", "look", text, "are the angles inverted, or of another convention?")
    return Check("poses", "pass", text)


def _principal(turn: np.ndarray, own: np.ndarray, n: int) -> np.ndarray:
    """Return the common axis (n, 3) of rotations (m, 3) of each particle.

    Its larger in-plane component is positive.
    """
    products = turn[:, :, None] * turn[:, None, :]
    sums = np.zeros((n, 3, 3))
    np.add.at(sums, own, products)
    axis = np.linalg.eigh(sums)[1][:, :, -1]
    larger = np.take_along_axis(axis, np.abs(axis[:, :2]).argmax(1)[:, None], axis=1)
    return axis * np.where(larger < 0, -1, 1)


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def _tomogram(s: ParticleSet) -> pd.Series:
    return s.particles["tomogram"].set_axis(s.particles["particle"])
