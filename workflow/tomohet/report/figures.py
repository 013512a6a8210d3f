"""Charts of a report as plain numbers; the page's script draws them, for any width and colour scheme."""

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import dendrogram, leaves_list, linkage

from tomohet import plots
from tomohet.physics.fsc import resolution_at
from tomohet.reconstruction.outputs import AT_NYQUIST
from tomohet.report.tables import MOST_CATEGORIES
from tomohet.training.held_out import compared_with, judged

INK, BLUE, ORANGE, GREEN = "var(--ink)", "#3b7dd8", "#e58a1f", "#2fa36b"
THRESHOLDS = (0.5, 0.143)
FSC_CURVES = (
    ("corrected", "corrected", INK, "strong"),
    ("masked", "masked", BLUE, ""),
    ("unmasked", "unmasked", GREEN, ""),
    ("randomised", "phases randomised", ORANGE, "dashed"),
)
LOSS_CURVES = (("total", "total", INK), ("gen", "reconstruction", BLUE), ("kld", "KL divergence", ORANGE))
HELD_OUT_CURVES = (("decoder", "the network's volumes", BLUE), ("latents", "its latents", ORANGE))
UNCONFIRMED = "#b0b6bd"
STATE_CURVES = (
    ("discrete states", "held_out_gain_states", BLUE),
    ("linear model", "held_out_gain_linear", ORANGE),
)
HISTOGRAM_BINS = 30


def fsc_chart(fsc: pd.DataFrame | None) -> dict | None:
    """Chart the Fourier shell correlation against spatial frequency (1/Å), with the two usual thresholds."""
    if fsc is None or "frequency_1_A" not in fsc:
        return None
    table = fsc[fsc["frequency_1_A"] > 0]
    curves = [(c, *rest) for c, *rest in FSC_CURVES if c in table and table[c].notna().any()]
    if not curves:
        return None
    return {
        "kind": "lines",
        "xtitle": "Spatial frequency (1/Å)",
        "ytitle": "Fourier shell correlation",
        "xreading": "resolution",
        "xrange": [0, float(table["frequency_1_A"].max())],
        "yrange": [float(min(-0.05, np.nanmin(table[[c[0] for c in curves]].to_numpy()))), 1.03],
        "marks": [{"y": t, "label": f"{t:g}"} for t in THRESHOLDS],
        "series": [
            series(name, table["frequency_1_A"], table[c], ink, style) for c, name, ink, style in curves
        ],
        "summary": "Fourier shell correlation of the half maps: "
        + ", ".join(f"{resolution_text(fsc, t)} at {t:g}" for t in resolutions(fsc)),
    }


def resolutions(fsc: pd.DataFrame | None) -> dict[float, float]:
    """Return the resolution (Å) at which the best available curve first falls below each threshold.

    The mask-corrected curve is used if it exists, else the masked, else the unmasked.
    """
    if fsc is None or "frequency_1_A" not in fsc or len(fsc) < 2:
        return {}
    curve = next((c for c in ("corrected", "masked", "unmasked") if c in fsc and fsc[c].notna().any()), None)
    if curve is None:
        return {}
    table = fsc.sort_values("frequency_1_A")
    return {t: resolution_at(table[curve], table["frequency_1_A"], t) for t in THRESHOLDS}


def limited_by_pixels(fsc: pd.DataFrame | None, resolution_A: float) -> bool:
    """Tell whether a resolution (Å) is that of the pixel size: the curve's last frequency is Nyquist's."""
    return fsc is not None and resolution_A * fsc["frequency_1_A"].max() <= AT_NYQUIST


def resolution_text(fsc: pd.DataFrame | None, threshold: float) -> str:
    """Write the resolution at a threshold with its unit, marked where the pixel size limits it.

    Without such a resolution the text is "".
    """
    value = resolutions(fsc).get(threshold)
    if value is None:
        return ""
    return f"{value:.1f}\u00a0Å{' (Nyquist)' if limited_by_pixels(fsc, value) else ''}"


