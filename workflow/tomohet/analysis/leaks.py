"""Leak audit: test whether latents follow how a particle was imaged instead of its structure.

Classes found in latents mean nothing if they follow the number of tilts, the dose, the noise, the defocus,
the tomogram or the orientation of a particle. Each of these nuisances is compared with each principal
component.
"""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tomohet.particles.conditions import imaging_conditions
from tomohet.particles.preparation import NOISE_SHELLS

log = logging.getLogger(__name__)

SIGNAL_BAND = 0.25
CHUNK_BYTES = 64 << 20
SIGNIFICANT = 0.01  # after Bonferroni correction for all tests
LOOK, LEAK = 0.1, 0.5  # explained fraction of a component's variance for the verdicts `look` and `leak`
COMPONENTS = 6

MEANING = {
    "n_tilts": "number of tilt images",
    "mean_dose_e_A2": "mean dose (e/Å²)",
    "defocus_A": "mean defocus (Å)",
    "astigmatism_A": "mean astigmatism (Å)",
    "noise_scale": "noise of the raw images (their divisor in the store)",
    "noise_power": f"noise power left (|k| > {NOISE_SHELLS} Nyquist)",
    "signal_power": f"low-frequency power (|k| < {SIGNAL_BAND} Nyquist); occupancy changes it too",
    "tomogram": "tomogram",
    "view": "viewing direction at the lowest tilt",
}
MOVEMENT = "movement"
MEANING_OF_MOVEMENT = (
    "movement of the whole particle: fraction of the component's map (wrong poses, or parts that move)"
)
# Parts that come, go or move resemble rotations of the mean map: with perfect poses it can be two thirds.
MOST_MOVEMENT = 0.5


@dataclass(frozen=True)
class Audit:
    """Result of the leak audit.

    tests : one row per nuisance and component
    verdicts : nuisance -> clean, look, leak or constant

    Where maps are known, the tests include the nuisance `MOVEMENT` (`with_movement`).
    """

    tests: pd.DataFrame
    verdicts: dict[str, str]


def nuisances(store, particles: np.ndarray) -> pd.DataFrame:
    """Tabulate how each of `particles` (store ordinals, (n,)) was imaged, one row per particle.

    Columns are those of `imaging_conditions`, and noise_power and signal_power.
    """
    conditions = imaging_conditions(store, particles)
    owner = np.repeat(np.arange(len(particles)), conditions["n_tilts"])
    noise, signal = (
        np.bincount(owner, weights=power, minlength=len(particles)) / conditions["n_tilts"].clip(lower=1)
        for power in band_powers(store, store.images_of(particles))
    )
    return conditions.assign(noise_power=noise, signal_power=signal)


