"""Search for reproducible components: models fitted to two thirds of the tilts, tested on the others.

The first search fits many basis maps in few iterations, and detects weak differences next to strong
differences. If it finds nothing, a second search fits fewer maps in more iterations: at low signal EM
converges slowly, and fewer maps fit less noise. The reproducible components are then measured with maps that
have converged.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tomohet.linear.basis_maps import SHARE_OF_POWER, CoarseFit, expectation_maximisation
from tomohet.linear.explained import CONDITIONS
from tomohet.linear.held_out import HeldOut, Splits, split_likelihoods, split_tilts
from tomohet.linear.likelihood import residual_shift
from tomohet.linear.parent import joined_starts
from tomohet.linear.poses import Poses
from tomohet.linear.significance import SURROUNDINGS_SE
from tomohet.linear.start import kernel_latents
from tomohet.linear.surroundings import alike_beyond, wedges
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.nuisance import outside
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.pose_errors import PoseErrors

log = logging.getLogger(__name__)

MOST_BASIS, ITERATIONS_OF_MOST = 10, 6
# Number of basis maps inside a focus mask, and of nuisance maps outside.
MOST_IN_FOCUS, NUISANCES = 6, 6
FEW_BASIS, ITERATIONS_OF_FEW = 3, 20
# Maximum number of searches with corrected poses.
POSE_ROUNDS = 3
# Images are linear in pose errors that shift the density by less than this rms phase (at the highest
# frequency used).
LINEAR_RAD = 0.5
# A search is repeated if image shifts exceed the assumed size by this factor.
WORTH_REPEATING = 1.25


@dataclass(frozen=True)
class Found:
    """Result of a search.

    held_out : cross-validation on held-out tilt images
    poses : corrected poses
    errors : pose errors about the mean map; None without errors
    surroundings : excess similarity of neighbouring tilts (`surroundings.alike_beyond`); None if not measured
    apart : whether the excess requires held-out images far from the training images
    aside : nuisance latents outside the focus mask (`CoarseFit`), from the training images
    tilt_shift_px : standard deviation of image shifts along x and y
    """

    held_out: HeldOut
    poses: Poses
    errors: PoseErrors | None
    surroundings: float | None = None
    apart: bool = False
    aside: Tensor | None = None
    tilt_shift_px: float = 0.0


@dataclass(frozen=True)
class Search:
    """Settings and functions of a search.

    observe : makes observations of the particles in a part of the store, without points near given other
        parts
    mean_of : makes the mean map of observations, with its focus mask
    ask : finds directions that held-out images confirm (`held_out.structural_directions`)
    zdim : minimum number of latents
    iterations : maximum number of EM iterations
    seed : of the random draws
    start : (N, L) latents of all particles from the training tilts of `split_tilts`, at which the search
        starts; None starts from the Gram matrix alone
    """

    observe: Callable[..., Observations]
    mean_of: Callable[[Observations], MeanMap]
    ask: Callable[[Splits], HeldOut]
    zdim: int | None
    iterations: int
    seed: int
    start: Tensor | None = None

    def confirmed(self, poses: Poses) -> Found:
        """Find the components that held-out tilt images confirm, and correct the poses.

        Held-out tilts lie between training tilts, which gives the most powerful test. If neighbouring tilts
        show that they share the surroundings of the particles, the search is repeated with held-out images
        that are far from the training images.
        """
        found, (used, fitted) = self._in_rounds(poses, apart=False)
        if not (found.held_out.found or found.errors):
            return self._measured(found)
        there = used.alike(used.everyone, len(fitted.mean.volume))
        beyond = alike_beyond(there, fitted.mean, fitted.basis, fitted.basis_variance)
        if beyond > SURROUNDINGS_SE:
            log.info(
                "neighbours or background are seen (z = %.1f); repeating the search with distant tilts",
                beyond,
            )
            found, _ = self._in_rounds(poses, apart=True)
        return self._measured(replace(found, surroundings=beyond))

    def _parts(self, poses: Poses, apart: bool) -> tuple[Observations, Observations, Observations]:
        """Observations of the training images and of the two held-out halves."""
        if not apart:
            return tuple(self.observe(part) for part in split_tilts(poses.store))
        used, first, second = wedges(poses.store)
        return self.observe(used), self.observe(first, (used,)), self.observe(second, (used, first))

    def _mean_with_errors(
        self, poses: Poses, parts: tuple[Observations, ...], apart: bool, tilt_shift_px: float
    ) -> tuple[MeanMap, Poses]:
        """Make the mean map of the training images, with image shifts and pose errors about it."""
        mean = replace(self.mean_of(parts[0]), tilt_shift_px=tilt_shift_px)
        return poses.errors_about(mean, parts[0], parts[1:] if apart else ())

    def _in_rounds(self, poses: Poses, apart: bool) -> tuple[Found, tuple[Observations, CoarseFit]]:
        """Search, correct poses, and repeat if poses or image shifts changed much.

        Also returns the last training observations and the last fit.
        """
        shift_px = 0.0
        for _ in range(POSE_ROUNDS):
            parts = self._parts(poses, apart)
            mean, if_alike = self._mean_with_errors(poses, parts, apart, shift_px)
            seen = parts[0] if if_alike is poses else self._parts(if_alike, apart)[0]
            found, fitted = self._with_enough_maps(parts, mean, seen, apart)
            there = parts[0].alike(parts[0].everyone, len(fitted.mean.volume))
            before = shift_px
            shift_px = residual_shift(there, fitted.mean, fitted.basis, fitted.basis_variance)
            settled = shift_px <= WORTH_REPEATING * before
            errors = fitted.mean.errors
            if errors is not None:
                moved = poses.moved(poses.errors_left(fitted, self.observe(poses.store)))
                small = phase_of(moved.offset - poses.offset, mean, parts[0]) < LINEAR_RAD
                poses, settled = moved, settled and small
            if settled:
                break
        found = Found(found, poses, errors, apart=apart, aside=fitted.aside, tilt_shift_px=shift_px)
        return found, (parts[0], fitted)

    def _with_enough_maps(
        self, parts: tuple[Observations, ...], mean: MeanMap, seen: Observations, apart: bool
    ) -> tuple[HeldOut, CoarseFit]:
        """Search with many maps and, if nothing is found, longer with few maps.

        seen : the training images, with poses corrected as if all particles were identical. The search starts
            there, so that the pose errors keep the differences that they explain. A component must explain
            more.
        """
        used, count = parts[0], len(parts[0].everyone)

        def with_maps(n_maps: int, most_iterations: int) -> tuple[HeldOut, CoarseFit]:
            """Fit n_maps basis maps (at least zdim), from the parent's latents or the Gram matrix's."""
            n_maps = max(self.zdim or 0, min(n_maps, count - 1))
            compared, start, aside = _start(seen, replace(mean, errors=None), n_maps, self.seed)
            if self.start is not None and not apart:
                theirs = self.start[np.searchsorted(seen.everyone, compared)]
                start = _after_parent(seen.alike(compared), theirs, start)
            first, most = used.alike(compared), min(most_iterations, self.iterations)
            fitted = expectation_maximisation(used, mean, first, start, most, aside=aside)
            return self.ask(_splits(parts, fitted, mean.errors)), fitted

        found = with_maps(MOST_BASIS if mean.focus is None else MOST_IN_FOCUS, ITERATIONS_OF_MOST)
        if found[0].possible and not found[0].found and not found[0].explained:
            log.info("no component found (p = %.2g); searching longer with fewer maps", found[0].p_value)
            found = min(found, with_maps(FEW_BASIS, ITERATIONS_OF_FEW), key=lambda one: one[0].p_value)
        return found

    def _measured(self, search: Found) -> Found:
        """Measure the reproducible components with converged maps, and the pose errors about these maps."""
        found, poses = search.held_out, search.poses
        log.info("held-out tilts confirm %d latent directions", found.n_components)
        for one in found.explained:
            meaning = CONDITIONS[one.condition]
            log.info("%s explains %.0f %% of a further direction", meaning, 100 * one.share)
        parts = self._parts(poses, search.apart)
        used = parts[0]
        if search.errors is None:
            mean = replace(self.mean_of(used), tilt_shift_px=search.tilt_shift_px)
        else:
            mean, _ = self._mean_with_errors(poses, parts, search.apart, search.tilt_shift_px)
        n_maps = max(self.zdim or 1, found.n_components)
        start = found.used_latents(n_maps)[used.processes.part(len(used.everyone))]
        fitted = expectation_maximisation(
            used, mean, used, start, self.iterations, SHARE_OF_POWER, search.aside
        )
        settled = found.measured_by(_splits(parts, fitted, fitted.mean.errors), self.seed)
        return replace(search, held_out=settled, errors=mean.errors, aside=fitted.aside)


def _after_parent(compared: Observations, parent: Tensor, start: Tensor) -> Tensor:
    """Put the parent's latents (N, L) of particles before those of the Gram matrix, (n, k) of a process."""
    (everyone,) = compared.joined(start)
    joined = joined_starts(parent, everyone, start.shape[1])
    return joined[compared.processes.part(len(joined))]


