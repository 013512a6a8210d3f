"""Search for what distinguishes particles, in two thirds of their tilt images; the others are asked.

The first search has many maps: it sees weak differences beside strong ones. Where it finds nothing a second
one goes on for longer, as EM is slow where there is much noise, and with fewer maps, in which there is less
room for noise. What is confirmed is then measured with maps that have settled.
"""

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tomohet.linear.basis_maps import SHARE_OF_POWER, Fitted, expectation_maximisation
from tomohet.linear.held_out import HeldOut, held_out_directions, split_tilts
from tomohet.linear.poses import Poses
from tomohet.linear.start import compare
from tomohet.particles.store import Store
from tomohet.reconstruction.mean_map import MeanMap, mean_map
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.pose_errors import PoseErrors

log = logging.getLogger(__name__)

MOST_BASIS, ITERATIONS_OF_MOST = 10, 6
FEW_BASIS, ITERATIONS_OF_FEW = 3, 20
# Poses are corrected and the search repeated at most so often.
POSE_ROUNDS = 3
# Images are linear in pose errors that move the density by less (rms phase at the highest frequency used).
LINEAR_RAD = 0.5


def confirmed_directions(
    poses: Poses,
    observe: Callable[[Store], Observations],
    zdim: int | None,
    iterations: int,
    seed: int,
) -> tuple[HeldOut, Poses]:
    """What held-out tilt images confirm, of `zdim` latents at least, and the poses as corrected meanwhile.

    observe: makes observations of the particles from a part of the store; iterations: of EM at most; seed: of
    random draws.
    """
    for _ in range(POSE_ROUNDS):
        parts = tuple(observe(part) for part in split_tilts(poses.store))
        used = parts[0]
        mean, if_alike = poses.errors_about(mean_map(used), used)
        seen = used if if_alike is poses else observe(split_tilts(if_alike.store)[0])
        found, fitted = _search(parts, mean, seen, zdim, iterations, seed)
        if fitted.mean.errors is None:
            break
        moved = poses.moved(poses.errors_left(fitted, observe(poses.store)))
        small = phase_of(moved.offset - poses.offset, mean, used) < LINEAR_RAD
        poses = moved
        if small:
            break
    log.info("held-out tilts confirm %d directions of the latents", found.n_components)
    if fitted.mean.errors is not None:
        parts = tuple(observe(part) for part in split_tilts(poses.store))
        used = parts[0]
        mean, _ = poses.errors_about(mean_map(used), used)
    start = found.used_latents(max(zdim or 1, found.n_components))[used.processes.part(len(used.everyone))]
    fitted = expectation_maximisation(used, mean, used, start, iterations, SHARE_OF_POWER)
    return found.measured_by(_asked(parts, fitted, fitted.mean.errors, seed)), poses


def refined_alone(
    store: Store,
    particles: np.ndarray,
    *,
    iterations: int = 40,
    max_frequency: float = 0.25,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Store:
    """The store with the poses of particles (ordinals) refined by a linear model of these particles and nothing
    else, as half sets need it to stay independent of each other.

    Not by their mean map alone: what distinguishes the particles would be taken for errors of their poses.
    Options as of `fit.fit_linear_model`.
    """

    def observe(part: Store) -> Observations:
        return Observations(part, particles, max_frequency=max_frequency, device=device)

    return confirmed_directions(Poses.stated(store, particles), observe, None, iterations, seed)[1].store


def phase_of(error: np.ndarray, mean: MeanMap, observations: Observations) -> float:
    """Root mean square phase (rad) by which pose errors (N, 6) move density (at the highest frequency)."""
    density = mean.volume.clamp_min(0).cpu()
    axis = torch.arange(len(density), dtype=density.dtype) - len(density) // 2
    squares = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    radius2 = float((density * squares).sum() / density.sum())
    rotation, shift = (np.square(error[:, part]).mean() for part in (slice(3), slice(3, None)))
    # Rotations of variance v about each axis move a point at distance r by 2/3 v r^2 (variance along an axis).
    moved2 = shift + 2 / 3 * radius2 * rotation
    return float(2 * np.pi * observations.max_frequency * np.sqrt(moved2))


def _search(
    parts: tuple[Observations, ...],
    mean: MeanMap,
    seen: Observations,
    zdim: int | None,
    iterations: int,
    seed: int,
) -> tuple[HeldOut, Fitted]:
    """With many maps; where these show nothing, longer with few.

    seen: the images used, with poses as they would be corrected if all particles were alike. There the search
    starts, so that pose errors keep the differences that they explain, and a finding must go beyond these.
    """
    used, count = parts[0], len(parts[0].everyone)

    def with_maps(n_maps: int, most_iterations: int) -> tuple[HeldOut, Fitted]:
        """With so many maps, or zdim if that is more, from where the kernel says."""
        n_maps = max(zdim or 0, min(n_maps, count - 1))
        compared, start = _start(seen, replace(mean, errors=None), n_maps, seed)
        first = used.alike(compared)
        fitted = expectation_maximisation(used, mean, first, start, min(most_iterations, iterations))
        return _asked(parts, fitted, mean.errors, seed), fitted

    found = with_maps(MOST_BASIS, ITERATIONS_OF_MOST)
    if found[0].possible and not found[0].found:
        log.info("nothing found (p = %.2g); a longer search with fewer maps", found[0].p_value)
        found = min(found, with_maps(FEW_BASIS, ITERATIONS_OF_FEW), key=lambda one: one[0].p_value)
    return found


def _asked(parts: tuple[Observations, ...], fitted: Fitted, errors: PoseErrors | None, seed: int) -> HeldOut:
    """What the images that were not used say of fitted maps, with these errors of the poses (on any grid)."""
    errors = None if errors is None else errors.cropped(len(fitted.mean.volume))
    mean = replace(fitted.mean, errors=errors)
    return held_out_directions(parts, mean, fitted.basis, fitted.basis_variance, seed)


def _start(observations: Observations, mean: MeanMap, k: int, seed: int) -> tuple[np.ndarray, Tensor]:
    """Particles that are compared, and their latents (n, k); difference maps are not kept."""
    seen = compare(observations, mean, seed)
    return seen.observations.everyone, seen.latents(k)