def loss_charts(loss: pd.DataFrame | None) -> list[dict]:
    """Make one chart per part of the training loss against the epoch.

    The parts differ too much for one axis. Without a KL divergence the total is the reconstruction loss and
    is not drawn again.
    """
    if loss is None or "epoch" not in loss or loss.empty:
        return []
    alike = {"total", "gen"} <= set(loss) and np.allclose(loss["total"], loss["gen"], rtol=1e-6)
    return [
        {
            "kind": "lines",
            "height": 190,
            "xtitle": "Epoch",
            "ytitle": f"Loss: {name}",
            "series": [series(name, loss["epoch"], loss[column], ink)],
            "summary": f"Training loss ({name}): {loss[column].iloc[0]:.4g} in the first epoch, "
            f"{loss[column].iloc[-1]:.4g} in the last",
        }
        for column, name, ink in LOSS_CURVES
        if column in loss and loss[column].abs().max() > 0 and not (alike and column == "total")
    ]


def held_out_chart(table: pd.DataFrame | None) -> dict | None:
    """Chart the gain of a network over the linear model on held-out images, with standard errors."""
    if table is None or "gain_of_decoder" not in table:
        return None
    curves = []
    for what, name, ink in HELD_OUT_CURVES:
        shown = judged(table, what)
        if len(shown):
            error = [finite(v) for v in shown["error"]]
            curves.append({**series(name, shown["epoch"], shown["gain"], ink), "error": error})
    return {
        "kind": "lines",
        "height": 230,
        "xtitle": "Epoch",
        "ytitle": "Gain (nats)",
        "marks": [{"y": 0, "label": ""}],
        "series": curves,
        "summary": f"Gain over {compared_with(table)} on held-out tilt images, after the last epoch judged: "
        + ", ".join(f"{c['name']} {c['y'][-1]:.4g} ± {c['error'][-1]:.2g} nats" for c in curves),
    }


def held_out_directions(linear: dict) -> dict | None:
    """Chart the held-out statistic of each latent direction; confirmed directions are blue, others grey."""
    values, confirmed = linear.get("held_out_moments"), linear.get("components_confirmed")
    if not (isinstance(values, list) and values and isinstance(confirmed, int)):
        return None
    colours = [BLUE if number < confirmed else UNCONFIRMED for number in range(len(values))]
    labels = range(1, len(values) + 1)
    return bars(values, "Latent direction", "Held-out statistic (nats)", labels, colours)


def state_gains(states: dict) -> dict | None:
    """Chart the prediction of held-out images by 1, 2, ... states, beside that of the linear model."""
    curves = [
        (name, states[key], ink)
        for name, key, ink in STATE_CURVES
        if isinstance(states.get(key), list) and states[key]
    ]
    if len(curves) < len(STATE_CURVES):
        return None
    return {
        "kind": "lines",
        "height": 210,
        "xtitle": "States, or directions of the linear model",
        "ytitle": "Gain (nats)",
        "marks": [{"x": states["n_states"], "label": "chosen"}] if states.get("n_states") else [],
        "series": [series(name, range(1, len(values) + 1), values, ink) for name, values, ink in curves],
        "summary": "Prediction of held-out tilt images: "
        + ", ".join(f"{name} {max(values):.4g} nats" for name, values, _ in curves),
    }


def cluster_sizes(particles: pd.DataFrame | None) -> dict | None:
    """Make a bar chart of the k-means clusters' sizes, in the colours of the scatter plot."""
    if particles is None or "kmeans" not in particles:
        return None
    sizes = particles["kmeans"].value_counts().sort_index()
    if len(sizes) > MOST_CATEGORIES:
        return None
    colours = plots.label_hex(len(sizes))
    return bars(sizes.tolist(), "k-means cluster", "Particles", sizes.index.tolist(), colours)


def occupancies(volumes: pd.DataFrame | None, prefix: str, unit: str) -> dict | None:
    """Make a clustermap of occupancies, volumes by blocks or units."""
    if volumes is None or "volume" not in volumes:
        return None
    return clustermap(volumes.set_index("volume"), "volume", unit, prefix)


