"""ChimeraX scripts: the model coloured by occupancy and by group of units, and the classes' mean volumes."""

import os
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from tomohet import plots


def model_script(files: list[Path], atoms: pd.DataFrame, colours: dict[str, str], outdir: Path) -> str:
    """Write commands that open the model files and colour every unit.

    atoms : as `units_of_model` returns them
    colours : unit to #rrggbb; other units stay grey

    Paths are relative to `outdir`, the folder of the script.
    """
    lines = [f'open "{os.path.relpath(file, outdir)}"' for file in files]
    lines += ["hide atoms", "show cartoons", f"color #1-{len(files)} #bbbbbb"]
    number = {stem(file): i for i, file in enumerate(files, start=1)}
    for unit, part in atoms.groupby("unit", sort=False):
        if unit in colours:
            for (file, chain), piece in part.groupby(["file", "chain"], sort=False):
                whole = atoms[(atoms.file == file) & (atoms.chain == chain)].unit.nunique() == 1
                residues = "" if whole else ":" + _ranges(piece.residue.unique())
                lines.append(f"color #{number[file]}/{chain}{residues} {colours[unit]}")
    return "\n".join([*lines, "view orient", ""])


def occupancy_colours(occupancy: np.ndarray, names: list[str]) -> dict[str, str]:
    """Colour units from light (absent) to dark blue (present), by their mean occupancy (U,)."""
    shades = matplotlib.colormaps["Blues"](0.15 + 0.85 * np.clip(occupancy, 0, 1))
    return {name: to_hex(shade) for name, shade in zip(names, shades, strict=True)}


def group_colours(groups: np.ndarray, names: list[str], given: pd.Series | None = None) -> dict[str, str]:
    """Choose a colour for each group of units (from 1), or a unit's own colour where the table gives one."""
    palette = plots.label_colors(int(groups.max()))
    colours = {name: to_hex(palette(int(group) - 1)) for name, group in zip(names, groups, strict=True)}
    if given is not None:
        colours |= {
            name: colour for name, colour in zip(names, given, strict=True) if isinstance(colour, str)
        }
    return colours


def class_script(maps: list[Path], level: float) -> str:
    """Write commands that open the classes' mean volumes, each in its own colour, at one level."""
    palette = plots.label_colors(len(maps))
    lines = []
    for number, path in enumerate(maps, start=1):
        lines.append(f'open "{path.name}" id {number}')
        lines.append(f"color #{number} {to_hex(palette(number - 1))}")
    return "\n".join([*lines, f"volume #1-{len(maps)} step 1 level {level:g}", "tile", "view orient", ""])


def stem(file: Path) -> str:
    """Return the name of a model file without its endings."""
    return Path(Path(file).name.removesuffix(".gz")).stem


def _ranges(residues: np.ndarray) -> str:
    """Format residue numbers as ranges: 3-20,41."""
    residues = np.sort(residues)
    breaks = np.flatnonzero(np.diff(residues) > 1) + 1
    runs = np.split(residues, breaks)
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