def band_powers(store, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean |F|² of images `rows` (m,) above NOISE_SHELLS and below SIGNAL_BAND, each (m,)."""
    fraction = np.asarray(store.half_plane.radius) / (store.box / 2)
    bands = (fraction >= NOISE_SHELLS, fraction <= SIGNAL_BAND)
    bounds = [(np.argmax(band), len(band) - np.argmax(band[::-1])) for band in bands]  # sorted by |k|
    powers = np.zeros((2, len(rows)))
    step = max(1, CHUNK_BYTES // (store.data.shape[1] * 8))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        read = store.read(part)
        for band, (first, last) in enumerate(bounds):
            values = np.asarray(read[:, first:last], np.float32)
            powers[band, start : start + step] = np.square(values).sum(axis=2).mean(axis=1)
    return powers[0], powers[1]


def audit(scores: np.ndarray, table: pd.DataFrame) -> Audit:
    """Compare the leading principal-component scores (n, m) with each nuisance of `table`.

    Numeric nuisances: Spearman's rho (its square is the explained fraction), and the AUC with which the
    component separates the upper half of the nuisance from the lower. Tomogram: adjusted R² of a one-way
    analysis of variance. View: adjusted R² of a quadratic function of the direction. `p` is two-sided and
    uncorrected. Symmetry copies of one particle were imaged together, so only the first copy of each particle
    is compared.
    """
    if "source" in table:
        first = ~table["source"].duplicated().to_numpy()
        scores, table = scores[first], table[first].reset_index(drop=True)
    scores = np.asarray(scores[:, :COMPONENTS], np.float64)
    rows = []
    for name in MEANING:
        for component, score in enumerate(scores.T, start=1):
            rows.append({"nuisance": name, "pc": component, **_test(name, score, table)})
    tests = pd.DataFrame(rows)
    done = tests["p"].notna().sum()
    tests["significant"] = tests["p"] * max(done, 1) < SIGNIFICANT
    return Audit(tests, {name: _verdict(group) for name, group in tests.groupby("nuisance", sort=False)})


def with_movement(result: Audit, shares: np.ndarray) -> Audit:
    """Add to the audit the fraction of each component's map that is a movement of the whole (`movement`).

    shares : (m,) fractions of the leading components

    This is not a test: `p` is unknown, and `significant` says that movement is most of the map.
    """
    shares = np.asarray(shares, np.float64)[:COMPONENTS]
    found = pd.DataFrame({"nuisance": MOVEMENT, "pc": np.arange(1, len(shares) + 1), "explained": shares})
    for column in ("statistic", "auc", "p"):
        found[column] = np.nan
    found["significant"] = shares >= MOST_MOVEMENT
    verdict = "look" if found["significant"].any() else "clean"
    tests = pd.concat([result.tests, found[result.tests.columns]], ignore_index=True)
    return Audit(tests, result.verdicts | {MOVEMENT: verdict})


def _test(name: str, score: np.ndarray, table: pd.DataFrame) -> dict[str, float]:
    if name == "tomogram":
        return explained_by_groups(score, table["tomogram"].to_numpy())
    if name == "view":
        return explained_by_view(score, table[["view_x", "view_y", "view_z"]].to_numpy())
    return rank_association(score, table[name].to_numpy(np.float64))


def rank_association(score: np.ndarray, nuisance: np.ndarray) -> dict[str, float]:
    """Compute Spearman's rho, the AUC for upper against lower half, and the explained fraction rho²."""
    from scipy.stats import rankdata, spearmanr

    if len(score) < 4 or np.ptp(score) == 0 or np.ptp(nuisance) <= 1e-6 * np.abs(nuisance).max():
        return {"statistic": np.nan, "auc": np.nan, "explained": np.nan, "p": np.nan}
    rho, p = spearmanr(score, nuisance)
    median = np.median(nuisance)
    upper = nuisance > median
    if not upper.any():  # more than half of the particles have the maximum
        upper = nuisance >= median
    n_upper, n_lower = upper.sum(), (~upper).sum()
    area = (rankdata(score)[upper].sum() - n_upper * (n_upper + 1) / 2) / (n_upper * n_lower)
    return {"statistic": rho, "auc": max(area, 1 - area), "explained": rho**2, "p": p}


def explained_by_groups(score: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """Compute a one-way analysis of variance: adjusted R², and p of its F test."""
    kinds, members = np.unique(groups, return_inverse=True)
    if len(kinds) < 2:
        return {"statistic": np.nan, "auc": np.nan, "explained": np.nan, "p": np.nan}
    means = np.bincount(members, weights=score) / np.bincount(members)
    return _f_test(score, means[members], len(kinds) - 1)


def explained_by_view(score: np.ndarray, view: np.ndarray) -> dict[str, float]:
    """Fit the score by least squares on 1, x, y, z and xx, xy, xz, yy, yz of the viewing direction."""
    x, y, z = view.T
    design = np.stack([np.ones_like(x), x, y, z, x * x, x * y, x * z, y * y, y * z], axis=1)
    coefficients, _, rank, _ = np.linalg.lstsq(design, score, rcond=1e-6)
    return _f_test(score, design @ coefficients, rank - 1)


def _f_test(score: np.ndarray, fitted: np.ndarray, freedom: int) -> dict[str, float]:
    from scipy.stats import f as f_distribution

    rest = len(score) - freedom - 1
    total = np.square(score - score.mean()).sum()
    if freedom < 1 or rest < 3 or total == 0:
        return {"statistic": np.nan, "auc": np.nan, "explained": np.nan, "p": np.nan}
    residual = np.square(score - fitted).sum()
    adjusted = 1 - (residual / rest) / (total / (len(score) - 1))
    ratio = ((total - residual) / freedom) / max(residual / rest, 1e-12 * total)
    return {
        "statistic": 1 - residual / total,
        "auc": np.nan,
        "explained": max(adjusted, 0.0),
        "p": float(f_distribution.sf(ratio, freedom, rest)),
    }


def _verdict(tests: pd.DataFrame) -> str:
    if tests["p"].isna().all():
        return "constant"
    strongest = tests.loc[tests["significant"], "explained"].max()
    if strongest >= LEAK:
        return "leak"
    return "look" if strongest >= LOOK else "clean"


def warn(result: Audit) -> None:
    """Log which nuisances the latents follow."""
    moving = result.tests[result.tests["nuisance"].eq(MOVEMENT) & result.tests["significant"]]
    for row in moving.itertuples():
        log.warning(
            "leak audit: %.0f %% of the map of component %d is a movement of the whole particle: poses may "
            "be wrong, or a large part of the particle comes, goes or moves",
            100 * row.explained,
            row.pc,
        )
    for name, verdict in result.verdicts.items():
        if name == MOVEMENT:
            continue
        if verdict in ("look", "leak"):
            log.warning("leak audit: latents follow %s: %s", MEANING[name], verdict)


def describe(result: Audit) -> list[dict[str, object]]:
    """List the strongest component for each nuisance, for summary.json and the log."""
    lines = []
    for name, group in result.tests.groupby("nuisance", sort=False):
        line = {
            "nuisance": name,
            "meaning": MEANING.get(name, MEANING_OF_MOVEMENT),
            "verdict": result.verdicts[name],
        }
        if group["explained"].notna().any():
            best = group.loc[group["explained"].idxmax()]
            line |= {key: _number(best[key]) for key in ("pc", "statistic", "auc", "explained", "p")}
        lines.append(line)
    return lines


def _number(value: float) -> float | None:
    return None if pd.isna(value) else round(float(value), 6)
