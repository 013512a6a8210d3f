"""Figures of blocks: their places, their co-occurrence, and which blocks require or exclude each other."""

import numpy as np
import pandas as pd
from matplotlib.colors import LightSource, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from scipy.ndimage import gaussian_filter, zoom
from skimage.measure import marching_cubes

from tomohet import plots

MOST_IN_LEGEND = 24
MOST_BLOCKS = 60
SECTIONS = (0.35, 0.5, 0.65)
VIEWS_DEG = ((15, -60), (15, 30), (75, -90))  # elevation and azimuth
LARGEST_BOX = 48  # of the volumes from which surfaces are drawn, px
STEEP_DEG = 60
CHANCE = 0.05


def coloured_sections(mean: np.ndarray, labels: np.ndarray, table: pd.DataFrame) -> Figure:
    """Draw sections of the mean volume at three depths along each axis, every block in its own colour.

    mean, labels : (D, D, D); labels hold block ids from 1, 0 for none
    """
    box = len(mean)
    colors = _colors(table)
    labels = _ordinals(labels, table)
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
    _legend(fig, table)
    fig.suptitle(f"{len(table)} blocks on the mean volume (id: fraction of volumes that have it)")
    return fig


def surfaces(
    mean: np.ndarray, level: float, labels: np.ndarray, table: pd.DataFrame, pixel_A: float
) -> Figure:
    """Draw the surfaces of the blocks in the surface of the mean volume, from three directions.

    mean, labels : (D, D, D)
    level : density of the mean volume's surface
    """
    box = len(mean)
    shrink = min(1.0, LARGEST_BOX / box)
    fig = Figure(figsize=(4.0 * len(VIEWS_DEG), 4.2), layout="constrained")
    colors, ordinals = _colors(table), _ordinals(labels, table)
    bodies = [(mean, level, (0.75, 0.75, 0.75), 0.18)]
    bodies += [
        (gaussian_filter((ordinals == number).astype(np.float32), 0.6), 0.4, colors[number], 0.95)
        for number in range(1, len(table) + 1)
    ]
    meshes = []
    for body, height, color, alpha in bodies:
        small = zoom(body, shrink, order=1) if shrink < 1 else body
        if small.min() < height < small.max():
            corners, faces, *_ = marching_cubes(np.pad(small, 1, constant_values=small.min()), height)
            meshes.append(((corners[:, ::-1] - 1) / shrink * pixel_A, faces, color, alpha))
    # A cube around all surfaces.
    corners_A = np.concatenate(
        [corners for corners, *_ in meshes] or [np.array([[0.0] * 3, [box * pixel_A] * 3])]
    )
    low_A, high_A = corners_A.min(axis=0), corners_A.max(axis=0)
    side_A = 1.1 * (high_A - low_A).max()
    lowest_A = (low_A + high_A - side_A) / 2
    for number, (elevation, azimuth) in enumerate(VIEWS_DEG, start=1):
        ax = fig.add_subplot(1, len(VIEWS_DEG), number, projection="3d")
        for corners, faces, color, alpha in meshes:
            mesh = Poly3DCollection(
                corners[faces],
                facecolors=color,
                alpha=alpha,
                shade=True,
                lightsource=LightSource(azimuth, 50),
            )
            ax.add_collection3d(mesh)
        for name, low in zip("xyz", lowest_A, strict=True):
            ax.set(**{f"{name}lim": (low, low + side_A)})
            getattr(ax, f"set_{name}label")(f"{name} (Å)", fontsize=7)
        ax.tick_params(labelsize=6, pad=-2)
        ax.locator_params(nbins=5)
        if elevation > STEEP_DEG:  # seen along z, its ticks lie on each other
            ax.set_zlabel("")
            ax.set_zticks([])
        ax.view_init(elevation, azimuth)
        ax.set_box_aspect((1, 1, 1), zoom=0.95)
    _legend(fig, table)
    fig.suptitle(f"{len(table)} blocks in the surface of the mean volume (id: fraction that has it)")
    return fig


