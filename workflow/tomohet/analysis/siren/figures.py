"""Figures of blocks: sections coloured by block, and which blocks are there together."""

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from tomohet import plots

MOST_IN_LEGEND = 24
MOST_BLOCKS = 60
SECTIONS = (0.35, 0.5, 0.65)


def coloured_sections(mean: np.ndarray, labels: np.ndarray, table: pd.DataFrame) -> Figure:
    """Sections of the mean volume at three depths along each axis, every block in its own colour.

    mean, labels: (D, D, D); labels hold block ids from 1, 0 for none.
    """
    box = len(mean)
    colors = np.array([to_rgb("black"), *(plots.label_colors(len(table))(i)[:3] for i in range(len(table)))])
    low, high = np.percentile(mean, [0.5, 99.8])
    fig, axes = plots.figure(3, 3, width=2.6, height=2.6)
    views = (("xy", 0, "x", "y"), ("xz", 1, "x", "z"), ("yz", 2, "y", "z"))
    for row, (view, axis, across, up) in zip(axes, views, strict=True):
        for ax, depth in zip(row, SECTIONS, strict=True):
            index = round(depth * box)
            section = np.take(mean, index, axis=axis)
            block = np.take(labels, index, axis=axis)
            grey = np.clip((section - low) / max(high - low, 1e-12), 0, 1)[..., None].repeat(3, axis=2)
            shown = np.where(block[..., None] > 0, 0.35 * grey + 0.65 * colors[block], grey)
            ax.imshow(shown, origin="lower")
            ax.set_title(f"{view} section {index}", fontsize=8)
            ax.set(xticks=[], yticks=[], xlabel=f"{across} (0 to {box} px)", ylabel=f"{up} (0 to {box} px)")
    shown = table.head(MOST_IN_LEGEND)
    handles = [
        plots.plt.Line2D(
            [], [], marker="s", linestyle="", color=colors[b.id], label=f"{b.id}: in {b.occupancy:.0%}"
        )
        for b in shown.itertuples()
    ]
    if handles:
        fig.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6), fontsize=7)
    fig.suptitle(f"{len(table)} blocks on the mean volume (id: fraction of volumes that have it)")
    return fig


def co_occupancy(states: np.ndarray, table: pd.DataFrame) -> Figure:
    """Correlation of the blocks' states, and how often a block is there when another one is."""
    present = states[:, :MOST_BLOCKS] > 0.5
    names = table.id.astype(str).tolist()[:MOST_BLOCKS]
    n = len(names)
    correlation = np.full((n, n), np.nan)
    varying = np.flatnonzero(present.any(axis=0) & ~present.all(axis=0))
    if len(varying) > 1:
        correlation[np.ix_(varying, varying)] = np.corrcoef(present[:, varying].astype(float), rowvar=False)
    together = present.T.astype(float) @ present
    own = np.diag(together)
    given = np.divide(together, own[:, None], out=np.full((n, n), np.nan), where=own[:, None] > 0)
    side = 2.6 + 0.25 * n
    fig, axes = plots.figure(1, 2, width=side + 0.6, height=side)
    plots.heatmap(axes[0], correlation, "phi", plots.DIVERGING, (-1, 1), write_values=n <= 12)
    plots.heatmap(axes[1], given, "fraction of volumes", plots.SEQUENTIAL, (0, 1), write_values=n <= 12)
    axes[0].set(title="Blocks that come and go together", xlabel="block", ylabel="block")
    axes[1].set(title="Column block there, when row block is", xlabel="block", ylabel="block")
    for ax in axes:
        ax.set_xticks(range(n), names, fontsize=7)
        ax.set_yticks(range(n), names, fontsize=7)
    return fig


def state_histograms(states: np.ndarray, table: pd.DataFrame) -> Figure:
    """Distribution over the volumes of the fraction of each block that is on."""
    shown = table.head(MOST_IN_LEGEND)
    columns = min(5, len(shown))
    rows = -(-len(shown) // columns)
    fig, axes = plots.figure(rows, columns, width=2.3, height=1.8, squeeze=False)
    for ax in axes.flat[len(shown) :]:
        ax.set_axis_off()
    for ax, block in zip(axes.flat, shown.itertuples(), strict=False):
        ax.hist(states[:, block.id - 1], bins=np.linspace(0, 1, 26), color=plots.PALETTE[0])
        ax.set_title(f"block {block.id}: {block.n_voxels} voxels", fontsize=8)
    for ax in axes[:, 0]:
        ax.set_ylabel("volumes")
    for column in range(columns):
        axes[(len(shown) - 1 - column) // columns, column].set_xlabel("fraction on")
    fig.suptitle("State of each block in the volumes")
    return fig
