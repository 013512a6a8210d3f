"""Figures of the table: distributions, tilt schemes, views and positions."""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tomohet import plots
from tomohet.particles.table import ParticleSet
from tomohet.preflight.optics import defocus_per_tilt
from tomohet.preflight.poses import NEAR_DUPLICATE, has_near_duplicate, least_exposed, positioned
from tomohet.preflight.tilts import TiltSchemes

MOST_SERIES = 12  # tilt series drawn as lines, at most
MOST_TOMOGRAMS = 6  # tomograms of which positions are drawn, at most
MOST_BARS = 60  # tomograms with a separate bar each, at most
FEW_VIEWS = 1_500  # views drawn as points, at most
SPHERE_BINS = (6, 24)  # rings of equal area in each hemisphere, and sectors
QUANTILES = (0, 0.05, 0.5, 0.95, 1)


@dataclass(frozen=True)
class Picture:
    """A figure with its place on the page (section, title) and a description (caption)."""

    section: str
    title: str
    caption: str
    figure: Figure


def pictures_of_tables(s: ParticleSet, schemes: TiltSchemes) -> list[Picture]:
    """Draw all figures that need no pixels."""
    pictures = [
        Picture("Particles", "Particles and tilts", "Kept particles and images.", particles(s)),
        Picture(
            "Acquisition", "Defocus, dose, tilts and shifts", "All kept images; dashed: the median.",
            distributions(s),
        ),
        Picture(
            "Acquisition", "Tilt schemes",
            "Left: tilts in order of their dose, with the sign that the poses give them, one line per tilt "
            "series. Right: median defocus of every tilt; tilts that differ from their series are red.",
            tilt_scheme(s, schemes),
        ),
        Picture(
            "Particles", "Views",
            "Beam direction in the particle's own frame at its least exposed tilt, in equal-area projections "
            "of both hemispheres: points, or when many their density over that of uniform views. Right: the "
            "in-plane angle; dashed: uniform.",
            orientations(s),
        ),
    ]  # fmt: skip
    if len(positioned(s)):
        caption = (
            f"Particle centres in the most populated tomograms. Red: another particle is closer than "
            f"{NEAR_DUPLICATE * s.box * s.pixel_size_A:.3g} Å."
        )
        pictures.append(Picture("Particles", "Positions in the tomograms", caption, positions(s)))
    return pictures


def distributions_of(s: ParticleSet) -> dict[str, np.ndarray]:
    """Return the quantities whose distributions are shown, with their units in the name."""
    images = s.images
    per_particle = s.particles["n_tilts"][s.particles["n_tilts"] > 0]
    return {
        "defocus_A": ((images["defocus_u_A"] + images["defocus_v_A"]) / 2).to_numpy(),
        "astigmatism_A": (images["defocus_u_A"] - images["defocus_v_A"]).abs().to_numpy(),
        "dose_e_A2": images["dose_e_A2"].to_numpy(),
        "tilt_deg": images["tilt_deg"].to_numpy(),
        "shift_px": np.hypot(images["shift_x_px"], images["shift_y_px"]).to_numpy(),
        "tilts_per_particle": per_particle.to_numpy(),
        "particles_per_tomogram": s.particles["tomogram"][per_particle.index].value_counts().to_numpy(),
    }


def summaries(s: ParticleSet) -> dict[str, dict[str, float]]:
    """Compute minimum, 5th percentile, median, 95th percentile and maximum of every distribution."""
    names = ("min", "p5", "median", "p95", "max")
    return {
        quantity: dict(zip(names, map(float, np.quantile(values, QUANTILES)), strict=True))
        for quantity, values in distributions_of(s).items()
    }


def particles(s: ParticleSet) -> Figure:
    """Draw particles per tomogram, and tilt images per particle."""
    kept = s.particles[s.particles["n_tilts"] > 0]
    fig, (left, right) = plots.figure(1, 2, width=5.2, height=2.7)
    per_tomogram = kept["tomogram"].value_counts(sort=False).sort_index()
    if len(per_tomogram) <= MOST_BARS:
        left.bar(np.arange(len(per_tomogram)), per_tomogram, color=plots.PALETTE[0], width=0.8)
        names = [_short(name) for name in per_tomogram.index]
        if len(names) <= 12:
            left.set_xticks(np.arange(len(names)), names, rotation=20 if len(names) > 4 else 0)
        left.set(title="Particles per tomogram", xlabel="tomogram", ylabel="particles")
    else:
        _histogram(left, per_tomogram.to_numpy())
        left.set(title="Particles per tomogram", xlabel="particles in a tomogram", ylabel="tomograms")
    _histogram(right, kept["n_tilts"].to_numpy())
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.set(title="Tilt images per particle", xlabel="tilt images", ylabel="particles")
    return fig