def bars(values, xtitle: str, ytitle: str, labels=None, colours=None, height: int = 210) -> dict:
    """Make a bar chart of `values` at 0, 1, 2 ..."""
    values = [finite(v) for v in values]
    places = list(range(len(values)))
    chart = {
        "kind": "bars",
        "height": height,
        "xtitle": xtitle,
        "ytitle": ytitle,
        "xrange": [-0.6, len(values) - 0.4],
        "series": [{"name": ytitle.lower(), "x": places, "y": values, "width": 0.8, "colour": BLUE}],
        "summary": f"{ytitle} by {xtitle.lower()}: " + ", ".join(f"{v:.4g}" for v in values if v is not None),
    }
    if labels is not None:
        every = max(1, len(labels) // 14)
        chart["xlabels"] = [str(label) for label in labels]
        chart["xticks"] = [[i, str(label)] for i, label in enumerate(labels) if i % every == 0]
    if colours is not None:
        chart["series"][0]["colours"] = colours
    return chart


def histograms(table: pd.DataFrame, titles: dict[str, str]) -> list[dict]:
    """Make a histogram for each column named in `titles`, all on one axis so that they can be compared.

    The axis covers 0 to 1 and all values except the outermost half per cent, which are counted at its ends.
    """
    values = table[list(titles)].to_numpy(float)
    if not np.isfinite(values).any():
        return []
    low, high = np.nanpercentile(np.where(np.isfinite(values), values, np.nan), [0.5, 99.5])
    edges = np.linspace(min(low, 0.0), max(high, 1.0), HISTOGRAM_BINS + 1)
    charts = []
    for column, title in titles.items():
        known = table[column].to_numpy(float)
        known = np.clip(known[np.isfinite(known)], edges[0], edges[-1])
        counts, _ = np.histogram(known, bins=edges)
        bars_ = series("count", (edges[:-1] + edges[1:]) / 2, counts, BLUE)
        charts.append(
            {
                "kind": "bars",
                "height": 150,
                "xtitle": title,
                "ytitle": "Particles",
                "xrange": [float(edges[0]), float(edges[-1])],
                "series": [{**bars_, "width": float(edges[1] - edges[0])}],
                "summary": f"Histogram of {title}: mean {known.mean():.3g}" if len(known) else title,
            }
        )
    return charts


def clustermap(table: pd.DataFrame, rowtitle: str, columntitle: str, prefix: str) -> dict | None:
    """Make a heat map of amounts (rows x columns of `table`), both sides in the order of Ward's clustering.

    Colours run from the 10th to the 90th percentile of all entries, as is usual for occupancies.
    """
    columns = amounts(table, prefix)
    values = table[columns].to_numpy(float) if columns else np.empty((0, 0))
    if values.shape[0] < 1 or not np.isfinite(values).all():
        return None
    low, high = (float(v) for v in np.percentile(values, [10, 90]))
    scaled = (np.clip(values, low, high) - low) / ((high - low) or 1.0)
    rows, rowtree = ward_order(scaled)
    order, columntree = ward_order(scaled.T)
    return {
        "values": np.round(values[rows][:, order], 4).tolist(),
        "rows": [str(table.index[i]) for i in rows],
        "columns": [str(columns[j]).removeprefix(prefix) for j in order],
        "rowtree": rowtree,
        "columntree": columntree,
        "low": low,
        "high": high,
        "rowtitle": rowtitle,
        "columntitle": columntitle,
        "summary": f"Heat map: {len(rows)} {rowtitle}s by {len(order)} {columntitle}s",
    }


def amounts(table: pd.DataFrame, prefix: str) -> list[str]:
    """Return the names of a family's measured columns; `maven_class` names a group, so it is left out."""
    return [c for c in table if str(c).startswith(prefix) and pd.api.types.is_float_dtype(table[c])]


def ward_order(values: np.ndarray) -> tuple[list[int], list]:
    """Return the leaf order of Ward's clustering of rows, and its links as polylines.

    A point of a polyline is (leaf position, height in 0..1).
    """
    if len(values) < 3:
        return list(range(len(values))), []
    tree = linkage(values, method="ward", metric="euclidean", optimal_ordering=len(values) <= 400)
    drawn = dendrogram(tree, no_plot=True)
    top = max(float(tree[:, 2].max()), 1e-12)
    links = [
        [[round(x / 10, 3), round(y / top, 4)] for x, y in zip(xs, ys, strict=True)]
        for xs, ys in zip(drawn["icoord"], drawn["dcoord"], strict=True)
    ]
    return leaves_list(tree).tolist(), links


def series(name: str, x, y, colour: str, style: str = "") -> dict:
    """Return one curve; values that are not finite become gaps."""
    return {
        "name": name,
        "x": [finite(v) for v in x],
        "y": [finite(v) for v in y],
        "colour": colour,
        "style": style,
    }


def finite(value) -> float | None:
    """Convert to a float that JSON can hold, in six digits."""
    number = float(value)
    return float(f"{number:.6g}") if np.isfinite(number) else None
