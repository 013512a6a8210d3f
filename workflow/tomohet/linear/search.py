"""Search for what distinguishes particles, in two thirds of their tilt images; the others are asked.

The first search has many maps: it sees weak differences beside strong ones. Where it finds nothing a second
one goes on for longer, as EM is slow where there is much noise, and with fewer maps, in which there is less
room for noise. What is confirmed is then measured with maps that have settled.
"""

import logging
from collections.abc import Callable

from torch import Tensor

from tomohet.linear.basis_maps import SHARE_OF_POWER, expectation_maximisation
from tomohet.linear.held_out import HeldOut, held_out_directions, split_tilts
from tomohet.linear.start import compare
from tomohet.particles.store import Store
from tomohet.reconstruction.mean_map import MeanMap, mean_map
from tomohet.reconstruction.observations import Observations

log = logging.getLogger(__name__)

MOST_BASIS, ITERATIONS_OF_MOST = 10, 6
FEW_BASIS, ITERATIONS_OF_FEW = 3, 20


def confirmed_directions(
    store: Store,
    observe: Callable[[Store], Observations],
    zdim: int | None,
    iterations: int,
    seed: int,
) -> HeldOut:
    """What held-out tilt images confirm, of `zdim` latents at least.

    observe: makes observations of the particles from a part of the store; iterations: of EM at most; seed: of
    random draws.
    """
    parts = tuple(observe(part) for part in split_tilts(store))
    used, mean = parts[0], mean_map(parts[0])
    processes, count = used.processes, len(used.everyone)

    def fit(first: Observations, start: Tensor, most_iterations: int, share: float = 1.0) -> HeldOut:
        """Fit maps to the images that are used; ask the others."""
        most_iterations = min(most_iterations, iterations)
        found = expectation_maximisation(used, mean, first, start, most_iterations, share)
        return held_out_directions(parts, found.mean, found.basis, found.basis_variance, seed)

    def search(n_maps: int, most_iterations: int) -> HeldOut:
        """With so many maps, or zdim if that is more, from where the kernel says."""
        n_maps = max(zdim or 0, min(n_maps, count - 1))
        first, start = _start(used, mean, n_maps, seed)
        return fit(first, start, most_iterations)

    found = search(MOST_BASIS, ITERATIONS_OF_MOST)
    if found.possible and not found.found:
        log.info("nothing found (p = %.2g); a longer search with fewer maps", found.p_value)
        found = min(found, search(FEW_BASIS, ITERATIONS_OF_FEW), key=lambda one: one.p_value)
    log.info("held-out tilts confirm %d directions of the latents", found.n_components)
    start = found.used_latents(max(zdim or 1, found.n_components))[processes.part(count)]
    return found.measured_by(fit(used, start, iterations, SHARE_OF_POWER))


def _start(observations: Observations, mean: MeanMap, k: int, seed: int) -> tuple[Observations, Tensor]:
    """Those that are compared, and their latents (n, k); the difference maps have done their part then."""
    seen = compare(observations, mean, seed)
    return seen.observations, seen.latents(k)
