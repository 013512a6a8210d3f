"""Figures of the images: as on disk, their power spectrum against the CTF, and their flags."""

import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter, zoom

from tomohet import plots
from tomohet.preflight.figures import Picture
from tomohet.preflight.hypotheses import Hypotheses
from tomohet.preflight.image_sample import ImageSample
from tomohet.preflight.spectrum import PowerSpectrum

N_SHOWN = 8
LOWPASS = 1 / 28  # fraction of the box: standard deviation of the Gaussian that low-passes the images
TILE, GAP = 96, 4  # of the contact sheet, px
NAMES = {
    "raw": "raw",
    "phase-flipped": "phase-flipped",
    "premultiplied": "multiplied by the CTF",
    "weighted by |CTF|": "weighted by |CTF|",
}


# Hypotheses that keep the sign of the CTF have one colour, and those without it another.
LINES = {
    "raw": (plots.PALETTE[0], "-"),
    "weighted by |CTF|": (plots.PALETTE[0], "--"),
    "phase-flipped": (plots.PALETTE[4], "--"),
    "premultiplied": (plots.PALETTE[4], "-"),
}


def pictures_of_images(
    sample: ImageSample | None, spectrum: PowerSpectrum | None, hypotheses: Hypotheses | None
) -> list[Picture]:
    """Draw figures of all results that exist."""
    pictures = []
    if sample is not None:
        pictures += [
            Picture(
                "Images", "Images of the lowest and the highest tilts",
                "As on disk, and low-passed; grey scales from mean − 3 to mean + 3 standard deviations.",
                contact_sheet(sample),
            ),
            Picture(
                "Images", "Statistics of single images",
                "An even sample of the images. Steps in mean or noise between stacks indicate different "
                "normalisation; points far up are gold beads, hot pixels or edges.",
                statistics(sample),
            ),
        ]  # fmt: skip
    if spectrum is not None:
        pictures.append(
            Picture(
                "CTF", "Power spectrum and CTF",
                "Left: average power over its smooth part, and the average CTF² of the same images. Right: "
                "the outer part of every image's power, aligned by its own CTF: zeros fall on whole numbers. "
                "Noise of images multiplied by the CTF dips at these zeros, that of raw images does not.",
                power(spectrum),
            )
        )  # fmt: skip
    if hypotheses is not None:
        pictures += [
            Picture(
                "CTF", "Half maps under four hypotheses",
                f"Back-projections of {hypotheses.n_particles:,} particles ({hypotheses.n_images:,} images), "
                "each under another hypothesis about the CTF in the data. Blue: its sign is kept; red: "
                "lost. Beyond the first zero of the CTF the right colour correlates best. Within a colour, "
                "and before that zero, only weights differ, and the power spectrum decides.",
                curves(hypotheses),
            ),
            Picture(
                "CTF", "Maps under four hypotheses",
                "Central slices with the sign that preparation gives the images, each on its own grey scale. "
                "Under the right hypothesis the particle is light; under another its sign may turn.",
                maps(hypotheses),
            ),
        ]  # fmt: skip
    return pictures


