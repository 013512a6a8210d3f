"""Pre-flight checks of a particle set from its tables and the headers of its stacks."""

from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.particles.copies import copies_apart, sources
from tomohet.particles.paths import read_any_headers
from tomohet.particles.table import PIXEL_SIZE_TOLERANCE, ParticleSet
from tomohet.preflight.check import Check, overall
from tomohet.preflight.optics import (
    check_ctf_sampling,
    check_defocus,
    check_defocus_outliers,
    check_microscope,
)
from tomohet.preflight.poses import check_duplicates, check_orientations, check_shifts
from tomohet.preflight.tilts import (
    TiltSchemes,
    check_dose,
    check_poses,
    check_scheme,
    check_tilts,
    tilt_schemes,
)

__all__ = ["Check", "counts", "header_pixel_sizes", "overall", "validate"]

UNKNOWN_PIXEL_SIZES = (0.0, 1.0)  # values in headers written by programs that do not know the pixel size
HEADER_TOLERANCE = 0.01
FEWEST_PER_TOMOGRAM = 0.02  # fraction of the median below which a tomogram contributes almost nothing
HALF_SET_BALANCE = 0.1  # tolerated deviation from an even split


def validate(
    particle_set: ParticleSet,
    *,
    rescale_A: float | None = None,
    headers: pd.DataFrame | None = None,
    schemes: TiltSchemes | None = None,
) -> list[Check]:
    """Make all checks that need only the tables and the headers of the stacks.

    rescale_A : the pixel size to which all images will be resampled, if any
    headers : from `header_pixel_sizes`, computed here if not given
    schemes : from `tilt_schemes`, computed here if not given
    """
    headers = header_pixel_sizes(particle_set) if headers is None else headers
    schemes = tilt_schemes(particle_set) if schemes is None else schemes
    checks = [
        _counts(particle_set),
        _tilts_per_particle(particle_set),
        _particles_per_tomogram(particle_set),
        *_symmetry(particle_set),
        _half_sets(particle_set),
        _mixed_pixel_sizes(particle_set, rescale_A),
        _pixel_size(particle_set, headers),
        check_shifts(particle_set),
        check_microscope(particle_set),
        check_defocus(particle_set),
        check_defocus_outliers(particle_set),
        check_ctf_sampling(particle_set),
        check_dose(particle_set),
        check_tilts(particle_set, schemes),
        check_scheme(schemes),
        check_poses(schemes),
        _flags(particle_set),
        check_orientations(particle_set),
        check_duplicates(particle_set),
    ]
    return checks + [Check("reader", "look", remark, "check the file") for remark in particle_set.remarks]


def counts(particle_set: ParticleSet) -> dict[str, dict[str, int]]:
    """Count particles, images and tomograms in the input and after selection."""
    with_images = particle_set.particles[particle_set.particles["n_tilts"] > 0]
    kept = {
        "particles": len(with_images),
        "images": len(particle_set.images),
        "tomograms": int(with_images["tomogram"].nunique()),
    }
    return {"in": dict(particle_set.n_input), "kept": kept}


def header_pixel_sizes(s: ParticleSet) -> pd.DataFrame:
    """Return the pixel size of every stack in its header and in the table: stack, header_A, stated_A."""
    stated = s.images.drop_duplicates("stack")
    header = read_any_headers([Path(stack) for stack in stated["stack"]])
    return pd.DataFrame(
        {
            "stack": stated["stack"].to_numpy(),
            "header_A": header["pixel_size_A"].to_numpy(),
            "stated_A": stated["pixel_size_A"].to_numpy(float),
        }
    )


def _counts(s: ParticleSet) -> Check:
    number = counts(s)
    text = ", ".join(f"{number['kept'][key]:,} of {number['in'][key]:,} {key}" for key in number["kept"])
    hidden = number["in"]["images"] - number["kept"]["images"]
    text += f"; {hidden:,} tilt images are hidden" if hidden else ""
    lost = number["in"]["particles"] - number["kept"]["particles"]
    if lost:
        return Check(
            "counts",
            "look",
            f"{text}; {lost:,} particles have no visible tilt",
            "they are left out; if that is not intended, check rlnTomoVisibleFrames",
        )
    return Check("counts", "pass", text)


def _tilts_per_particle(s: ParticleSet) -> Check:
    n = s.particles["n_tilts"][s.particles["n_tilts"] > 0]
    text = f"{n.min()} to {n.max()} tilt images per particle, median {n.median():g}"
    if n.max() == 1:
        remedy = "give the image series (one row per tilt image), not the volume series"
        return Check("tilts per particle", "stop", "every particle has a single image", remedy)
    if n.min() < n.median() / 2:
        few = int((n < n.median() / 2).sum())
        remedy = "consider --use-first-ntilts, which drops particles with few tilts"
        return Check("tilts per particle", "look", f"{text}; {few:,} particles have less than half", remedy)
    return Check("tilts per particle", "pass", text)


