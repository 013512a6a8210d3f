"""House style of all figures: one palette, one way to open and save, and plots common to the stages."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tomohet.errors import InputError
from tomohet.files.atomic import atomic_path

# Okabe and Ito's palette, distinguishable under the common colour-vision deficiencies.
TINT, SHADE = 0.45, 0.35  # of the lighter and darker shades of the palette, for many labels
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8C6D31", "#555555")
SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"
DENSITY = "gray"
MANY_POINTS = 5000  # above this, a scatter plot hides its density
MOST_POINTS = 100_000  # drawn one by one in a panel; of more points a random sample is drawn

STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=PALETTE),
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "image.interpolation": "nearest",
    "svg.fonttype": "none",
    "svg.hashsalt": "tomohet",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in the house style inside; matplotlib's settings are as before afterwards."""
    with matplotlib.rc_context(STYLE):
        yield


def figure(nrows: int = 1, ncols: int = 1, width: float = 3.8, height: float = 3.2, **options) -> tuple:
    """Open a figure of `nrows` x `ncols` panels, outside of pyplot, which opens no window.

    `width` and `height` are inches per panel. Returns `(figure, axes)` as `Figure.subplots`, which takes
    `options`.
    """
    fig = Figure(figsize=(width * ncols, height * nrows), layout="constrained")
    return fig, fig.subplots(nrows, ncols, **options)


def save(fig: Figure, path: str | Path, dpi: int = 130) -> Path:
    """Write `fig` to `path` (.png, .svg or .svgz) atomically, without a date."""
    path = Path(path)
    kind = path.suffix.lstrip(".")
    if kind not in ("png", "svg", "svgz"):
        raise InputError(f"{path}: plots are written as .png, .svg or .svgz, not .{kind}")
    with atomic_path(path) as temporary, house_style():
        fig.savefig(temporary, format=kind, dpi=dpi, metadata=None if kind == "png" else {"Date": None})
    return path


def label_colors(n: int) -> Colormap:
    """Return a colour for each of `n` labels.

    The house palette, then its lighter and its darker shades: among up to 24 labels, each has the same colour
    however many there are. More labels get evenly spaced hues.
    """
    base = np.array([matplotlib.colors.to_rgb(color) for color in PALETTE])
    shades = np.concatenate([base, base + TINT * (1 - base), (1 - SHADE) * base])
    if n <= len(shades):
        return ListedColormap(shades[: max(n, 1)])
    hues = np.linspace(0, 1, n, endpoint=False)
    shades = np.where(np.arange(n) % 2, 0.95, 0.65)
    return ListedColormap(matplotlib.colors.hsv_to_rgb(np.column_stack([hues, np.full(n, 0.75), shades])))


def label_hex(n: int) -> list[str]:
    """Return the colours of `label_colors` as #RRGGBB, for pages and scripts of other programs."""
    return [matplotlib.colors.to_hex(color).upper() for color in label_colors(n)(range(n))]


