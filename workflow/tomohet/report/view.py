"""The first view of a particle table: the axes and the colour that tell most about structure."""

import numpy as np
import pandas as pd

AXES = (
    *(("linear_z1", "linear_z2"), ("pc1", "pc2"), ("z1", "z2"), ("umap1", "umap2")),
    *(("vpc1", "vpc2"), ("vumap1", "vumap2"), ("x_A", "y_A")),
)
FALLBACKS = ("state", "kmeans", "vkmeans", "gmm", "tomogram")
MOST_ROWS = 20_000
CELLS = 12  # along each axis


def best_view(table: pd.DataFrame, names: list[str], seed: int = 0) -> tuple[tuple[str, str], str]:
    """Choose two columns as axes and one as colour.

    Of all pairs of axes and all occupancies, those are taken whose occupancy varies most with the place
    in the plot: its standard deviation times the adjusted fraction of its variance between cells (the
    adjusted coefficient of determination). Without occupancies, states or clusters colour the first pair.

    names : columns that may be used; at least two of them hold numbers

    """
    numbers = [n for n in names if pd.api.types.is_float_dtype(table[n])]
    pairs = [pair for pair in AXES if set(pair) <= set(names)]
    pairs = pairs or [tuple((numbers + [n for n in names if n not in numbers])[:2])]
    occupancies = [n for n in numbers if n.startswith(("maven_", "siren_"))]
    if len(table) > MOST_ROWS:
        table = table.sample(MOST_ROWS, random_state=seed)
    # The volumes' own axes say nothing new of occupancies that are measured in the same volumes.
    own = [pair for pair in pairs if not pair[0].startswith("v")] or pairs
    scored = [
        (table[colour].std() * explained(table[x], table[y], table[colour]), number, (x, y), colour)
        for number, (x, y) in enumerate(own)
        if x != "x_A"
        for colour in occupancies
    ]
    if scored:
        _, _, pair, colour = max(scored, key=lambda entry: (entry[0], -entry[1]))
        return pair, colour
    colour = next((n for n in FALLBACKS if n in names), names[0])
    return pairs[0], colour


def explained(x: pd.Series, y: pd.Series, colour: pd.Series) -> float:
    """Fraction (0 to 1) of a column's variance between cells of a plot, adjusted for the number of cells."""
    values = np.stack([s.to_numpy(float, na_value=np.nan) for s in (x, y, colour)])
    x, y, colour = values[:, np.isfinite(values).all(0)]
    if len(colour) < 3 or np.ptp(colour) == 0:
        return 0.0
    # Cells of equal counts along each axis, so that one outlier does not take all cells.
    ranks = [np.argsort(np.argsort(v, kind="stable"), kind="stable") * CELLS // len(v) for v in (x, y)]
    _, cell = np.unique(ranks[0] * CELLS + ranks[1], return_inverse=True)
    count = np.bincount(cell)
    n, cells = len(colour), len(count)
    if n <= cells:
        return 0.0
    means = np.bincount(cell, colour) / count
    residual = ((colour - means[cell]) ** 2).sum() / (n - cells)
    return float(np.clip(1 - residual / colour.var(ddof=1), 0, 1))
