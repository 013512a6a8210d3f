"""Figures of convergence; the names of all but the first follow tomoDRGN's."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tomohet import plots
from tomohet.analysis.sketch import Sketch, letters
from tomohet.analysis.verdict import SMALL_SHIFT, STABLE_DIFFERENCES, STABLE_NEIGHBOURS
from tomohet.analysis.volume_drift import VolumeDrift
from tomohet.training.held_out import compared_with, judged

LINE_WIDTH = 50  # characters of a title


def verdict(
    sentence: str,
    used: int,
    held_out: pd.DataFrame | None,
    moved: pd.DataFrame,
    stable: pd.DataFrame,
    drifted: VolumeDrift | None,
) -> Figure:
    """Plot what decides on convergence, with the epoch that is used and the verdict's sentence.

    It is the gain on held-out tilt images with the error of each change, or, without such images, the
    stability of latents and volumes between epochs with the limits that they are held to.
    """
    fig, ax = plots.figure(width=5.4, height=3.4)
    if held_out is not None:
        shown = judged(held_out, "decoder")
        error = held_out.reindex(columns=["error_of_change"])["error_of_change"]
        ax.errorbar(
            shown["epoch"], shown["gain"], error, fmt="o-", markersize=3, capsize=2,
            label=f"gain over {compared_with(held_out)}\n± standard error of its last change",
        )  # fmt: skip
        ax.axhline(0, color="0.6", linewidth=0.8)
        ax.axvspan(
            0.75 * (shown["epoch"].iloc[-1] + 1) - 0.5, shown["epoch"].iloc[-1] + 0.5, color="0.93",
            label="last quarter of the epochs",
        )  # fmt: skip
        ax.set(ylabel="gain on held-out tilts (nats)")
    else:
        curves = [
            (moved["epoch"], moved["relative"], SMALL_SHIFT, "movement of latents (low: stable)"),
            (stable["epoch"], stable["neighbours"], STABLE_NEIGHBOURS, "nearest neighbours kept"),
        ]
        if drifted is not None and len(drifted.epochs) > 1:
            alike = np.median(drifted.differences, axis=0)
            curves.append(
                (drifted.epochs[1:], alike, STABLE_DIFFERENCES, "volumes' differences kept (correlation)")
            )
        for number, (epochs, values, limit, label) in enumerate(curves):
            color = plots.PALETTE[number]
            ax.plot(epochs, values, "o-", markersize=3, color=color, label=label)
            ax.axhline(limit, color=color, linestyle=":", linewidth=0.9)
        ax.set(ylabel="between epochs (dotted: limit)", ylim=(0, 1.5))
    if used >= 0:
        ax.axvline(used, color=plots.PALETTE[4], linestyle="--", label=f"epoch used: {used}")
    ax.set(xlabel="epoch")
    ax.set_title("\n".join(textwrap.wrap(sentence, LINE_WIDTH)), fontsize=9)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(fontsize=7)
    return fig


def losses(table: pd.DataFrame) -> Figure:
    """Plot the loss and its two parts by epoch."""
    fig, axes = plots.figure(1, 3, width=3.4, height=2.8)
    parts = {"gen": "reconstruction", "kld": "Kullback-Leibler divergence", "total": "total"}
    for ax, (column, name) in zip(axes, parts.items(), strict=True):
        ax.plot(table["epoch"], table[column], "o-", ms=3)
        ax.set(xlabel="epoch", ylabel="loss (per image point)", title=name)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    fig.suptitle("Loss by epoch")
    return fig


def planes(points: dict[int, np.ndarray], names: tuple[str, str], title: str) -> Figure:
    """Plot one panel of the latents (n, 2) for each epoch."""
    columns = min(4, len(points))
    fig, axes = plots.figure(-(-len(points) // columns), columns, width=2.8, height=2.6, squeeze=False)
    for ax in axes.flat[len(points) :]:
        ax.set_axis_off()
    for ax, (epoch, plane) in zip(axes.flat, points.items(), strict=False):
        plots.scatter_density(ax, *plane.T)
        ax.set(xlabel=names[0], ylabel=names[1], title=f"epoch {epoch}")
    fig.suptitle(title)
    return fig


def drift(moved: pd.DataFrame, stable: pd.DataFrame) -> Figure:
    """Plot shifts of latents, and the agreement on neighbours and clusters, between epochs."""
    fig, (size, turn, agree) = plots.figure(1, 3, width=3.6, height=3)
    size.plot(moved["epoch"], moved["relative"], "o-", ms=3)
    size.set(ylabel="median shift / latent spread", title="Size of latent shifts", ylim=(0, None))
    turn.plot(moved["epoch"], moved["cosine_distance"], "o-", ms=3)
    turn.axhline(1, color="0.6", linestyle="--", linewidth=0.8)
    turn.set(
        ylabel="1 - cosine to the next shift", title="Turn of latent shifts (1: random walk)", ylim=(0, 2)
    )
    agree.plot(stable["epoch"], stable["neighbours"], "o-", ms=3, label="nearest neighbours kept")
    agree.plot(stable["epoch"], stable["neighbours_chance"], ":", color="0.5", label="kept by chance")
    agree.plot(stable["epoch"], stable["ari"], "s-", ms=3, label="clusters (adjusted Rand)")
    agree.set(ylabel="agreement with the previous epoch", title="Stability of neighbours and clusters")
    agree.set_ylim(-0.05, 1.05)
    agree.legend(fontsize=7)
    for ax in (size, turn, agree):
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return fig


def sketching(plane: np.ndarray, names: tuple[str, str], sketch: Sketch) -> Figure:
    """Plot the smoothed density of the last epoch's embedding, with the representatives found in it."""
    fig, (left, right) = plots.figure(1, 2, width=4.2, height=3.6)
    extent = (*sketch.edges[0][[0, -1]], *sketch.edges[1][[0, -1]])
    image = left.imshow(sketch.density.T, origin="lower", extent=extent, aspect="auto", cmap=plots.SEQUENTIAL)
    fig.colorbar(image, ax=left, label="particles per bin, smoothed")
    shown = plane[plots.drawn(len(plane))]
    right.scatter(*shown.T, s=plots.point_size(len(plane)), color="0.8", linewidths=0, rasterized=True)
    for name, members in zip(letters(len(sketch.members)), sketch.members, strict=True):
        centre = np.median(plane[members], axis=0)
        right.scatter(*plane[members].T, s=6, linewidths=0)
        for ax in (left, right):
            ax.annotate(
                name,
                centre,
                ha="center",
                va="center",
                fontweight="bold",
                bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.8},
            )
    for ax in (left, right):
        ax.set(xlabel=names[0], ylabel=names[1])
    left.set_title("Density")
    right.set_title("Representative particles")
    return fig


