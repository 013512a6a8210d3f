"""All pairs of voxels: how many are linked at which significance, and each voxel's closest partners.

Every pair is looked at; what is kept are K partners per voxel, so that memory grows with the voxels alone.
Two engines give the same results: `popcount` on processors, `matrix` on graphics cards.
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

PARTNERS = 30
PAIRS_FOR_SIGNIFICANCE = 40_000_000


@dataclass(frozen=True)
class Voxels:
    """N voxels in V volumes.

    bits: (N, W) uint64; totals: (N,) on-counts; xyz_A: (N, 3) float32. weighted: the number of equally
    weighted volumes that the V are worth, some of which may be copies; effective: the number of independent
    ones (None: all V). noise_A: the distance within which voxels share their noise.
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
    """When two voxels are linked, by tables (U, U) over the U `kinds` of totals.

    needed: smallest number of common volumes, int32. excluded: largest one of voxels that avoid each other,
    -1 where there is none. lifted: common volumes must also exceed `positive` (float64) times SIREn's lift,
    which grows with distance. apart: voxels that share their noise are never linked.
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

    index (N, K) int32, -1 where there are fewer; phi (N, K) float32; pairs: pairs of voxels looked at;
    linked: pairs that passed; excluded: pairs that avoid each other as significantly; p_value: the
    significance demanded of each (None: no pair was significant); least_phi: the effect size demanded.
    """

    index: np.ndarray
    phi: np.ndarray
    pairs: int
    linked: int
    excluded: int
    p_value: float | None
    least_phi: float | None = None


def partners_by_phi(
    voxels: Voxels, rng: np.random.Generator, keep: int = PARTNERS, engine: str = "popcount"
) -> Partners:
    """Partners by the exact hypergeometric test at a false discovery rate of 0.01 over all pairs, and phi.

    The significance is found on all pairs, or on those of randomly drawn voxels where there are too many.
    Where volumes have unequal weights, p-values are those of as many equally weighted ones as they are
    worth (the exponent of the tail is proportional to the number of volumes).
    """
    n, volumes = len(voxels.bits), voxels.volumes
    count_significant, best_partners = _engine(engine)
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
    found = best_partners(voxels, rank, rule, keep)
    return Partners(found[0], found[1], pairs, *found[2:], float(10.0 ** -log10_p[chosen]), phi)


def partners_by_siren(
    voxels: Voxels,
    positive: np.ndarray | None = None,
    negative: np.ndarray | None = None,
    keep: int = PARTNERS,
    engine: str = "popcount",
) -> Partners:
    """Partners by SIREn's published rule: joint presence above its cut-off times a lift that grows with
    distance, and joint absence above its own.

    positive, negative: cut-offs (V + 1, V + 1) by the totals; default: the exact binomial ones at the
    p-values of `siren_p_values`.
    """
    n, volumes = len(voxels.bits), voxels.volumes
    _, best_partners = _engine(engine)
    kinds, rank = _ranked(voxels.totals)
    positive_p, negative_p = siren_p_values(max(1, n * (n - 1) // 2))
    if positive is None or negative is None:
        positive, negative = binomial_cutoffs(kinds, volumes, positive_p, negative_p)
    else:
        positive, negative = (
            np.asarray(table, np.float64)[np.ix_(kinds, kinds)] for table in (positive, negative)
        )
    # With totals given, joint absence is a demand on joint presence as well: n00 = V - n_i - n_j + n11.
    n_i, n_j = kinds[:, None], kinds[None]
    present = np.minimum(positive, np.minimum(n_i, n_j))
    absent = np.minimum(negative, volumes - np.maximum(n_i, n_j)) - volumes + n_i + n_j
    needed = (np.floor(np.maximum(present, absent)) + 1).astype(np.int32)
    rule = Rule(kinds, needed, np.full_like(needed, -1), positive, lifted=True)
    found = best_partners(voxels, rank, rule, keep)
    return Partners(found[0], found[1], n * (n - 1) // 2, *found[2:], positive_p)


def engine_of(name: str, device: str) -> str:
    """The engine for the options --engine (auto, popcount, matrix) and --device (auto, cpu, cuda)."""
    from tomohet.device import device_of

    if name == "popcount" or (name == "auto" and device_of(device).type == "cpu"):
        return "popcount"
    return f"matrix-{device_of(device).type}"


def _engine(name: str) -> tuple:
    """Functions count_significant and best_partners of `popcount`, or of `matrix` on cpu or cuda."""
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
    """Largest number of common volumes (U, U) of voxels that avoid each other; -1 where none is so small.

    To avoid a voxel is to be linked with its absence: the lower tail is the upper one of n_i and V - n_j.
    """
    absent = volumes - kinds
    all_kinds = np.union1d(kinds, absent)
    upper = hypergeometric_cutoffs(all_kinds, volumes, np.array([log10_p]))[:, :, 0]
    upper = upper[np.ix_(np.searchsorted(all_kinds, kinds), np.searchsorted(all_kinds, absent))]
    needed = np.maximum(upper.astype(np.int32), phi_cutoffs(kinds, absent, volumes, phi))
    return np.where(needed <= np.minimum.outer(kinds, absent), kinds[:, None] - needed, -1).astype(np.int32)
