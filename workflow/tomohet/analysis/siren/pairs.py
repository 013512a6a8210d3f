"""All pairs of voxels: the number linked at each significance, and each voxel's closest partners.

Every pair is examined, but only K partners per voxel are kept, so that memory grows with the number of voxels
only. Two engines give the same results: `popcount` on processors, `matrix` on GPUs.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from tomohet.analysis.siren import popcount
from tomohet.analysis.siren.statistics import (
    binomial_cutoffs,
    hypergeometric_cutoffs,
    least_phi,
    p_value_grid,
    phi_cutoffs,
    significance,
    siren_p_values,
)
from tomohet.files.parts import content_digest
from tomohet.files.shares import ALL_ROWS, Shares

PARTNERS = 30
PAIRS_FOR_SIGNIFICANCE = 40_000_000


@dataclass(frozen=True)
class Voxels:
    """N voxels in V volumes.

    bits : (N, W) uint64
    totals : (N,) number of volumes in which each voxel is on
    xyz_A : (N, 3) float32
    weighted : number of equally weighted volumes that the V volumes are worth; some of them may be copies
    effective : number of independent volumes (None: all V)
    noise_A : distance within which voxels share their noise
    """

    bits: np.ndarray
    totals: np.ndarray
    xyz_A: np.ndarray
    volumes: int
    weighted: float | None = None
    effective: float | None = None
    noise_A: np.ndarray | None = None


@dataclass(frozen=True)
class Rule:
    """The rule by which two voxels are linked, as tables (U, U) over the U distinct totals (`kinds`).

    needed : smallest number of common volumes, int32
    excluded : largest number of common volumes of voxels that avoid each other, -1 where there is none
    positive : float64; if `lifted`, common volumes must also exceed it times SIREn's lift
    lifted : whether SIREn's lift, which grows with distance, applies
    apart : never link voxels that share their noise
    """

    kinds: np.ndarray
    needed: np.ndarray
    excluded: np.ndarray
    positive: np.ndarray
    lifted: bool
    apart: bool = False


@dataclass(frozen=True)
class Partners:
    """The linked voxels of largest phi of every voxel.

    index : (N, K) int32, -1 where there are fewer
    phi : (N, K) float32
    pairs : number of pairs examined
    linked : number of pairs that passed
    excluded : number of pairs that avoid each other with the same significance
    p_value : required significance of each pair (None: no pair was significant)
    least_phi : required effect size
    """

    index: np.ndarray
    phi: np.ndarray
    pairs: int
    linked: int
    excluded: int
    p_value: float | None
    least_phi: float | None = None


def partners_by_phi(
    voxels: Voxels,
    rng: np.random.Generator,
    keep: int = PARTNERS,
    engine: str = "popcount",
    shares: Shares = ALL_ROWS,
    name: str = "pairs",
) -> Partners:
    """Find partners by phi and the exact hypergeometric test.

    The false discovery rate over all pairs is 0.01. The significance level is found on all pairs, or on those
    of randomly drawn voxels where there are too many. Where volumes have unequal weights, p-values are those
    of the number of equally weighted volumes that they are worth (the exponent of the tail is proportional to
    the number of volumes).

    shares, name : divide the voxels among jobs; the significance level is found by each of them
    """
    n, volumes = len(voxels.bits), voxels.volumes
    count_significant, _ = _engine(engine)
    kinds, rank = _ranked(voxels.totals)
    worth = (voxels.weighted or volumes) / volumes
    log10_p = p_value_grid(len(kinds))
    cutoffs = hypergeometric_cutoffs(kinds, volumes, log10_p / worth)
    rows = np.arange(n)
    if n * n > PAIRS_FOR_SIGNIFICANCE:
        rows = np.sort(rng.choice(n, max(1, PAIRS_FOR_SIGNIFICANCE // n), replace=False))
    chosen = significance(count_significant(voxels, rank, rows, cutoffs), len(rows) * (n - 1), log10_p)
    pairs = n * (n - 1) // 2
    if chosen is None:
        nothing = np.full((n, keep), -1, np.int32), np.zeros((n, keep), np.float32)
        return Partners(*nothing, pairs=pairs, linked=0, excluded=0, p_value=None)
    phi = least_phi(voxels.effective or volumes)
    needed = np.maximum(cutoffs[:, :, chosen], phi_cutoffs(kinds, kinds, volumes, phi)).astype(np.int32)
    excluded = _excluded(kinds, volumes, log10_p[chosen] / worth, phi)
    rule = Rule(kinds, needed, excluded, np.zeros((1, 1)), lifted=False, apart=voxels.noise_A is not None)
    found = _best_partners(voxels, rank, rule, keep, engine, shares, name)
    return Partners(found[0], found[1], pairs, *found[2:], float(10.0 ** -log10_p[chosen]), phi)


def partners_by_siren(
    voxels: Voxels,
    positive: np.ndarray | None = None,
    negative: np.ndarray | None = None,
    keep: int = PARTNERS,
    engine: str = "popcount",
    shares: Shares = ALL_ROWS,
    name: str = "pairs",
) -> Partners:
    """Find partners by SIREn's published rule.

    Joint presence must exceed its cut-off times a lift that grows with distance, and joint absence its own
    cut-off.

    positive, negative : cut-offs (V + 1, V + 1) by the totals; default: the exact binomial ones at the
        p-values of `siren_p_values`
    shares, name : divide the voxels among jobs
    """
    n, volumes = len(voxels.bits), voxels.volumes
    kinds, rank = _ranked(voxels.totals)
    positive_p, negative_p = siren_p_values(max(1, n * (n - 1) // 2))
    if positive is None or negative is None:
        positive, negative = binomial_cutoffs(kinds, volumes, positive_p, negative_p)
    else:
        positive, negative = (
            np.asarray(table, np.float64)[np.ix_(kinds, kinds)] for table in (positive, negative)
        )
    # For given totals, a cut-off of joint absence is one of joint presence too: n00 = V - n_i - n_j + n11.
    n_i, n_j = kinds[:, None], kinds[None]
    present = np.minimum(positive, np.minimum(n_i, n_j))
    absent = np.minimum(negative, volumes - np.maximum(n_i, n_j)) - volumes + n_i + n_j
    needed = (np.floor(np.maximum(present, absent)) + 1).astype(np.int32)
    rule = Rule(kinds, needed, np.full_like(needed, -1), positive, lifted=True)
    found = _best_partners(voxels, rank, rule, keep, engine, shares, name)
    return Partners(found[0], found[1], n * (n - 1) // 2, *found[2:], positive_p)


def _best_partners(
    voxels: Voxels, rank: np.ndarray, rule: Rule, keep: int, engine: str, shares: Shares, name: str
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Find index and phi (N, K) of all voxels' best partners, and the number of pairs linked and excluded."""
    _, best_partners = _engine(engine)

    def of_rows(rows: slice) -> tuple[np.ndarray, ...]:
        index, phi, *counts = best_partners(voxels, rank, rule, keep, rows)
        return index, phi, np.array([counts])

    tables = (rule.needed, rule.excluded, rule.positive, rule.lifted, rule.apart)
    content = content_digest(voxels.bits, voxels.xyz_A, voxels.noise_A, *tables, keep)
    index, phi, counts = shares.rows(name, len(rank), content, of_rows)
    linked, excluded = (int(both_ways) // 2 for both_ways in counts.sum(axis=0))
    return index, phi, linked, excluded


def engine_of(name: str, device: str) -> str:
    """Return the engine for the options --engine (auto, popcount, matrix) and --device (auto, cpu, cuda)."""
    from tomohet.device import device_of

    if name == "popcount" or (name == "auto" and device_of(device).type == "cpu"):
        return "popcount"
    return f"matrix-{device_of(device).type}"


def _engine(name: str) -> tuple:
    """Return the functions count_significant and best_partners of `popcount` or `matrix` (cpu, cuda)."""
    if name == "popcount":
        return popcount.count_significant, popcount.best_partners
    from tomohet.analysis.siren import matrix
    from tomohet.device import device_of

    device = device_of(name.removeprefix("matrix-"))
    return partial(matrix.count_significant, device=device), partial(matrix.best_partners, device=device)


def _ranked(totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kinds, rank = np.unique(totals, return_inverse=True)
    return kinds.astype(np.int64), rank.astype(np.int32).reshape(-1)


def _excluded(kinds: np.ndarray, volumes: int, log10_p: float, phi: float) -> np.ndarray:
    """Return the largest number of common volumes (U, U) of voxels that avoid each other; -1 for none.

    A voxel avoids another if it is linked with the other's absence: the lower tail is the upper tail of n_i
    and V - n_j.
    """
    absent = volumes - kinds
    all_kinds = np.union1d(kinds, absent)
    upper = hypergeometric_cutoffs(all_kinds, volumes, np.array([log10_p]))[:, :, 0]
    upper = upper[np.ix_(np.searchsorted(all_kinds, kinds), np.searchsorted(all_kinds, absent))]
    needed = np.maximum(upper.astype(np.int32), phi_cutoffs(kinds, absent, volumes, phi))
    return np.where(needed <= np.minimum.outer(kinds, absent), kinds[:, None] - needed, -1).astype(np.int32)