def relation_graph(relations: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Draw blocks on a circle: arrows to the blocks that they require, dashes between exclusive ones."""
    shown = table.head(MOST_IN_LEGEND)
    angle = np.pi / 2 - 2 * np.pi * np.arange(len(shown)) / len(shown)
    place = dict(zip(shown.id, np.column_stack([np.cos(angle), np.sin(angle)]), strict=True))
    colors = _colors(table)
    fig, ax = plots.figure(width=4.6, height=4.6)
    for row in relations[relations.unit.isin(shown.id) & relations.other.isin(shown.id)].itertuples():
        requires = row.relation == "requires"
        style = {
            "arrowstyle": "-|>" if requires else "-",
            "linestyle": "-" if requires else "--",
            "color": "0.2" if requires else plots.PALETTE[4],
            "alpha": 1.0 if row.p_value_smooth < CHANCE else 0.35,
            "shrinkA": 15,
            "shrinkB": 15,
        }
        ax.annotate("", xy=place[row.other], xytext=place[row.unit], arrowprops=style)
    for number, block in enumerate(shown.itertuples(), start=1):
        x, y = place[block.id]
        ax.scatter(x, y, s=520, color=colors[number], edgecolors="white", zorder=3)
        ax.text(x, y, str(block.id), ha="center", va="center", fontsize=9, color="white", zorder=4)
        ax.text(1.28 * x, 1.22 * y, f"{block.occupancy:.0%}", ha="center", va="center", fontsize=7)
    ax.set(xlim=(-1.5, 1.5), ylim=(-1.4, 1.4), aspect="equal")
    ax.set_axis_off()
    ax.set_title(
        "Blocks: arrow to the required block, dashes: never together\n"
        "(%: how often the block is present; faint: may be chance between equally smooth states)",
        fontsize=8,
    )
    return fig


def co_occupancy(states: np.ndarray, table: pd.DataFrame) -> Figure:
    """Draw the correlation of the blocks' states, and how often a block is present when another one is."""
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
    axes[1].set(title="Column block present, when row block is", xlabel="block", ylabel="block")
    for ax in axes:
        ax.set_xticks(range(n), names, fontsize=7)
        ax.set_yticks(range(n), names, fontsize=7)
    return fig


def state_histograms(states: np.ndarray, table: pd.DataFrame) -> Figure:
    """Draw the distribution over the volumes of the fraction of each block that is on."""
    shown = table.head(MOST_IN_LEGEND)
    columns = min(5, len(shown))
    rows = -(-len(shown) // columns)
    fig, axes = plots.figure(rows, columns, width=2.3, height=1.8, squeeze=False)
    for ax in axes.flat[len(shown) :]:
        ax.set_axis_off()
    for number, (ax, block) in enumerate(zip(axes.flat, shown.itertuples(), strict=False)):
        ax.hist(states[:, number], bins=np.linspace(0, 1, 26), color=plots.PALETTE[0])
        ax.set_title(f"block {block.id}: {block.n_voxels} voxels", fontsize=8)
    for ax in axes[:, 0]:
        ax.set_ylabel("volumes")
    for column in range(columns):
        axes[(len(shown) - 1 - column) // columns, column].set_xlabel("fraction on")
    fig.suptitle("State of each block in the volumes")
    return fig


def _colors(table: pd.DataFrame) -> np.ndarray:
    """Return black, then the colour of every row of the table, (B + 1, 3)."""
    palette = plots.label_colors(len(table))
    return np.array([to_rgb("black"), *(palette(row)[:3] for row in range(len(table)))])


def _ordinals(labels: np.ndarray, table: pd.DataFrame) -> np.ndarray:
    """Convert labels (ids of blocks) to rows of the table, counted from 1; 0 for none."""
    row_of = np.zeros(max(labels.max(), 0) + 1, dtype=np.int64)
    row_of[table.id.to_numpy(dtype=np.int64)] = np.arange(len(table)) + 1
    return row_of[labels]


def _legend(fig: Figure, table: pd.DataFrame) -> None:
    colors = _colors(table)
    handles = [
        Line2D(
            [], [], marker="s", linestyle="", color=colors[row], label=f"{block.id}: in {block.occupancy:.0%}"
        )
        for row, block in enumerate(table.head(MOST_IN_LEGEND).itertuples(), start=1)
    ]
    if handles:
        fig.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6), fontsize=7)
