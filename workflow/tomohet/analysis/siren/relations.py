"""Which blocks are never there without, or never together with, which others."""

import numpy as np
import pandas as pd
from scipy.stats import hypergeom

EXCEPTIONS = 0.05
FEWEST_VOLUMES = 5
SIGNIFICANCE = 0.01  # over all pairs, as if volumes were independent
EFFECTIVE_SIGNIFICANCE = 0.05  # of the pair, given how few independent volumes it is worth
COLUMNS = ("block", "relation", "other", "n_present", "exceptions", "phi", "p_value")


def relations(
    present: np.ndarray, ids: np.ndarray, copies: np.ndarray, effective: np.ndarray
) -> pd.DataFrame:
    """Pairs of blocks of which the first requires the second, or which exclude each other.

    present: (V, B) bool; ids: (B,); copies: (V,) how often each volume counts; effective: (B,) independent
    volumes that each block's states are worth. `a requires b`: at most 5 % of a's volumes lack b. `a
    excludes b` (listed once): at most 5 % of the rarer one's volumes have both. Both must be present, and
    lacking, in at least 5 volumes. For unrelated blocks so few exceptions must be rarer than 0.01 if the
    volumes were independent (hypergeometric, Bonferroni over all pairs), and rarer than 0.05 for the number
    of independent volumes that the pair is worth (the tail's exponent is proportional to it).

    Returns columns block, relation, other, n_present and exceptions (of sum(copies) volumes), phi, p_value
    (the latter one, of the pair); strongest first.
    """
    weighted = present * copies[:, None].astype(np.int64)
    total, count = int(copies.sum()), weighted.sum(axis=0)
    volumes = present.sum(axis=0)
    both = weighted.T @ present
    enough = (volumes >= FEWEST_VOLUMES) & (len(present) - volumes >= FEWEST_VOLUMES)
    blocks = np.flatnonzero(enough)
    worth = np.sqrt(np.multiply.outer(effective, effective)) / total
    deviation = np.sqrt(count * (total - count.astype(float)))
    rows = []
    for a in blocks:
        for b in blocks:
            if a == b:
                continue
            pair = {
                "block": ids[a],
                "other": ids[b],
                "n_present": count[a],
                "worth": worth[a, b],
                "phi": (both[a, b] * total - count[a] * count[b]) / (deviation[a] * deviation[b]),
            }
            lacking = count[a] - both[a, b]
            chance = hypergeom.logcdf(lacking, total, total - count[b], count[a])
            rows.append(pair | {"relation": "requires", "exceptions": lacking, "log_p": chance})
            if a < b:
                chance = hypergeom.logcdf(both[a, b], total, count[b], count[a])
                rows.append(pair | {"relation": "excludes", "exceptions": both[a, b], "log_p": chance})
    table = pd.DataFrame(rows, columns=[*COLUMNS[:-1], "log_p", "worth"])
    rarer = np.where(
        table.relation == "excludes",
        np.minimum(table.n_present, table.other.map(dict(zip(ids, count, strict=True)))),
        table.n_present,
    )
    log_p = np.minimum(table.log_p.astype(float), 0)
    table["p_value"] = np.exp(log_p * table.worth.astype(float))
    pairs = max(1, len(blocks) * (len(blocks) - 1))
    holds = (table.exceptions <= EXCEPTIONS * rarer) & (np.exp(log_p) * pairs < SIGNIFICANCE)
    holds &= table.p_value < EFFECTIVE_SIGNIFICANCE
    return table.loc[holds, list(COLUMNS)].sort_values(["p_value", "block", "other"], ignore_index=True)


def listed(table: pd.DataFrame, block: int, relation: str) -> str:
    """Ids that stand in a relation to a block, comma-separated; exclusion holds both ways."""
    related = table[table.relation == relation]
    others = set(related.other[related.block == block])
    if relation == "excludes":
        others |= set(related.block[related.other == block])
    return ",".join(str(number) for number in sorted(others))
