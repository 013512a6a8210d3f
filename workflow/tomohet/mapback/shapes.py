"""Files of many particles that ChimeraX opens as one model: markers, arrows, and surfaces of a map."""

from xml.sax.saxutils import quoteattr

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from skimage.measure import marching_cubes

from tomohet.errors import InputError

ARROW = 2.5  # length of an arrow, in radii of a marker
SHAFT, HEAD = 0.12, 0.3  # radii of its shaft and head, in radii of a marker
STL_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("unused", "<u2")])


def marker_set(placed: pd.DataFrame, name: str, color: str, radius_A: float) -> str:
    """Return a marker file (.cmm): a sphere at the centre x_A, y_A, z_A of each particle."""
    red, green, blue = to_rgb(color)
    shade = f'r="{red:.4f}" g="{green:.4f}" b="{blue:.4f}" radius="{radius_A:g}"'
    centres = placed[["x_A", "y_A", "z_A"]].to_numpy()
    lines = [
        f'<marker id="{number}" x="{x:.3f}" y="{y:.3f}" z="{z:.3f}" {shade}/>'
        for number, (x, y, z) in enumerate(centres, start=1)
    ]
    return "\n".join([f"<marker_set name={quoteattr(name)}>", *lines, "</marker_set>", ""])


def arrows(placed: pd.DataFrame, rotation: np.ndarray, color: str, radius_A: float) -> str:
    """Return a file of arrows (.bild), from each particle's centre along the z axis of its map.

    rotation : (n, 3, 3) particle -> tomogram
    """
    start = placed[["x_A", "y_A", "z_A"]].to_numpy()
    end = start + rotation[:, :, 2] * ARROW * radius_A
    size = f"{SHAFT * radius_A:g} {HEAD * radius_A:g} 0.7"
    lines = [
        ".arrow " + " ".join(f"{value:.3f}" for value in ends) + f" {size}"
        for ends in np.concatenate([start, end], axis=1)
    ]
    return "\n".join([".color " + " ".join(f"{part:.4f}" for part in to_rgb(color)), *lines, ""])


def isosurface(volume: np.ndarray, pixel_size_A: float, level: float) -> np.ndarray:
    """Return the triangles (t, 3, 3), x y z in Å from voxel 0, of a map's surface at a level.

    Raises InputError when the level is outside of the map's values.
    """
    low, high = float(volume.min()), float(volume.max())
    if not low < level < high:
        raise InputError(
            f"--vol-render-level {level:g}: the map's values are {low:.3g} to {high:.3g}, expected a level "
            "between them"
        )
    corners, faces, *_ = marching_cubes(volume, level)
    return corners[:, ::-1][faces] * pixel_size_A


def placed_surfaces(triangles: np.ndarray, matrices: np.ndarray) -> bytes:
    """Return a binary .stl file with a copy of a surface (t, 3, 3), Å, moved by each matrix (n, 3, 4)."""
    moved = np.einsum("nij,tcj->ntci", matrices[:, :, :3], triangles) + matrices[:, None, None, :, 3]
    moved = moved.reshape(-1, 3, 3)
    normal = np.cross(moved[:, 1] - moved[:, 0], moved[:, 2] - moved[:, 0])
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    written = np.zeros(len(moved), STL_TRIANGLE)
    written["corners"] = moved
    written["normal"] = normal / np.where(length > 0, length, 1)
    header = b"particles of one label, in Angstrom".ljust(80)
    return header + np.uint32(len(moved)).tobytes() + written.tobytes()
