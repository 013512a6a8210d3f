"""Figure of the alignment: the model's outline on sections of the mean volume, as given and as used."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tomohet import plots
from tomohet.analysis.maven.alignment import Alignment, moved
from tomohet.files.grids import MapGrid
from tomohet.physics.molmap import molmap

OUTLINE = 0.2  # contour: fraction of the model's 99.9th percentile, or of its peak where the percentile is 0
VIEWS = (("xy", 0, "x", "y"), ("xz", 1, "x", "z"), ("yz", 2, "y", "z"))


def alignment_figure(
    mean: np.ndarray, atoms: pd.DataFrame, grid: MapGrid, resolution_A: float, found: Alignment
) -> Figure:
    """Draw central sections of the mean volume with the model as given, and as best placed if that differs.

    atoms : the model as given, columns x_A, y_A, z_A, Z
    """
    rows = [("as given", found.tried[0])]
    if found.best is not found.tried[0]:
        rows.append((f"{'used' if found.moves else 'better'}: {found.best.name}", found.best))
    fig, axes = plots.figure(len(rows), 3, width=3.4, height=3.3, squeeze=False)
    low, high = np.percentile(mean, [0.5, 99.8])
    half = grid.pixel_size_A / 2
    edges = [(start - half, start + grid.box * grid.pixel_size_A - half) for start in grid.origin_A]
    for line, (title, tried) in zip(axes, rows, strict=True):
        density = _density(moved(atoms, tried.placement), grid, resolution_A)
        level = OUTLINE * (np.percentile(density, 99.9) or density.max())
        for ax, (view, axis, across, up) in zip(line, VIEWS, strict=True):
            extent = (*edges["xyz".index(across)], *edges["xyz".index(up)])
            section = np.take(mean, grid.box // 2, axis=axis)
            outline = np.take(density, grid.box // 2, axis=axis)
            ax.imshow(section, cmap=plots.DENSITY, vmin=low, vmax=high, origin="lower", extent=extent)
            if outline.max() > level:
                ax.contour(
                    outline,
                    levels=[level],
                    colors=[plots.PALETTE[1]],
                    linewidths=1,
                    origin="lower",
                    extent=extent,
                )
            ax.set(title=f"{view} section", xlabel=f"{across} (Å)", ylabel=f"{up} (Å)")
        line[1].set_title(
            f"{title}\ncorrelation {tried.correlation:.2f}, by chance {found.chance:.2f}\nxz section"
        )
    fig.suptitle("Outline of the model on the mean volume, central sections")
    return fig


def _density(atoms: pd.DataFrame, grid: MapGrid, resolution_A: float) -> np.ndarray:
    xyz_A, weights = atoms[["x_A", "y_A", "z_A"]].to_numpy(), atoms.Z.to_numpy()
    return molmap(xyz_A, weights, resolution_A, grid.box, grid.pixel_size_A, grid.origin_A, mode="integrated")
