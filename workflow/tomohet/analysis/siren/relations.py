"""Which blocks are never there without, or never together with, which others."""

import numpy as np
import pandas as pd
from scipy.stats import hypergeom

EXCEPTIONS = 0.05
FEWEST_VOLUMES = 5
SIGNIFICANCE = 0.01
COLUMNS = ("block", "relation", "other", "n_present", "exceptions", "phi", "p_value", "p_value_smooth")


def relations(
    present: np.ndarray, ids: np.ndarray, copies: np.ndarray, weighted: float, effective: np.ndarray
) -> pd.DataFrame:
    """Pairs of blocks of which the first requires the second, or which exclude each other.

    present: (V, B) bool; ids: (B,); copies: (V,) how often each volume counts; weighted: the number of
    equally weighted volumes that they are worth; effective: (B,) that of independent volumes, given how
    smooth each block's states are over the latents. `a requires b`: at most 5 % of a's volumes lack b. `a
    excludes b` (listed once): at most 5 % of the rarer one's volumes have both. Both must be present, and
    lacking, in at least 5 volumes, and so few exceptions rarer than 0.01 for independent states
    (hypergeometric, Bonferroni over all pairs).

    Returns columns block, relation, other, n_present and exceptions (of sum(copies) volumes), phi, p_value
    (of the pair), strongest first; and p_value_smooth, how often states that have nothing to do with each
    other, but are as smooth, have as few exceptions: then the latents do not tell whether one block depends
    on the other or both on something else. (The exponents of the tails are proportional to the number of
    volumes.)
    """
    counted = present * copies[:, None].astype(np.int64)
    total, count = int(copies.sum()), counted.sum(axis=0)
    volumes = present.sum(axis=0)
    both = counted.T @ present
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
    table = pd.DataFrame(rows, columns=[*COLUMNS[:-2], "log_p", "worth"])
    rarer = np.where(
        table.relation == "excludes",
        np.minimum(table.n_present, table.other.map(dict(zip(ids, count, strict=True)))),
        table.n_present,
    )
    log_p = np.minimum(table.log_p.astype(float), 0)
    table["p_value"] = np.exp(log_p * weighted / total)
    table["p_value_smooth"] = np.exp(log_p * table.worth.astype(float))
    pairs = max(1, len(blocks) * (len(blocks) - 1))
    holds = (table.exceptions <= EXCEPTIONS * rarer) & (table.p_value * pairs < SIGNIFICANCE)
    return table.loc[holds, list(COLUMNS)].sort_values(["p_value", "block", "other"], ignore_index=True)


def listed(table: pd.DataFrame, block: int, relation: str) -> str:
    """Ids that stand in a relation to a block, comma-separated; exclusion holds both ways."""
    related = table[table.relation == relation]
    others = set(related.other[related.block == block])
    if relation == "excludes":
        others |= set(related.block[related.other == block])
    return ",".join(str(number) for number in sorted(others))