def phase_of(error: np.ndarray, mean: MeanMap, observations: Observations) -> float:
    """Return the rms phase (rad) by which pose errors (N, 6) move density, at the highest frequency used."""
    density = mean.volume.clamp_min(0).cpu()
    axis = torch.arange(len(density), dtype=density.dtype) - len(density) // 2
    squares = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    radius2 = float((density * squares).sum() / density.sum())
    rotation, shift = (np.square(error[:, part]).mean() for part in (slice(3), slice(3, None)))
    # Rotations of variance v about each axis move a point at distance r by 2/3 v r^2 along an axis.
    moved2 = shift + 2 / 3 * radius2 * rotation
    return float(2 * np.pi * observations.max_frequency * np.sqrt(moved2))


def _splits(parts: tuple[Observations, ...], fitted: CoarseFit, errors: PoseErrors | None) -> Splits:
    """Compute training and held-out likelihoods under a fitted model with these pose errors (on any grid)."""
    errors = None if errors is None else errors.cropped(len(fitted.mean.volume))
    mean = replace(fitted.mean, errors=errors)
    return split_likelihoods(parts, mean, fitted.basis, fitted.basis_variance)


def _start(
    observations: Observations, mean: MeanMap, k: int, seed: int
) -> tuple[np.ndarray, Tensor, Tensor | None]:
    """Return particles of the Gram matrix, their initial latents (n, k), and latents outside the focus mask.

    The latter are None without a focus mask.
    """

    def latents(mask: Tensor, n: int) -> tuple[np.ndarray, Tensor]:
        return kernel_latents(observations, replace(mean, mask=mask), n, seed)

    if mean.focus is None:
        return *latents(mean.mask, k), None
    elsewhere = outside(mean.focus, 0.5 / observations.max_frequency)
    n_aside = min(NUISANCES, len(observations.everyone) - 1)
    _, aside = latents(mean.mask * elsewhere, n_aside)
    return *latents(mean.mask * mean.focus, k), aside
