"""Figures of the latent space."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tomohet import plots
from tomohet.analysis.latent import PrincipalComponents
from tomohet.analysis.leaks import MEANING, Audit

SUBPLOT_CLUSTERS = 30  # up to this number, every cluster gets a panel


def plane(pcs: PrincipalComponents) -> tuple[np.ndarray, np.ndarray, tuple[str, str]]:
    """Return coordinates and axis names of the two leading components.

    A single component is drawn against the row.
    """
    names = [f"PC{i + 1} ({100 * part:.0f} % of variance)" for i, part in enumerate(pcs.explained[:2])]
    if pcs.scores.shape[1] == 1:
        return pcs.scores[:, 0], np.arange(len(pcs.scores)), (names[0], "particle (row)")
    return pcs.scores[:, 0], pcs.scores[:, 1], (names[0], names[1])


def explained_variance(pcs: PrincipalComponents, of: str = "Latents") -> Figure:
    """Plot the explained variance of each component and its running sum; `of` names the analysed quantity."""
    fig, ax = plots.figure(width=4.5)
    shown = pcs.explained[:50]
    ax.bar(np.arange(1, len(shown) + 1), 100 * shown, label="each")
    ax.plot(
        np.arange(1, len(shown) + 1), 100 * np.cumsum(shown), "o-", color=plots.PALETTE[1], ms=3, label="sum"
    )
    ax.xaxis.set_major_locator(plots.MaxNLocator(integer=True))
    ax.set(xlabel="principal component", ylabel="explained variance (%)", ylim=(0, 105))
    ax.set_title(f"{of}: variance by principal component")
    ax.legend()
    return fig


def density(x: np.ndarray, y: np.ndarray, names: tuple[str, str], title: str) -> Figure:
    """Plot all particles in a plane of the latent space."""
    fig, ax = plots.figure(width=4.8, height=4)
    plots.scatter_density(ax, x, y)
    ax.set(xlabel=names[0], ylabel=names[1], title=title)
    return fig


def one_dimension(z: np.ndarray) -> Figure:
    """Plot the histogram of a one-dimensional latent."""
    fig, ax = plots.figure(width=4.8)
    ax.hist(z, bins=int(np.clip(len(z) / 8, 10, 80)))
    ax.set(xlabel="latent z", ylabel="particles", title="Latents (one dimension)")
    return fig


def labelled(
    x: np.ndarray, y: np.ndarray, names: tuple[str, str], panels: dict[str, np.ndarray], title: str
) -> Figure:
    """Plot the same plane coloured by each labelling in `panels` (name -> labels)."""
    fig, axes = plots.figure(1, len(panels), width=4.8, height=4.2, squeeze=False)
    for ax, (name, labels) in zip(axes[0], panels.items(), strict=True):
        plots.scatter_labels(ax, x, y, labels)
        ax.set(xlabel=names[0], ylabel=names[1], title=name)
    fig.suptitle(title)
    return fig


def marked(
    x: np.ndarray, y: np.ndarray, names: tuple[str, str], rows: np.ndarray, title: str, joined: bool = False
) -> Figure:
    """Plot all particles with numbered marks on particles `rows`; a line joins the marks if `joined`."""
    fig, ax = plots.figure(width=4.8, height=4)
    shown = plots.drawn(len(x))
    ax.scatter(x[shown], y[shown], s=plots.point_size(len(x)), color="0.75", linewidths=0, rasterized=True)
    if joined:
        ax.plot(x[rows], y[rows], color=plots.PALETTE[4], linewidth=1)
    ax.scatter(x[rows], y[rows], s=22, color=plots.PALETTE[4], zorder=3)
    for number, row in enumerate(rows):
        ax.annotate(
            str(number), (x[row], y[row]), textcoords="offset points", xytext=(3, 3), fontsize=8, zorder=4
        )
    ax.set(xlabel=names[0], ylabel=names[1], title=title)
    return fig


def each_cluster(
    x: np.ndarray, y: np.ndarray, names: tuple[str, str], labels: np.ndarray, title: str
) -> Figure:
    """Plot one panel for each cluster: its members over all particles."""
    kinds = np.unique(labels)[:SUBPLOT_CLUSTERS]
    columns = min(5, len(kinds))
    rows = -(-len(kinds) // columns)
    fig, axes = plots.figure(rows, columns, width=2, height=1.9, squeeze=False, sharex=True, sharey=True)
    colors = plots.label_colors(len(kinds))
    sizes = [(labels == kind).sum() for kind in kinds]
    shown = plots.drawn(len(x))
    x, y, labels = x[shown], y[shown], labels[shown]
    for ax in axes.flat[len(kinds) :]:
        ax.set_axis_off()
    for number, kind in enumerate(kinds):
        ax, members = axes.flat[number], labels == kind
        ax.scatter(x, y, s=1, color="0.85", linewidths=0, rasterized=True)
        ax.scatter(x[members], y[members], s=4, color=colors(number), linewidths=0, rasterized=True)
        ax.set_title(f"{kind}: {sizes[number]} particles", fontsize=8)
    fig.supxlabel(names[0], fontsize=9)
    fig.supylabel(names[1], fontsize=9)
    fig.suptitle(title)
    return fig


def by_tomogram(labels: np.ndarray, tomograms: np.ndarray, title: str) -> Figure:
    """Plot how the members of each cluster spread over tomograms (particles), and cluster sizes."""
    table = pd.crosstab(pd.Series(tomograms, name="tomogram"), pd.Series(labels, name="cluster"))
    fig, (size, spread) = plots.figure(
        2,
        1,
        width=float(np.clip(2.5 + 0.32 * table.shape[1], 5, 14)),
        height=float(np.clip(1.6 + 0.09 * table.shape[0], 2.2, 6)),
        height_ratios=(1, 1.6),
    )
    size.bar(np.arange(table.shape[1]), table.sum(), width=0.7)
    size.set(ylabel="particles", xticks=np.arange(table.shape[1]), xlim=(-0.5, table.shape[1] - 0.5))
    size.set_xticklabels(table.columns)
    size.set_title(title)
    plots.heatmap(spread, table.to_numpy(), "particles")
    spread.set(xlabel="cluster", ylabel="tomogram")
    spread.set_xticks(np.arange(table.shape[1]), table.columns)
    if table.shape[0] <= 40:
        spread.set_yticks(np.arange(table.shape[0]), [shortened(name) for name in table.index])
    else:
        spread.set_ylabel(f"tomogram ({table.shape[0]}, in order of name)")
    return fig


def shortened(name: str, length: int = 22) -> str:
    """Cut a name in the middle to `length` characters."""
    return name if len(name) <= length else f"{name[: length // 2 - 1]}…{name[-length // 2 :]}"


def leak_table(result: Audit) -> Figure:
    """Plot the explained fraction of each leading component by each nuisance; stars mark significant ones.

    For movement, the number is the fraction of the component's map, and a star marks half or more.
    """
    shown = list(result.verdicts)
    table = result.tests.pivot(index="nuisance", columns="pc", values="explained").loc[shown]
    stars = result.tests.pivot(index="nuisance", columns="pc", values="significant").loc[shown]
    fig, ax = plots.figure(width=3.6 + 0.55 * table.shape[1], height=3.6)
    values = table.to_numpy(np.float64)
    plots.heatmap(ax, values, "explained fraction (movement: of the map)", limits=(0, 1), write_values=False)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            mark = "*" if stars.iat[row, column] else ""
            color = "black" if value > 0.6 else "white"
            ax.text(column, row, f"{value:.2f}{mark}", ha="center", va="center", fontsize=7, color=color)
    names = [f"{name} — {result.verdicts[name]}" for name in table.index]
    ax.set_xticks(np.arange(table.shape[1]), [f"PC{pc}" for pc in table.columns])
    ax.set_yticks(np.arange(len(names)), names)
    ax.set(xlabel="latent component (* significant at 1 %, corrected for all tests; movement: half or more)")
    ax.set_title("Leak audit: do latents follow how particles were imaged?")
    return fig


def save_all(figures: dict[str, Figure], folder: Path, plot_format: str) -> list[Path]:
    """Write figures to `folder` as <name>.<plot_format>."""
    return [plots.save(fig, folder / f"{name}.{plot_format}") for name, fig in figures.items()]


def valued(
    x: np.ndarray, y: np.ndarray, names: tuple[str, str], values: np.ndarray, label: str, title: str
) -> Figure:
    """Plot all particles in a plane, coloured by a quantity."""
    fig, ax = plots.figure(width=5.2, height=4)
    plots.scatter_values(ax, x, y, values, label)
    ax.set(xlabel=names[0], ylabel=names[1], title=title)
    return fig


def controls(x: np.ndarray, y: np.ndarray, names: tuple[str, str], table: pd.DataFrame) -> Figure:
    """Plot the latent plane coloured by each numeric nuisance that varies."""
    shown = [name for name in MEANING if name in table and table[name].dtype.kind in "if"]
    varying = [name for name in shown if table[name].nunique() > 1] or shown[:1]
    columns = min(3, len(varying))
    fig, axes = plots.figure(-(-len(varying) // columns), columns, width=4.4, height=3.4, squeeze=False)
    for ax in axes.flat[len(varying) :]:
        ax.set_axis_off()
    for ax, name in zip(axes.flat, varying, strict=False):
        plots.scatter_values(ax, x, y, table[name].to_numpy(), name)
        ax.set(xlabel=names[0], ylabel=names[1], title=MEANING[name].split(";")[0])
    fig.suptitle("Latents against how particles were imaged")
    return fig


def graph(x: np.ndarray, y: np.ndarray, names: tuple[str, str], edges, title: str) -> Figure:
    """Plot particles and the edges (sparse, symmetric, n x n) between them."""
    from matplotlib.collections import LineCollection
    from scipy.sparse import triu

    fig, ax = plots.figure(width=4.8, height=4)
    upper = triu(edges).tocoo()
    places = np.stack([x, y], axis=1)
    lines = np.stack([places[upper.row], places[upper.col]], axis=1)
    ax.add_collection(LineCollection(lines, colors="0.8", linewidths=0.3, rasterized=True))
    ax.scatter(x, y, s=plots.point_size(len(x)), linewidths=0, rasterized=True, zorder=2)
    ax.set(xlabel=names[0], ylabel=names[1], title=f"{title} ({upper.nnz} edges)")
    return fig