def distributions(s: ParticleSet) -> Figure:
    """Draw histograms of the quantities of each image."""
    values = distributions_of(s)
    fig, axes = plots.figure(2, 3, width=3.5, height=2.5)
    wavy = s.images["phase_shift_deg"].abs().max() > 0
    panels = [
        ("Defocus", "mean defocus (µm)", values["defocus_A"] / 1e4),
        ("Astigmatism", "|U − V| (µm)", values["astigmatism_A"] / 1e4),
        ("Dose", "cumulative dose (e/Å²)", values["dose_e_A2"]),
        ("Stage tilt", "|tilt| (°)", values["tilt_deg"]),
        ("Shift", "length of the shift (px)", values["shift_px"]),
        ("Phase shift", "phase shift (°)", s.images["phase_shift_deg"].to_numpy())
        if wavy
        else ("Azimuth of astigmatism", "angle of U (°)", s.images["defocus_angle_deg"].to_numpy()),
    ]
    for ax, (title, label, one) in zip(axes.flat, panels, strict=True):
        _histogram(ax, one)
        ax.axvline(np.median(one), color="0.35", linestyle="--", linewidth=1)
        ax.set(title=title, xlabel=label, ylabel="images")
    return fig


def tilt_scheme(s: ParticleSet, schemes: TiltSchemes) -> Figure:
    """Draw signed tilt against dose for some tilt series, and defocus against tilt for every tilt."""
    fig, (left, right) = plots.figure(1, 2, width=5.2, height=3.2)
    firsts = schemes.table.groupby("tomogram", sort=False)["particle"].first()
    for number, (tomogram, particle) in enumerate(firsts.iloc[:MOST_SERIES].items()):
        one = schemes.table[schemes.table["particle"] == particle]
        colour = plots.label_colors(min(len(firsts), MOST_SERIES))(number)
        label = _short(tomogram) if len(firsts) <= 6 else None
        left.plot(one["dose_e_A2"], one["signed_deg"], ".-", color=colour, lw=0.7, ms=4, label=label)
    if len(firsts) <= 6:
        left.legend(fontsize=7)
    shown = f", {MOST_SERIES} of {len(firsts)} tilt series" if len(firsts) > MOST_SERIES else ""
    left.set(title=f"Order of tilts{shown}", xlabel="cumulative dose (e/Å²)", ylabel="tilt (°)")
    tilts = defocus_per_tilt(s)
    bad = tilts["outlier"].to_numpy()
    x, y = tilts["tilt_deg"].to_numpy(), tilts["defocus_A"].to_numpy() / 1e4
    plots.scatter_density(right, x[~bad], y[~bad])
    right.scatter(x[bad], y[bad], s=26, color=plots.PALETTE[4], label=f"{bad.sum()} outliers")
    if bad.any():
        right.legend(fontsize=7)
    right.set(title="Defocus of every tilt", xlabel="|tilt| (°)", ylabel="median defocus (µm)")
    return fig


def orientations(s: ParticleSet) -> Figure:
    """Draw both hemispheres of viewing directions, and the in-plane angles."""
    rotation = least_exposed(s)
    views = rotation[:, 2, :]
    # The image's x axis seen from the particle, as an angle about the beam: psi up to its convention.
    in_plane = np.degrees(np.arctan2(rotation[:, 1, 2], rotation[:, 0, 2]))
    fig, axes = plots.figure(1, 3, width=3.5, height=3.2)
    draw = _view_density if len(views) >= FEW_VIEWS else _view_points
    draw(axes[:2], views)
    for ax, where in zip(axes[:2], ("above (z > 0)", "below (z < 0)"), strict=True):
        circle = np.linspace(0, 2 * np.pi, 200)
        ax.plot(np.sqrt(2) * np.cos(circle), np.sqrt(2) * np.sin(circle), color="0.6", linewidth=0.8)
        ax.set(title=f"Views from {where}", xlabel="x", ylabel="y", aspect="equal", xticks=[], yticks=[])
        ax.spines[["left", "bottom"]].set_visible(False)
    n_bins = 36 if len(views) >= FEW_VIEWS else 12
    axes[2].hist(in_plane, bins=np.linspace(-180, 180, n_bins + 1), color=plots.PALETTE[0])
    axes[2].axhline(len(views) / n_bins, color="0.35", linestyle="--", linewidth=1)
    ticks = np.arange(-180, 181, 90)
    axes[2].set(title="In-plane angle", xlabel="angle (°)", ylabel="particles", xticks=ticks)
    return fig