def scatter_density(ax: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Plot points of a two-dimensional distribution; a hexagonal histogram when there are many."""
    if len(x) > MANY_POINTS:
        image = ax.hexbin(x, y, gridsize=60, bins="log", cmap=SEQUENTIAL, mincnt=1, linewidths=0)
        ax.figure.colorbar(image, ax=ax, label="points per bin")
    else:
        ax.scatter(x, y, s=point_size(len(x)), color=PALETTE[0], alpha=0.6, linewidths=0)


def drawn(n: int) -> np.ndarray:
    """Return the rows (m,), ascending, of n points that are drawn: all, or `MOST_POINTS` at random."""
    if n <= MOST_POINTS:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, MOST_POINTS, replace=False))


def scatter_values(
    ax: Axes, x: np.ndarray, y: np.ndarray, values: np.ndarray, label: str, cmap: str = SEQUENTIAL
) -> None:
    """Plot points coloured by a continuous quantity, with `label` (including its unit) on the colour bar."""
    rows = drawn(len(x))
    image = ax.scatter(
        x[rows], y[rows], c=values[rows], s=point_size(len(x)), cmap=cmap, linewidths=0, rasterized=True
    )
    ax.figure.colorbar(image, ax=ax, label=label)


def scatter_labels(
    ax: Axes, x: np.ndarray, y: np.ndarray, labels: np.ndarray, names: Sequence[str] | None = None
) -> None:
    """Plot points coloured by an integer label, with each label's number at its median position."""
    kinds = np.unique(labels)
    colors = label_colors(len(kinds))
    rows = drawn(len(x))
    color = colors(np.searchsorted(kinds, labels[rows]))
    ax.scatter(x[rows], y[rows], c=color, s=point_size(len(x)), linewidths=0, rasterized=True)
    for number, kind in enumerate(kinds):
        members = labels == kind
        ax.annotate(
            names[number] if names is not None else str(kind),
            (np.median(np.asarray(x)[members]), np.median(np.asarray(y)[members])),
            ha="center",
            va="center",
            fontsize=8,
            bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": colors(number), "alpha": 0.85},
        )


def point_size(n: int) -> float:
    """Return the marker area (points squared) at which `n` points neither vanish nor merge."""
    return float(np.clip(6000 / max(n, 1), 2, 24))


def heatmap(
    ax: Axes,
    matrix: np.ndarray,
    label: str,
    cmap: str = SEQUENTIAL,
    limits: tuple[float, float] | None = None,
    write_values: bool | None = None,
) -> None:
    """Draw a matrix (rows, columns) as colours with a colour bar; write the values when there are few."""
    low, high = limits if limits is not None else (None, None)
    image = ax.imshow(matrix, cmap=cmap, vmin=low, vmax=high, aspect="auto")
    ax.figure.colorbar(image, ax=ax, label=label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    if write_values is None:
        write_values = matrix.size <= 150
    if write_values:
        for (row, column), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                shade = np.dot(image.cmap(image.norm(value))[:3], (0.3, 0.59, 0.11))
                text = f"{value:.2g}" if np.issubdtype(matrix.dtype, np.floating) else str(value)
                ax.text(
                    column,
                    row,
                    text,
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="black" if shade > 0.5 else "white",
                )


def central_slices(volume: np.ndarray) -> np.ndarray:
    """Return the three central sections of a volume [z,y,x], side by side: xy, xz and yz; shape (D, 3 D)."""
    middle = volume.shape[0] // 2
    return np.concatenate([volume[middle], volume[:, middle], volume[:, :, middle]], axis=1)


def slices_montage(
    volumes: Sequence[np.ndarray],
    titles: Sequence[str],
    title: str,
    columns: int = 5,
    own_scale: bool = False,
    diverging: bool = False,
) -> Figure:
    """Draw central xy and xz sections of many volumes [z,y,x].

    All are on one scale (arbitrary units), or each is on its own; `diverging`: blue to red about zero.
    """
    # One image in one pair of axes: separate axes for each volume take ten times as long to draw.
    columns = min(columns, len(volumes))
    rows = -(-len(volumes) // columns)
    tiles = [central_slices(volume)[:, : 2 * volume.shape[0]] for volume in volumes]
    ranges = np.array([np.percentile(tile, (0.5, 99.8)) for tile in tiles])
    if diverging:
        ranges = np.abs(ranges).max(axis=1, keepdims=True) * (-1, 1)
    if not own_scale:
        ranges[:] = ranges[:, 0].min(), ranges[:, 1].max()
    side = tiles[0].shape[0]
    high, wide = 1.3 * side, 2.15 * side  # a tile with its title and gap
    tiles_in, height_in = 2.4 * columns, 2.4 * rows * high / wide + 0.45
    width_in = max(tiles_in, 0.075 * len(title))  # the title needs room above few tiles
    fig = Figure(figsize=(width_in, height_in))
    margin = (1 - tiles_in / width_in) / 2
    ax = fig.add_axes((margin, 0, 1 - 2 * margin, 1 - 0.45 / height_in))
    ax.set_axis_off()
    for number, (tile, name, (low, top)) in enumerate(zip(tiles, titles, ranges, strict=True)):
        left, upper = wide * (number % columns), high * (number // columns) + 0.27 * side
        ax.imshow(
            tile,
            cmap=DIVERGING if diverging else DENSITY,
            vmin=low,
            vmax=max(top, low + 1e-30),
            extent=(left, left + 2 * side, upper + side, upper),
            aspect="auto",
        )
        middle = left + side
        ax.plot((middle, middle), (upper, upper + side), color="0.5" if diverging else "white", lw=0.8)
        ax.text(middle, upper - 0.04 * side, name, ha="center", va="bottom", fontsize=7.5)
    ax.set(xlim=(-0.05 * side, wide * columns), ylim=(high * rows, 0))
    kind = "colour" if diverging else "grey"
    scale = "each on its own scale" if own_scale else f"one {kind} scale"
    fig.text(0.5, 1 - 0.06 / height_in, title, ha="center", va="top", fontsize=10)
    fig.text(
        0.5, 1 - 0.26 / height_in, f"central sections xy | xz, {scale}", ha="center", va="top", fontsize=8
    )
    return fig


def fsc_axes(ax: Axes, pixel_size_A: float, title: str) -> None:
    """Label axes of Fourier shell correlation against spatial frequency (1/Å), with the usual thresholds."""
    ax.set_xlim(0, 0.5 / pixel_size_A)
    ax.set_ylim(-0.1, 1.05)
    for threshold in (0.5, 0.143):
        ax.axhline(threshold, color="0.6", linewidth=0.8, linestyle="--")
        ax.text(0.5 / pixel_size_A, threshold, f" {threshold}", va="center", fontsize=7, color="0.4")
    ax.set(xlabel="spatial frequency (1/Å)", ylabel="Fourier shell correlation", title=title)
