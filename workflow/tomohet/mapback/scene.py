"""ChimeraX scripts that show particles in a tomogram, with few commands however many particles there are."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.mapback.labels import Labels
from tomohet.physics.geometry import euler_to_matrix


def rotations(placed: pd.DataFrame) -> np.ndarray:
    """Return rotations (n, 3, 3) particle -> tomogram."""
    return euler_to_matrix(*(placed[f"{name}_deg"].to_numpy() for name in ("rot", "tilt", "psi")))


def model_matrices(placed: pd.DataFrame, box: int, pixel_size_A: float) -> np.ndarray:
    """Return matrices (n, 3, 4) from a map's coordinates (Å, voxel 0 at the origin) to the tomogram's (Å).

    The map is rotated about voxel box // 2, which is placed on the particle's coordinate.
    """
    rotation = rotations(placed)
    centre_A = np.full(3, (box // 2) * pixel_size_A)
    shift = placed[["x_A", "y_A", "z_A"]].to_numpy() - rotation @ centre_A
    return np.concatenate([rotation, shift[:, :, None]], axis=2)


def present(labels: Labels) -> list[int]:
    """List the numbers of the labels that particles have, ascending."""
    return np.unique(labels.code).tolist()


def shape_scene(labels: Labels, suffixes: Sequence[str]) -> str:
    """Open the files of each label, one model for each; model k is the k-th label that occurs.

    suffixes : of the files of a label, `label_<number><suffix>`; the models of the second suffix follow
        those of the first
    """
    numbers = present(labels)
    lines = []
    for offset, suffix in enumerate(suffixes):
        for model, number in enumerate(numbers, start=1 + offset * len(numbers)):
            name = labels.names[number].replace('"', "'")
            lines += [
                f'open "{shape_file(number, suffix)}" id {model}',
                f'rename #{model} "{name}"',
                f"color #{model} {labels.colors[number]}",
            ]
    return "\n".join([*lines, "view orient", ""])


def shape_file(number: int, suffix: str) -> str:
    """Name a label's file."""
    return f"label_{number}{suffix}"


def map_scene(maps: Sequence[Path], matrices: np.ndarray, labels: Labels, level: float) -> str:
    """Open a map for each particle (paths as written), moved by its matrix (3, 4), coloured by its label."""
    lines = []
    for model, (path, matrix, code) in enumerate(zip(maps, matrices, labels.code, strict=True), start=1):
        numbers = ",".join(f"{value:.6f}" for value in matrix.ravel())
        lines.append(f'open "{path}" id {model}')
        lines.append(f"view matrix models #{model},{numbers}")
        lines.append(f"color #{model} {labels.colors[code]}")
    return "\n".join([*lines, f"volume #1-{len(maps)} step 1 level {level:g}", "view orient", ""])


def legend(labels: Labels, by_label: bool) -> str:
    """Return a table of label, colour, number of particles, models; `by_label`: a model for each label."""
    lines = ["label\tcolor\tparticles\tmodels"]
    for model, number in enumerate(present(labels), start=1):
        members = np.flatnonzero(labels.code == number) + 1
        models = str(model) if by_label else ",".join(map(str, members))
        lines.append(f"{labels.names[number]}\t{labels.colors[number]}\t{len(members)}\t#{models}")
    return "\n".join([*lines, ""])