def _view_points(axes, views: np.ndarray) -> None:
    for ax, sign in zip(axes, (1, -1), strict=True):
        seen = views[sign * views[:, 2] > 0]
        # Lambert's azimuthal projection keeps areas, so an even cloud means even views.
        scale = np.sqrt(2 * (1 - np.abs(seen[:, 2]))) / np.maximum(np.hypot(seen[:, 0], seen[:, 1]), 1e-9)
        ax.scatter(scale * seen[:, 0], scale * seen[:, 1], s=9, color=plots.PALETTE[0], alpha=0.6, lw=0)


def _view_density(axes, views: np.ndarray) -> None:
    edges_angle = np.linspace(-np.pi, np.pi, SPHERE_BINS[1] + 1)
    edges_z = np.linspace(0, 1, SPHERE_BINS[0] + 1)  # equal steps of cos(polar angle) are of equal area
    azimuth, height = np.arctan2(views[:, 1], views[:, 0]), views[:, 2]
    density = [
        np.histogram2d(np.abs(height[side]), azimuth[side], (edges_z, edges_angle))[0]
        * (2 * SPHERE_BINS[0] * SPHERE_BINS[1] / len(views))
        for side in (height >= 0, height < 0)
    ]
    top = max(2.0, np.quantile(np.concatenate(density), 0.98))
    radius = np.sqrt(2 * (1 - edges_z))[:, None]
    round_angle = np.linspace(-np.pi, np.pi, 8 * SPHERE_BINS[1] + 1)
    x, y = radius * np.cos(round_angle), radius * np.sin(round_angle)
    for ax, one in zip(axes, density, strict=True):
        mesh = ax.pcolormesh(x, y, np.repeat(one, 8, axis=1), cmap=plots.SEQUENTIAL, vmin=0, vmax=top)
    axes[1].figure.colorbar(mesh, ax=axes[1], label="density / uniform", shrink=0.8, extend="max")


def positions(s: ParticleSet) -> Figure:
    """Draw particles of the most populated tomograms from above and from the side; near-duplicates in red."""
    known = positioned(s)
    names = known["tomogram"].value_counts().index[:MOST_TOMOGRAMS]
    distance_A = NEAR_DUPLICATE * s.box * s.pixel_size_A
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    fig, axes = plots.figure(
        2 * rows, columns, width=3.5, height=2.6, squeeze=False, height_ratios=[3, 1.7] * rows
    )
    for ax in axes.flat[:]:
        ax.set_visible(False)
    for number, name in enumerate(names):
        place = known.loc[known["tomogram"] == name, ["x_A", "y_A", "z_A"]].to_numpy(float)
        near = has_near_duplicate(place, distance_A)
        place, point = place / 10, float(np.clip(2000 / len(place), 4, 20))
        row, column = 2 * (number // columns), number % columns
        title = f"{_short(name)}: {len(place)} particles"
        for ax, (i, j), text in (
            (axes[row, column], (0, 1), title),
            (axes[row + 1, column], (0, 2), ""),
        ):
            ax.set_visible(True)
            ax.scatter(place[~near, i], place[~near, j], s=point, color=plots.PALETTE[0], lw=0, alpha=0.7)
            ax.scatter(place[near, i], place[near, j], s=2 * point, color=plots.PALETTE[4], lw=0)
            ax.set(title=text, xlabel=f"{'xyz'[i]} (nm)", ylabel=f"{'xyz'[j]} (nm)")
            ax.set_aspect("equal", adjustable="datalim")
    return fig


def _histogram(ax, values: np.ndarray) -> None:
    """Draw a histogram, with bars at the values themselves when they are few."""
    own, n = np.unique(np.round(np.asarray(values, float), 2), return_counts=True)
    if len(own) <= MOST_BARS:
        width = 0.8 * np.diff(own).min() if len(own) > 1 else 0.8
        ax.bar(own, n, width=max(width, 0.008 * np.ptp(own)), color=plots.PALETTE[0])
        if len(own) == 1:
            ax.set_xlim(own[0] - 2, own[0] + 2)
    else:
        ax.hist(values, bins=40, color=plots.PALETTE[0])


def _short(name: str, most: int = 18) -> str:
    """Shorten a tomogram's name: no folders, no ending, cut to fit."""
    text = str(name).rsplit("/", 1)[-1].removesuffix(".tomostar").removesuffix(".mrc")
    return text if len(text) <= most else f"…{text[1 - most :]}"