def _particles_per_tomogram(s: ParticleSet) -> Check:
    n = s.particles["tomogram"][s.particles["n_tilts"] > 0].value_counts()
    text = f"{n.min()} to {n.max()} particles in a tomogram, median {n.median():g}"
    few = int((n < FEWEST_PER_TOMOGRAM * n.median()).sum())
    if few:
        return Check(
            "particles per tomogram", "look", f"{text}; {few} tomograms have almost none",
            "were particles lost in picking or selection?",
        )  # fmt: skip
    return Check("particles per tomogram", "pass", text)


def _symmetry(s: ParticleSet) -> list[Check]:
    if not s.expansion:
        return []
    text = f"{s.expansion}; each copy counts as a particle, copies stay together in half sets and tests"
    return [Check("symmetry", "pass", text)]


def _half_sets(s: ParticleSet) -> Check:
    half = s.particles["half"][s.particles["n_tilts"] > 0]
    if half.isna().all():
        return Check("half sets", "pass", "none upstream: particles are split at random")
    one, two, none = int((half == 1).sum()), int((half == 2).sum()), int(half.isna().sum())
    text = f"upstream half sets of {one:,} and {two:,} particles"
    if none:
        return Check(
            "half sets", "look", f"{text}, {none:,} particles are in neither", "give every particle a subset"
        )
    if copies_apart(s.particles["half"], sources(s.particles)):
        text = f"{text}: copies of one particle are in both"
        remedy = "random half sets are used, copies together; expand after the half sets are made"
        return Check("half sets", "look", text, remedy)
    if min(one, two) < (0.5 - HALF_SET_BALANCE) * len(half):
        return Check("half sets", "look", f"{text}: uneven", "split again, unless it is intended")
    return Check("half sets", "pass", text)


def _mixed_pixel_sizes(s: ParticleSet, rescale_A: float | None) -> Check:
    sizes = s.pixel_sizes_A
    text = ", ".join(f"{size:.4g}" for size in sizes) + " Å"
    if rescale_A is not None and rescale_A < sizes[-1] * (1 - PIXEL_SIZE_TOLERANCE):
        return Check(
            "pixel sizes", "stop", f"images of {text} cannot be resampled to a finer {rescale_A:g} Å",
            f"give --rescale {sizes[-1]:g} or more",
        )  # fmt: skip
    if len(sizes) == 1:
        return Check("pixel sizes", "pass", f"one for all images, {text}")
    if rescale_A is not None:
        return Check("pixel sizes", "pass", f"mixed: {text}; all are resampled to {rescale_A:g} Å")
    return Check("pixel sizes", "stop", f"mixed: {text}", f"give --rescale {sizes[-1]:g}")


def _pixel_size(s: ParticleSet, headers: pd.DataFrame) -> Check:
    stated = s.pixel_size_A
    text = f"{stated:.4g} Å per pixel, box {s.box} px = {s.box * stated:.4g} Å, Nyquist {2 * stated:.4g} Å"
    known = headers[~headers["header_A"].isin(UNKNOWN_PIXEL_SIZES)]
    differ = known[(known["header_A"] / known["stated_A"] - 1).abs() > HEADER_TOLERANCE]
    if len(differ):
        found = ", ".join(f"{size:.4g}" for size in np.unique(differ["header_A"].round(4))[:3])
        message = f"{text}; the headers of {len(differ):,} of {len(headers):,} stacks say {found} Å"
        return Check("pixel size", "look", message, "find out which is right; the STAR file's is used")
    if known.empty:
        return Check("pixel size", "pass", f"{text}; the stacks' headers give none")
    return Check("pixel size", "pass", f"{text}, as in the stacks' headers")


def _flags(s: ParticleSet) -> Check:
    premultiplied = s.images["ctf_premultiplied"]
    if premultiplied.nunique() > 1:
        text = f"{int(premultiplied.sum()):,} of {len(premultiplied):,} images are marked CTF-premultiplied"
        return Check("CTF flag", "look", text, "extract all particles in the same way")
    text = "images are marked CTF-premultiplied: contrast is kept"
    if not premultiplied.iloc[0]:
        text = "images are not marked CTF-premultiplied: contrast is inverted unless --uninvert-data"
    return Check("CTF flag", "pass", text)
