"""Fit of the linear model: mean map, cross-validated search, EM, and the verdict on heterogeneity.

The model is PPCA with a spectral and local empirical-Bayes prior (`linear.em`). The number of basis maps is
the number of components that are reproducible on held-out tilts (`linear.held_out`).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from tomohet.errors import InputError
from tomohet.linear.basis_maps import SHARE_OF_POWER, expectation_maximisation, structure_first
from tomohet.linear.em import expectation
from tomohet.linear.explained import CONDITIONS, sentence
from tomohet.linear.fitted_maps import FittedMaps
from tomohet.linear.held_out import HeldOut, structural_directions
from tomohet.linear.likelihood import Latents
from tomohet.linear.poses import PoseEstimates, Poses
from tomohet.linear.prediction import SplitLikelihood
from tomohet.linear.reliability import auc_of_halves
from tomohet.linear.search import Search
from tomohet.particles.conditions import imaging_conditions
from tomohet.particles.store import Store
from tomohet.processes import ALONE, Processes
from tomohet.reconstruction.mean_map import MeanMap, mean_map
from tomohet.reconstruction.nuisance import Nuisance
from tomohet.reconstruction.observations import Observations, tomograms_of

log = logging.getLogger(__name__)

# Maximum fraction of the particle inside a focus mask. Above it too little is left outside for the nuisance
# maps.
MOST_INSIDE = 0.98


@dataclass(frozen=True)
class LinearModel:
    """Result of a fit.

    maps : mean map and basis maps; the nuisance maps include components that imaging conditions explain
        (`linear.explained`)
    latents : posteriors of the particles' latents
    poses : errors of the particles' poses
    prior_scale : (K, shells) prior power of each basis map relative to the mean map
    held_out : cross-validation on held-out images
    surroundings, apart : whether the images show the surroundings of the particles (`search.Found`)
    """

    maps: FittedMaps
    latents: Latents
    poses: PoseEstimates
    prior_scale: Tensor
    held_out: HeldOut
    surroundings: float | None
    apart: bool

    @property
    def split(self) -> SplitLikelihood:
        """Likelihood along the reproducible directions, at most as many as there are basis maps."""
        return self.held_out.confirmed.leading(len(self.maps.basis))

    @property
    def heterogeneous(self) -> bool:
        """Whether held-out tilt images confirm heterogeneity."""
        return self.held_out.found

    @property
    def verdict(self) -> str:
        """The verdict on heterogeneity as a sentence."""
        where = "" if self.maps.mean.focus is None else "inside the focus mask: "
        parts = where + self._found, sentence(self.held_out.explained), self._surrounded
        return "; ".join(filter(None, parts))

    def tilts_sentence(self, pixel_size_A: float) -> str:
        """Describe the residual shifts of single tilt images in a sentence."""
        if not self.maps.mean.tilt_shift_px:
            return "tilt images: no residual shifts found"
        shift_A = self.maps.mean.tilt_shift_px * pixel_size_A
        return f"single tilt images are off by {shift_A:.1f} Å along x and y (rms); this is integrated out"

    @property
    def _surrounded(self) -> str:
        if not self.apart:
            return ""
        return f"neighbours or background are seen (z = {self.surroundings:.0f}) and are not counted"

    @property
    def _found(self) -> str:
        if self.held_out.found:
            count = self.held_out.n_components
            components = "1 component" if count == 1 else f"{count} components"
            found = f"heterogeneity found: held-out tilt images confirm {components}"
            return f"{found}; {self._clearness}"
        if not self.held_out.possible:
            return (
                "heterogeneity cannot be judged: no particle has three tilt images, so that none can be held "
                "out; latents and maps may follow noise"
            )
        count = f"at this number of particles ({len(self.latents.mean):,})"
        images = f"held-out tilt images confirm no component (p = {self.held_out.p_value:.2g})"
        return f"no heterogeneity found {count}: {images}"

    @property
    def _clearness(self) -> str:
        """Whether single particles can be assigned along the reproducible components."""
        count, clear = self.held_out.n_components, self.held_out.n_clear
        if clear == count:
            return "clear in single particles"
        auc = auc_of_halves(self.held_out.least_reliability[:count]).min()
        if np.isnan(auc):
            return "too few tilts per particle to say whether single particles can be assigned"
        which = "" if count == 1 else f" in {count - clear} of them" if clear else " in all of them"
        halves = "two equally populated classes would be separated with AUC"
        return f"faint{which}: {halves} {auc:.2f} (one standard error below the estimate)"


def focused(mean: MeanMap, focus: np.ndarray | None) -> MeanMap:
    """Return the mean map with a focus mask (D, D, D), or unchanged without a mask.

    Raises InputError if the mask does not overlap the density, or if nothing is left outside the mask.
    """
    if focus is None:
        return mean
    focus = torch.as_tensor(focus, dtype=mean.mask.dtype, device=mean.mask.device)
    inside = float((mean.mask * focus).sum() / mean.mask.sum())
    if not 0 < inside < MOST_INSIDE:
        raise InputError(
            f"--focus-mask: {100 * inside:.2g} % of the particle is inside the mask, expected more than 0 "
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
    start: Tensor | None = None,
    device: torch.device | str = "cpu",
    processes: Processes = ALONE,
) -> LinearModel:
    """Fit K = `zdim` basis maps to the particles (ordinals of the store).

    First more basis maps than needed are fitted to two thirds of the tilt images. The remaining images
    determine the number of reproducible components, and the latents from which the fit to all images starts
    (`linear.search`).

    zdim : number of basis maps; None takes the number of components that held-out tilt images confirm, from 1
        to MOST_BASIS
    iterations : maximum number of EM iterations; EM ends when the latents have converged
    max_frequency : highest frequency of the Fourier points used, cycles per pixel; beyond it the basis maps
        follow from the prior and the mask
    nuisances : conditions, from CONDITIONS; components that one of them explains are not counted
    focus : mask (D, D, D) inside which differences are of interest; differences outside are nuisance
        variables
    start : (N, L) latents from the training tilts, at which the search starts (`linear.parent`)
    processes : processes that call this function with the same arguments at the same time; each receives the
        whole model
    """

    def observe(part: Store, apart_from: tuple[Store, ...] = ()) -> Observations:
        """Return the particles' images in a part of the store, without Fourier points near other parts."""
        where = {"device": device, "processes": processes, "apart_from": apart_from}
        return Observations(part, particles, max_frequency=max_frequency, **where)

    def mean_of(part: Observations) -> MeanMap:
        return focused(mean_map(part), focus)

    conditions = imaging_conditions(store, particles) if nuisances else None
    ask = partial(structural_directions, conditions=conditions, names=nuisances, seed=seed)
    search = Search(observe, mean_of, ask, zdim, iterations, seed, start).confirmed(
        Poses.stated(store, particles)
    )
    held_out, poses = search.held_out, search.poses
    observations = observe(poses.store)
    mean = replace(mean_of(observations), tilt_shift_px=search.tilt_shift_px)
    if search.apart:
        mean = poses.with_errors(mean, search.errors)
    else:
        mean, _ = poses.errors_about(mean, observations)
    n_basis = zdim or max(1, held_out.n_components)
    settled = held_out.latents(n_basis)[processes.part(len(particles))]
    fitted = expectation_maximisation(
        observations, mean, observations, settled, iterations, SHARE_OF_POWER, search.aside
    )
    basis = fitted.fine_basis(store.box)
    mean = fitted.with_errors_of(mean)
    latents, _ = expectation(observations, mean, basis, fitted.basis_variance, accumulate=False)
    latents = Latents(*observations.joined(latents.mean, latents.covariance))
    if held_out.nuisance is not None:
        turn = structure_first(fitted, latents.mean[:, : len(basis)], held_out.nuisance.latents)
        fitted, latents = fitted.turned(turn), latents.turned(turn)
        basis = fitted.fine_basis(store.box)
    others = Nuisance(basis[n_basis:], fitted.basis_variance[n_basis:])
    fitted = fitted.first(n_basis)
    maps = FittedMaps(
        mean=replace(mean, errors=None, nuisance=others.beside(mean.nuisance)),
        basis=basis[:n_basis],
        basis_variance=fitted.basis_variance,
        local_variance=fitted.fine_variance(store.box),
        spectral_variance=fitted.spectral_variance(store.box),
        max_frequency=max_frequency,
        tomograms=tomograms_of(store)[0],
        scale=float(store.scale),
        pixel_size_A=float(store.pixel_size_A),
    )
    model = LinearModel(
        maps=maps,
        latents=latents.first(n_basis),
        poses=PoseEstimates.of(poses, mean, latents),
        prior_scale=fitted.scales,
        held_out=held_out,
        surroundings=search.surroundings,
        apart=search.apart,
    )
    log.info(model.verdict)
    log.info(model.poses.sentence(store.pixel_size_A))
    log.info(model.tilts_sentence(store.pixel_size_A))
    return model


def refined_alone(store: Store, particles: np.ndarray, **options) -> Store:
    """Return the store with poses refined by a linear model of these particles (ordinals) alone.

    Half sets have to remain independent of each other. A mean map alone would mistake heterogeneity for pose
    errors. The options are those of `fit_linear_model`.
    """
    return fit_linear_model(store, particles, **options).poses.corrected(store, particles)
