"""Maps of a homogeneous training through the epochs, compared with a reference map."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from tomohet import plots
from tomohet.analysis.volume_drift import MaskOptions
from tomohet.errors import InputError
from tomohet.files.mrc import read_map, read_volume
from tomohet.physics.fsc import fsc, resolution_at, shell_frequencies

THRESHOLDS = (0.143, 0.5)


@dataclass(frozen=True)
class MapSeries:
    """FSC of each epoch's map with the reference: `epochs` (e,), `frequency_1_A` (s,), `curves` (e, s).

    `resolution_A`: threshold -> (e,); `integral` (e,): area under the curve up to FSC = 0.143, in 1/Å.
    """

    epochs: list[int]
    frequency_1_A: np.ndarray
    curves: np.ndarray
    resolution_A: dict[float, np.ndarray]
    integral: np.ndarray


def find_maps(folder: Path, max_epoch: int | None) -> dict[int, Path]:
    """Find reconstruct.<epoch>.mrc of a training, by epoch; only epochs below `max_epoch` if given."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such training folder")
    found = {
        int(match[1]): path
        for path in folder.iterdir()
        if (match := re.fullmatch(r"reconstruct\.(\d+)\.mrc", path.name))
    }
    kept = {epoch: found[epoch] for epoch in sorted(found) if max_epoch is None or epoch < max_epoch}
    if not kept:
        below = "" if max_epoch is None else f" below --max-epoch {max_epoch}"
        raise InputError(
            f"{folder}: no reconstruct.EPOCH.mrc{below}; epochs found: {sorted(found) or 'none'}"
        )
    return kept


def compare(maps: dict[int, Path], reference: Path, mask: MaskOptions, include_dc: bool) -> MapSeries:
    """Compute the FSC of each map with the reference, in a mask drawn from both.

    Raises InputError when the boxes differ, or a map has no pixel size.
    """
    target = read_volume(reference)[0]
    curves = []
    for path in maps.values():
        volume, pixel_size_A = read_map(path)
        if volume.shape != target.shape:
            raise InputError(f"{reference}: shape {target.shape}, but {path.name} has {volume.shape}")
        curves.append(fsc(volume, target, mask.of(volume, target)))
    curves = np.array(curves)
    frequency = shell_frequencies(len(target), pixel_size_A)
    resolution = {
        level: np.array([resolution_at(curve, frequency, level) for curve in curves]) for level in THRESHOLDS
    }
    first = 0 if include_dc else 1
    integral = [area_above(curve[first:], frequency[first:], THRESHOLDS[0]) for curve in curves]
    return MapSeries(list(maps), frequency[first:], curves[:, first:], resolution, np.array(integral))


def area_above(curve: np.ndarray, frequency: np.ndarray, threshold: float) -> float:
    """Compute the area (trapezoids) under a curve up to the last shell before it falls below `threshold`."""
    below = np.flatnonzero(~(curve >= threshold))
    end = below[0] if below.size else len(curve)
    return float(np.trapezoid(curve[:end], frequency[:end]))


def figures(series: MapSeries) -> dict[str, Figure]:
    """Draw resolutions and area by epoch, all curves, and the last curve; by file name."""
    made = {}
    for level, values in series.resolution_A.items():
        label = f"resolution at FSC = {level} (Å)"
        made[f"convergence_nn_fsc{level}resolution"] = by_epoch(series.epochs, values, label)
    made["convergence_nn_fsc0.143integral"] = by_epoch(
        series.epochs, series.integral, "area under the FSC up to 0.143 (1/Å)"
    )
    made["convergence_nn_fullfsc_all"] = curves_of(
        series, range(len(series.epochs)), "FSC with the reference"
    )
    made["convergence_nn_fullfsc_final"] = curves_of(series, [-1], f"Epoch {series.epochs[-1]}")
    return made


def by_epoch(epochs: list[int], values: np.ndarray, label: str) -> Figure:
    """Plot one number per epoch."""
    fig, ax = plots.figure(width=4.4)
    ax.plot(epochs, values, "o-", ms=4)
    ax.xaxis.set_major_locator(plots.MaxNLocator(integer=True))
    ax.set(xlabel="epoch", ylabel=label, title="Maps compared with the reference")
    return fig


def curves_of(series: MapSeries, chosen: Sequence[int], title: str) -> Figure:
    """Plot FSC curves of chosen rows, coloured from the first epoch to the last."""
    fig, ax = plots.figure(width=4.8, height=3.6)
    shades = colormaps[plots.SEQUENTIAL](np.linspace(0, 0.9, len(chosen)))
    for shade, row in zip(shades, chosen, strict=True):
        ax.plot(series.frequency_1_A, series.curves[row], color=shade, label=f"epoch {series.epochs[row]}")
    plots.fsc_axes(ax, 0.5 / series.frequency_1_A[-1], title)
    if len(chosen) <= 12:
        ax.legend(fontsize=7)
    return fig
