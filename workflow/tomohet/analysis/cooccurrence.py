"""Co-occurrence of the pieces of a structure: requirement and exclusion."""

import numpy as np
import pandas as pd
from scipy.stats import beta, hypergeom

EXCEPTIONS = 0.05
FEWEST_VOLUMES = 5
SIGNIFICANCE = 0.01
COLUMNS = (
    "unit", "relation", "other", "n_present", "exceptions", "phi", "p_value", "p_value_smooth", "confidence",
)  # fmt: skip


def relations(
    present: np.ndarray,
    names,
    copies: np.ndarray | None = None,
    weighted: float | None = None,
    effective: np.ndarray | None = None,
) -> pd.DataFrame:
    """Find pairs of units of which the first requires the second, or which exclude each other.

    present : (V, U) bool, in volumes or particles
    names : (U,)
    copies : (V,) multiplicity of each volume in the counts (default: 1)
    weighted : number of equally weighted volumes that the volumes are worth (default: all)
    effective : (U,) number of independent volumes, given how smooth each unit's states are over the latents
        (default: the same number)

    `a requires b`: at most 5 % of a's volumes lack b. `a excludes b` (listed once): at most 5 % of the rarer
    unit's volumes have both. Each unit must be present in at least 5 volumes and absent in at least 5. For
    independent states, so few exceptions must have a probability below 0.01 (hypergeometric, Bonferroni over
    all pairs).

    Returns columns unit, relation, other, n_present, exceptions (of sum(copies) volumes), phi, p_value (of
    the pair), p_value_smooth and confidence, strongest first. p_value_smooth is the probability of so few
    exceptions for unrelated states that are equally smooth over the latents. If it is large, the latents
    cannot tell whether one unit depends on the other, or both depend on something else. confidence is the
    probability that exceptions are indeed at most 5 % (Jeffreys' prior for their fraction). The exponents of
    the tails are proportional to the number of volumes.
    """
    names = np.asarray(names, dtype=object)
    copies = np.ones(len(present), dtype=np.int64) if copies is None else copies
    total = int(copies.sum())
    weighted = float(total) if weighted is None else weighted
    effective = np.full(len(names), weighted) if effective is None else effective
    counted = present * copies[:, None].astype(np.int64)
    count, both = counted.sum(axis=0), counted.T @ present
    volumes = present.sum(axis=0)
    enough = (volumes >= FEWEST_VOLUMES) & (len(present) - volumes >= FEWEST_VOLUMES)
    pairs = np.multiply.outer(enough, enough) & ~np.eye(len(names), dtype=bool)
    ordered, once = np.nonzero(pairs), np.nonzero(np.triu(pairs))

    a, b = (np.concatenate([x, y]) for x, y in zip(ordered, once, strict=True))
    requires = np.arange(len(a)) < len(ordered[0])
    exceptions = np.where(requires, count[a] - both[a, b], both[a, b])
    among = np.where(requires, count[a], np.minimum(count[a], count[b]))
    # Exceptions are volumes of the first without the second, or with it: the same tail of the same law.
    counterpart = np.where(requires, total - count[b], count[b])
    log_p = np.minimum(hypergeom.logcdf(exceptions, total, counterpart, count[a]), 0)
    deviation = np.sqrt(count * (total - count.astype(float)))
    table = pd.DataFrame(
        {
            "unit": names[a],
            "relation": np.where(requires, "requires", "excludes"),
            "other": names[b],
            "n_present": count[a],
            "exceptions": exceptions,
            "phi": (both[a, b] * total - count[a] * count[b]) / (deviation[a] * deviation[b]),
            "p_value": np.exp(log_p * weighted / total),
            "p_value_smooth": np.exp(log_p * np.sqrt(effective[a] * effective[b]) / total),
            "confidence": beta.cdf(EXCEPTIONS, exceptions + 0.5, among - exceptions + 0.5),
        },
        columns=COLUMNS,
    )
    holds = (exceptions <= EXCEPTIONS * among) & (table.p_value * max(1, len(ordered[0])) < SIGNIFICANCE)
    return table[holds].sort_values(["p_value", "unit", "other"], ignore_index=True)


def dependencies(present: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Select the pairs of `relations` of which the first requires the second.

    Columns unit, requires, n_present, exceptions, p_value and confidence.
    """
    found = relations(present, names)
    found = found[found.relation == "requires"].rename(columns={"other": "requires"})
    return found[["unit", "requires", "n_present", "exceptions", "p_value", "confidence"]].reset_index(
        drop=True
    )


def related(table: pd.DataFrame, unit, relation: str) -> str:
    """List the units that stand in a relation to one unit, comma-separated; exclusion holds both ways."""
    rows = table[table.relation == relation]
    others = set(rows.other[rows.unit == unit])
    if relation == "excludes":
        others |= set(rows.unit[rows.other == unit])
    return ",".join(str(name) for name in sorted(others))
