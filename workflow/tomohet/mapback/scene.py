"""ChimeraX scripts that show particles in a tomogram, as markers or as maps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet import plots
from tomohet.errors import InputError
from tomohet.physics.geometry import euler_to_matrix


def model_matrices(placed: pd.DataFrame, box: int, pixel_size_A: float) -> np.ndarray:
    """Return matrices (n, 3, 4) from a map's coordinates (Å, voxel 0 at the origin) to the tomogram's (Å).

    The map is rotated about voxel box // 2, which is placed on the particle's coordinate.
    """
    rotation = euler_to_matrix(*(placed[f"{name}_deg"].to_numpy() for name in ("rot", "tilt", "psi")))
    centre_A = np.full(3, (box // 2) * pixel_size_A)
    shift = placed[["x_A", "y_A", "z_A"]].to_numpy() - rotation @ centre_A
    return np.concatenate([rotation, shift[:, :, None]], axis=2)


def label_colors(labels: np.ndarray, colormap: str | None) -> dict[int, str]:
    """Choose a colour #rrggbb for each label that occurs, in ascending order of labels.

    Colours are evenly spaced in a matplotlib map if named, else those of the stages' figures.

    Raises InputError when there is no such map.
    """
    kinds = np.unique(labels)
    if colormap is None:
        return dict(zip(kinds.tolist(), plots.label_hex(len(kinds)), strict=True))
    import matplotlib
    from matplotlib.colors import to_hex

    if colormap not in matplotlib.colormaps:
        raise InputError(f"--colormap {colormap}: matplotlib has no such map; try viridis or tab20")
    shades = matplotlib.colormaps[colormap](np.linspace(0, 1, len(kinds)))
    return {int(kind): to_hex(shade) for kind, shade in zip(kinds, shades, strict=True)}


def marker_scene(placed: pd.DataFrame, labels: np.ndarray, colors: dict[int, str], radius_A: float) -> str:
    """Write a sphere for each particle, and one model for each label, so that a label can be hidden."""
    lines = []
    for model, (label, color) in enumerate(colors.items(), start=1):
        members = placed.loc[labels == label, ["x_A", "y_A", "z_A"]].to_numpy()
        lines += [
            f"marker #{model} position {x:.3f},{y:.3f},{z:.3f} radius {radius_A:g} color {color}"
            for x, y, z in members
        ]
        if len(members):
            lines.append(f'rename #{model} "label {label}"')
    return "\n".join([*lines, "view orient", ""])


def map_scene(
    maps: Sequence[Path], matrices: np.ndarray, labels: np.ndarray, colors: dict[int, str], level: float
) -> str:
    """Write a map for each particle (paths as written), moved by its matrix (3, 4), coloured by its label."""
    lines = []
    for model, (path, matrix, label) in enumerate(zip(maps, matrices, labels, strict=True), start=1):
        numbers = ",".join(f"{value:.6f}" for value in matrix.ravel())
        lines.append(f'open "{path}" id {model}')
        lines.append(f"view matrix models #{model},{numbers}")
        lines.append(f"color #{model} {colors[int(label)]}")
    return "\n".join([*lines, f"volume #1-{len(maps)} step 1 level {level:g}", "view orient", ""])


def label_legend(labels: np.ndarray, colors: dict[int, str], by_label: bool) -> str:
    """Write a table of label, colour and model numbers; `by_label`: one model for each label."""
    lines = ["label\tcolor\tmodels"]
    for number, (label, color) in enumerate(colors.items(), start=1):
        members = np.flatnonzero(labels == label) + 1
        if len(members):
            models = str(number) if by_label else ",".join(map(str, members))
            lines.append(f"{label}\t{color}\t#{models}")
    return "\n".join([*lines, ""])
