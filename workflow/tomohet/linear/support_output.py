"""Files and figures of the comparison of a subset with the other particles."""

from pathlib import Path

import numpy as np
import pandas as pd

from tomohet import plots
from tomohet.files.atomic import write_csv
from tomohet.files.mrc import write_volume
from tomohet.physics.fourier_grids import mirror_z
from tomohet.physics.fsc import fsc, resolution_at, shell_frequencies
from tomohet.reconstruction.orientation_coverage import Coverage
from tomohet.reconstruction.subset_maps import SubsetDifference
from tomohet.reconstruction.support import Difference

FSC_05 = 0.5


def write_maps(outdir: Path, maps: dict[str, tuple[np.ndarray, float]], *, flip: bool) -> None:
    """Write volumes and their pixel sizes (Å) by file name; `flip` mirrors them along z."""
    for name, (volume, pixel_size_A) in maps.items():
        write_volume(outdir / name, mirror_z(volume) if flip else volume, pixel_size_A)


def map_to_map(
    volume: np.ndarray, decoded: np.ndarray, mask: np.ndarray, pixel_size_A: float
) -> pd.DataFrame:
    """Tabulate the masked FSC of a map with a decoded volume: shell, frequency_1_A, fsc."""
    curve = fsc(volume, decoded, mask)
    curve[0] = 1.0  # images have no mean
    frequency = shell_frequencies(len(volume), pixel_size_A)
    return pd.DataFrame({"shell": np.arange(len(curve)), "frequency_1_A": frequency, "fsc": curve})


def decoded_resolution(curve: pd.DataFrame) -> float:
    """Return the resolution (Å) at which the FSC with the decoded volume falls below 0.5."""
    return resolution_at(curve["fsc"].to_numpy(), curve["frequency_1_A"].to_numpy(), FSC_05)


def write_coverage(path: Path, found: Coverage) -> None:
    """Write a row per direction: x, y, z, sampling, resolution_A."""
    table = pd.DataFrame(found.directions, columns=list("xyz"))
    write_csv(path, table.assign(sampling=found.sampling, resolution_A=found.resolution_A))


def control_figure(path: Path, differences: dict[str, Difference]) -> None:
    """Plot the reproducible power of each subset beside that of random subsets of equal size."""
    fig, ax = plots.figure(width=5.2, height=1.6 + 0.45 * len(differences))
    for row, one in enumerate(differences.values()):
        scale = np.sqrt(np.square(one.power[1:]).mean()) or 1.0
        ax.scatter(one.power[1:] / scale, np.full(len(one.power) - 1, row), s=8, color="0.6", linewidths=0)
        ax.scatter(one.power[0] / scale, row, s=60, marker="D", color=plots.PALETTE[4], zorder=3)
    ax.set_xscale("symlog", linthresh=5)
    ax.set_yticks(range(len(differences)), list(differences))
    ax.set_ylim(len(differences) - 0.5, -0.5)
    ax.set(
        xlabel="reproducible power of the difference / rms of random subsets",
        title="Orange: the subset. Grey: random subsets of equal size",
    )
    plots.save(fig, path)


def difference_figure(path: Path, differences: dict[str, SubsetDifference]) -> None:
    """Draw central sections of each subset's difference, in standard deviations, on a common scale."""
    figure = plots.slices_montage(
        [one.sigma * (one.mask > 0.5) for one in differences.values()],
        [f"{name}: {one.most:.1f} at most" for name, one in differences.items()],
        "Difference from the other particles, in standard deviations of its noise",
        diverging=True,
    )
    plots.save(figure, path)


def coverage_figure(path: Path, found: Coverage, pixel_size_A: float, decoded: pd.DataFrame | None) -> None:
    """Plot sampling over directions, and the 3-D FSC with the FSC of map and decoded volume."""
    fig, (left, right) = plots.figure(1, 2, width=4.2, height=3.4)
    # Lambert's equal-area projection of half a sphere.
    stretch = np.sqrt(2 / (1 + found.directions[:, 2]))
    points = stretch[:, None] * found.directions[:, :2]
    label = "images near the direction / uniform"
    plots.scatter_values(left, *points.T, found.sampling, label)
    left.set(aspect="equal", xlabel="x", ylabel="y", title="Sampling of directions, seen along z")
    frequency = shell_frequencies(2 * (found.fsc.shape[1] - 1), pixel_size_A)
    low, middle, high = np.percentile(found.fsc, (5, 50, 95), axis=0)
    right.fill_between(frequency, low, high, color=plots.PALETTE[0], alpha=0.25, linewidth=0)
    right.plot(frequency, middle, label="half maps, median (5 to 95 %) of directions")
    if decoded is not None:
        right.plot(decoded["frequency_1_A"], decoded["fsc"], color=plots.PALETTE[4], label="map and decoded")
    plots.fsc_axes(right, pixel_size_A, "3-D FSC")
    right.legend(fontsize=7)
    plots.save(fig, path)
