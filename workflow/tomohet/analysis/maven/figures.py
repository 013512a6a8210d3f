"""Figures of occupancies: clustered heat map, histograms, correlation of units, masks on the mean volume."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.cluster.hierarchy import dendrogram

from tomohet import plots
from tomohet.analysis.maven.clustering import Tree

MOST_NAMES = 60
HISTOGRAM_LIMITS = (-0.5, 1.5)


def clustermap(occupancy: np.ndarray, names: list[str], volumes: Tree, units: Tree) -> Figure:
    """Draw occupancies (V, U) in leaf order, with both trees and coloured groups of volumes and units."""
    n_volumes, n_units = occupancy.shape
    width, height = 3.2 + 0.22 * min(n_units, MOST_NAMES), 6.0
    fig, axes = plots.figure(
        3,
        3,
        width=width / 3,
        height=height / 3,
        gridspec_kw={
            "width_ratios": [1.1, 0.15, 4],
            "height_ratios": [1.0, 0.15, 5],
            "wspace": 0,
            "hspace": 0,
        },
    )
    for ax in axes.flat:
        ax.set_axis_off()
    _tree(axes[0, 2], units, "top")
    _tree(axes[2, 0], volumes, "left")
    _strip(axes[1, 2], units.groups[units.order][None])
    _strip(axes[2, 1], volumes.groups[volumes.order][:, None])
    ax = axes[2, 2]
    ax.set_axis_on()
    image = ax.imshow(
        occupancy[np.ix_(volumes.order, units.order)],
        aspect="auto",
        cmap="Blues",
        vmin=0,
        vmax=1,
        origin="lower",
    )
    ordered = [names[i] for i in units.order]
    if n_units <= MOST_NAMES:
        ax.set_xticks(range(n_units), ordered, rotation=90, fontsize=7)
    ax.set(xlabel="unit", yticks=[])
    ax.set_ylabel(f"{n_volumes} volumes, in leaf order")
    ax.yaxis.set_label_position("right")
    fig.colorbar(image, ax=axes[:, 2], label="occupancy (0 absent, 1 present)", shrink=0.6)
    fig.suptitle(
        f"Occupancy of {n_units} units in {n_volumes} volumes\n"
        f"{volumes.groups.max()} groups of volumes, {units.groups.max()} of units (Ward)"
    )
    return fig


def _tree(ax, tree: Tree, orientation: str) -> None:
    if not len(tree.links):
        return
    dendrogram(
        tree.links,
        ax=ax,
        orientation=orientation,
        no_labels=True,
        color_threshold=0,
        above_threshold_color="0.3",
    )
    ax.set_axis_off()


def _strip(ax, groups: np.ndarray) -> None:
    count = int(groups.max())
    ax.imshow(
        groups, aspect="auto", cmap=plots.label_colors(count), vmin=0.5, vmax=count + 0.5, origin="lower"
    )


def histograms(occupancy: np.ndarray, described: pd.DataFrame, of: str = "volumes") -> Figure:
    """Draw the distribution of every unit's occupancy over the volumes or particles, with its cut."""
    n_units = occupancy.shape[1]
    columns = min(5, n_units)
    rows = -(-n_units // columns)
    fig, axes = plots.figure(rows, columns, width=2.3, height=1.7, squeeze=False)
    bins = np.linspace(*HISTOGRAM_LIMITS, 41)
    for ax in axes.flat[n_units:]:
        ax.set_axis_off()
    for ax, values, unit in zip(axes.flat, occupancy.T, described.itertuples(), strict=False):
        ax.hist(np.clip(values, *HISTOGRAM_LIMITS), bins=bins, color=plots.PALETTE[0])
        for level in (0, 1):
            ax.axvline(level, color="0.7", linewidth=0.8)
        ax.axvline(unit.cut, color=plots.PALETTE[4], linestyle="--", linewidth=1)
        ax.set_title(f"{unit.unit}: in {unit.present:.0%}", fontsize=8)
    for ax in axes[:, 0]:
        ax.set_ylabel(of)
    for column in range(columns):
        axes[(n_units - 1 - column) // columns, column].set_xlabel("occupancy")
    fig.suptitle("Occupancy of each unit (dashed: cut between absent and present)")
    return fig


def correlation(occupancy: np.ndarray, names: list[str], order: np.ndarray, of: str = "volumes") -> Figure:
    """Draw the correlation of units over the volumes or particles, in the order of the units' tree."""
    columns = occupancy[:, order]
    matrix = np.full((len(order),) * 2, np.nan)
    varying = columns.std(axis=0) > 0
    if varying.sum() > 1:
        matrix[np.ix_(varying, varying)] = np.corrcoef(columns[:, varying], rowvar=False)
    side = 2.6 + 0.2 * min(len(names), MOST_NAMES)
    fig, ax = plots.figure(width=side + 0.8, height=side)
    plots.heatmap(
        ax, matrix, f"correlation over {of}", plots.DIVERGING, (-1, 1), write_values=len(names) <= 12
    )
    if len(names) <= MOST_NAMES:
        ordered = [names[i] for i in order]
        ax.set_xticks(range(len(names)), ordered, rotation=90, fontsize=7)
        ax.set_yticks(range(len(names)), ordered, fontsize=7)
    ax.set(title="Which units come and go together", xlabel="unit", ylabel="unit")
    return fig


def masks_on_mean(mean: np.ndarray, labels: np.ndarray, names: list[str]) -> Figure:
    """Draw central sections of the mean volume and outlines of the units, to check the model's alignment.

    labels : (D, D, D) int, index of the unit of largest density in each voxel, -1 outside all masks
    """
    middle = len(mean) // 2
    colors = plots.label_colors(len(names))
    fig, axes = plots.figure(1, 3, width=3.4, height=3.6)
    views = (
        ("xy", np.s_[middle], "x", "y"),
        ("xz", np.s_[:, middle], "x", "z"),
        ("yz", np.s_[:, :, middle], "y", "z"),
    )
    low, high = np.percentile(mean, [0.5, 99.8])
    for ax, (view, section, across, up) in zip(axes, views, strict=True):
        ax.imshow(mean[section], cmap=plots.DENSITY, vmin=low, vmax=high, origin="lower")
        for unit in np.unique(labels[section][labels[section] >= 0]):
            ax.contour(labels[section] == unit, levels=[0.5], colors=[colors(int(unit))], linewidths=1)
        ax.set(title=f"{view} section", xlabel=f"{across} (px)", ylabel=f"{up} (px)")
    if len(names) <= 15:
        handles = [Line2D([], [], color=colors(i), label=name) for i, name in enumerate(names)]
        fig.legend(handles=handles, loc="outside lower center", ncols=min(len(names), 8), fontsize=7)
    fig.suptitle("Units' masks on the mean volume")
    return fig
