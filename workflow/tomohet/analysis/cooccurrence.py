"""Which pieces of a structure are never there without, or never together with, which others."""

import numpy as np
import pandas as pd
from scipy.stats import beta, hypergeom

EXCEPTIONS = 0.05
FEWEST_VOLUMES = 5
SIGNIFICANCE = 0.01


def dependencies(present: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Pairs of units of which the first is hardly ever there without the second.

    present: (V, U) bool. A pair is listed when the first is present in at least 5 volumes, the second absent
    in at least 5, at most 5 % of the first's volumes lack the second, and so few would be rarer than 0.01 for
    independent units (hypergeometric, Bonferroni over all pairs).

    Returns columns unit, requires, n_present, exceptions, p_value and confidence, the probability that
    exceptions are indeed at most 5 % (their share has Jeffreys' prior); strongest first.
    """
    volumes, units = present.shape
    count = present.sum(axis=0)
    without = present.T.astype(np.int64) @ (~present).astype(np.int64)
    first, second = np.nonzero(~np.eye(units, dtype=bool))
    exceptions, n_first, n_lacking = without[first, second], count[first], volumes - count[second]
    p_value = hypergeom.cdf(exceptions, volumes, n_lacking, n_first)
    listed = (
        (n_first >= FEWEST_VOLUMES)
        & (n_lacking >= FEWEST_VOLUMES)
        & (exceptions <= EXCEPTIONS * n_first)
        & (p_value * len(first) < SIGNIFICANCE)
    )
    table = pd.DataFrame(
        {
            "unit": np.array(names, dtype=object)[first[listed]],
            "requires": np.array(names, dtype=object)[second[listed]],
            "n_present": n_first[listed],
            "exceptions": exceptions[listed],
            "p_value": p_value[listed],
            "confidence": beta.cdf(
                EXCEPTIONS, exceptions[listed] + 0.5, (n_first - exceptions)[listed] + 0.5
            ),
        }
    )
    return table.sort_values(["p_value", "unit", "requires"], ignore_index=True)


def exclusions(present: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Pairs of units that are hardly ever there together.

    present: (V, U) bool. A pair is listed when each is present in at least 5 volumes, at most 5 % of the
    rarer one's volumes hold both, and so few would be rarer than 0.01 for independent units (hypergeometric,
    Bonferroni).

    Returns columns unit, excludes, n_present, together, p_value; each pair once, strongest first.
    """
    volumes, units = present.shape
    count = present.sum(axis=0)
    both = present.T.astype(np.int64) @ present.astype(np.int64)
    first, second = np.triu_indices(units, k=1)
    together = both[first, second]
    p_value = hypergeom.cdf(together, volumes, count[first], count[second])
    rarer = np.minimum(count[first], count[second])
    listed = (
        (rarer >= FEWEST_VOLUMES) & (together <= EXCEPTIONS * rarer) & (p_value * len(first) < SIGNIFICANCE)
    )
    table = pd.DataFrame(
        {
            "unit": np.array(names, dtype=object)[first[listed]],
            "excludes": np.array(names, dtype=object)[second[listed]],
            "n_present": count[first][listed],
            "together": together[listed],
            "p_value": p_value[listed],
        }
    )
    return table.sort_values(["p_value", "unit", "excludes"], ignore_index=True)
