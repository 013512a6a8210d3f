"""Check of the stated extraction filter against the noise of premultiplied images.

The noise of a premultiplied image is the recorded noise times the factor that was multiplied in, and no other
source shows this factor. If noise and file clearly disagree, the columns of the image table that the forward
model reads are set to the measured filter. If no known filter fits, the model uses the profile measured in
the noise.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from tomohet.particles.extraction_filter import (
    CUT,
    DECISIVE,
    FITS,
    INNER,
    MISFIT,
    Filter,
    Fit,
    ShellSums,
)
from tomohet.particles.filter_profile import LEAST, Profile, measured_profile
from tomohet.particles.preparation import Preparation, read_half_planes
from tomohet.particles.rescaling import Grids
from tomohet.particles.scores import z_over_particles
from tomohet.particles.table import ParticleSet
from tomohet.physics.imaging import MEASURED, dose_weight_at, image_parameters
from tomohet.physics.lattice import HalfPlane

log = logging.getLogger(__name__)

IMAGES = 1500  # total number of images, of randomly drawn whole particles
CUT_DECISIVE = 4.0
# Ranges of the exponent of the scale factor in the noise amplitude: without and with a scale factor. Leakage
# of the window from low frequencies into nearly empty shells reduces the exponents.
NO_SCALE, SCALE = (-0.6, 0.2), (0.5, 1.3)
SCALE_MISFIT = 0.05  # above this, ice structures that fade with the tilt may look like a scale factor
BETTER = 0.6  # a B-factor is accepted if its misfit is below this fraction of the published filters'

Verdict = str  # "right", "wrong", "undecided", "unknown"


@dataclass(frozen=True)
class MeasuredFilter:
    """Stated and measured filter of premultiplied images.

    stated : filter according to the file
    found : filter in the noise; None if none was found
    mixed : whether images state different filters
    scale_stated, scale_found : whether a scale factor is multiplied in; None if unknown
    verdict : "right"; "wrong" (the measured filter is used); "undecided"; or "unknown": either no known
        filter fits, and the measured `profile` is used, or all images end at a resolution, and the noise
        cannot show more
    z : of the measured filter over the stated one, or of the stated filter over the next
    exponent : of the scale factor
    misfit : rms log ratio of measured to expected power
    end_A, end_cpp : resolution (Å) and frequency (cycles per pixel) at which all images end
    profile : measured filter
    """

    stated: Filter
    found: Filter | None
    mixed: bool
    scale_stated: bool
    scale_found: bool | None
    verdict: Verdict
    z: float
    exponent: float
    misfit: float
    end_A: float | None = None
    end_cpp: float | None = None
    profile: Profile | None = None

    @property
    def message(self) -> str:
        """The result in one sentence."""
        stated = f"stated: {_named(self.stated, self.scale_stated)}"
        if self.end_A is not None:
            return (
                f"{stated}; all images end at {self.end_A:.3g} Å, so the noise beyond cannot show the filter"
            )
        if self.verdict == "unknown":
            return (
                f"{stated}; the noise follows no known filter (power off by {self.misfit:.0%}); the models "
                f"use the filter measured in the noise, which leaves {self.profile.weight[-1, -1]:.1%} of "
                "the amplitude at Nyquist in the last tilts"
            )
        if self.verdict == "undecided":
            return f"{stated}; too few images to confirm it (z = {self.z:.1f})"
        scale = self.scale_stated if self.scale_found is None else self.scale_found
        text = f"{stated}; measured in the noise: {_named(self.found, scale)} (z = {self.z:.1f})"
        return text if self.scale_found is not None else f"{text}; the scale factor cannot be determined"

    def described(self) -> dict:
        """Return plain values for `store.yaml`."""
        return {"verdict": self.verdict, "found": self.message, "end_A": self.end_A}

    def corrected(self, images: pd.DataFrame) -> pd.DataFrame:
        """Return the image table with the measured filter where it differs from the stated one."""
        treated = images["ctf_premultiplied"].to_numpy(bool)
        if self.profile is not None:
            weight = self.profile.at(images["dose_e_A2"].to_numpy())
            weight[~treated] = np.nan
            columns = dict(zip(MEASURED, weight.T, strict=True))
            return images.assign(**columns, dose_weighted=treated | images["dose_weighted"])
        if self.verdict != "wrong":
            return images
        images = images.copy()
        if self.found != self.stated or self.mixed:
            images["dose_weighted"] = np.where(treated, self.found.kind != "none", images["dose_weighted"])
            images["dose_b_factor_A2"] = np.where(treated, self.found.b_factor_A2, images["dose_b_factor_A2"])
            images["cut_off"] = treated & self.found.cut_off
        if self.scale_found is not None and self.scale_found != self.scale_stated:
            cosine = np.cos(np.radians(images["tilt_deg"].to_numpy()))
            new = np.sign(images["scale_factor"]) * (cosine if self.scale_found else 1.0)
            images["scale_factor"] = np.where(treated, new, images["scale_factor"])
        return images


def judged(sums: ShellSums) -> MeasuredFilter:
    """Compare the known filters on images that are all premultiplied, or all raw."""
    params = sums.params
    b_factors = params.dose_b_factor_A2[params.dose_weighted]
    b_stated = float(b_factors.median()) if len(b_factors) else 0.0
    kind = "b-factor" if b_stated > 0 else "exposure"
    stated = Filter(kind, b_stated) if params.dose_weighted.float().mean() > 0.5 else Filter("none")
    mixed = bool((params.dose_weighted != params.dose_weighted[0]).any() or b_factors.unique().numel() > 1)
    known = {Filter("none"), Filter("exposure"), stated}
    if (end := sums.end()) is not None:
        end_A = float(params.pixel_size_A[0]) / end
        scale_stated = float(params.scale_factor.abs().std()) > 0.01
        none_found = (None, "unknown", 0.0, float("nan"), 0.0)
        return MeasuredFilter(stated, None, mixed, scale_stated, *none_found, end_A, end)

    best, fit, z, decided = _best(sums, known, stated, mixed, inside_only=True)
    # No filter consists of a cut-off alone. If only a cut-off shows, the filter fades as well.
    fading = best if best.kind != "none" else max(known - {Filter("none")}, key=sums.likelihood_below)
    cut = all(share < CUT and z_cut < -CUT_DECISIVE for share, z_cut in map(sums.beyond, {best, fading}))
    if cut:  # A filter that fades faster than any known filter leaves as little power there.
        share, z_cut = sums.beyond(sums.with_best_b_factor(inside_only=True))
        cut = share < CUT and z_cut < -CUT_DECISIVE
    if cut:
        best, fit, z_cut = fading, sums.fit(fading, inside_only=True), sums.beyond(fading)[1]
    else:
        best, fit, z, decided = _best(sums, known, stated, mixed, inside_only=False)
    misfit = sums.misfit(fit)
    name, bands = sums.scale_exponents(fit)
    scale_stated, scale_found = name == "stated", None
    for has, (low, high) in ((False, NO_SCALE), (True, SCALE)):
        plain = all(low < exponent < high and abs(z_band) > DECISIVE for exponent, z_band in bands)
        if plain and misfit < SCALE_MISFIT:
            scale_found = has
    exponent, z_scale = bands[-1]
    found = replace(best, cut_off=bool(cut))
    wrong_scale = scale_found is not None and scale_found != scale_stated
    verdict = "right" if found == stated and decided else "undecided"
    if cut or (decided and found != stated) or (wrong_scale and decided):
        verdict = "wrong"
    profile = None
    if misfit > MISFIT:
        profile = _profile(sums, sums.fit(best))
        own = sums.fit(profile, inside_only=bool(cut))
        if sums.misfit(own) < BETTER * misfit and _z(sums, own, fit) > DECISIVE:
            verdict, found, z = "unknown", None, _z(sums, own, fit)
        else:
            profile = None
    if verdict == "wrong" and found == stated:
        z = z_scale
    elif verdict == "wrong" and cut:
        z = z_cut
    return MeasuredFilter(
        stated, found, mixed, scale_stated, scale_found, verdict, abs(z), exponent, misfit, profile=profile
    )


def _profile(sums: ShellSums, fit: Fit) -> Profile:
    """Measure the filter profile.

    A particle's tilts were recorded with equal noise, and multiplied by the stated scale factor (never 0
    here).

    fit : fit of the closest known filter, for the particles' grey levels
    """
    params, owner = sums.params, np.unique(sums.particle, return_inverse=True)[1]
    scale = params.scale_factor.square().double().numpy()
    grey = np.bincount(owner, fit.level / scale) / np.bincount(owner)
    level = torch.as_tensor(grey[owner] * scale).clamp_min(1e-30)[:, None]
    stated = torch.where(
        params.dose_weighted[:, None], dose_weight_at(params, sums.middle.double()), 1.0
    ).clamp_min(LEAST)
    return measured_profile(
        sums.power / level, sums.expected, stated, sums.points, sums.leak, params.dose_e_A2, sums.middle,
        INNER / 2,
    )  # fmt: skip


def _best(sums: ShellSums, known: set[Filter], stated: Filter, mixed: bool, *, inside_only: bool):
    """Return the best filter, its fit, its z, and whether z is decisive.

    z is that of the best filter over the stated one or, if the stated filter is best, over the next one.
    """
    fits = {one: sums.fit(one, inside_only) for one in known}
    if mixed:
        fits[stated] = sums.fit(None, inside_only)
    order = sorted(fits, key=lambda one: -fits[one].likelihood.sum())
    best = order[0]
    misfit = sums.misfit(fits[best])
    if misfit > FITS:
        free = sums.with_best_b_factor(inside_only)
        fit = sums.fit(free, inside_only)
        if sums.misfit(fit) < BETTER * misfit and _z(sums, fit, fits[best]) > DECISIVE:
            fits[free] = fit
            order, best = [free, *order], free
    if best != stated and _z(sums, fits[best], fits[stated]) > DECISIVE:
        return best, fits[best], _z(sums, fits[best], fits[stated]), True
    # The stated filter is kept; check whether it differs significantly from the others.
    others = [_z(sums, fits[stated], fits[one]) for one in known if one != stated]
    return stated, fits[stated], min(others), min(others) > DECISIVE


def _z(sums: ShellSums, one, other) -> float:
    return z_over_particles(one.likelihood - other.likelihood, sums.particle)


def measured_filter(
    particle_set: ParticleSet, preparation: Preparation, hp: HalfPlane, grids: Grids
) -> MeasuredFilter | None:
    """Measure the filter of the premultiplied images of a particle set; None without such images.

    hp, grids : of the images as they are read

    Raises InputError as `read_half_planes` does.
    """
    sums = sampled(particle_set, preparation, hp, grids)
    if sums is None:
        return None
    found = judged(sums)
    (log.warning if found.verdict in ("wrong", "unknown") else log.info)(
        "filter multiplied into the images: %s", found.message
    )
    return found


def sampled(
    particle_set: ParticleSet, preparation: Preparation, hp: HalfPlane, grids: Grids
) -> ShellSums | None:
    """Accumulate shell sums of premultiplied images of random particles; None without such images.

    There are `IMAGES` images in total.
    """
    images = particle_set.images
    treated = images["ctf_premultiplied"].to_numpy(bool) & (images["scale_factor"].to_numpy() != 0)
    rows = _whole_particles(images["particle"].to_numpy(), treated)
    if not len(rows):
        return None
    place = np.full(len(images), -1)
    place[rows] = np.arange(len(rows))
    chosen = images.iloc[rows]
    chunks = ((place[here], values) for here, values in read_half_planes(images, rows, grids, preparation))
    particle = chosen["particle"].to_numpy()
    return ShellSums.of(chunks, image_parameters(chosen), hp, particle, preparation.window_of(hp.box))


def _whole_particles(particle: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Draw particles at random and return their usable rows, ascending."""
    names, count = np.unique(particle[usable], return_counts=True)
    order = np.random.default_rng(0).permutation(len(names))
    n = max(2, int(np.searchsorted(np.cumsum(count[order]), IMAGES, side="right")))
    return np.flatnonzero(usable & np.isin(particle, names[order[:n]]))


def _named(filter_: Filter, scale: bool) -> str:
    return f"{filter_.name}{' x scale factor' if scale else ''}"
