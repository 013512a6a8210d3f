"""Files and figures of a reconstruction."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator

from tomohet import plots
from tomohet.answers import Answer, Step, stated
from tomohet.files.atomic import write_csv, write_json, write_pickle
from tomohet.files.mrc import write_volume
from tomohet.physics.fourier_grids import mirror_z
from tomohet.reconstruction.half_maps import FSC_05, SIGNIFICANT, HalfMaps

AT_NYQUIST = 1.05  # resolutions up to this factor of Nyquist's are limited by the pixel size
LEAST_SHELLS = 6.0  # a resolution of so many times Nyquist's shows only where the particle is


@dataclass(frozen=True)
class MapFiles:
    """File names of a reconstruction: `-o FOLDER` gives plain names, `-o X.mrc` gives tomoDRGN's names."""

    folder: Path
    prefix: str

    @classmethod
    def of(cls, output: str | Path) -> "MapFiles":
        """Parse an `-o` argument."""
        output = Path(output)
        if output.suffix == ".mrc":
            return cls(output.parent, output.stem)
        return cls(output, "")

    def path(self, name: str, reference_suffix: str) -> Path:
        """Return FOLDER/name, or X + reference_suffix next to X.mrc."""
        return self.folder / (self.prefix + reference_suffix if self.prefix else name)


def write_half_maps(result: HalfMaps, files: MapFiles, *, flip: bool, plot_format: str) -> None:
    """Write maps, mask, FSC table and figures; `flip` mirrors all volumes along z."""
    volumes = {
        ("map.mrc", ".mrc"): result.map,
        ("map_filt.mrc", "_filt.mrc"): result.map_filt,
        ("half1.mrc", "_half1.mrc"): result.half1,
        ("half2.mrc", "_half2.mrc"): result.half2,
        ("mask.mrc", "_mask.mrc"): result.mask,
    }
    for names, volume in volumes.items():
        write_volume(files.path(*names), mirror_z(volume) if flip else volume, result.pixel_size_A)
    if files.prefix:
        cycles_per_px = result.fsc["frequency_1_A"].to_numpy() * result.pixel_size_A
        write_pickle(files.path("", "_FSC.pkl"), (cycles_per_px, result.fsc["corrected"].to_numpy()))
    numbers = {
        "resolution_A": result.resolution_A,
        "resolution_fsc05_A": result.resolution_05_A,
        "n_particles": len(result.n_tilts),
        "n_images": int(result.n_tilts.sum()),
        "pixel_size_A": result.pixel_size_A,
        "box": len(result.map),
        "mask_fraction": float(np.mean(result.mask)),
    }
    write_json(
        files.path("reconstruction.json", "_reconstruction.json"),
        numbers | stated([half_map_answer(numbers)]),
    )
    write_csv(files.path("fsc.csv", "_FSC.csv"), result.fsc)
    plot_fsc(result, files.path(f"fsc.{plot_format}", f"_FSC.{plot_format}"))
    plot_tilt_counts(result.n_tilts, files.path(f"ntilts.{plot_format}", f"_ntilts.{plot_format}"))


def half_map_answer(numbers: dict) -> Answer:
    """Say to which resolution the half maps agree; at Nyquist the box limits it."""
    resolution_A, nyquist_A = numbers["resolution_A"], 2 * numbers["pixel_size_A"]
    of = f"of {numbers['n_particles']:,} particles"
    text = f"Half maps {of} agree to {resolution_A:.1f} Å (FSC = {SIGNIFICANT})."
    if not resolution_A < LEAST_SHELLS * nyquist_A:
        step = Step("Use more particles: their half maps agree at the lowest resolution only.")
        return Answer("Half maps", "bad", text, (step,))
    if resolution_A <= AT_NYQUIST * nyquist_A:
        text += " That is the pixel size's limit: smaller pixels may show more."
    return Answer("Half maps", "good", text)


def plot_fsc(result: HalfMaps, path: Path) -> None:
    """Plot the four FSC curves against resolution in Å."""
    fig, ax = plots.figure(width=5.2, height=3.6)
    curves = result.fsc.iloc[1:]
    styles = {
        "corrected": {"color": "black", "linewidth": 2.0},
        "masked": {"color": plots.PALETTE[0]},
        "unmasked": {"color": plots.PALETTE[2]},
        "randomised": {"color": plots.PALETTE[4], "linestyle": ":"},
    }
    names = {"randomised": "phases randomised"}
    for name, style in styles.items():
        ax.plot(curves["frequency_1_A"], curves[name], label=names.get(name, name), **style)
    highest = curves["frequency_1_A"].iloc[-1]
    for threshold in (FSC_05, SIGNIFICANT):
        ax.axhline(threshold, color="0.6", linewidth=0.8, linestyle="--")
        ax.text(highest, threshold, f" {threshold}", va="center", fontsize=7, color="0.4")
    ax.axhline(0, color="0.8", linewidth=0.8)
    ticks = np.linspace(highest / 6, highest, 6)
    ax.set_xticks(ticks, [f"{1 / tick:.3g}" for tick in ticks])
    ax.set(
        xlim=(0, highest),
        ylim=(min(-0.1, 1.05 * float(curves[list(styles)].min().min())), 1.05),
        xlabel="resolution (Å)",
        ylabel="Fourier shell correlation",
        title=f"Half maps: {result.resolution_A:.1f} Å at {SIGNIFICANT}, "
        f"{result.resolution_05_A:.1f} Å at {FSC_05}",
    )
    ax.legend(fontsize=8)
    plots.save(fig, path)


def plot_tilt_counts(n_tilts: np.ndarray, path: Path) -> None:
    """Plot the distribution of the number of tilt images per particle."""
    fig, ax = plots.figure()
    counts = np.bincount(n_tilts)
    shown = np.arange(n_tilts.min(), n_tilts.max() + 1)
    ax.bar(shown, counts[shown], width=0.9)
    ax.set_xlim(shown[0] - 2, shown[-1] + 2)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(
        xlabel="tilt images per particle",
        ylabel="particles",
        title=f"{len(n_tilts)} particles, {int(n_tilts.sum())} images",
    )
    plots.save(fig, path)