def contact_sheet(sample: ImageSample) -> Figure:
    """Draw two rows for the lowest tilts and two for the highest: as on disk, and low-passed."""
    usable = np.flatnonzero(sample.statistics["finite"] & ~sample.statistics["constant"])
    tilt = sample.images["tilt_deg"].to_numpy()[usable]
    order = usable[np.argsort(tilt, kind="stable")]
    n = min(N_SHOWN, max(1, len(order) // 2))
    # Evenly spaced in the quarter of lowest and of highest tilts, so that they are from several stacks.
    quarter = max(n, len(order) // 4)
    pick = np.linspace(0, quarter - 1, n).round().astype(int)
    low, high = order[pick], order[::-1][pick]
    fig, axes = plots.figure(4, 1, width=1.32 * n, height=1.45)
    panels = [
        ("lowest tilts, as on disk", low, False),
        ("lowest tilts, low-passed", low, True),
        ("highest tilts, as on disk", high, False),
        ("highest tilts, low-passed", high, True),
    ]
    stated = sample.images["tilt_deg"].to_numpy()
    scale = max(1, TILE // sample.pixels.shape[-1])  # enlarged here, as the figure would smooth across tiles
    for ax, (text, rows, smooth) in zip(axes, panels, strict=True):
        tiles = sample.pixels[rows]
        if smooth:
            tiles = gaussian_filter(tiles, (0, *2 * (LOWPASS * tiles.shape[-1],)))
        tiles = tiles - tiles.mean((1, 2), keepdims=True)
        tiles = tiles / (tiles.std((1, 2), keepdims=True) + 1e-30)
        tiles = zoom(tiles, (1, scale, scale), order=1 if smooth else 0)
        gap = np.full((tiles.shape[1], GAP), np.nan)
        strip = np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=1)
        ax.imshow(strip, cmap=plots.DENSITY, vmin=-3, vmax=3)
        angles = f"{stated[rows].min():.0f}–{stated[rows].max():.0f}°"
        ax.set_title(f"{text}, {angles}", loc="left", fontsize=9)
        ax.set_axis_off()
    return fig


def statistics(sample: ImageSample) -> Figure:
    """Draw mean, noise and most extreme pixel of the sampled images, in the order of the table."""
    usable = sample.statistics[sample.statistics["finite"]]
    number = sample.images["image"].to_numpy()[usable.index]
    fig, axes = plots.figure(1, 3, width=3.5, height=2.5)
    for ax, column, title, label in (
        (axes[0], "mean", "Mean", "mean pixel (as on disk)"),
        (axes[1], "noise", "Noise level", "noise deviation (a.u.)"),
        (axes[2], "extreme", "Most extreme pixel", "|pixel − median| / deviation"),
    ):
        ax.scatter(
            number, usable[column], s=plots.point_size(len(usable)), color=plots.PALETTE[0], lw=0, alpha=0.6
        )
        ax.set(title=title, xlabel="image in the table", ylabel=label)
    axes[1].set_ylim(bottom=0)
    return fig


def power(spectrum: PowerSpectrum) -> Figure:
    """Draw power over its smooth part with mean CTF², and power aligned by the phase of the CTF."""
    fig, (left, right) = plots.figure(1, 2, width=5.2, height=3.1)
    left.plot(spectrum.frequency_1_A, spectrum.power / spectrum.background, label="images")
    left.plot(spectrum.frequency_1_A, spectrum.ctf2 * 2, color=plots.PALETTE[1], label="2 × mean CTF²")
    left.set(
        title="Average power, its smooth part divided out", xlabel="spatial frequency (1/Å)",
        ylabel="relative power", ylim=(0, None),
    )  # fmt: skip
    left.legend(fontsize=8)
    x = spectrum.phase_cycles
    right.plot(x, spectrum.aligned_power, ".-", ms=3, lw=1, label="images")
    right.plot(x, spectrum.expected_raw, "--", color="0.4", lw=1.2, label="expected, raw")
    right.plot(
        x,
        spectrum.expected_premultiplied,
        "--",
        color=plots.PALETTE[1],
        lw=1.2,
        label="expected, multiplied by CTF",
    )
    right.set(
        title="Outer power, aligned by the CTF", xlabel="phase of the CTF (zeros at whole numbers)",
        ylabel="relative power", ylim=(0, None),
    )  # fmt: skip
    right.legend(fontsize=8)
    return fig


def curves(hypotheses: Hypotheses) -> Figure:
    """Draw the FSC of the half maps of the four hypotheses."""
    fig, ax = plots.figure(1, 1, width=7.5, height=3.2)
    for name, (frequency, curve) in hypotheses.fsc.items():
        colour, style = LINES.get(name, (plots.PALETTE[7], ":"))
        ax.plot(frequency, curve, style, color=colour, label=NAMES.get(name, name))
    plots.fsc_axes(ax, hypotheses.pixel_size_A, "FSC of half maps, by hypothesis")
    ax.legend(fontsize=8)
    return fig


def maps(hypotheses: Hypotheses) -> Figure:
    """Draw central slices xy and xz of the four maps."""
    names = [NAMES.get(name, name) for name in hypotheses.maps]
    return plots.slices_montage(
        list(hypotheses.maps.values()), names, "Maps by hypothesis", columns=4, own_scale=True
    )


def numbers(
    sample: ImageSample | None, spectrum: PowerSpectrum | None, hypotheses: Hypotheses | None
) -> dict[str, dict]:
    """Collect the numbers in the figures of images, for `validation.json`; empty bins are null."""
    found: dict[str, dict] = {}
    if sample is not None:
        usable = sample.statistics[sample.statistics["finite"]]
        found["images"] = {
            "sampled": len(sample.statistics),
            **{c: float(usable[c].median()) for c in ("mean", "deviation", "noise", "extreme")},
        }
    if spectrum is not None:
        found["spectrum"] = {name: _listed(values) for name, values in vars(spectrum).items()}
    if hypotheses is not None:
        found["fsc"] = {
            name: {"frequency_1_A": _listed(frequency), "fsc": _listed(curve)}
            for name, (frequency, curve) in hypotheses.fsc.items()
        }
    return found


def _listed(values: np.ndarray) -> list[float | None]:
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in np.asarray(values, float)]
