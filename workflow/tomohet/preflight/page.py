"""`validation.json` and `validation.html`: verdicts, counts and pictures of a particle set."""

import base64
import html
import tempfile
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from tomohet import plots
from tomohet.files.atomic import write_json, write_text
from tomohet.particles.preparation import read_images
from tomohet.particles.table import ParticleSet
from tomohet.preflight.checks import Check, counts, overall, viewing_directions
from tomohet.physics.fourier import half_plane, images_to_half_planes
from tomohet.physics.imaging import ctf_of, image_parameters

N_SAMPLE = 256  # images whose power spectrum is averaged
N_SHOWN = 12

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 }
td, th { padding: .35rem .6rem; text-align: left; border-bottom: 1px solid #ddd; vertical-align: top }
img { max-width: 100%; margin: .5rem 0 }
.verdict { font-weight: 600; padding: .1rem .5rem; border-radius: .3rem; color: #fff }
.pass { background: #2e7d32 } .look { background: #b26a00 } .stop { background: #b3261e }
.remedy { color: #555 }
"""


def write_validation(folder: Path, particle_set: ParticleSet, checks: list[Check]) -> None:
    """Write both files into `folder`; raises InputError when sampled pixels are not finite."""
    number = counts(particle_set)
    figures = {
        "Distributions": _distributions(particle_set),
        "Views of the particles": _orientation_map(particle_set),
        "Images and their power spectrum": _images(particle_set),
    }
    write_text(folder / "validation.html", _page(particle_set, checks, number, figures))
    write_json(
        folder / "validation.json",
        {
            "source": particle_set.source,
            "dialect": particle_set.dialect,
            "verdict": overall(checks),
            "counts": number,
            "box": particle_set.box,
            "pixel_size_A": particle_set.pixel_size_A,
            "checks": [vars(check) for check in checks],
        },
    )


def _page(
    particle_set: ParticleSet,
    checks: list[Check],
    number: dict[str, dict[str, int]],
    figures: dict[str, Figure],
) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(check.name)}</td><td>{_badge(check.verdict)}</td><td>"
        f"{html.escape(check.message)}<br><span class='remedy'>{html.escape(check.remedy)}</span></td></tr>"
        for check in checks
    )
    totals = "".join(
        f"<tr><td>{key}</td><td>{number['in'][key]}</td><td>{kept}</td></tr>"
        for key, kept in number["kept"].items()
    )
    pictures = "".join(
        f"<h2>{title}</h2><img alt='{title}' src='{_embedded(fig)}'>" for title, fig in figures.items()
    )
    name = html.escape(particle_set.source.name)
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Validation of {name}</title>"
        f"<style>{STYLE}</style><h1>{name}</h1><p>{particle_set.dialect}; verdict "
        f"{_badge(overall(checks))}</p>"
        f"<table><tr><th></th><th>in the file</th><th>kept</th></tr>{totals}</table>"
        f"<table><tr><th>check</th><th>verdict</th><th>found</th></tr>{rows}</table>{pictures}</html>\n"
    )


def _badge(verdict: str) -> str:
    return f"<span class='verdict {verdict}'>{verdict}</span>"


def _embedded(fig: Figure) -> str:
    with tempfile.TemporaryDirectory() as folder:
        content = plots.save(fig, Path(folder) / "figure.png").read_bytes()
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _distributions(s: ParticleSet) -> Figure:
    fig, axes = plots.figure(2, 3, height=2.6)
    mean_defocus_A = (s.images["defocus_u_A"] + s.images["defocus_v_A"]) / 2
    panels = [
        ("Defocus", "defocus (µm)", mean_defocus_A / 1e4, "images"),
        ("Dose", "cumulative dose (e/Å²)", s.images["dose_e_A2"], "images"),
        ("Stage tilt", "tilt (°)", s.images["tilt_deg"], "images"),
        ("Shifts", "shift (px)", np.hypot(s.images["shift_x_px"], s.images["shift_y_px"]), "images"),
        ("Tilts per particle", "tilt images", s.particles["n_tilts"], "particles"),
        ("Particles per tomogram", "particles", s.particles["tomogram"].value_counts(), "tomograms"),
    ]
    for ax, (title, quantity, values, counted) in zip(axes.flat, panels, strict=True):
        ax.hist(np.asarray(values, float), bins=30, color=plots.PALETTE[0])
        ax.set(title=title, xlabel=quantity, ylabel=counted)
    return fig


def _orientation_map(s: ParticleSet) -> Figure:
    views = viewing_directions(s)
    fig, axes = plots.figure(1, 2, width=4.4)
    for ax, sign, title in (
        (axes[0], 1, "Views from above (z > 0)"),
        (axes[1], -1, "Views from below (z < 0)"),
    ):
        seen = views[sign * views[:, 2] > 0]
        # Lambert's azimuthal projection keeps areas, so an even cloud means even views.
        radius = np.sqrt(2 * (1 - np.abs(seen[:, 2])))
        norm = np.maximum(np.hypot(seen[:, 0], seen[:, 1]), 1e-9)
        plots.scatter_density(ax, radius * seen[:, 0] / norm, radius * seen[:, 1] / norm)
        angle = np.linspace(0, 2 * np.pi, 200)
        ax.plot(np.sqrt(2) * np.cos(angle), np.sqrt(2) * np.sin(angle), color="0.6", linewidth=0.8)
        ax.set(title=title, xlabel="x (equal-area projection)", ylabel="y", aspect="equal")
    return fig


def _images(s: ParticleSet) -> Figure:
    n = min(N_SAMPLE, len(s.images))
    rows = np.unique(np.linspace(0, len(s.images) - 1, n).round().astype(int))
    pixels = torch.cat([images for _, images in read_images(s.images, rows, s.box)])
    hp = half_plane(s.box)
    shell = hp.shell.numpy()
    power = images_to_half_planes(pixels).abs().square().mean(0).numpy()
    ctf = ctf_of(image_parameters(s.images.iloc[rows]), hp).square().mean(0).numpy()
    n_points = np.bincount(shell)[1:]
    profile, expected = (np.bincount(shell, values)[1:] / n_points for values in (power, ctf))
    frequency = np.arange(1, len(profile) + 1) / (s.box * s.pixel_size_A)

    fig, axes = plots.figure(1, 2, width=5)
    tiles = pixels[np.linspace(0, len(pixels) - 1, min(N_SHOWN, len(pixels))).round().astype(int)].numpy()
    tiles = (tiles - tiles.mean((1, 2), keepdims=True)) / (tiles.std((1, 2), keepdims=True) + 1e-12)
    rows_shown = [np.concatenate(tiles[i : i + 4], axis=1) for i in range(0, len(tiles) // 4 * 4, 4)]
    axes[0].imshow(np.concatenate(rows_shown or [tiles[0]]), cmap=plots.DENSITY, vmin=-3, vmax=3)
    axes[0].set(title="Images as in the stacks", xlabel="x (px)", ylabel="y (px)")
    axes[1].semilogy(frequency, profile / profile[-1], label="images")
    axes[1].semilogy(frequency, expected / expected.max(), label="mean CTF²", color=plots.PALETTE[1])
    axes[1].set(
        title=f"Power spectrum, mean of {len(rows)} images",
        xlabel="spatial frequency (1/Å)",
        ylabel="relative power",
    )
    axes[1].legend()
    return fig