def consistency(points: dict[int, np.ndarray], names: tuple[str, str], members: list[np.ndarray]) -> Figure:
    """Plot where the particles of each representative lie in earlier epochs' planes (n, 2)."""
    columns = min(4, len(points))
    fig, axes = plots.figure(-(-len(points) // columns), columns, width=2.8, height=2.6, squeeze=False)
    for ax in axes.flat[len(points) :]:
        ax.set_axis_off()
    for ax, (epoch, plane) in zip(axes.flat, points.items(), strict=False):
        shown = plane[plots.drawn(len(plane))]
        ax.scatter(*shown.T, s=2, color="0.85", linewidths=0, rasterized=True)
        for number, (name, group) in enumerate(zip(letters(len(members)), members, strict=True)):
            color = plots.PALETTE[number % len(plots.PALETTE)]
            ax.scatter(*plane[group].T, s=5, color=color, linewidths=0)
            ax.annotate(name, np.median(plane[group], axis=0), fontsize=8, fontweight="bold", color=color)
        ax.set(xlabel=names[0], ylabel=names[1], title=f"epoch {epoch}")
    fig.suptitle("Particles of each representative through the epochs")
    return fig


def by_representative(drifted: VolumeDrift, values: np.ndarray, label: str, title: str) -> Figure:
    """Plot a number (m, e-1) of each representative between successive epochs, and its median."""
    fig, ax = plots.figure(width=4.6)
    for name, row in zip(letters(len(values)), values, strict=True):
        ax.plot(drifted.epochs[1:], row, "o-", ms=3, linewidth=0.8, label=name)
    ax.plot(drifted.epochs[1:], np.median(values, axis=0), "k--", label="median")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="epoch (compared with the previous epoch)", ylabel=label, title=title)
    ax.legend(fontsize=7, ncols=2)
    return fig


def shell_curves(drifted: VolumeDrift) -> Figure:
    """Plot the FSC of each representative between successive epochs, one panel per pair of epochs."""
    pairs = list(zip(drifted.epochs[:-1], drifted.epochs[1:], strict=True))
    columns = min(4, len(pairs))
    fig, axes = plots.figure(-(-len(pairs) // columns), columns, width=3, height=2.6, squeeze=False)
    pixel_size_A = 0.5 / drifted.frequency_1_A[-1]
    for ax in axes.flat[len(pairs) :]:
        ax.set_axis_off()
    for column, (ax, (before, after)) in enumerate(zip(axes.flat, pairs, strict=False)):
        for name, curve in zip(letters(len(drifted.fsc)), drifted.fsc[:, column], strict=True):
            ax.plot(drifted.frequency_1_A[1:], curve[1:], linewidth=0.9, label=name)
        plots.fsc_axes(ax, pixel_size_A, f"epochs {before} and {after}")
    axes.flat[0].legend(fontsize=7, ncols=2)
    return fig


def matrices(epochs: list[int], values: np.ndarray, rows: list[str], title: str) -> Figure:
    """Plot a matrix (e, r, m) of correlations for each epoch; rows are named, columns are representatives."""
    columns = min(4, len(epochs))
    fig, axes = plots.figure(-(-len(epochs) // columns), columns, width=3.4, height=3, squeeze=False)
    limits = (float(values.min()), 1.0)
    for ax in axes.flat[len(epochs) :]:
        ax.set_axis_off()
    for ax, epoch, matrix in zip(axes.flat, epochs, values, strict=False):
        plots.heatmap(ax, matrix, "correlation", limits=limits, write_values=matrix.size <= 16)
        ax.set_xticks(range(matrix.shape[1]), letters(matrix.shape[1]))
        ax.set_yticks(range(matrix.shape[0]), rows)
        ax.set(xlabel="representative", title=f"epoch {epoch}")
    fig.suptitle(title)
    return fig
