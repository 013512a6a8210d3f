"""Fit the linear latent model: mean map, start, EM; with tests whether there is anything to fit."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from tomohet.errors import InputError
from tomohet.linear.basis_maps import SHARE_OF_POWER, expectation_maximisation, structure_first
from tomohet.linear.detection import Detection
from tomohet.linear.em import expectation
from tomohet.linear.explained import CONDITIONS, sentence
from tomohet.linear.held_out import HeldOut, structural_directions
from tomohet.linear.likelihood import Latents
from tomohet.linear.poses import PoseEstimates, Poses
from tomohet.linear.reliability import auc_of_halves
from tomohet.linear.search import Search
from tomohet.linear.start import detect
from tomohet.particles.conditions import imaging_conditions
from tomohet.particles.store import Store
from tomohet.processes import ALONE, Processes
from tomohet.reconstruction.mean_map import MeanMap, mean_map
from tomohet.reconstruction.nuisance import Nuisance
from tomohet.reconstruction.observations import Observations

log = logging.getLogger(__name__)

# Share of the particle inside of a focus mask at which nothing is left to take up what varies outside.
MOST_INSIDE = 0.98


@dataclass(frozen=True)
class LinearModel:
    """mean: the mean map and its noise; basis (K, D, D, D) and basis_variance (K, shells), posterior mean and
    variance of its coefficients; latents: posteriors; poses: errors of the particles' poses; prior_scale
    (K, shells) power of each basis map relative to the mean map's; local_variance (D, D, D) of differences
    between particles, relative to its mean; detection: whether there is anything to find; held_out: what
    images that were not used confirm; surroundings, apart: whether images show what surrounds the particles
    (`search.Found`). What conditions of imaging explain (`linear.explained`) is nuisance of the mean map.
    """

    mean: MeanMap
    basis: Tensor
    basis_variance: Tensor
    latents: Latents
    poses: PoseEstimates
    prior_scale: Tensor
    local_variance: Tensor
    detection: Detection
    held_out: HeldOut
    surroundings: float | None
    apart: bool

    @property
    def spectral_variance(self) -> Tensor:
        """(D//2+1,) power of differences between particles relative to the mean map's; where nothing was
        fitted, as at the highest frequency that was."""
        known = self.prior_scale.sum(0)
        return torch.cat([known, known[-1:].expand(len(self.mean.power) - len(known))])

    @property
    def heterogeneous(self) -> bool:
        """Whether there is anything to find: by held-out tilts, and by the kernel where there are none."""
        return self.held_out.found if self.held_out.possible else self.detection.found

    @property
    def verdict(self) -> str:
        """What is found, for people."""
        where = "" if self.mean.focus is None else "inside of the focus mask: "
        parts = where + self._found, sentence(self.held_out.explained), self._surrounded
        return "; ".join(filter(None, parts))

    def tilts_sentence(self, pixel_size_A: float) -> str:
        """How far single tilt images are off, for people."""
        if not self.mean.tilt_shift_px:
            return "tilt images: no shifts that they can show"
        shift_A = self.mean.tilt_shift_px * pixel_size_A
        return f"single tilt images are off by {shift_A:.1f} Å along x and y; this is integrated out"

    @property
    def _surrounded(self) -> str:
        if not self.apart:
            return ""
        return f"neighbours or background are seen (z = {self.surroundings:.0f}) and do not count"

    @property
    def _found(self) -> str:
        if self.held_out.found:
            count = self.held_out.n_components
            components = "1 component" if count == 1 else f"{count} components"
            found = f"heterogeneity found: tilt images that were held out confirm {components}"
            return f"{found}; {self._clearness}"
        if not self.held_out.possible:
            kernel = f"by the kernel (p = {self.detection.p_value:.2g}); too few tilt images to hold any out"
            return (
                f"heterogeneity found {kernel}"
                if self.detection.found
                else f"no heterogeneity found {kernel}"
            )
        count = f"at this number of particles ({len(self.latents.mean):,})"
        images = f"tilt images that were held out confirm none (p = {self.held_out.p_value:.2g})"
        kernel = "" if self.apart else f"; p = {self.detection.p_value:.2g} by the kernel"
        return f"no heterogeneity found {count}: {images}{kernel}"

    @property
    def _clearness(self) -> str:
        """What single particles show of the components that are confirmed."""
        count, clear = self.held_out.n_components, self.held_out.n_clear
        if clear == count:
            return "clear in single particles"
        auc = auc_of_halves(self.held_out.least_reliability[:count]).min()
        if np.isnan(auc):
            return "how clear in single particles, so few tilt images cannot tell"
        which = "" if count == 1 else f" in {count - clear} of them" if clear else " in all of them"
        halves = "two equal halves of the particles are told apart with AUC"
        return f"faint{which}: {halves} {auc:.2f}, less a standard error"

    @property
    def eigenvalues(self) -> np.ndarray:
        """(n,) eigenvalues of the particles' kernel, largest first."""
        return self.detection.eigenvalues


def focused(mean: MeanMap, focus: np.ndarray | None) -> MeanMap:
    """The mean map with a focus mask (D, D, D), None where there is none.

    Raises InputError where mask and density do not meet, and where nothing is left outside of it.
    """
    if focus is None:
        return mean
    focus = torch.as_tensor(focus, dtype=mean.mask.dtype, device=mean.mask.device)
    inside = float((mean.mask * focus).sum() / mean.mask.sum())
    if not 0 < inside < MOST_INSIDE:
        raise InputError(
            f"--focus-mask: {100 * inside:.2g} % of the particle is inside of the mask, expected more than 0 "
            f"and less than {100 * MOST_INSIDE:g} %; give a mask of a part of it (mask.mrc of a fit without "
            "focus shows where the particle is), or none"
        )
    return replace(mean, focus=focus)


def fit_linear_model(
    store: Store,
    particles: np.ndarray,
    *,
    zdim: int | None = None,
    iterations: int = 40,
    max_frequency: float = 0.25,
    seed: int = 0,
    nuisances: Sequence[str] = tuple(CONDITIONS),
    focus: np.ndarray | None = None,
    device: torch.device | str = "cpu",
    processes: Processes = ALONE,
) -> LinearModel:
    """Fit K = `zdim` basis maps to the particles (ordinals of the store).

    First more maps than needed are fitted to two thirds of the tilt images: what the rest of them say of
    these maps (`linear.search`) tells how many there are, and where the fit to all images starts.

    zdim: None takes as many as held-out tilt images confirm, at least 1 and at most MOST_BASIS.
    iterations: of EM at most; it ends when the latents have settled.
    focus: mask (D, D, D) inside of which differences are asked for; those outside are nuisance.
    max_frequency: rows used, cycles per pixel; beyond it basis maps hold what the prior and the mask allow.
    nuisances: of CONDITIONS: components that one of them explains count for nothing.
    processes: those that call this with the same arguments at the same time; all get the whole model.
    """

    def observe(part: Store, apart_from: tuple[Store, ...] = ()) -> Observations:
        """Their images in a part of the store, or what of these is apart from other parts."""
        where = {"device": device, "processes": processes, "apart_from": apart_from}
        return Observations(part, particles, max_frequency=max_frequency, **where)

    def mean_of(part: Observations) -> MeanMap:
        return focused(mean_map(part), focus)

    conditions = imaging_conditions(store, particles) if nuisances else None
    ask = partial(structural_directions, conditions=conditions, names=nuisances, seed=seed)
    search = Search(observe, mean_of, ask, zdim, iterations, seed).confirmed(Poses.stated(store, particles))
    held_out, poses = search.held_out, search.poses
    observations = observe(poses.store)
    mean = replace(mean_of(observations), tilt_shift_px=search.tilt_shift_px)
    if search.apart:
        mean = poses.with_errors(mean, search.errors)
    else:
        mean, _ = poses.errors_about(mean, observations)
    detection = detect(observations, mean, seed)
    n_basis = zdim or max(1, held_out.n_components)
    start = held_out.latents(n_basis)[processes.part(len(particles))]
    fitted = expectation_maximisation(
        observations, mean, observations, start, iterations, SHARE_OF_POWER, search.aside
    )
    basis = fitted.fine_basis(store.box)
    mean = fitted.with_errors_of(mean)
    latents, _ = expectation(observations, mean, basis, fitted.basis_variance, accumulate=False)
    joined = (processes.joined_parts(table, len(particles)) for table in (latents.mean, latents.covariance))
    latents = Latents(*joined)
    if held_out.nuisance is not None:
        turn = structure_first(fitted, latents.mean[:, : len(basis)], held_out.nuisance.latents)
        fitted, latents = fitted.turned(turn), latents.turned(turn)
        basis = fitted.fine_basis(store.box)
    others = Nuisance(basis[n_basis:], fitted.basis_variance[n_basis:])
    fitted = fitted.first(n_basis)
    model = LinearModel(
        mean=replace(mean, errors=None, nuisance=others.beside(mean.nuisance)),
        basis=basis[:n_basis],
        basis_variance=fitted.basis_variance,
        latents=latents.first(n_basis),
        poses=PoseEstimates.of(poses, mean, latents),
        prior_scale=fitted.scales,
        local_variance=fitted.fine_variance(store.box),
        detection=detection,
        held_out=held_out,
        surroundings=search.surroundings,
        apart=search.apart,
    )
    log.info(model.verdict)
    log.info(model.poses.sentence(store.pixel_size_A))
    log.info(model.tilts_sentence(store.pixel_size_A))
    return model


def refined_alone(store: Store, particles: np.ndarray, **options) -> Store:
    """The store with the poses of particles (ordinals) refined by a linear model of these particles alone, as
    half sets need it to stay independent of each other.

    Not by their mean map: what distinguishes the particles would be taken for errors of their poses. Options
    as of `fit_linear_model`.
    """
    return fit_linear_model(store, particles, **options).poses.corrected(store, particles)
