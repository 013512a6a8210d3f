"""Checks of shifts, orientations and positions."""

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from tomohet.particles.copies import sources
from tomohet.particles.table import ROTATION_COLUMNS, ParticleSet
from tomohet.preflight.check import Check

ORIENTATION_BINS = (8, 16)  # in cos(polar angle) and azimuth: bins of equal area
SAME = 1e-6  # tolerance for elements of rotation matrices
NEAR_DUPLICATE = 0.1  # distance as a fraction of the box


def check_shifts(s: ParticleSet) -> Check:
    """Check for images that are shifted far, or out of their box."""
    length = np.hypot(s.images["shift_x_px"], s.images["shift_y_px"]).to_numpy()
    text = f"up to {length.max():.3g} px ({length.max() * s.pixel_size_A:.3g} Å)"
    if (outside := int((length > s.box / 2).sum())) > 0:
        remedy = "re-extract at the refined positions; is the unit of the origins right (px, Å)?"
        return Check("shifts", "stop", f"{text}: {outside:,} images are shifted out of their box", remedy)
    if length.max() > s.box / 4:
        return Check("shifts", "look", f"{text}, more than a quarter of the box", "re-extract, re-centred")
    return Check("shifts", "pass", text)


def check_orientations(s: ParticleSet) -> Check:
    """Check the particles' views: how many equal-area bins of the sphere are filled, compared with chance."""
    exposed = least_exposed(s)
    views = exposed[:, 2, :]
    polar = np.clip(((views[:, 2] + 1) / 2 * ORIENTATION_BINS[0]).astype(int), 0, ORIENTATION_BINS[0] - 1)
    azimuth = (np.arctan2(views[:, 1], views[:, 0]) / (2 * np.pi) % 1 * ORIENTATION_BINS[1]).astype(int)
    n_bins = ORIENTATION_BINS[0] * ORIENTATION_BINS[1]
    in_bin = np.bincount(polar * ORIENTATION_BINS[1] + azimuth % ORIENTATION_BINS[1], minlength=n_bins)
    filled = int((in_bin > 0).sum())
    expected = n_bins * (1 - (1 - 1 / n_bins) ** len(views))
    text = f"views fill {filled} of {n_bins} parts of the sphere ({expected:.0f} expected if uniform)"
    if len(views) > 1 and np.ptp(exposed, axis=0).max() < SAME:
        return Check(
            "orientations", "stop", "all particles have the same orientation", "refine their poses first"
        )
    if len(views) > 1 and np.ptp(views, axis=0).max() < SAME:
        text = "all particles are seen from one direction and differ only by in-plane rotations"
        return Check("orientations", "look", text, "were rot and tilt refined? maps will be smeared along it")
    if filled < expected / 2:
        return Check("orientations", "look", text, "expect maps smeared along the missing views")
    return Check("orientations", "pass", text)


def least_exposed(s: ParticleSet) -> np.ndarray:
    """Return the rotation (n, 3, 3) of each particle's least exposed image."""
    rows = s.images.groupby("particle")["dose_e_A2"].idxmin().to_numpy()
    return s.images[list(ROTATION_COLUMNS)].to_numpy(np.float64)[rows].reshape(-1, 3, 3)


def viewing_directions(s: ParticleSet) -> np.ndarray:
    """Return the beam direction in each particle's frame at its least exposed tilt, unit vectors (n, 3)."""
    return least_exposed(s)[:, 2, :]


def check_duplicates(s: ParticleSet) -> Check:
    """Check for particles of one tomogram that lie nearly on top of each other."""
    if positioned(s).empty:
        return Check(
            "near duplicates",
            "pass",
            "positions are not in this file: not checked (--volume-series gives them)",
        )
    pairs, distance_A = 0, NEAR_DUPLICATE * s.box * s.pixel_size_A
    for _, members in positioned(s).groupby("tomogram"):
        tree = cKDTree(members[["x_A", "y_A", "z_A"]].to_numpy(float))
        pairs += (int(tree.count_neighbors(tree, distance_A)) - len(members)) // 2
    text = f"{pairs:,} pairs of particles are closer than {distance_A:.3g} Å"
    if pairs:
        remedy = "remove duplicates unless they are intended (symmetry expansion)"
        return Check("near duplicates", "look", text, remedy)
    return Check("near duplicates", "pass", f"no particles are closer than {distance_A:.3g} Å")


def positioned(s: ParticleSet) -> pd.DataFrame:
    """Return the particles whose position in the tomogram is known, without symmetry copies."""
    own = sources(s.particles) == np.arange(len(s.particles))
    return s.particles[own].dropna(subset=["x_A", "y_A", "z_A"])


def has_near_duplicate(position_A: np.ndarray, distance_A: float) -> np.ndarray:
    """Tell which positions (n, 3) of one tomogram have another position closer than `distance_A`."""
    if len(position_A) < 2:
        return np.zeros(len(position_A), bool)
    nearest = cKDTree(position_A).query(position_A, k=2)[0][:, 1]
    return nearest <= distance_A
